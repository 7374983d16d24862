from pathlib import Path

import pytest

from fednet.reporting.reporter import Transfer
from fednet.worker import service
from tests.federation import Federation, Notes, manifest


class Watching(Notes):
    """Notes how far transfers are."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers: list[tuple[int, Transfer]] = []

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        self.transfers.append((round_number, transfer))


async def test_model_and_update_are_shown_in_bytes_as_they_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SHOW_EVERY_S", 0.0)
    federation, watching = Federation(tmp_path), Watching()
    await federation.run(federation.worker(1, notes=watching), federation.worker(2), federation.worker(3))
    assert {transfer.is_update for _, transfer in watching.transfers} == {True, False}
    assert {transfer.total for _, transfer in watching.transfers} == {manifest().total_bytes}
    assert all(0 <= transfer.done <= transfer.total for _, transfer in watching.transfers)
    assert {number for number, _ in watching.transfers} <= set(range(1, federation.settings.rounds + 1))
