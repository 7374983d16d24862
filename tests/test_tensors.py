import hashlib

import pytest
import torch
from torch import nn

from fednet.errors import ModelError
from fednet.tensors import (
    buffer_views,
    bytes_of,
    digest_of,
    empty_flat,
    manifest_of,
    pack,
    pack_parameters,
    parameters_of,
    update_from,
    views,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(5, 1))


def manifest_for(model: nn.Module):  # type: ignore[no-untyped-def]  # test helper, its result is inferred
    return manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])


def test_a_state_survives_packing() -> None:
    model = network()
    flat = pack(model.state_dict(), manifest_for(model))
    for name, tensor in views(flat, manifest_for(model)).items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_parameters_come_first_without_gaps() -> None:
    model = network()
    manifest = manifest_for(model)
    flat = pack(model.state_dict(), manifest)
    expected = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert torch.equal(parameters_of(flat, manifest), expected)


def test_int64_buffers_are_aligned() -> None:
    manifest = manifest_for(network())
    assert all(spec.offset % 8 == 0 for spec in manifest.specs if spec.dtype == "int64")


def test_views_share_memory_with_the_buffer() -> None:
    manifest = manifest_for(network())
    flat = empty_flat(manifest)
    views(flat, manifest)["0.bias"].fill_(2.0)
    assert bytes_of(flat).tobytes().count(b"\x00\x00\x00\x40") == 3


def test_an_update_is_a_difference_for_parameters_and_a_value_for_buffers() -> None:
    model = network()
    manifest = manifest_for(model)
    base = pack(model.state_dict(), manifest)
    local = base.clone()
    parameters_of(local, manifest).add_(1.0)
    views(local, manifest)["1.running_mean"].fill_(7.0)
    update = views(update_from(local, base, manifest), manifest)
    assert torch.allclose(update["2.weight"], torch.ones(1, 5))
    assert torch.equal(update["1.running_mean"], torch.full((3,), 7.0))


def test_buffers_can_be_read_from_the_end_of_a_file_alone() -> None:
    model = network()
    manifest = manifest_for(model)
    flat = pack(model.state_dict(), manifest)
    tail = flat[manifest.buffers_start :].clone()
    for name, tensor in buffer_views(tail, manifest).items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_equal_layouts_have_equal_digests_and_others_do_not() -> None:
    assert manifest_for(network()).digest == manifest_for(network()).digest
    assert manifest_for(network()).digest != manifest_for(nn.Linear(5, 2)).digest


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(ModelError):
        views(torch.zeros(3, dtype=torch.uint8), manifest_for(network()))


def test_parameters_that_are_not_float32_are_refused() -> None:
    model = nn.Linear(2, 2).double()
    with pytest.raises(ModelError):
        manifest_for(model)


def test_the_digest_is_the_sha256_of_the_bytes() -> None:
    flat = torch.arange(10, dtype=torch.uint8)
    assert digest_of(flat) == hashlib.sha256(bytes(range(10))).hexdigest()


def test_one_tensor_for_each_parameter_becomes_one_vector() -> None:
    model = network()
    manifest = manifest_for(model)
    state = {name: torch.full_like(value, index) for index, (name, value) in enumerate(model.state_dict().items())}
    found = pack_parameters(state, manifest)
    assert torch.equal(found, parameters_of(pack(state, manifest), manifest))
    assert found.shape == (manifest.parameter_count,)
