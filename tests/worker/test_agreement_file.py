from pathlib import Path

import pytest

from fednet.errors import BadInput
from fednet.worker.agreement import Agreement, MachineBounds, PrivacyBounds
from fednet.worker.agreement_file import read_agreement
from fednet.worker.consent import WorkerConsent
from fednet.worker.hours import window_from

PRINT = "ab" * 32
WHOLE = f"""
[coordinator]
authority = "{":".join(["AB"] * 32)}"
certificate = ["sha256:{"cd" * 32}", "{"ef" * 32}"]
[training]
models = ["resnet18", "resnet18-gn"]
max_rounds = 50
max_local_epochs = 5
learning_rate = [0.0001, 0.1]
max_batch_size = 64
compression = "required"
[data]
folder = "scans"
share_evaluation = false
[privacy]
dp = "required"
max_epsilon = 8
max_delta = 1e-5
[machine]
max_threads = 4
max_gpu_memory_gib = 8
min_free_gpu_memory_gib = 2
max_memory_share = 0.5
min_free_memory_gib = 4
[time]
hours = ["Mon-Fri 20:00-06:00"]
"""


def agreement_in(folder: Path, text: str) -> Agreement:
    (folder / "worker.toml").write_text(text)
    return read_agreement(folder / "worker.toml")


def test_all_that_a_file_can_say_is_read(tmp_path: Path) -> None:
    assert agreement_in(tmp_path, WHOLE) == Agreement(
        path=tmp_path / "worker.toml",
        authorities=frozenset({PRINT}),
        coordinators=frozenset({"cd" * 32, "ef" * 32}),
        data=tmp_path / "scans",
        may_share_evaluation=False,
        consent=WorkerConsent(
            models=("resnet18", "resnet18-gn"),
            max_rounds=50,
            max_local_epochs=5.0,
            min_learning_rate=0.0001,
            max_learning_rate=0.1,
            max_batch_size=64,
            compression="required",
            hours=(window_from("Mon-Fri 20:00-06:00"),),
            min_free_memory_gib=4.0,
            max_memory_share=0.5,
            min_free_gpu_memory_gib=2.0,
        ),
        privacy=PrivacyBounds(is_required=True, max_epsilon=8.0, max_delta=1e-5),
        machine=MachineBounds(max_threads=4, max_gpu_memory_gib=8.0),
    )


def test_an_empty_file_says_what_holds_anyway(tmp_path: Path) -> None:
    assert agreement_in(tmp_path, "") == Agreement(path=tmp_path / "worker.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trainings]", r"found \[trainings\]; expected of coordinator, training"),
        ("max_rounds = 5", r"found \[max_rounds\]; expected"),
        ("training = 5", "found training = 5; expected a table"),
        ("[training]\nmax_round = 5", r"\[training\]; found max_round; expected of models, max_rounds"),
        ("[training]\nmax_rounds = 5.0", r"\[training\] max_rounds; found 5.0; expected a whole number from 1"),
        ("[training]\nmax_rounds = true", "max_rounds; found true"),
        ("[training]\nmax_rounds = 0", "max_rounds; found 0"),
        ('[training]\nmax_rounds = "5"', "max_rounds; found '5'"),
        ("[training]\nmax_local_epochs = 0", "more than 0 and at most 1000"),
        ("[training]\nmax_local_epochs = inf", "max_local_epochs; found inf"),
        ("[training]\nmax_local_epochs = nan", "max_local_epochs; found nan"),
        ("[training]\nmodels = []", "a text, or a list of at least one"),
        ("[training]\nmodels = [5]", "models; found 5; expected a text"),
        ('[training]\nmodels = " "', "models; found ' '; expected a text"),
        ("[training]\nlearning_rate = 0.1", "the least and the greatest"),
        ("[training]\nlearning_rate = [0.1]", "the least and the greatest"),
        ("[training]\nlearning_rate = [0.2, 0.1]", "the least and the greatest"),
        ("[training]\nlearning_rate = [-0.1, 0.1]", "the least and the greatest"),
        ("[training]\nlearning_rate = [0, nan]", "the least and the greatest"),
        ("[training]\nlearning_rate = [false, 1]", "the least and the greatest"),
        ('[training]\ncompression = "on"', '"any" or "required" or "off"'),
        ("[training]\ncompression = []", r"compression; found \[\]"),
        ("[data]\nfolder = 1", "folder; found 1; expected a text"),
        ('[data]\nshare_evaluation = "no"', "expected true or false"),
        ("[data]\nshare_evaluation = 0", "expected true or false"),
        ('[privacy]\ndp = "off"', '"any" or "required"'),
        ("[privacy]\nmax_epsilon = 0", "max_epsilon; found 0"),
        ("[privacy]\nmax_delta = 1", "max_delta; found 1"),
        ("[machine]\nmax_threads = 0", "max_threads; found 0"),
        ("[machine]\nmax_memory_share = 50", "at most 1"),
        ('[time]\nhours = "20-06"', "hours; found '20-06'; expected hours such as"),
        ("[time]\nhours = []", "a list of at least one"),
        ('[coordinator]\nauthority = "abc"', "64 hexadecimal digits"),
        ("[coordinator]\nauthority = []", "a list of at least one"),
        ("[training", "TOML"),
        ("[training]\nmax_rounds = 5\nmax_rounds = 6", "TOML"),
    ],
)
def test_what_a_file_cannot_say_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        agreement_in(tmp_path, text)
    assert "worker.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.toml; found No such file"):
        read_agreement(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="expected TOML"):
        read_agreement(tmp_path / "odd.toml")
