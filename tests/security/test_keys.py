from pathlib import Path

import pytest

from fednet.errors import CredentialError
from fednet.security.keys import load_key, new_key, refuse_readable_by_others, save_key


def test_a_key_survives_saving(tmp_path: Path) -> None:
    key = new_key()
    save_key(tmp_path / "private" / "key.pem", key)
    assert load_key(tmp_path / "private" / "key.pem").private_numbers() == key.private_numbers()


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CredentialError, match="cannot be read as a private key"):
        load_key(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"key\.pem"):
        load_key(tmp_path / "key.pem")


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o755])
def test_a_key_in_a_folder_that_others_can_enter_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "private"
    save_key(folder / "key.pem", new_key())
    folder.chmod(mode)
    with pytest.raises(CredentialError, match=rf"mode {mode:04o}: others can enter it.*[Rr]un chmod 700 {folder}"):
        load_key(folder / "key.pem")
    with pytest.raises(CredentialError, match="others can enter it"):
        refuse_readable_by_others(folder / "key.pem")
    folder.chmod(0o700)
    load_key(folder / "key.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "private" / "key.pem"
    save_key(path, new_key())
    path.chmod(mode)
    with pytest.raises(CredentialError, match=rf"mode {mode:04o}: others can read it.*[Rr]un chmod 600 {path}"):
        load_key(path)
