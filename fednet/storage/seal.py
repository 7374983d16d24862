"""The seal of a finished run, `seal.json`: a signed document that names every file the coordinator left, by its bytes.

Records vouch for what means something. What means nothing (free pages of the database, padding in a model's file) is
vouched for here, so that no byte of a finished run changes unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fednet.audit.findings import Finding, plain
from fednet.audit.own_chain import CheckSignature
from fednet.audit.record import Signer, canonical
from fednet.errors import AuditError
from fednet.storage import disk
from fednet.storage.atomic import write_bytes
from fednet.storage.spool import digest_of_file
from fednet.storage.store import RunStore

SEAL = "seal.json"
FORMAT = "fednet-seal-1"

_TOP = (
    *("run.sqlite", "run.sqlite-wal", "best.pth", "final.pth", "history.json"),
    *("best.card.json", "best.card.md", "final.card.json", "final.card.md"),  # a run of before there were any has none
)
_BENEATH = ("checkpoints", "spool")


@dataclass(frozen=True)
class SealedFile:
    """A file as it was when the run was sealed."""

    nbytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What a seal says, and who says it."""

    run: str
    record: str  # digest of the last record's header
    files: Mapping[str, SealedFile]  # by their names relative to the run's folder
    certificate: bytes  # DER
    signature: bytes = b""  # DER, of `signed`

    @property
    def signed(self) -> bytes:
        """Return what the signature is of: everything else."""
        return canonical(self._document())

    def encoded(self) -> bytes:
        """Return the one encoding of this seal."""
        return canonical(self._document() | {"signature": self.signature.hex()}) + b"\n"

    def _document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": self.run,
            "record": self.record,
            "files": {name: {"nbytes": each.nbytes, "sha256": each.sha256} for name, each in self.files.items()},
            "certificate": self.certificate.hex(),
        }


def seal_run(store: RunStore, signer: Signer) -> None:
    """Close a finished run's database and seal what lies in its folder; the folder stays held until `store.close`.

    Raises `StorageError` with the run finished and not sealed: `coordinator start --resume` seals it.
    """
    run, record = store.run()[0], store.records()[-1].digest
    store.fold()
    seal = Seal(run=run, record=record, files=files_now(store.folder), certificate=signer.certificate_der)
    write_bytes(store.folder / SEAL, replace(seal, signature=signer.sign(seal.signed)).encoded())


def break_seal(folder: Path) -> None:
    """Remove a run's seal, durably: what is changed after this is not taken for tampering."""
    path = folder / SEAL
    if path.exists():
        disk.unlink(path)
        try:
            disk.sync_folder(folder)
        except OSError as exc:
            raise disk.storage_error(path, exc) from exc


def files_now(folder: Path) -> dict[str, SealedFile]:
    """Return every file that a seal covers as it is now, by name; raises `StorageError` where one cannot be read."""
    paths = [folder / name for name in _TOP] + [path for name in _BENEATH for path in (folder / name).rglob("*")]
    found = {
        path.relative_to(folder).as_posix(): SealedFile(path.stat().st_size, digest_of_file(path))
        for path in sorted(paths)
        if path.is_file()
    }
    if found.get("run.sqlite-wal", SealedFile(0, "")).nbytes == 0:
        found.pop("run.sqlite-wal", None)  # any reader of the database leaves an empty one
    return found


def read_seal(content: bytes) -> Seal:
    """Return the seal in these bytes; raises `AuditError` unless they are just what a seal is written as."""
    try:
        document = json.loads(content)
        seal = Seal(
            run=document["run"],
            record=document["record"],
            files={name: SealedFile(each["nbytes"], each["sha256"]) for name, each in document["files"].items()},
            certificate=bytes.fromhex(document["certificate"]),
            signature=bytes.fromhex(document["signature"]),
        )
        is_exact = seal.encoded() == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise AuditError("damaged, or no seal") from exc
    if not is_exact:
        raise AuditError("changed: not as a seal is written")
    return seal


def check_seal(
    content: bytes,
    files: Mapping[str, SealedFile],
    *,
    run: str | None,
    record: str | None,
    check_signature: CheckSignature,
) -> list[Finding]:
    """Return what is not as it was sealed.

    `files`: as they are now; `run`, `record`: its id and its last record's digest, None where they are not known.
    """
    try:
        seal = read_seal(content)
        check_signature(seal.signed, seal.signature, seal.certificate)
    except AuditError as exc:
        return [Finding(file=SEAL, found=str(exc))]
    findings = []
    if run is not None and seal.run != run:
        findings.append(Finding(file=SEAL, field="run", found=plain(seal.run), expected=run))
    if record is not None and seal.record != record:
        findings.append(Finding(file=SEAL, field="record", found=record, expected=seal.record))
    return findings + _changed(files, seal.files)


def _changed(files: Mapping[str, SealedFile], sealed: Mapping[str, SealedFile]) -> list[Finding]:
    """Return the files that are not what they were. Pure."""
    findings = []
    for name in sorted(files.keys() | sealed.keys()):
        found, expected = files.get(name), sealed.get(name)
        if found is None:
            findings.append(Finding(file=name, found="missing: it was there when the run was sealed"))
        elif expected is None:
            findings.append(Finding(file=name, found="new: it was not there when the run was sealed"))
        elif found != expected:
            findings.append(Finding(file=name, found="changed since the run was sealed"))
    return findings
