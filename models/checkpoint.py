"""Models on disk: a `.pth` with the state_dict and what is needed to use it; loaded with `weights_only=True` always."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fednet.errors import ModelError
from fednet.storage.atomic import write_bytes
from models.registry import build

FORMAT = "fednet-checkpoint-1"

_DAMAGED = (
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError),
    *(TypeError, AttributeError, AssertionError),  # of a pickle in which a byte was changed
)


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint says beside its weights; plain types only."""

    model: str
    classes: tuple[str, ...]
    image_size: int  # pixels, square
    run: str = ""
    round: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A saved model: `state` and the facts about it."""

    state: dict[str, torch.Tensor]
    facts: CheckpointFacts

    def build(self) -> nn.Module:
        """Return the model with its weights; raises `ModelError` when they do not fit its architecture."""
        model = build(self.facts.model, classes=len(self.facts.classes))
        load_state(model, self.state, what=f"weights of a {self.facts.model}")
        return model


def save(path: Path, state: dict[str, torch.Tensor], facts: CheckpointFacts) -> None:
    """Write a checkpoint atomically; raises `DiskFull` with what was at `path` untouched."""
    described = asdict(facts) | {"classes": list(facts.classes)}
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}  # no shared storage
    save_document(path, {"format": FORMAT, "state_dict": own, "facts": described})


def load(path: Path) -> Checkpoint:
    """Return the checkpoint in `path`; raises `ModelError` for anything that is not one of ours."""
    document = load_document(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f"model {path}", found="no FedNet checkpoint", expected=f"a file of format {FORMAT}")
    try:
        facts = document["facts"]
        found = Checkpoint(document["state_dict"], CheckpointFacts(**(facts | {"classes": tuple(facts["classes"])})))
    except (KeyError, TypeError) as exc:
        raise ModelError(f"model {path}", found=f"a checkpoint with damaged facts ({exc})") from exc
    if not _is_sound(found):
        raise ModelError(f"model {path}", found="a checkpoint with facts or tensors of another kind")
    return found


def _is_sound(found: Checkpoint) -> bool:
    """Whether everything is of its kind: what was unpickled may be anything."""
    facts, state = found.facts, found.state
    has_kinds = all(isinstance(each, str) for each in (facts.model, facts.run, *facts.classes)) and all(
        isinstance(each, int) for each in (facts.round, facts.image_size)
    )
    are_tensors = isinstance(state, dict) and all(isinstance(each, torch.Tensor) for each in state.values())
    return has_kinds and isinstance(facts.extra, dict) and are_tensors


def save_document(path: Path, document: dict[str, Any]) -> None:
    """Write tensors and plain types as a `.pth`, atomically; raises `DiskFull`."""
    content = io.BytesIO()  # torch.save hides which error a file had, and a full disk must be told from others
    torch.save(document, content)
    write_bytes(path, content.getbuffer())


def load_document(path: Path) -> Any:
    """Return what a `.pth` holds (tensors and plain types only: nothing in it is ever executed)."""
    if not path.is_file():
        raise ModelError(f"model {path}", found="no such file", todo="check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's guesses about odd files; our own line says more
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as exc:
        raise ModelError(f"model {path}", found="a file that is damaged or no PyTorch checkpoint") from exc


def load_state(model: nn.Module, state: dict[str, torch.Tensor], *, what: str) -> None:
    """Load `state` into `model`; raises `ModelError` naming the first tensor that does not fit."""
    own = model.state_dict()
    odd = sorted(own.keys() ^ state.keys()) or sorted(n for n in own if own[n].shape != state[n].shape)
    if odd:
        raise ModelError(what, found=f"{len(odd)} tensors that do not fit, {odd[0]} first", expected="the same layout")
    model.load_state_dict(state)
