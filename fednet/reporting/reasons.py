"""Why updates were rejected, as a few kinds that can be counted: a reason's own words hold figures and names. Pure."""

from __future__ import annotations

_PHRASES = (
    ("quarantined", "quarantine"),
    ("values that are not finite", "not-finite"),
    ("is absurd", "absurd-norm"),
    ("trained on no sample", "no-samples"),
    ("same update as", "copy"),  # before words that a worker may be called
    ("sent again", "resent"),
    ("BatchNorm", "batch-norm"),
    ("its counter", "batch-norm"),
    ("differential privacy", "private"),
    ("no update agrees", "no-agreement"),
    ("points away", "points-away"),
    ("agrees little", "agrees-little"),
    ("agrees with", "far-out"),
    ("ties go by", "tie"),
    ("changes the model", "far-out"),
    ("times as large as the selected", "far-out"),
)
KINDS = (*dict.fromkeys(kind for _, kind in _PHRASES), "other")
"""All there are, whatever aggregation says."""


def reason_kind(reason: str) -> str:
    """Return which of `KINDS` a rejected update's reason is of (aggregation.explain, checks, similarity)."""
    return next((kind for phrase, kind in _PHRASES if phrase in reason), "other")
