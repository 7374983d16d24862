import json
from pathlib import Path
from typing import Any

import pytest

from fednet.commands.privacy_options import (
    ledger_beside,
    ledger_path,
    privacy_settings,
    require_private,
    site_privacy,
)
from fednet.config import PrivacySettings
from fednet.errors import BadInput
from fednet.worker.compute import Compute
from fednet.worker.privacy_ledger import spent_in
from models import checkpoint
from models.checkpoint import CheckpointFacts
from models.registry import build
from tests.commands.running import run
from tests.worker.fakes import TinyData
from tests.worker.private_sites import CPU, PRIVACY, TRAINING, group_net, planned

NOTHING: dict[str, Any] = {"dp_epsilon": None, "dp_delta": None, "dp_clip": None}


def test_epsilon_alone_brings_the_rest() -> None:
    given = NOTHING | {"dp_epsilon": 8.0, "other": 1}
    assert privacy_settings(given) == PrivacySettings(epsilon=8.0, delta=1e-5, clip=1.0)
    assert given == {"other": 1}
    assert privacy_settings(dict(NOTHING)) is None


@pytest.mark.parametrize("name", ["delta", "clip"])
def test_the_others_mean_nothing_without_epsilon(name: str) -> None:
    with pytest.raises(BadInput, match=f"--dp-{name}; found no --dp-epsilon"):
        privacy_settings(NOTHING | {f"dp_{name}": 0.5})


@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.0), ("epsilon", -1.0), ("delta", 0.0), ("clip", 0.0)])
def test_what_is_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"--dp-{name}; found {value}"):
        privacy_settings(NOTHING | {"dp_epsilon": 8.0} | {f"dp_{name}": value})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"compiles": True}, "--compile; found --dp-epsilon as well"),
        ({"mixes": True}, "--precision mixed"),
        ({"shares_evaluation": True}, "--share-evaluation"),
        ({"processes": 2}, "torchrun with 2 processes"),
    ],
)
def test_what_cannot_be_had_together_is_refused(changes: dict[str, Any], complaint: str) -> None:
    fields: dict[str, Any] = {"compiles": False, "mixes": None}
    require_private(None, **(fields | changes))
    require_private(PRIVACY, **fields)
    with pytest.raises(BadInput, match=complaint):
        require_private(PRIVACY, **(fields | changes))


def model_charged_to(path: Path, head: str) -> None:
    facts = CheckpointFacts(
        model="resnet18-gn", classes=("a", "b", "c", "d"), image_size=32, round=1, run="r", extra={"ledger": head}
    )
    checkpoint.save(path, build("resnet18-gn", classes=4).state_dict(), facts)


def test_a_ledger_that_is_gone_while_its_model_is_there_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "client_1.pth"
    assert ledger_beside(model).is_new
    model.write_bytes(b"no model of ours")
    assert ledger_beside(model).is_new
    model_charged_to(model, "ab" * 32)
    with pytest.raises(
        BadInput, match=r"client_1\.privacy\.jsonl; found nothing of what was charged for .*client_1\.pth"
    ):
        ledger_beside(model)


def test_who_trains_without_it_after_all_is_warned(tmp_path: Path) -> None:
    said: list[str] = []
    options: dict[str, Any] = {
        "beside": tmp_path / "client_1.pth",
        "run": "r",
        "planned": planned(),
        "data": TinyData(24),
        "model": group_net(),
        "notice": said.append,
    }
    assert site_privacy(None, **options) is None
    assert said == []
    made = site_privacy(PRIVACY, **options)
    assert made is not None
    made.train(group_net(), TRAINING, round_number=1, compute=Compute(CPU))
    said.clear()
    assert site_privacy(None, **options) is None
    assert "nothing bounds it" in said[0]


@pytest.mark.timeout(400)  # Opacus on one core
def test_train_local_keeps_a_ledger_beside_its_model_and_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--phantoms", "--phantom-images", "80", "--phantom-size", "32", "--clients", "1", "--out", tmp_path]
    assert run(capsys, "split", *data).code == 0
    save = tmp_path / "best.pth"
    command = [
        *(
            "train-local",
            tmp_path / "client1_data",
            "--server-data",
            tmp_path / "server_data",
            "--save",
            save,
            "--json",
        ),
        *("--model", "resnet18-gn", "--image-size", "32", "--device", "cpu"),
        *("--rounds", "2", "--local-epochs", "1", "--batch-size", "16"),
        *("--balance", "none", "--dp-epsilon", "8", "--lr", "1e-9"),  # so that no later round is better than the first
    ]
    found = run(capsys, *command)
    assert found.code == 0, found.err
    assert json.loads(found.out)["rounds"][0]["train_loss"] is None
    spent = spent_in(ledger_path(save))
    assert 7.98 < spent.epsilon <= 8.0 and spent.rounds == 2
    assert checkpoint.load(save).facts.round == 1
    card = json.loads((tmp_path / "best.card.json").read_text())["privacy"]
    assert card["sites"] == {"client1_data": {"epsilon": spent.epsilon, "delta": 1e-5}}
    assert f"client1_data epsilon {spent.epsilon:.3g} at delta 1e-05" in card["spent"]
    again = run(capsys, *command)
    assert again.code == 2
    assert "privacy budget used up" in again.err
    lines = ledger_path(save).read_bytes().splitlines(keepends=True)
    for kept in (lines[:-1], []):  # without the second round's charge, which came after the model that was kept
        ledger_path(save).write_bytes(b"".join(kept))
        cut = run(capsys, *command)
        assert cut.code == 2
        assert "best.privacy.jsonl; found nothing of what was charged for" in cut.err
