"""Why updates were rejected, as a few kinds that can be counted: a reason's own words hold figures and names. Pure."""

from __future__ import annotations

_PHRASES = (
    ("quarantined", "quarantine"),
    ("values that are not finite", "not-finite"),
    ("is absurd", "absurd-norm"),
    ("trained on no sample", "no-samples"),
    ("BatchNorm", "batch-norm"),
    ("its counter", "batch-norm"),
    ("same update as", "copy"),
    ("sent again", "resent"),
    ("differential privacy", "private"),
    ("no update agrees", "no-agreement"),
    ("points away", "points-away"),
    ("agrees little", "agrees-little"),
    ("agrees with", "far-out"),
    ("ties go by", "tie"),
)
KINDS = (*dict.fromkeys(kind for _, kind in _PHRASES), "other")
"""All there are, whatever aggregation says."""


def reason_kind(reason: str) -> str:
    """Return which of `KINDS` a rejected update's reason is of (aggregation.explain, checks, similarity)."""
    return next((kind for phrase, kind in _PHRASES if phrase in reason), "other")
