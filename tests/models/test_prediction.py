import pytest
import torch

from fednet.errors import BadInput, ModelError
from models.prediction import Rules, answer_to, rules_of, vote_in_words


def test_the_mean_of_the_slices_decides_and_votes_are_counted() -> None:
    logits = torch.tensor([[0.0, 9.0, 0.0], [0.3, 0.0, 0.0], [0.3, 0.0, 0.0]], dtype=torch.float64)
    answer = answer_to(logits, Rules())
    assert answer.label == 1
    assert answer.votes == (2, 1, 0)
    assert answer.clearest == 0
    assert sum(answer.probabilities) == pytest.approx(1)
    assert vote_in_words(answer.votes, ("a", "b", "c")) == "a 2, b 1"


def test_a_temperature_flattens_what_the_model_says() -> None:
    logits = torch.tensor([[4.0, 0.0]], dtype=torch.float64)
    assert answer_to(logits, Rules(temperature=4)).confidence == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_the_model_abstains_below_its_threshold_only() -> None:
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # 0.731
    assert answer_to(logits, Rules(threshold=0.74)).has_abstained
    assert not answer_to(logits, Rules(threshold=0.73)).has_abstained
    assert not answer_to(logits, Rules()).has_abstained


def test_a_checkpoint_brings_rules_and_the_user_may_change_the_threshold() -> None:
    extra = {"threshold": 0.6, "temperature": 2.0, "other": "kept"}
    assert rules_of(extra) == Rules(threshold=0.6, temperature=2.0)
    assert rules_of(extra, threshold=0.1).threshold == 0.1
    assert rules_of({}).threshold == 0


@pytest.mark.parametrize("extra", [{"threshold": "0.6"}, {"temperature": True}, {"max_energy": [1]}])
def test_rules_that_are_no_numbers_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="no number"):
        rules_of(extra)


@pytest.mark.parametrize("rules", [{"temperature": 0}, {"threshold": 1.1}, {"threshold": float("nan")}])
def test_numbers_that_make_no_sense_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Rules(**rules)


def test_outputs_that_are_not_finite_are_no_answer() -> None:
    with pytest.raises(ModelError, match="not finite"):
        answer_to(torch.tensor([[float("nan"), 0.0]]), Rules())
