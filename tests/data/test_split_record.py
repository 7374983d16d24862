import json
from pathlib import Path

import pytest

from data.split_record import doubts_about_test


def split_in(folder: Path, *, test_from: str = "published", dataset: str = "brain-tumor-mri") -> Path:
    """A split's folders and as much of its record as is read."""
    for side in ("client1_data", "server_data/test", "server_data/validation"):
        (folder / side).mkdir(parents=True)
    document = {
        "arguments": {"test_from": test_from, "dataset": dataset},
        "sites": {side: [] for side in ("client1_data", "server_data/test", "server_data/validation")},
    }
    (folder / "split.json").write_text(json.dumps(document))
    return folder


def test_the_published_test_set_is_warned_of(tmp_path: Path) -> None:
    (said,) = doubts_about_test(split_in(tmp_path) / "server_data" / "test")
    assert "Testing" in said
    assert "resplit" in said


def test_it_is_found_through_links_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_in(tmp_path / "split")
    (tmp_path / "here").symlink_to(split / "server_data" / "test")
    assert doubts_about_test(tmp_path / "here")
    monkeypatch.chdir(split / "server_data")
    assert doubts_about_test(Path("test"))
    assert doubts_about_test(Path("../server_data/test"))


@pytest.mark.parametrize(
    "record", [{"test_from": "resplit"}, {"dataset": "1200 phantoms of 64 pixels"}], ids=["resplit", "phantoms"]
)
def test_a_fair_test_set_is_not(tmp_path: Path, record: dict[str, str]) -> None:
    assert doubts_about_test(split_in(tmp_path, **record) / "server_data" / "test") == []


@pytest.mark.parametrize("side", ["client1_data", "server_data/validation"])
def test_what_is_no_test_set_is_named(tmp_path: Path, side: str) -> None:
    (said,) = doubts_about_test(split_in(tmp_path, test_from="resplit") / side)
    assert f"is {side} of its split" in said


def test_the_published_folder_itself_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "Testing").mkdir()
    assert doubts_about_test(tmp_path / "Testing") == []
    (tmp_path / "Training").mkdir()
    assert doubts_about_test(tmp_path / "Testing")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"arguments": 3, "sites": 4}', '{"arguments": {"test_from": "published"}}']
)
def test_another_split_json_says_nothing(tmp_path: Path, content: str) -> None:
    (split_in(tmp_path) / "split.json").write_text(content)
    assert doubts_about_test(tmp_path / "server_data" / "test") == []


def test_a_folder_of_no_split_says_nothing(tmp_path: Path) -> None:
    split_in(tmp_path)
    (tmp_path / "other").mkdir()
    assert doubts_about_test(tmp_path / "other") == []
    assert doubts_about_test(tmp_path / "nowhere") == []
