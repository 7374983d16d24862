from pathlib import Path
from typing import Any

import pytest

from fednet.bench.learning import CENTRALISED, SETTINGS, Learned, LearnedFolder, attacked, line_of
from fednet.errors import BadInput

LABELS = [0, 0, 1, 1, 2, 2, 3, 3]
IID = SETTINGS[1]


def learned(answers: list[int], **changes: Any) -> Learned:
    right = sum(answer == label for answer, label in zip(answers, LABELS, strict=True))
    fields: dict[str, Any] = {
        "accuracy": [0.1, right / len(LABELS)],
        "macro_f1": 0.5,
        "answers": answers,
        "labels": LABELS,
        "classes": 4,
        "honest_rejected": 1,
        "attackers_selected": 0,
        "seconds": 1.0,
    }
    return Learned(**(fields | changes))


def test_a_setting_stands_beside_the_pooled_scans_of_the_same_seeds() -> None:
    pooled = [learned(LABELS), learned([0, 0, 1, 1, 2, 2, 3, 0])]
    spread = [learned([0, 0, 1, 1, 2, 0, 0, 3]), learned([0, 0, 1, 1, 2, 2, 3, 0])]
    line = line_of(IID, spread, pooled)
    assert line.accuracies == [0.75, 0.875]
    assert line.behind_by_seed == [-0.25, 0.0]
    assert line.behind is not None
    assert line.behind.value == pytest.approx(-2 / 16)
    assert line.behind.low < -2 / 16 < line.behind.high <= 0.0
    assert line.of_pooled == pytest.approx(1.625 / 1.875)
    assert line.honest_rejected == 2
    assert line.epsilon is None
    assert line_of(IID, [learned(LABELS, epsilon=2.5), learned(LABELS, epsilon=3.0)], pooled).epsilon == 3.0
    assert line_of(SETTINGS[0], pooled, pooled).behind is None
    without = line_of(IID, spread, [pooled[0], None])
    assert (without.behind, without.of_pooled, without.behind_by_seed) == (None, None, [])


def test_results_are_found_again_and_never_mixed(tmp_path: Path) -> None:
    folder = LearnedFolder(tmp_path / "out", {"rounds": 2})
    folder.keep(IID, 0, learned(LABELS))
    again = LearnedFolder(tmp_path / "out", {"rounds": 2})
    assert again.find(IID, 0) == learned(LABELS)
    assert again.find(IID, 1) is None
    assert again.find(attacked("alie"), 0) is None
    with pytest.raises(BadInput, match="other options"):
        LearnedFolder(tmp_path / "out", {"rounds": 3})


def test_the_first_setting_is_the_one_that_the_others_are_compared_with() -> None:
    assert (SETTINGS[0].name, SETTINGS[0].workers) == (CENTRALISED, 1)
