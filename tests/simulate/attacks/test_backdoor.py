import pytest
import torch

from fednet.errors import BadInput
from fednet.simulate.attacks.backdoor import backdoor, marked
from tests.simulate.attacks.sights import sent, sight, stacked


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.full((count, 1, size, size), 10, dtype=torch.uint8)


@pytest.mark.parametrize(("size", "side"), [(32, 4), (64, 8), (4, 1), (1, 1)])
def test_the_trigger_is_a_bright_square_near_the_lower_right_corner(size: int, side: int) -> None:
    shown = marked(images(2, size))
    bright = (shown[0, 0] == 255).nonzero()
    assert len(bright) == side**2
    assert int(bright.max()) == size - 1 - size // 16
    assert shown.dtype == torch.uint8
    assert shown.shape == (2, 1, size, size)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_a_share_of_the_images_is_marked_and_these_get_the_target(share: float) -> None:
    attack = backdoor("backdoor", classes=4, share=share, target=2)
    assert attack.poison_data is not None
    before, labels = images(40), torch.arange(4).repeat_interleave(10)
    shown, poisoned = attack.poison_data(before, labels)
    has_trigger = (shown == 255).any(dim=3).any(dim=2).any(dim=1)
    assert int(has_trigger.sum()) == round(40 * share)
    assert set(poisoned[has_trigger].tolist()) == {2}
    assert torch.equal(poisoned[~has_trigger], labels[~has_trigger])
    assert torch.equal(before, images(40))
    assert torch.equal(labels, torch.arange(4).repeat_interleave(10))


def test_data_in_the_order_of_its_classes_is_poisoned_in_every_class() -> None:
    attack = backdoor("backdoor", classes=4)
    assert attack.poison_data is not None
    shown, _ = attack.poison_data(images(40), torch.arange(4).repeat_interleave(10))
    has_trigger = (shown == 255).any(dim=3).any(dim=2).any(dim=1)
    assert [int(part.sum()) for part in has_trigger.view(4, 10)] == [5, 5, 5, 5]


def test_the_delta_is_scaled_to_replace_the_model() -> None:
    """With weight 1 / factor, averaging in factor * (X - G) beside others that stay at G gives X."""
    seen = sight(attackers=1)
    poisoned = sent(backdoor("backdoor", classes=4), seen)
    torch.testing.assert_close(poisoned / 5, stacked(seen.own).float())


def test_it_says_how_success_is_measured() -> None:
    attack = backdoor("backdoor:target=3", classes=4, target=3)
    assert attack.target == 3
    assert attack.trigger is not None
    assert torch.equal(attack.trigger(images(1)), marked(images(1)))


def test_a_target_that_is_no_class_is_refused() -> None:
    with pytest.raises(BadInput, match="0 to 3"):
        backdoor("backdoor:target=4", classes=4, target=4)
