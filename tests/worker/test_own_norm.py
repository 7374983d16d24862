import torch

from fednet.tensors import views
from fednet.worker.own_norm import OwnNorm
from tests.worker.fakes import MemoryOwnModel, tiny_net
from tests.worker.test_workshop import SETTINGS, base, started, workshop

NORM = "features.1.weight"


def test_before_its_first_round_a_site_takes_the_global_one() -> None:
    model, before = tiny_net(), tiny_net().state_dict()
    OwnNorm(model).restore(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_its_own_comes_back_and_nothing_else() -> None:
    own, model = tiny_net(seed=1), tiny_net(seed=2)
    own.state_dict()[NORM].fill_(7.0)
    norm = OwnNorm(own)
    norm.keep(own.state_dict())
    norm.restore(model)
    assert torch.equal(model.state_dict()[NORM], torch.full((4,), 7.0))
    assert torch.equal(model.state_dict()["fc.weight"], tiny_net(seed=2).state_dict()["fc.weight"])


def trained_norm(own: MemoryOwnModel, number: int, *, keeps_norm: bool) -> torch.Tensor:
    """Return the site's BatchNorm weights after a round from the same global model, in a process of its own."""
    made = workshop(own, keeps_norm=keeps_norm)
    assert made.work(started(number), SETTINGS, lambda progress: None) is not None
    assert own.saved is not None
    return views(own.saved[0], made.manifest)[NORM].clone()


def test_a_site_goes_on_from_its_own_batch_norm_in_another_process_too() -> None:
    start = views(base(), workshop(MemoryOwnModel()).manifest)[NORM]
    kept, replaced = MemoryOwnModel(), MemoryOwnModel()
    first = trained_norm(kept, 1, keeps_norm=True)
    assert torch.equal(first, trained_norm(replaced, 1, keeps_norm=False))
    own, theirs = trained_norm(kept, 2, keeps_norm=True), trained_norm(replaced, 2, keeps_norm=False)
    assert (own - start).abs().sum() > (theirs - start).abs().sum()
    assert not torch.equal(own, theirs)
