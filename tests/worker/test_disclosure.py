import json
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import AuditError
from fednet.storage.journal import read_journal
from fednet.worker.disclosure import SentUpdate, disclosed
from fednet.worker.record_log import RecordLog
from fednet.worker.session import UpdateSaved
from tests.audit.records import RUN, chain, check, digest, shown
from tests.federation import Federation, settings


class Lines:
    """A log in memory."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.log = RecordLog(self, run=RUN, worker="b", check_signature=check)  # type: ignore[arg-type]  # its twin

    def append(self, document: dict[str, Any]) -> None:
        self.documents.append(json.loads(json.dumps(document)))

    def offer(self, number: int, sha256: str, **changes: Any) -> None:
        fields: dict[str, Any] = {"nbytes": 10, "samples": 5, "train_s": 1.0, "loss": 0.5, "confusion": (3, 0, 0, 2)}
        fields |= changes
        self.log.keep_offered(UpdateSaved(round=number, sha256=sha256, **fields))


def test_what_left_and_what_became_of_it_is_told() -> None:
    lines, first, second = Lines(), digest("1"), digest("2")
    lines.offer(1, first)
    lines.offer(1, first)
    lines.log.keep_acknowledged(1, first)
    lines.log.keep_record(shown(chain({"b": first})[1], 0))
    lines.offer(2, second, confusion=())
    (found,) = disclosed(lines.documents, check_signature=check)
    assert (found.run, found.worker, found.nbytes) == (RUN, "b", 20)
    counted, sent = found.updates
    assert (counted.sha256, counted.samples, counted.confusion) == (first, 5, (3, 0, 0, 2))
    assert (counted.is_acknowledged, counted.verdict) == (True, "selected")
    assert counted.at_s is not None and counted.at_s > 1.7e9
    assert (sent.sha256, sent.is_acknowledged, sent.verdict, sent.confusion) == (second, False, "not known yet", ())
    assert (found.chain.round, found.chain.finding) == (1, "")


def test_a_log_of_an_earlier_version_tells_what_it_kept() -> None:
    lines, first = Lines(), digest("1")
    lines.log.keep_acknowledged(1, first)
    lines.log.keep_record(shown(chain({"b": first})[1], 0))
    lines.log.keep_acknowledged(2, digest("2"))
    (found,) = disclosed(lines.documents, check_signature=check)
    told, open_ = found.updates
    assert (told.round, told.sha256, told.verdict) == (1, first, "selected")
    assert (told.at_s, told.nbytes, told.samples) == (None, None, 7), "the record has the samples"
    assert open_ == SentUpdate(round=2, sha256=digest("2"), is_acknowledged=True)


def test_an_update_that_the_coordinator_gave_up_was_sent_all_the_same() -> None:
    lines = Lines()
    lines.offer(1, digest("1"))
    lines.log.keep_acknowledged(1, digest("1"))
    lines.log.keep_withdrawn(1)
    lines.offer(1, digest("again"))
    (found,) = disclosed(lines.documents, check_signature=check)
    assert [(each.sha256, each.verdict) for each in found.updates] == [
        (digest("1"), "withdrawn"),
        (digest("again"), "not known yet"),
    ]


def test_a_round_without_an_update_tells_of_none() -> None:
    lines = Lines()
    lines.log.keep_record(shown(chain({"a": digest("1")})[1], None))
    (found,) = disclosed(lines.documents, check_signature=check)
    assert (found.updates, found.worker, found.chain.round) == ((), "", 1)


def damaged(change: dict[str, Any]) -> list[dict[str, Any]]:
    lines = Lines()
    lines.log.keep_acknowledged(1, digest("1"))
    lines.log.keep_record(shown(chain({"b": digest("1")})[1], 0))
    lines.documents[1] |= change
    return lines.documents


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"signature": "00"}, "signature"),
        ({"path": "00" * 32}, "entry is not part of the signed record"),
        ({"position": None}, "damaged"),
        ({"signature": "x"}, "damaged"),
    ],
)
def test_a_record_that_was_changed_is_seen(change: dict[str, Any], finding: str) -> None:
    (found,) = disclosed(damaged(change), check_signature=check)
    assert finding in found.chain.finding


def test_an_acknowledgement_that_was_broken_is_seen() -> None:
    lines = damaged({})
    lines[0]["sha256"] = digest("another")
    (found,) = disclosed(lines, check_signature=None)
    assert "acknowledged was" in found.chain.finding


def test_without_an_authority_signatures_are_taken_as_they_are() -> None:
    (found,) = disclosed(damaged({"signature": "00"}), check_signature=None)
    assert found.chain.finding == ""


@pytest.mark.parametrize("change", [{"kind": None}, {"entry": "[1]"}, {"entry": '{"worker": 1}'}, {"header": "x"}])
def test_a_damaged_log_is_said(change: dict[str, Any]) -> None:
    lines = damaged(change)
    if "kind" in change:
        del lines[1]["kind"]
    with pytest.raises(AuditError, match="damaged"):
        disclosed(lines, check_signature=check)


async def test_all_that_a_whole_run_sends_is_written_down_before(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=2))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    (found,) = disclosed(read_journal(tmp_path / "client2.audit.jsonl"), check_signature=None)
    documents = json.loads((tmp_path / "run" / "history.json").read_text())["rounds"]
    assert found.chain.finding == ""
    for sent, document in zip(found.updates, documents, strict=True):
        (stored,) = (each for each in document["updates"] if each["worker"] == "client2")
        assert (sent.sha256, sent.samples, sent.loss) == (stored["sha256"], stored["samples"], stored["loss"])
        assert (sent.is_acknowledged, sent.verdict, sent.weight) == (True, "selected", stored["weight"])
