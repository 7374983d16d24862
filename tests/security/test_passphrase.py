from pathlib import Path

import pytest

from fednet.errors import CredentialError
from fednet.security.authority import create_authority, has_authority, open_authority, open_or_create_authority
from fednet.security.passphrase import VARIABLE, passphrase_from
from fednet.security.rotation import begin, signing_authority
from tests.security.certs import NOW

WORDS = b"correct horse battery"


def test_an_authority_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    made = create_authority(tmp_path, now=NOW, passphrase=WORDS)
    assert open_authority(tmp_path, passphrase=WORDS).certificate == made.certificate
    assert open_or_create_authority(tmp_path, now=NOW, passphrase=WORDS).certificate == made.certificate
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "authority" / "ca.key").read_bytes()
    with pytest.raises(CredentialError, match=rf"encrypted, and no passphrase.*{VARIABLE}"):
        open_authority(tmp_path)
    with pytest.raises(CredentialError, match=r"another passphrase"):
        open_authority(tmp_path, passphrase=b"correct horse batteries")


def test_nobody_believes_that_a_key_is_encrypted_which_is_not(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    with pytest.raises(CredentialError, match="not encrypted, though a passphrase is given"):
        open_authority(tmp_path, passphrase=WORDS)


def test_a_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="found 5 characters"):
        create_authority(tmp_path / "certs", now=NOW, passphrase=b"short")
    assert not has_authority(tmp_path / "certs")
    assert list(tmp_path.iterdir()) == []


def test_the_next_authoritys_key_is_encrypted_as_the_present_ones(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW, passphrase=WORDS)
    begin(tmp_path, now=NOW, passphrase=WORDS)
    assert b"ENCRYPTED" in (tmp_path / "authority" / "next" / "ca.key").read_bytes()
    assert (
        signing_authority(tmp_path, passphrase=WORDS).certificate
        != open_authority(tmp_path, passphrase=WORDS).certificate
    )


def private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def test_a_passphrase_is_the_first_line_of_its_file_else_the_environments(tmp_path: Path) -> None:
    file = private(tmp_path / "words", WORDS + b"\r\nand a note\n")
    assert passphrase_from(file, {VARIABLE: "other"}) == WORDS
    assert passphrase_from(None, {VARIABLE: "other"}) == b"other"
    assert passphrase_from(None, {}) is None


@pytest.mark.parametrize("data", [b"", b"\nx", b"\xff\xfe", b"x" * 2000])
def test_a_passphrase_file_without_a_usable_line_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CredentialError, match=r"passphrase file .*words"):
        passphrase_from(private(tmp_path / "words", data), {})


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "words", WORDS)
    file.chmod(0o640)
    with pytest.raises(CredentialError, match=r"mode 0640.*chmod 600"):
        passphrase_from(file, {})
    with pytest.raises(CredentialError, match="No such file"):
        passphrase_from(tmp_path / "none", {})
