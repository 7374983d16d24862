"""A whole federation in one event loop: the real coordinator and workers over in-memory links, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives import serialization

from fednet.compression.forms import form_named
from fednet.config import RunId, RunSettings, TrainingSettings, WorkerName
from fednet.coordinator.handover import Handover
from fednet.coordinator.record import Retention, RunRecord
from fednet.coordinator.service import Coordinator
from fednet.errors import ConnectionLost, CredentialError
from fednet.protocol.messages import RoundClosed
from fednet.protocol.states import State
from fednet.reporting.metrics import evaluate
from fednet.reporting.reporter import NullReporter
from fednet.security.authority import create_authority, read_certificate
from fednet.security.revocation import RevocationLedger
from fednet.security.signing import RecordSigner, SignatureCheck
from fednet.storage.atomic import write_bytes
from fednet.storage.journal import Journal
from fednet.storage.store import RunStore
from fednet.tensors import Manifest, bytes_of, manifest_of, pack, views
from fednet.transport.link import Link
from fednet.transport.memory import memory_pair
from fednet.worker.circumstances import circumstances_of
from fednet.worker.compute import Compute
from fednet.worker.consent import WorkerConsent
from fednet.worker.held_out import HeldOut
from fednet.worker.record_log import RecordLog
from fednet.worker.renewing import OwnCertificate
from fednet.worker.service import LookAround, Worker
from fednet.worker.workshop import Tamper, Workshop
from tests.reporting.cards import EXAMINED
from tests.security.certs import NOW, enrolled
from tests.worker.fakes import MemoryOwnModel, TinyData, TinyNet, tiny_net

CLASSES = ("dark", "bright")


def manifest(model: TinyNet | None = None) -> Manifest:
    """Return the layout of a network: the tiny one's."""
    model = model or tiny_net()
    return manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])


def settings(**changes: Any) -> RunSettings:
    """Return settings of a small, fast run."""
    fields: dict[str, Any] = {
        "model": "tiny",
        "image_size": 16,
        "classes": CLASSES,
        "rounds": 2,
        "workers": 3,
        "quorum": 2,
        "training": TrainingSettings(local_epochs=1, batch_size=8, learning_rate=0.05),
    }
    return RunSettings(**(fields | changes))


def judge(flat: torch.Tensor) -> dict[str, Any]:
    """Evaluate a flat model on data that no worker has."""
    model = tiny_net()
    model.load_state_dict(views(flat, manifest()))
    metrics = evaluate(model, TinyData(40, seed=99), classes=CLASSES).to_dict()
    return {"test": metrics, "validation": metrics}


def save_flat(path: Path, flat: torch.Tensor, facts: dict[str, Any]) -> None:
    """Write a checkpoint as raw bytes."""
    write_bytes(path, bytes_of(flat))


def load_flat(path: Path) -> torch.Tensor:
    """Read a checkpoint of raw bytes."""
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


class Notes(NullReporter):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.closed: list[RoundClosed] = []
        self.documents: list[dict[str, Any]] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def round_closed(self, closed: RoundClosed) -> None:
        self.closed.append(closed)

    def round_committed(self, document: dict[str, Any]) -> None:
        self.documents.append(document)


class Federation:
    """Coordinator and workers; links are made in memory and can be cut."""

    def __init__(
        self,
        folder: Path,
        *,
        run_settings: RunSettings | None = None,
        grace_s: float = 5.0,
        network: Callable[[], TinyNet] = tiny_net,
        retention: Retention | None = None,
    ) -> None:
        self._network = network
        layout = manifest(network())
        self.folder = folder
        self.settings = run_settings or settings()
        self.certs = folder / "certs"
        authority_exists = (self.certs / "authority" / "ca.pem").exists()
        self._authority = None if authority_exists else create_authority(self.certs, now=NOW)
        if self._authority is not None:
            self._authority.ensure_coordinator([], now=NOW)
        self._check = SignatureCheck(read_certificate(self.certs / "authority" / "ca.pem"))
        self.store = RunStore(folder / "run")
        self.notes = Notes()
        committed = self.store.rounds()
        flat = pack(network().state_dict(), layout)
        if committed:
            stored = (folder / "run" / "checkpoints" / committed[-1].checkpoint).read_bytes()
            bytes_of(flat)[:] = stored
        record = RunRecord(
            run=RunId("test-run"),
            settings=self.settings,
            store=self.store,
            save=save_flat,
            signer=RecordSigner(self.certs),
            software={"fednet": "test"},
            retention=retention,
            hand_on=Handover(load=load_flat, save=save_flat, examine=lambda flat: EXAMINED, notice=self.notes.notice),
        )
        if not self.store.records():
            record.begin(flat, manifest=layout.digest)
        self.coordinator = Coordinator(
            run=RunId("test-run"),
            settings=self.settings,
            manifest=layout,
            model=flat,
            store=self.store,
            record=record,
            judge=judge,
            reporter=self.notes,
            device=torch.device("cpu"),
            grace_s=grace_s,
            keeps_updates=retention is not None and retention.updates,
            revocations=RevocationLedger(self.certs).current,
        )
        self.links: dict[str, list[Link]] = {}
        self._serving: asyncio.TaskGroup | None = None
        self.is_open = asyncio.Event()

    async def serve(self) -> None:
        """Be the coordinator's listener."""
        async with asyncio.TaskGroup() as group:
            self._serving = group
            self.is_open.set()
            await asyncio.Event().wait()

    def certificate(self, name: str) -> bytes:
        """Return a worker's certificate, DER; it is enrolled where it was not yet."""
        path = self.certs / "workers" / name / "cert.pem"
        if not path.exists():
            assert self._authority is not None
            enrolled(self.certs, name, self._authority)
        return read_certificate(path).public_bytes(serialization.Encoding.DER)

    async def connect(self, name: str, *, begins: State = State.WAITING) -> Link:
        """Return the worker's end of a new connection."""
        await self.is_open.wait()
        assert self._serving is not None
        at_coordinator, at_worker = memory_pair(certificate=self.certificate(name), begins=begins)
        self.links.setdefault(name, []).append(at_worker)
        try:
            self._serving.create_task(self._serve_peer(at_coordinator))
        except RuntimeError as exc:  # the task group is shutting down: nobody listens any more
            raise ConnectionLost("nobody listens") from exc
        return at_worker

    async def _serve_peer(self, link: Link) -> None:
        try:
            await self.coordinator.reception.serve(link, await link.receive())
        except ConnectionLost:
            pass
        finally:
            link.abort()

    def worker(
        self,
        number: int,
        *,
        notes: Notes | None = None,
        own: MemoryOwnModel | None = None,
        tamper: Tamper | None = None,
        data: TinyData | None = None,
        held_out: HeldOut | None = None,
        consent: WorkerConsent | None = None,
        look_around: LookAround = circumstances_of,
        own_certificate: OwnCertificate | None = None,
        workshop: Callable[[Workshop], Workshop] = lambda made: made,
    ) -> Worker:
        """Return a worker called client<number>, not yet running."""
        name = WorkerName(f"client{number}")

        def open_workshop(run_settings: RunSettings, run: str, worker: str) -> Workshop:
            return workshop(
                Workshop(
                    run=run,
                    worker=worker,
                    model=self._network(),
                    data=data or TinyData(24, seed=number),
                    compute=Compute(torch.device("cpu")),
                    own_model=own or MemoryOwnModel(),
                    tamper=tamper,
                    held_out=held_out,
                    update_form=form_named(run_settings.compress, option="--compress"),
                    model_form=form_named(run_settings.compress_model, option="--compress-model"),
                )
            )

        def open_log(run: str, worker: str) -> RecordLog:
            return RecordLog(self.journal(worker), run=run, worker=worker, check_signature=self._check)

        return Worker(
            connect=lambda: self.connect(name),
            open_workshop=open_workshop,
            open_log=open_log,
            consent=consent or WorkerConsent(),
            look_around=look_around,
            own_certificate=own_certificate,
            reporter=notes or Notes(),
            retry_for_s=5.0,
            explain_tls=lambda exc: CredentialError(str(exc)),
        )

    def journal(self, worker: str) -> Journal:
        """Return a worker's record log."""
        return Journal(self.folder / f"{worker}.audit.jsonl")

    async def run(self, *workers: Worker) -> None:
        """Run coordinator and workers to the end; raises what the coordinator raises."""
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            async with asyncio.timeout(60):
                await self.coordinator.run(self)
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.store.close()

    def model(self) -> bytes:
        """Return the last committed global model."""
        return (self.folder / "run" / "final.pth").read_bytes()
