from pathlib import Path

import pytest

from fednet.errors import CredentialError
from fednet.security.keys import load_key, new_key, save_key


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
