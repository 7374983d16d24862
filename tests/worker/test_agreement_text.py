import re
from pathlib import Path

import pytest

from fednet.worker.agreement import Agreement
from fednet.worker.agreement_file import read_agreement
from fednet.worker.agreement_text import TEMPLATE, sentences_of
from tests.worker.test_agreement_file import WHOLE, agreement_in


def test_the_template_changes_nothing_until_a_line_is_taken_in(tmp_path: Path) -> None:
    assert agreement_in(tmp_path, TEMPLATE) == Agreement(path=tmp_path / "worker.toml")


README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def keys(text: str) -> set[str]:
    return set(re.findall(r"^([a-z_]+) = ", text, re.MULTILINE))


def test_the_readmes_example_can_be_used(tmp_path: Path) -> None:
    (example,) = (block for block in README.split("\n```\n") if block.startswith("[coordinator]\n"))
    assert keys(example) == keys(WHOLE) - {"certificate"}
    agreement_in(tmp_path, example.replace("3f1c...64 digits", "ab" * 32))


def test_every_line_of_the_template_can_be_taken_in_and_every_key_has_one(tmp_path: Path) -> None:
    taken = re.sub(r"^# (?=[a-z_]+ = )", "", TEMPLATE, flags=re.MULTILINE)
    agreement_in(tmp_path, taken)
    assert keys(taken) == keys(WHOLE)


@pytest.mark.parametrize(
    "word",
    [
        "ab" * 32,
        "cd" * 32,
        "resnet18-gn",
        "at most 50",
        "at most 5 ",
        "0.0001 to 0.1",
        "at most 64 images",
        "compressed only",
        "scans",
        "told nothing",
        "required, with epsilon of at most 8",
        "1e-05",
        "4 threads",
        "8 GiB of a GPU",
        "2 GiB",
        "50%",
        "4 GiB of memory",
        "Mon-Fri 20:00-06:00",
    ],
)
def test_all_that_a_file_says_is_said_in_words(tmp_path: Path, word: str) -> None:
    assert word in "\n".join(sentences_of(agreement_in(tmp_path, WHOLE)))


def test_bounds_of_a_privacy_that_is_not_required_are_said_too(tmp_path: Path) -> None:
    (tmp_path / "worker.toml").write_text("[privacy]\nmax_epsilon = 3")
    text = "\n".join(sentences_of(read_agreement(tmp_path / "worker.toml")))
    assert "not required; where it is used, with epsilon of at most 3" in text
