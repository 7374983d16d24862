"""Imports point down, and the pure rooms stay pure: what ARCHITECTURE promises, checked from the code itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPURE = {"asyncio", "socket", "ssl", "time", "os", "pathlib", "sqlite3", "threading", "subprocess", "random", "io"}
ALLOWED = {
    "audit": {"audit"},
    "protocol": {"protocol"},
    "aggregation": {"aggregation"},
    "storage": {"storage", "audit"},
    "compression": {"compression"},
    "privacy": {"privacy"},
    "dashboard": {"dashboard", "reporting", "storage", "transport.tcp"},
    "security": {"security", "storage"},
    "reporting": {"reporting", "storage", "protocol"},
    "transport": {"transport", "protocol"},
    "simulate": {
        "simulate",
        "aggregation",
        "compression",
        "coordinator.round",
        "worker.compute",
        "worker.objective",
        "worker.own_norm",
        "worker.privacy",
        "worker.privacy_ledger",
        "worker.training",
        "privacy",
        "reporting.metrics",
        "storage",
    },
    "bench": {
        "bench",
        "aggregation",
        "audit",
        "coordinator",
        "protocol",
        "reporting",
        "security",
        "storage",
        "transport",
    },
    "coordinator": {
        "coordinator",
        "aggregation",
        "audit",
        "compression",
        "privacy",
        "protocol",
        "reporting",
        "security",
        "storage",
        "transport",
    },
    "worker": {
        "worker",
        "aggregation.batch_norm",
        "audit",
        "compression",
        "privacy",
        "protocol",
        "reporting",
        "storage",
        "transport",
    },
}
BASE = {
    "fednet",
    "fednet.config",
    "fednet.errors",
    "fednet.failpoints",
    "fednet.memory",
    "fednet.ranking",
    "fednet.tensors",
}
PURE = [
    *sorted((ROOT / "fednet/audit").glob("*.py")),
    *sorted((ROOT / "fednet/protocol").glob("*.py")),
    *sorted((ROOT / "fednet/aggregation").rglob("*.py")),
    ROOT / "fednet/ranking.py",
    ROOT / "fednet/coordinator/conclusions.py",
    ROOT / "fednet/coordinator/round.py",
    ROOT / "fednet/reporting/run_view.py",
    ROOT / "fednet/reporting/scaling.py",
    ROOT / "fednet/reporting/tally.py",
    ROOT / "fednet/worker/consent.py",
    ROOT / "fednet/worker/hours.py",
    ROOT / "fednet/worker/session.py",
]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_rooms_know_no_socket_clock_or_file(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of(path)} & IMPURE == set()


@pytest.mark.parametrize("path", sorted((ROOT / "fednet/protocol").glob("*.py")), ids=lambda path: path.name)
def test_the_protocol_knows_no_torch(path: Path) -> None:
    assert "torch" not in {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_point_down(room: str) -> None:
    for path in (ROOT / "fednet" / room).rglob("*.py"):
        for name in imports_of(path):
            if name.startswith("fednet") and name not in BASE:
                inner = name.removeprefix("fednet.")
                assert any(inner == ok or inner.startswith(ok + ".") for ok in ALLOWED[room]), f"{path} imports {name}"


def test_only_commands_import_models_and_data() -> None:
    for path in (ROOT / "fednet").rglob("*.py"):
        if "commands" not in path.parts:
            assert {name.split(".")[0] for name in imports_of(path)} & {"models", "data"} == set(), path


def test_no_federated_learning_library_is_used() -> None:
    others = {"flwr", "nvflare", "openfl", "fedml", "syft", "byzfl", "ray"}
    for path in ROOT.rglob("*.py"):
        if not {".venv", "runs"} & set(path.relative_to(ROOT).parts):
            assert {name.split(".")[0] for name in imports_of(path)} & others == set(), path
