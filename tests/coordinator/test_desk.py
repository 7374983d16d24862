from pathlib import Path

from fednet.config import WorkerName
from fednet.coordinator.desk import SENDS_UPDATE
from fednet.protocol.messages import UpdateOffered
from fednet.reporting.reporter import WorkerView
from tests.federation import Federation

CLIENT1 = WorkerName("client1")


async def test_how_far_an_update_has_come_is_seen_of_its_worker(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    desk = federation.coordinator._desk
    desk.views[CLIENT1] = WorkerView(name=CLIENT1, activity=SENDS_UPDATE)
    offered = UpdateOffered(round=1, transfer=1, nbytes=400, sha256="ab" * 32, samples=9, train_s=1.0, loss=0.5)
    incoming = desk.incoming(CLIENT1, offered, fingerprint="")
    incoming.intake.offset = 100
    desk.show_uploads()
    assert desk.views[CLIENT1].sentence() == "client1 is sending its update, 25%"
    desk.views[CLIENT1].activity, desk.views[CLIENT1].fraction = "training", 0.9  # once more, after a restart
    desk.show_uploads()
    assert desk.views[CLIENT1].sentence() == "client1 is training, 90%"
    desk.leave_round()
    federation.store.close()
