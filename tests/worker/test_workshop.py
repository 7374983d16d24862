from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fednet.config import TrainingSettings
from fednet.errors import ModelError
from fednet.protocol.messages import RoundStarted
from fednet.reporting.metrics import evaluate
from fednet.tensors import bytes_of, digest_of, manifest_of, pack, parameters_of
from fednet.worker.compute import Compute
from fednet.worker.held_out import HeldOut
from fednet.worker.session import UpdateSaved
from fednet.worker.workshop import Tamper, Workshop
from tests.worker.fakes import MemoryOwnModel, TinyData, tiny_net

SETTINGS = TrainingSettings(local_epochs=1, batch_size=8)


def base() -> torch.Tensor:
    model = tiny_net(seed=5)
    return pack(model.state_dict(), manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()]))


def workshop(
    own: MemoryOwnModel, tamper: Tamper | None = None, held_out: HeldOut | None = None, *, keeps_norm: bool = False
) -> Workshop:
    made = Workshop(
        run="r",
        worker="client1",
        model=tiny_net(),
        data=TinyData(),
        compute=Compute(torch.device("cpu")),
        own_model=own,
        tamper=tamper,
        held_out=held_out,
        keeps_norm=keeps_norm,
    )
    intake = made.new_intake(nbytes=made.manifest.total_bytes, sha256=digest_of(base()))
    intake.buffer(0, intake.nbytes)[:] = bytes_of(base())
    return made


def started(number: int = 1) -> RoundStarted:
    return RoundStarted(
        round=number,
        rounds=3,
        transfer=1,
        nbytes=base().numel(),
        sha256=digest_of(base()),
        training={},
        seed=7,
        remaining_s=1.0,
    )


def work(made: Workshop, number: int = 1) -> UpdateSaved:
    saved = made.work(started(number), SETTINGS, lambda progress: None)
    assert saved is not None
    return saved


def test_the_own_model_is_saved_before_there_is_anything_to_send() -> None:
    order: list[str] = []

    class Watching(MemoryOwnModel):
        def save(self, flat: torch.Tensor, saved: Any) -> None:
            order.append("saved")
            super().save(flat, saved)

    own = Watching()
    made = workshop(own)
    untouched = made.update.clone()
    work(made)
    assert order == ["saved"]
    assert own.saved is not None
    assert not torch.equal(made.update, untouched)
    local = own.saved[0]
    expected = parameters_of(local, made.manifest) - parameters_of(base(), made.manifest)
    assert torch.equal(parameters_of(made.update, made.manifest), expected)


def test_what_an_earlier_process_trained_for_this_round_is_sent_and_not_trained_again() -> None:
    own = MemoryOwnModel()
    first = work(workshop(own))
    again = work(workshop(own))
    assert again == first
    assert own.writes == 1


def judging(data: TinyData, *, is_shared: bool = True) -> HeldOut:
    return HeldOut(data, classes=("dark", "bright"), is_shared=is_shared, notice=lambda text: None)


def test_the_model_that_was_received_is_judged_and_not_the_one_that_was_trained() -> None:
    data = TinyData(40, seed=9)
    saved = work(workshop(MemoryOwnModel(), held_out=judging(data)))
    found = evaluate(tiny_net(seed=5), data, classes=("dark", "bright")).confusion
    assert saved.confusion == tuple(count for row in found for count in row)


def test_judging_changes_no_bit_of_the_training_and_tells_nothing_unasked() -> None:
    plain = work(workshop(MemoryOwnModel()))
    judged = work(workshop(MemoryOwnModel(), held_out=judging(TinyData(40, seed=9), is_shared=False)))
    assert judged.sha256 == plain.sha256
    assert judged.confusion == ()


def test_what_an_earlier_process_trained_is_told_with_the_same_counts() -> None:
    own = MemoryOwnModel()
    first = work(workshop(own, held_out=judging(TinyData(40, seed=9))))
    again = work(workshop(own, held_out=judging(TinyData(40, seed=9))))
    assert again == first
    assert (own.writes, sum(first.confusion)) == (1, 40)


def test_a_worker_that_is_stopped_while_it_judges_trains_nothing() -> None:
    own = MemoryOwnModel()

    class Stopping(TinyData):
        def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            made.stop()
            return super().in_order(batch_size=batch_size)

    made = workshop(own, held_out=judging(Stopping(40)))
    assert made.work(started(), SETTINGS, lambda progress: None) is None
    assert own.writes == 0


def test_what_was_trained_for_another_round_is_not_sent() -> None:
    own = MemoryOwnModel()
    work(workshop(own), number=1)
    work(workshop(own), number=2)
    assert own.writes == 2


def test_a_stopped_training_saves_nothing() -> None:
    own = MemoryOwnModel()
    made = workshop(own)
    made._stop.clear = lambda: None  # type: ignore[method-assign]  # the stop comes before the first batch
    made.stop()
    assert made.work(started(), SETTINGS, lambda progress: None) is None
    assert own.writes == 0


def test_a_malicious_worker_keeps_an_honest_file() -> None:
    own, honest = MemoryOwnModel(), MemoryOwnModel()
    made = workshop(own, tamper=lambda update, manifest: torch.zeros_like(update))
    work(made)
    work(workshop(honest))
    assert not made.update.any()
    assert own.saved is not None and honest.saved is not None
    assert torch.equal(own.saved[0], honest.saved[0])


def test_a_model_of_another_size_is_refused_before_anything_is_received() -> None:
    with pytest.raises(ModelError):
        workshop(MemoryOwnModel()).new_intake(nbytes=10, sha256="ab" * 32)
