import torch

from fednet.simulate.attacks.label_flip import label_flip, sample_lies
from tests.simulate.attacks.sights import sent, sight, stacked

IMAGES = torch.arange(4 * 9, dtype=torch.uint8).view(4, 1, 3, 3)


def test_every_label_becomes_its_opposite_and_images_stay() -> None:
    attack = label_flip("label-flip", classes=4)
    assert attack.poison_data is not None
    labels = torch.tensor([0, 1, 2, 3])
    images, flipped = attack.poison_data(IMAGES, labels)
    assert torch.equal(images, IMAGES)
    assert flipped.tolist() == [3, 2, 1, 0]
    assert labels.tolist() == [0, 1, 2, 3]


def test_the_update_is_sent_as_trained() -> None:
    seen = sight()
    assert torch.equal(sent(label_flip("label-flip", classes=4), seen), stacked(seen.own).float())


def test_sample_lies_claim_a_million_times_the_data_they_flipped() -> None:
    seen = sight()
    attack = sample_lies("sample-lies", classes=4)
    assert [each.samples for each in attack.poison(seen)] == [40_000_000] * 3
    assert torch.equal(sent(attack, seen), stacked(seen.own).float())
    assert attack.poison_data is not None
    assert attack.poison_data(IMAGES, torch.tensor([0, 0, 1, 1]))[1].tolist() == [3, 3, 2, 2]
