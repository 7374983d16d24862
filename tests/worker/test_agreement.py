from pathlib import Path
from typing import Any

import pytest

from fednet.config import PrivacySettings
from fednet.errors import BadInput
from fednet.worker.agreement import Agreement, MachineBounds, PrivacyBounds
from fednet.worker.consent import WorkerConsent

FILE = Path("worker.toml")
SIGNED = Agreement(path=FILE, consent=WorkerConsent(models=("a", "b"), max_local_epochs=5, max_learning_rate=0.1))


def test_options_narrow_what_the_file_says() -> None:
    found = SIGNED.narrowed(model="b", max_local_epochs=2, max_learning_rate=0.1)
    assert (found.models, found.max_local_epochs, found.max_learning_rate) == (("b",), 2, 0.1)
    assert SIGNED.narrowed() == SIGNED.consent


@pytest.mark.parametrize(
    ("option", "name"),
    [({"model": "c"}, "--model"), ({"max_local_epochs": 6}, "--max-epochs"), ({"max_learning_rate": 0.2}, "--max-lr")],
)
def test_an_option_that_goes_beyond_the_file_is_refused(option: dict[str, Any], name: str) -> None:
    with pytest.raises(BadInput, match=rf"{name}; found .* as worker\.toml agrees to\. An option may only narrow it"):
        SIGNED.narrowed(**option)


def test_without_a_file_options_are_all_there_is() -> None:
    found = Agreement().narrowed(model="x", max_local_epochs=100, max_learning_rate=2.0)
    assert (found.models, found.max_local_epochs, found.max_learning_rate) == (("x",), 100, 2.0)
    assert (Agreement().threads(64), Agreement().gpu_memory_gib(80.0)) == (64, 80.0)


def test_only_the_folder_that_was_agreed_to_is_used(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    signed = Agreement(path=FILE, data=tmp_path / "scans")
    signed.require_data(tmp_path / "." / "scans")
    signed.require_data(tmp_path / "link")
    with pytest.raises(BadInput, match=r"--data; found .*other"):
        signed.require_data(tmp_path / "other")
    Agreement(path=FILE).require_data(tmp_path)


def test_counts_are_shared_only_where_that_was_agreed_to() -> None:
    signed = Agreement(path=FILE, may_share_evaluation=False)
    signed.require_sharing(is_asked=False)
    with pytest.raises(BadInput, match="--share-evaluation"):
        signed.require_sharing(is_asked=True)
    Agreement(path=FILE).require_sharing(is_asked=True)


@pytest.mark.parametrize(
    ("bounds", "own", "said"),
    [
        (PrivacyBounds(), None, None),
        (PrivacyBounds(is_required=True), None, 'dp = "required"'),
        (PrivacyBounds(is_required=True), PrivacySettings(epsilon=100.0, delta=0.01), None),
        (PrivacyBounds(max_epsilon=8.0), PrivacySettings(epsilon=8.0, delta=1e-5), None),
        (PrivacyBounds(max_epsilon=8.0), PrivacySettings(epsilon=8.1, delta=1e-5), "--dp-epsilon; found 8.1"),
        (PrivacyBounds(max_delta=1e-5), PrivacySettings(epsilon=8.0, delta=1e-4), "--dp-delta; found 0.0001"),
        (PrivacyBounds(max_epsilon=8.0), None, None),
    ],
)
def test_a_worker_trains_with_the_privacy_that_was_agreed_to(
    bounds: PrivacyBounds, own: PrivacySettings | None, said: str | None
) -> None:
    signed = Agreement(path=FILE, privacy=bounds)
    if said is None:
        signed.require_privacy(own)
        return
    with pytest.raises(BadInput, match=said):
        signed.require_privacy(own)


def test_a_worker_takes_of_its_machine_what_was_agreed_to() -> None:
    signed = Agreement(path=FILE, machine=MachineBounds(max_threads=4, max_gpu_memory_gib=8.0))
    assert (signed.threads(None), signed.threads(2)) == (4, 2)
    assert (signed.gpu_memory_gib(None), signed.gpu_memory_gib(2.0)) == (8.0, 2.0)
    with pytest.raises(BadInput, match="--num-threads; found 5; expected at most 4"):
        signed.threads(5)
    with pytest.raises(BadInput, match="--max-gpu-memory; found 9; expected at most 8"):
        signed.gpu_memory_gib(9.0)
