"""What an update of one scan gives away, and that privacy keeps it: through the code that a worker trains with."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from data.classes import CLASSES
from data.images import ScanSet
from data.loaders import ScanLoader
from data.phantoms import phantom_set
from data.transforms import normalised
from fednet.config import PrivacySettings, RunSettings, TrainingSettings
from fednet.errors import BadInput
from fednet.simulate import inversion
from fednet.simulate.inversion import Effort, Rebuilt, gradient_in, rebuild
from fednet.simulate.likeness import likeness, nearest
from fednet.simulate.one_step import one_step
from models.registry import build
from tests.simulate.phantoms import grey

SIZE, SEED = 32, 3
EFFORT = Effort(steps=200, tries=2)
PLANNED = RunSettings(
    model="resnet18-gn",
    image_size=SIZE,
    classes=CLASSES,
    rounds=1,
    workers=1,
    training=TrainingSettings(batch_size=1, momentum=0.0, weight_decay=0.0, augment=False),
)
OTHERS = grey(phantom_set(24, seed=1, size=SIZE))


def as_input(images: torch.Tensor) -> torch.Tensor:
    return normalised(images * 255)


def model() -> nn.Module:
    torch.manual_seed(SEED)
    return build("resnet18-gn", classes=len(CLASSES))


def scan_and_what_is_rebuilt_of_it(privacy: PrivacySettings | None) -> tuple[torch.Tensor, Rebuilt]:
    drawn = phantom_set(1, seed=SEED, size=SIZE)
    pixels = torch.from_numpy(drawn[0][0])[None, None]
    data = ScanLoader(ScanSet(images=pixels, labels=torch.tensor([0]), skipped=()), torch.device("cpu"))
    network = model()
    sent = one_step(network, data, PLANNED, privacy=privacy)
    gradient = gradient_in(sent.update, sent.manifest, learning_rate=PLANNED.training.learning_rate)
    start = OTHERS.mean(dim=0, keepdim=True)
    return grey(drawn)[0], rebuild(network, gradient, start, as_input=as_input, effort=EFFORT, seed=SEED)


def test_without_privacy_an_update_of_one_scan_gives_the_scan_away() -> None:
    scan, rebuilt = scan_and_what_is_rebuilt_of_it(privacy=None)
    found = likeness(rebuilt.images[0], scan)
    assert found.mse < likeness(OTHERS.mean(dim=0), scan).mse / 3
    assert found.ssim > 0.8
    assert nearest(rebuilt.images[0], torch.cat([OTHERS, scan[None]])) == len(OTHERS), "of all phantoms, the scan"
    assert rebuilt.mismatch < 0.05


def test_with_privacy_the_same_attack_finds_less_than_a_guess() -> None:
    scan, rebuilt = scan_and_what_is_rebuilt_of_it(PrivacySettings(epsilon=8.0, delta=1e-5))
    found, guess = likeness(rebuilt.images[0], scan), likeness(OTHERS.mean(dim=0), scan)
    nearest_other = OTHERS[nearest(scan, OTHERS)]
    assert found.mse > guess.mse
    assert found.mse > likeness(nearest_other, scan).mse, "another patient's scan is more like it"
    assert found.ssim < 0.2
    assert rebuilt.mismatch > 0.5, "and the attacker sees that it has found nothing"


def test_the_scan_itself_explains_the_gradient_and_others_do_not() -> None:
    network, scans = model(), OTHERS[:2]
    loss = functional.cross_entropy(network(as_input(scans[:1])), torch.tensor([0]))
    names = [name for name, _ in network.named_parameters()]
    gradient = dict(zip(names, torch.autograd.grad(loss, list(network.parameters())), strict=True))
    layers = inversion._telling(network, gradient, as_input(scans[:1]))
    with torch.no_grad():
        own, other = (float(inversion._mismatch(network, layers, as_input(each[None]))) for each in scans)
    assert own < 1e-4
    assert other > 0.2


def test_a_batch_in_which_no_layer_tells_scans_apart_is_refused() -> None:
    network, scans = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)), torch.zeros(2, 1, 8, 8)
    gradient = {name: torch.ones_like(each) for name, each in network.named_parameters()}
    with pytest.raises(BadInput, match="no layer that tells 2 images apart"):
        rebuild(network, gradient, scans, as_input=as_input, effort=EFFORT, seed=0)
