"""A hospital's own certificate authority, made by `openssl` as the README says, for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fednet.security.enrolment import GivenFiles

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl program here")


def openssl(folder: Path, *arguments: str) -> None:
    """Run it in a folder."""
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, *extensions: str, config: str | None = None) -> Path:
    """Make `ca.pem` and `ca.key`; return the former. `extensions` as `openssl req -addext` takes them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    added = [part for each in ("keyUsage=critical,keyCertSign,cRLSign", *extensions) for part in ("-addext", each)]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "ca.key"]
    given = ["-config", config] if config else []
    openssl(
        folder,
        "req",
        "-x509",
        *given,
        *key,
        "-out",
        "ca.pem",
        "-days",
        "365",
        "-subj",
        f"/O=St Mary/CN={folder.name} CA",
        *added,
    )
    return folder / "ca.pem"


def issue(folder: Path, name: str, *, role: str = "worker", subject: str = "/O=St Mary", days: int = 90) -> GivenFiles:
    """Issue a worker's certificate by the authority in the folder; it trusts what is put into `centre.pem`."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", f"{name}.key"]
    identity = ["-addext", f"subjectAltName=URI:urn:fednet:{role}:{name}", "-addext", "extendedKeyUsage=clientAuth"]
    openssl(folder, "req", *key, "-out", f"{name}.csr", "-subj", f"{subject}/CN={name}", *identity)
    by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *by, "-days", str(days), "-out", f"{name}.pem")
    return GivenFiles(authority=folder / "centre.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
