import importlib.util
from pathlib import Path

import pytest

from fednet.commands.coordinator import automatic_recipe
from tests.commands.running import run

PRIVATE = ["--client-dp-clip", "1", "--client-dp-noise", "2"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--aggregator", "magic"], "--aggregator magic; found no such name; expected multikrum"),
        (
            ["--aggregator", "bulyan", "--workers", "6", "--byzantine", "1"],
            "at least 7 workers: the condition of bulyan for f = 1",
        ),
        (
            ["--pre", "bucketing", "--workers", "7", "--byzantine", "1"],
            "at least 9 workers: the condition of bucketing+multikrum",
        ),
        (["--aggregator", "fedavg", "--byzantine", "1"], "fedavg, which tolerates nobody"),
        (["--workers", "5", "--quorum", "4"], "--quorum; found 4; expected at least 5"),
        (["--quarantine", "6"], "--quarantine; found 6; expected 0 (nobody) to 5 (--window)"),
        (["--aggregator", "learned-weights", "--pre", "nnm"], "--pre nnm; found learned-weights, which tries models"),
        (["--byzantine", "many"], "--byzantine; found many"),
        (["--client-dp-clip", "1"], "--client-dp-clip, --client-dp-noise; found 1 and 0; expected both above 0"),
        (["--client-dp-noise", "1"], "--client-dp-clip, --client-dp-noise; found 0 and 1; expected both above 0"),
        (["--client-dp-epsilon", "8"], "--client-dp-clip, --client-dp-noise; found 0 and 0"),
        ([*PRIVATE, "--aggregator", "median"], "how far one hospital moves this rule's step is not known here"),
        ([*PRIVATE, "--pre", "nnm"], "--pre nnm; found --client-dp-clip"),
        ([*PRIVATE, "--client-dp-delta", "0.25"], "--client-dp-delta"),
        ([*PRIVATE, "--freeze-until", "layer2"], "--freeze-until; found layer2, and --client-dp-clip"),
        ([*PRIVATE, "--pretrained", "no"], "resnet18, whose BatchNorm statistics"),
        (
            [*PRIVATE, "--model", "resnet18-gn", "--pretrained", "no", "--client-dp-epsilon", "0.1"],
            "--client-dp-epsilon 0.1; found",
        ),
    ],
)
def test_a_recipe_that_cannot_hold_its_promise_is_refused_before_the_run(
    options: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "coordinator", "start", *options)
    assert ran.code == 2
    assert line in ran.err
    assert list(tmp_path.iterdir()) == []


def test_auto_is_the_rule_of_what_the_coordinator_has(tmp_path: Path) -> None:
    assert automatic_recipe(tmp_path, ()) == ("multikrum", ("nnm",))
    (tmp_path / "root").mkdir()
    assert automatic_recipe(tmp_path, ()) == ("tournament", ())
    assert automatic_recipe(tmp_path, ("arc",)) == ("multikrum", ("arc",)), "nothing may be mixed before a tournament"


def test_curves_without_tensorboard_are_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ran = run(capsys, "coordinator", "start", "--tensorboard", "--run-dir", tmp_path / "run", "--data", tmp_path)
    assert ran.code == 2
    assert ran.err == "Error: --tensorboard; found no package tensorboard. `pip install -r requirements.txt`\n"
    assert not (tmp_path / "run").exists()
