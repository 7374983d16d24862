from pathlib import Path

import pytest

from fednet.errors import BadInput
from fednet.simulate.federation import Simulated
from fednet.simulate.grid import Cell, ResultFolder, cells_of, robustness, summaries


def found(*accuracy: float, attackers: int = 1, selected: int = 0) -> Simulated:
    return Simulated(
        accuracy=list(accuracy),
        worst_recall=[value / 2 for value in accuracy],
        attackers_selected=[selected] * len(accuracy),
        attackers_share=[0.0] * len(accuracy),
        honest_rejected=[["client1"]] * len(accuracy),
        notes=[""] * len(accuracy),
        attackers=[f"client{9 - number}" for number in range(attackers)],
    )


def test_a_grid_is_finished_seed_by_seed() -> None:
    cells = cells_of(["krum", "fedavg"], ["none", "alie"], 2)
    assert len(cells) == 8
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4


def test_a_result_is_found_again(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path, {"rounds": 3})
    cell = Cell(0, "ipm:scale=0.1", "arc+nnm+trimmed-mean")
    assert results.find(cell) is None
    results.keep(cell, found(0.5), seconds=1.0)
    assert ResultFolder(tmp_path, {"rounds": 3}).find(cell) == found(0.5)


def test_cells_that_differ_in_a_parameter_have_different_files() -> None:
    names = {Cell(0, f"ipm:scale={scale}", "krum").file_name for scale in ("0.1", "2", "0.12")}
    assert len(names) == 3


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    ResultFolder(tmp_path, {"rounds": 3})
    with pytest.raises(BadInput, match="a grid of other settings"):
        ResultFolder(tmp_path, {"rounds": 4})


def test_a_summary_is_the_mean_over_seeds_and_the_last_three_rounds() -> None:
    results = {
        Cell(0, "alie", "krum"): found(0.0, 0.6, 0.6, 0.6, selected=1),
        Cell(1, "alie", "krum"): found(0.0, 0.8, 0.8, 0.8),
    }
    (summary,) = summaries(["krum"], ["none", "alie"], 2, workers=5, byzantine=1, find=results.get)
    assert summary.accuracy == pytest.approx(0.7)
    assert summary.spread == pytest.approx(0.2 / 2**0.5)
    assert summary.worst_recall == pytest.approx(0.35)
    assert summary.attackers_selected == 0.5
    assert summary.honest_rejected == 0.25
    assert (summary.seeds, summary.parked, summary.attack_success) == (2, 0, None)


def test_the_worst_attack_is_named_for_each_rule() -> None:
    results = {
        Cell(0, attack, "krum"): found(accuracy, attackers=int(attack != "none"))
        for attack, accuracy in (("none", 0.9), ("alie", 0.5), ("mimic", 0.7))
    }
    (line,) = robustness(summaries(["krum"], ["none", "alie", "mimic"], 1, workers=5, byzantine=1, find=results.get))
    assert (line.unattacked, line.worst, line.worst_attack) == (0.9, 0.5, "alie")
    assert line.average == pytest.approx(0.6)
