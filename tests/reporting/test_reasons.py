from collections.abc import Mapping, Sequence

import pytest
import torch

from fednet.aggregation.checks import faults
from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.registry import recipe_named
from fednet.coordinator.conclusions import RESENT
from fednet.reporting.reasons import KINDS, reason_kind


def fault(norms: Sequence[float], buffers: Mapping[str, torch.Tensor], *, samples: int = 10) -> str:
    """Return what the checks say of the last update."""
    found = faults(
        torch.tensor(norms, dtype=torch.float64), [10] * (len(norms) - 1) + [samples], [buffers] * len(norms)
    )
    assert found[-1] is not None
    return f"rejected before scoring: {found[-1]}"


def test_faults_are_of_a_kind_each() -> None:
    assert reason_kind(fault([1.0, 1.0, float("nan")], {})) == "not-finite"
    assert reason_kind(fault([1.0, 1.0, 1000.0], {})) == "absurd-norm"
    assert reason_kind(fault([1.0, 1.0], {}, samples=0)) == "no-samples"
    assert reason_kind(fault([1.0], {"bn.running_var": torch.tensor([-1.0])})) == "batch-norm"
    assert reason_kind(fault([1.0], {"bn.running_mean": torch.tensor([float("inf")])})) == "batch-norm"
    assert reason_kind(fault([1.0], {"bn.num_batches_tracked": torch.tensor([-1])})) == "batch-norm"
    assert reason_kind(f"rejected before scoring: {RESENT}client2's update of round 3") == "resent"
    assert reason_kind("rejected before scoring: quarantined, after 5 rejections in 5 rounds") == "quarantine"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (
            "rejected: its update is 2 times as large as the selected ones and points away from them (cosine -0.9)",
            "points-away",
        ),
        (
            "rejected: its update is 1 times as large as the selected ones and agrees little with them (cosine 0.2)",
            "agrees-little",
        ),
        ("rejected: its update is 9 times as large as the selected ones and agrees with them (cosine 0.9)", "far-out"),
        ("rejected: its score equals that of the last one selected, and ties go by worker name", "tie"),
        ("rejected: no update agrees with the coordinator's own, so nobody's counts", "no-agreement"),
        ("rejected: others lie nearer to each other (how far is not told: differential privacy)", "private"),
        ("rejected before scoring: same update as client1's (distance 0): it counts once", "copy"),
        ("anything that a later version says", "other"),
    ],
)
def test_sentences_are_of_a_kind_each(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind
    assert kind in KINDS


def test_copies_are_of_their_kind() -> None:
    screen = recipe_named("multikrum", ("similarity",)).screens[0]
    found = screen.look(Geometry.of(torch.ones(3, 4, dtype=torch.float64)), ["client1", "client2", "client3"], 1)
    assert {reason_kind(f"rejected before scoring: {reason}") for reason in found.rejected.values()} == {"copy"}
