import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fednet.compression import planes
from fednet.compression.forms import FEATURES, PLAIN, Form, form_named, with_feedback
from fednet.compression.rounding import BLOCK
from fednet.errors import BadInput, RemoteProtocolError
from fednet.tensors import Manifest, empty_flat, manifest_of, parameters_of

LAYOUT = {
    "weight": torch.zeros(BLOCK + 7),
    "bias": torch.zeros(3),
    "mean": torch.zeros(5),
    "count": torch.zeros((), dtype=torch.int64),
}
MANIFEST = manifest_of(LAYOUT, ["weight", "bias"])
NAMES = ("none", "zstd", "bf16", "bf16+zstd", "fp16", "fp16+zstd", "int8", "int8+zstd")
LARGEST_ERROR = {"none": 0.0, "bf16": 2**-8, "fp16": 2**-11, "int8": 1 / 127}  # of the largest value


def named(name: str) -> Form:
    return form_named(name, option="--compress")


def update(seed: int = 0) -> torch.Tensor:
    flat = empty_flat(MANIFEST)
    flat.copy_(torch.randint(0, 256, flat.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)))
    parameters_of(flat, MANIFEST).copy_(
        torch.randn(MANIFEST.parameter_count, generator=torch.Generator().manual_seed(seed + 1)) * 1e-2
    )
    return flat


@pytest.mark.parametrize("name", NAMES)
def test_a_form_gives_back_the_parameters_within_its_precision_and_the_buffers_exactly(name: str) -> None:
    flat, form = update(), named(name)
    travels = form.encoded(flat, MANIFEST)
    assert form.fits(len(travels), MANIFEST)
    back = form.decoded(travels, MANIFEST)
    assert torch.equal(back[MANIFEST.parameter_bytes :], flat[MANIFEST.parameter_bytes :])
    before, after = parameters_of(flat, MANIFEST), parameters_of(back, MANIFEST)
    assert float((before - after).abs().max()) <= LARGEST_ERROR[name.partition("+")[0].replace("zstd", "none")] * float(
        before.abs().max()
    )


@pytest.mark.parametrize(("name", "share"), [("bf16", 0.5), ("fp16", 0.5), ("int8", 0.25)])
def test_a_rounding_saves_what_it_says(name: str, share: float) -> None:
    manifest = manifest_of({"weight": torch.zeros(64, BLOCK)}, ["weight"])
    travels = named(name).encoded(empty_flat(manifest), manifest)
    assert len(travels) / manifest.total_bytes == pytest.approx(share, abs=0.002)


def test_int8_rounds_each_block_by_its_own_largest_value() -> None:
    flat = empty_flat(MANIFEST)
    parameters = parameters_of(flat, MANIFEST)
    parameters[0], parameters[1] = 127.0, 0.4  # the first block: steps of 1
    parameters[BLOCK] = 1.27  # the second: steps of a hundredth
    parameters[BLOCK + 1] = 0.004
    back = parameters_of(named("int8").decoded(named("int8").encoded(flat, MANIFEST), MANIFEST), MANIFEST)
    assert back[:2].tolist() == [127.0, 0.0]
    assert back[BLOCK : BLOCK + 2].tolist() == pytest.approx([1.27, 0.0])


@pytest.mark.parametrize("name", ["bf16", "fp16", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so_and_is_owed_nothing(name: str, value: float) -> None:
    flat = update()
    parameters_of(flat, MANIFEST)[2] = value
    travels, lost = with_feedback(named(name), flat, None, MANIFEST)
    back = parameters_of(named(name).decoded(travels, MANIFEST), MANIFEST)
    assert not back[2].isfinite()
    assert lost.isfinite().all()


@pytest.mark.parametrize("name", ["bf16", "fp16", "int8", "int8+zstd"])
def test_what_rounding_loses_arrives_with_the_next_updates(name: str) -> None:
    form, owed, arrived = named(name), None, torch.zeros(MANIFEST.parameter_count)
    meant = torch.zeros(MANIFEST.parameter_count)
    for seed in range(20):
        flat = update(seed)
        meant += parameters_of(flat, MANIFEST)
        travels, owed = with_feedback(form, flat, owed, MANIFEST)
        arrived += parameters_of(form.decoded(travels, MANIFEST), MANIFEST)
    assert owed is not None
    assert torch.allclose(arrived + owed, meant, atol=1e-6), "all that did not arrive in twenty rounds is one loss"
    assert float((arrived - meant).abs().max()) < 0.01 * float(meant.abs().max())


@given(data=st.binary(max_size=5000), item_bytes=st.sampled_from([1, 2, 4]))
def test_packing_loses_nothing(data: bytes, item_bytes: int) -> None:
    tensor = torch.tensor(list(data), dtype=torch.uint8)
    travels = planes.packed(tensor, item_bytes=item_bytes)
    assert len(travels) <= planes.most_bytes(len(data))
    assert torch.equal(planes.unpacked(travels, nbytes=len(data), item_bytes=item_bytes), tensor)


def test_packing_of_more_than_a_block_loses_nothing_and_noise_grows_within_its_bound() -> None:
    noise = torch.randint(0, 256, (2 * planes.BLOCK_BYTES + 11,), dtype=torch.uint8)
    travels = planes.packed(noise, item_bytes=4)
    assert len(noise) < len(travels) <= planes.most_bytes(len(noise))
    assert torch.equal(planes.unpacked(travels, nbytes=len(noise), item_bytes=4), noise)


def test_trained_weights_pack_better_in_planes_than_as_they_lie() -> None:
    weights = (torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 0.02).view(torch.uint8)
    assert len(planes.packed(weights, item_bytes=4)) < 0.95 * len(planes.packed(weights, item_bytes=1))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda data: data[:-1], "cannot be read|announces"),
        (lambda data: data[:2], "ends after 0"),
        (lambda data: torch.cat([data, data[:4]]), "its blocks"),
        (lambda data: torch.cat([data[:4], 255 - data[4:]]), "cannot be read"),
        (lambda data: planes.packed(torch.zeros(planes.BLOCK_BYTES, dtype=torch.uint8), item_bytes=4), "announces"),
    ],
)
def test_what_was_not_packed_so_is_refused(spoil, complaint: str) -> None:  # type: ignore[no-untyped-def]  # lambdas
    travels = spoil(named("zstd").encoded(update(), MANIFEST))
    with pytest.raises(RemoteProtocolError, match=complaint):
        named("zstd").decoded(travels, MANIFEST)


@given(data=st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    tensor = torch.tensor(list(data), dtype=torch.uint8)
    for name in NAMES:
        try:
            assert len(named(name).decoded(tensor, MANIFEST)) == MANIFEST.total_bytes
        except RemoteProtocolError as exc:
            assert re.search("packed|transfer", str(exc))


def test_names_are_checked_and_models_are_never_rounded() -> None:
    assert named("none") == PLAIN
    assert named("bf16+zstd").features == {"bf16", "zstd"} <= set(FEATURES)
    with pytest.raises(BadInput, match="--compress; found gzip; expected one of none, zstd, bf16"):
        named("gzip")
    with pytest.raises(BadInput, match=r"found int8; expected one of none, zstd$"):
        form_named("int8", option="--compress-model", may_round=False)


def test_a_model_without_buffers_or_of_odd_shapes_travels() -> None:
    odd: list[Manifest] = [
        manifest_of({"a": torch.zeros(1)}, ["a"]),
        manifest_of({"a": torch.zeros(0, 3), "b": torch.zeros(2, 3)}, ["a", "b"]),
    ]
    for manifest in odd:
        for name in NAMES:
            form = named(name)
            back = form.decoded(form.encoded(empty_flat(manifest), manifest), manifest)
            assert torch.equal(back, empty_flat(manifest))
