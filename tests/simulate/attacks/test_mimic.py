import torch

from fednet.simulate.attacks.mimic import mimic
from tests.simulate.attacks.sights import WIDTH, deltas, sight, sight_of


def hospitals(seed: int) -> list[torch.Tensor]:
    """Return a round of eight workers, who differ along the first coordinate above all; the fifth most of all."""
    generator = torch.Generator().manual_seed(seed)
    rows = 0.3 * torch.randn(8, WIDTH, generator=generator)
    rows[:, 0] += torch.tensor([1.0, -1.0, 0.5, -0.5, 4.0, -2.0, 0.0, 1.5])
    return list(rows)


def test_the_direction_of_largest_variance_is_learned_over_rounds() -> None:
    memory: dict[str, torch.Tensor] = {}
    seen_along = []
    for round_number in range(40):
        seen = sight_of(hospitals(round_number), deltas(2), seed=9)
        mimic("mimic").poison(type(seen)(**(vars(seen) | {"memory": memory})))
        seen_along.append(abs(float(memory["direction"][0])))
    assert seen_along[-1] > 0.99
    assert float(memory["direction"].norm()) > 0.9999


def test_the_direction_is_the_first_principal_component_of_a_round_that_repeats() -> None:
    seen = sight(honest=6, attackers=1)
    for _ in range(400):
        mimic("mimic").poison(seen)
    rows = torch.stack(seen.known).double()
    component = torch.linalg.svd(rows - rows.mean(dim=0)).Vh[0]
    assert abs(float(component @ seen.memory["direction"].double())) > 0.98


def test_all_copy_the_worker_furthest_along_it_whole() -> None:
    memory: dict[str, torch.Tensor] = {}
    copied = []
    for round_number in range(10):
        seen = sight_of(hospitals(round_number), deltas(3), seed=9)
        seen = type(seen)(**(vars(seen) | {"memory": memory}))
        sent = mimic("mimic").poison(seen)
        assert len(sent) == 3
        copied.append({index for index, each in enumerate(seen.honest) if any(each is other for other in sent)})
    assert copied[-1] == {4}


def test_it_stays_with_its_worker_when_a_round_differs() -> None:
    memory: dict[str, torch.Tensor] = {}
    for round_number in range(10):
        seen = sight_of(hospitals(round_number), deltas(1), seed=9)
        mimic("mimic").poison(type(seen)(**(vars(seen) | {"memory": memory})))
    rows = hospitals(10)
    rows[0], rows[4] = rows[4], rows[0]
    seen = sight_of(rows, deltas(1), seed=9)
    [sent] = mimic("mimic").poison(type(seen)(**(vars(seen) | {"memory": memory})))
    assert sent is seen.honest[4]


def test_other_workers_start_it_afresh() -> None:
    memory: dict[str, torch.Tensor] = {}
    for count in (8, 5):
        seen = sight_of(hospitals(0)[:count], deltas(1), seed=9)
        mimic("mimic").poison(type(seen)(**(vars(seen) | {"memory": memory})))
    assert len(memory["reached"]) == 5
