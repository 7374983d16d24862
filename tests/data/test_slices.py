import pytest

from data.slices import ALL, MAX_SLICES, MIDDLE, Choice, choice_from
from fednet.errors import BadInput, DataError


def test_slices_are_named_by_word_or_number() -> None:
    assert choice_from("all").of(4) == [0, 1, 2, 3]
    assert choice_from("middle").of(5) == [2]
    assert choice_from("3, 1,1").of(5) == [1, 3]


def test_a_picture_is_its_only_slice_whatever_is_chosen() -> None:
    assert choice_from("60,77").of(1) == [0]


@pytest.mark.parametrize("text", ["", "some", "1,", "-1", "1.5", "٣", "99999999"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--slices"):
        choice_from(text)


@pytest.mark.parametrize("count", [0, -1, MAX_SLICES + 1])
def test_a_file_of_no_slices_or_too_many_is_refused(count: int) -> None:
    for choice in (ALL, MIDDLE, Choice((0,))):
        with pytest.raises(DataError, match="slices"):
            choice.of(count)
