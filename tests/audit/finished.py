"""A finished run in a folder, made by the coordinator's own parts in a second: no network, no training; for tests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data.classes import CLASSES
from fednet.aggregation.server_optimizer import FRESH
from fednet.commands import wiring
from fednet.compression.forms import form_named
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.aggregator import combine_updates
from fednet.coordinator.desk import DeliveredUpdate, write_decoded
from fednet.coordinator.handover import Examine, Handover
from fednet.coordinator.record import Retention, RunRecord, Timings
from fednet.security.authority import create_authority, read_certificate
from fednet.security.signing import RecordSigner, SignatureCheck
from fednet.storage import disk
from fednet.storage.journal import Journal
from fednet.storage.seal import seal_run
from fednet.storage.spool import SpoolFile, spool_folder, spool_path
from fednet.storage.store import RunStore, StoredUpdate
from fednet.tensors import Manifest, bytes_of, digest_of, empty_flat, pack, parameters_of, views
from fednet.worker.record_log import RecordLog
from tests.security.certs import NOW

RUN = RunId("0123456789abcdef")


@dataclass(frozen=True)
class Site:
    """Where everything lies."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    @property
    def check(self) -> SignatureCheck:
        return SignatureCheck(read_certificate(self.certs / "authority" / "ca.pem"))

    def log(self, worker: str) -> Path:
        return self.folder / f"{worker}.audit.jsonl"


def settings(**changes: Any) -> RunSettings:
    """Return settings of a run of two rounds with three workers."""
    fields: dict[str, Any] = {
        "model": "small-cnn",
        "image_size": 32,
        "classes": CLASSES,
        "rounds": 2,
        "workers": 3,
        "aggregator": "fedavg",
    }
    return RunSettings(**(fields | changes))


def make_run(
    folder: Path,
    *,
    run_settings: RunSettings | None = None,
    retention: Retention | None = None,
    rounds: int | None = None,
    liars: Sequence[str] = (),
    is_sealed: bool = True,
    examine: Examine | None = None,
    refused: Sequence[int] = (),
) -> Site:
    """Make a run and return where it is; `rounds`: how many are committed (all: then it is finished).

    `refused`: rounds whose step the guard did not take. `examine`: what the last look at a model finds; None: as
    versions of before there were cards finish a run.
    """
    site, chosen = Site(folder), run_settings or settings()
    create_authority(site.certs, now=NOW).ensure_coordinator([], now=NOW)
    retention = retention or Retention(updates=True)
    committed = chosen.rounds if rounds is None else rounds
    with closing(RunStore(site.run)) as store:
        Run(site, chosen, store, retention, examine, refused).go(committed, liars=liars)
        if committed == chosen.rounds:
            store.ended("finished", "all rounds are done")
            if is_sealed:
                seal_run(store, RecordSigner(site.certs))
    return site


class Run:
    """What writes a run."""

    def __init__(
        self,
        site: Site,
        run_settings: RunSettings,
        store: RunStore,
        retention: Retention,
        examine: Examine | None = None,
        refused: Sequence[int] = (),
    ) -> None:
        self._server, self._refused = FRESH, refused
        network = wiring.new_model(run_settings.model, seed=0, pretrained="no", weights=None, notice=lambda text: None)
        self._manifest = wiring.manifest_for(network)
        self.notices: list[str] = []
        self._site, self._settings, self._store, self._retention = site, run_settings, store, retention
        self._model = pack(network.state_dict(), self._manifest)
        writer = wiring.CheckpointWriter(run_settings, self._manifest)
        self.record = RunRecord(
            run=RUN,
            settings=run_settings,
            store=store,
            save=writer.save,
            signer=RecordSigner(site.certs),
            software=wiring.software(),
            retention=retention,
            hand_on=None
            if examine is None
            else Handover(
                load=lambda path: writer.load(path)[0], save=writer.save, examine=examine, notice=self.notices.append
            ),
        )
        self._logs = {
            f"client{number}": RecordLog(
                Journal(site.log(f"client{number}")), run=RUN, worker=f"client{number}", check_signature=site.check
            )
            for number in range(1, run_settings.workers + 1)
        }

    def go(self, rounds: int, *, liars: Sequence[str]) -> None:
        """Run all rounds from the beginning."""
        self.record.begin(self._model, manifest=self._manifest.digest)
        self._show_record()
        for number in range(1, rounds + 1):
            self._round(number, liars)
            self._show_record()
        if rounds == self._settings.rounds:
            self.record.finish()

    def _round(self, number: int, liars: Sequence[str]) -> None:
        names = [WorkerName(name) for name in sorted(self._logs)]
        self._store.round_begun(number, names)
        updates = {name: self._delivered(number, name, is_lie=name in liars) for name in names}
        combined = combine_updates(
            self._model,
            updates,
            manifest=self._manifest,
            settings=self._settings,
            round_number=number,
            device=torch.device("cpu"),
            quarantined=self.record.quarantined(),
            resent=self.record.resent({name: update.sha256 for name, update in updates.items()}),
            server=self._server,
        )
        document = {"round": number, **combined.document(updates), "absent": [], **_metrics(number)}
        if number in self._refused:
            document["refused"] = {"reason": "validation fell"}
            combined = replace(combined, model=self._model, server=self._server)
        began = time.perf_counter()
        self.record.commit(document, combined.model, Timings(), round_began=began, server=combined.server)
        self._model, self._server = combined.model, combined.server
        if not self._retention.updates:
            disk.remove_folder(spool_folder(self._site.run, number))

    def _delivered(self, number: int, name: WorkerName, *, is_lie: bool) -> DeliveredUpdate:
        form = form_named(self._settings.compress, option="compress")
        travels = form.encoded(_update(self._manifest, number, name, is_lie=is_lie), self._manifest)
        path = spool_path(self._site.run, number, name)
        with closing(SpoolFile(path, travels.numel())) as file:
            file.write(0, bytes_of(travels))
        sha256 = digest_of(travels)
        stored = StoredUpdate(
            worker=name,
            sha256=sha256,
            nbytes=travels.numel(),
            samples=40 + len(name),
            train_s=1.5,
            loss=0.25,
            arrived_s=2.5,
            fingerprint=f"{number:064x}",
        )
        self._store.update_stored(number, stored)
        self._logs[name].keep_acknowledged(number, sha256)
        flat = self._site.folder / "decoded" / f"{number}-{name}"
        write_decoded(path, flat, nbytes=travels.numel(), form=form, manifest=self._manifest)
        return DeliveredUpdate(**vars(stored), path=flat)

    def _show_record(self) -> None:
        for name, log in self._logs.items():
            shown = self.record.shown_to(WorkerName(name))
            log.chain.take(shown, sent=log.acknowledged.get(log.chain.round + 1))
            log.keep_record(shown)


def _update(manifest: Manifest, number: int, name: str, *, is_lie: bool) -> torch.Tensor:
    """Return an update like the other workers', or one that points elsewhere."""
    flat = empty_flat(manifest)
    for place in views(flat, manifest).values():
        if place.dtype == torch.float32:
            place.fill_(1.0)  # BatchNorm's statistics must be sound
    generator = torch.Generator().manual_seed(1000 * number + sum(name.encode()))
    noise = torch.randn(manifest.parameter_count, generator=generator) * 1e-3
    parameters_of(flat, manifest).copy_(-5e-2 * torch.ones_like(noise) if is_lie else noise + 1e-2)
    return flat


def _metrics(number: int) -> Mapping[str, Any]:
    """Return made-up metrics; the first round is the best."""
    scores = {"accuracy": 0.5 + 0.01 * number, "macro_f1": 0.75 - 0.01 * number, "loss": 0.5}
    return {"validation": scores | {"images": 40}, "test": scores | {"images": 60}}
