import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from fednet.reporting.bootstrap import Figures, Floats, Ranking, bounds_of, weights_of_resamples

LABELS = np.array([0] * 30 + [1] * 12 + [3] * 58)


def scored(seed: int, count: int = 200) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Scores with many ties, and which are positive."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(count) < 0.3
    return np.round(rng.normal(is_positive.astype(float), 1.0), 1), is_positive


def test_every_resample_draws_as_many_of_each_class_as_there_are() -> None:
    weights = np.concatenate(list(weights_of_resamples(LABELS, 500)))
    assert weights.shape == (500, len(LABELS))
    for label in (0, 1, 3):
        is_member = np.equal(LABELS, label)
        assert (weights[:, is_member].sum(axis=1) == is_member.sum()).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(len(LABELS)), abs=0.25)
    assert weights.var() == pytest.approx(1.0, abs=0.1)  # of a multinomial: 1 - 1 / (images of the class)


def test_resamples_are_the_same_each_time() -> None:
    first, again = (np.concatenate(list(weights_of_resamples(LABELS, 50))) for _ in range(2))
    assert (first == again).all()


def test_a_large_set_comes_in_blocks() -> None:
    labels = np.zeros(300_000, dtype=np.int64)
    blocks = list(weights_of_resamples(labels, 7))
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 7


@pytest.mark.parametrize("seed", range(4))
def test_the_auc_is_scikit_learns_under_weights_and_ties(seed: int) -> None:
    scores, is_positive = scored(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(scores))).astype(np.float64)
    expected = [roc_auc_score(is_positive, scores, sample_weight=each) for each in weights]
    assert Ranking(scores, is_positive).auc(weights) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_sensitivity_is_that_of_scikit_learns_curve(seed: int) -> None:
    scores, is_positive = scored(seed)
    false, true, _ = roc_curve(is_positive, scores, drop_intermediate=False)
    found = Ranking(scores, is_positive).sensitivity(np.ones((1, len(scores))), specificity=0.9)
    assert found == pytest.approx([true[false <= 0.1 + 1e-9].max()])


def test_one_kind_alone_has_no_curve() -> None:
    ranking = Ranking(np.array([0.1, 0.2]), np.array([True, True]))
    assert np.isnan(ranking.auc(np.ones((2, 2)))).all()
    assert np.isnan(ranking.sensitivity(np.ones((2, 2)), specificity=0.9)).all()


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)

    def figures(weights: Floats) -> Figures:
        return {"mean": weights @ values / weights.sum(axis=1)}

    low, high = bounds_of(figures, np.zeros(400, dtype=np.int64), resamples=4000)
    half = 1.96 * values.std() / 20
    assert float(low["mean"]) == pytest.approx(values.mean() - half, abs=0.02)
    assert float(high["mean"]) == pytest.approx(values.mean() + half, abs=0.02)
