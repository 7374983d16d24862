from pathlib import Path

import pytest
import torch

from data.images import load_folder
from fednet.commands.holding_out import HoldingOut, holding_out_from, set_aside
from fednet.errors import BadInput
from tests.commands.running import run
from tests.data.scans import write_folder


def test_nothing_is_held_out_or_shared_unasked() -> None:
    assert holding_out_from(None, False) is None
    assert holding_out_from(0.15, False) == HoldingOut(0.15, is_shared=False)
    assert holding_out_from(0.5, True) == HoldingOut(0.5, is_shared=True)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.51, 1.0, float("nan"), float("inf")])
def test_a_share_that_leaves_too_little_to_train_on_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match=r"more than 0 and at most 0\.5"):
        holding_out_from(share, False)


def test_sharing_what_nothing_is_held_out_for_is_refused_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run(capsys, "worker", "join", "--data", tmp_path / "nowhere", "--share-evaluation")
    assert ran.code == 2
    assert "--share-evaluation; found no --hold-out" in ran.err


@pytest.mark.parametrize(("is_shared", "whom"), [(True, "is told its counts"), (False, "stays here")])
def test_the_hospital_is_told_what_is_set_aside_and_what_becomes_of_it(
    tmp_path: Path, is_shared: bool, whom: str
) -> None:
    folder, notices = write_folder(tmp_path / "data", 10), list[str]()
    training, held_out = set_aside(
        HoldingOut(0.2, is_shared),
        folder,
        load_folder(folder, image_size=24),
        worker="client1",
        device=torch.device("cpu"),
        notice=notices.append,
    )
    assert len(training.labels) == 32
    assert notices[0].startswith("8 of 40 scans (glioma 2, meningioma 2, no_tumor 2, pituitary 2) are held out")
    assert notices[0].endswith(whom)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 4))
    assert held_out.judge(model, round_number=1, should_stop=lambda: False) == (), "two scans a class are too few"
