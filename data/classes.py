"""The classes, their order, and the folder names they go by: the one place for all three."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ("glioma", "meningioma", "no_tumor", "pituitary")
"""Class names; a class's index here is its label and the model's logit."""

NO_FINDING = "no_tumor"
"""The class of a scan that shows none of the others."""

FOLDERS: tuple[str, ...] = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
"""The folder of each class, as Kaggle names it and `split` writes it."""

_SPELLINGS = {
    "glioma": 0,
    "meningioma": 1,
    "no": 2,
    "none": 2,
    "notumor": 2,
    "healthy": 2,
    "normal": 2,
    "pituitary": 3,
}


def class_of(folder_name: str) -> int | None:
    """Return the label that a folder stands for, or None: `glioma_tumor`, `Glioma`, `no tumor`, `notumor` ... match."""
    letters = "".join(char for char in folder_name.lower() if char.isalpha())
    for word in (letters, letters.removesuffix("tumor"), letters.removesuffix("tumour")):
        if word in _SPELLINGS:
            return _SPELLINGS[word]
    return None


EXPECTED_FOLDERS = ", ".join(FOLDERS)
"""For error messages."""
