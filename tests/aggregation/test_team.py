"""Real processes with gloo, as `torchrun` starts them: what each computes is what one process computes alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os, sys
import torch
from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import recipe_named
from fednet.aggregation.strategy import Trust, UpdateFacts, aggregate
from fednet.aggregation.team import ALONE, Team
from fednet.config import WorkerName
from fednet.coordinator.crew import shared_trust

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
generator = torch.Generator().manual_seed(0)
matrix = torch.randn(1, 10_001, generator=generator) + 0.3 * torch.randn(9, 10_001, generator=generator)
matrix[0] *= -4
if sys.argv[1] == "tiny":
    matrix *= 1e-30
if sys.argv[1] == "nan":
    matrix[3, 7] = float("nan")
target = matrix[4]
own = Trust(update=target, loss=lambda step, buffers: float((step - target).norm()),
            gradient=lambda step, buffers: torch.nn.functional.normalize(step - target, dim=0, eps=1e-38))


def trust_of(name, team):
    if not recipe_named(name).rule.needs_root:
        return None
    if team.size == 1:
        return own
    return shared_trust(team, own if team.rank == 0 else None, width=10_001)


found = {}
for name in ("multikrum", "krum", "nnm+trimmed-mean", "geometric-median", "median", "learned-weights", "tournament"):
    facts = [UpdateFacts(WorkerName(f"client{i}"), 100) for i in range(9)]
    outcomes = [
        aggregate(facts, TensorRows(matrix), [{} for _ in facts], recipe=recipe_named(name), byzantine=2,
                  device=torch.device("cpu"), team=team, trust=trust_of(name, team))
        for team in (ALONE, Team(rank=rank, size=size))
    ]
    alone, shared = outcomes
    found[name] = {
        "step": float((alone.step - shared.step).abs().max() / alone.step.abs().max()),
        "distances": float((alone.distances - shared.distances).abs().max() / alone.distances.max()),
        "same": [each.selected for each in alone.verdicts] == [each.selected for each in shared.verdicts],
    }
if rank == size - 1:
    print(json.dumps(found))
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(("processes", "updates"), [(2, "plain"), (4, "plain"), (2, "tiny"), (2, "nan")])
def test_processes_that_share_the_columns_decide_as_one_would(processes: int, updates: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*launch, str(program), updates],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for rule, difference in json.loads(done.stdout.strip().splitlines()[-1]).items():
        assert difference["same"], rule
        assert difference["distances"] < 1e-6, rule
        assert difference["step"] < 1e-6, rule
