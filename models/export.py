"""A model in the formats that other software reads, each loaded again and compared with PyTorch before it is given out.

safetensors holds the weights alone, ONNX and TorchScript the whole network. All take normalised images and give logits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data.transforms import MEAN, STD, normalised
from fednet.errors import FednetError
from models.checkpoint import Checkpoint

MAX_DIFFERENCE = 1e-4  # between logits of the model and of what was exported
_CHECKED_BATCHES = (1, 7)  # images; two sizes, for a batch size must not be frozen into the file
_MAX_BATCH = 4096
_CALIBRATION = ("temperature", "threshold", "max_energy")  # as `models.prediction` reads them

_Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Exported:
    """A checked file, not yet written."""

    content: bytes
    max_difference: float


def exported(saved: Checkpoint, form: str) -> Exported:
    """Return the model in the format `form`, checked on seeded images.

    Raises `FednetError` where its outputs differ by more than `MAX_DIFFERENCE`, `ModelError` for damaged weights.
    """
    model = saved.build().eval()
    write, read = _FORMATS[form]
    with _quiet():
        content = write(model, saved)
        other = read(content, saved)
        found = max_difference(model, other, image_size=saved.facts.image_size)
    if not found <= MAX_DIFFERENCE:  # nan too
        raise FednetError(
            f"export as {form}: its outputs differ by {found:.2g} from PyTorch's; expected at most {MAX_DIFFERENCE:g}. "
            "Nothing was written: use another format, or another version of what exports it"
        )
    return Exported(content, found)


def max_difference(model: _Network, other: _Network, *, image_size: int) -> float:
    """Return how far two networks' logits lie apart at most, on images of noise that a seed decides."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.inference_mode():
        for count in _CHECKED_BATCHES:
            grey = torch.randint(0, 256, (count, 1, image_size, image_size), generator=generator, dtype=torch.uint8)
            images = normalised(grey)
            worst = max(worst, float((model(images) - other(images)).abs().max()))
    return worst


def description(saved: Checkpoint, form: str) -> dict[str, Any]:
    """Return what somebody must know to use the file; plain JSON types."""
    facts = saved.facts
    return {
        "format": form,
        "architecture": facts.model,
        "classes": list(facts.classes),
        "image_size": facts.image_size,
        "input": {
            "name": "images",
            "layout": "NCHW",
            "shape": ["batch", 3, facts.image_size, facts.image_size],
            "dtype": "float32",
            "made_of": "8-bit grey, resized to a square (antialiased, bilinear), the same in all three channels",
            "normalisation": {"scale": 1 / 255, "mean": list(MEAN), "std": list(STD)},
        },
        "output": {
            "name": "logits",
            "shape": ["batch", len(facts.classes)],
            "probabilities": "softmax of the logits, divided by the temperature of the calibration where there is one",
        },
        "calibration": {name: facts.extra[name] for name in _CALIBRATION if name in facts.extra},
        "run": facts.run,
        "round": facts.round,
        "intended_use": "research; not a medical device",
    }


def _write_safetensors(model: nn.Module, saved: Checkpoint) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})


def _read_safetensors(content: bytes, saved: Checkpoint) -> _Network:
    from safetensors.torch import load

    return Checkpoint(load(content), saved.facts).build().eval()


def _write_onnx(model: nn.Module, saved: Checkpoint) -> bytes:
    program = torch.onnx.export(
        model,
        (_example(saved),),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=_MAX_BATCH)},),
        verbose=False,
    )
    assert program is not None  # with dynamo there is one
    content: bytes = program.model_proto.SerializeToString()
    return content


def _read_onnx(content: bytes, saved: Checkpoint) -> _Network:
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _write_torchscript(model: nn.Module, saved: Checkpoint) -> bytes:
    content = io.BytesIO()
    with torch.inference_mode():
        torch.jit.save(torch.jit.trace(model, _example(saved)), content)  # type: ignore[no-untyped-call]  # torch's
    return content.getvalue()


def _read_torchscript(content: bytes, saved: Checkpoint) -> _Network:
    network: _Network = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's
    return network


def _example(saved: Checkpoint) -> torch.Tensor:
    return torch.zeros(2, 3, saved.facts.image_size, saved.facts.image_size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings (of their own deprecations) off the terminal; the outputs are checked instead."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


_FORMATS: dict[str, tuple[Callable[[nn.Module, Checkpoint], bytes], Callable[[bytes, Checkpoint], _Network]]] = {
    "safetensors": (_write_safetensors, _read_safetensors),
    "onnx": (_write_onnx, _read_onnx),
    "torchscript": (_write_torchscript, _read_torchscript),
}
