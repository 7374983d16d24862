import pytest

from data.classes import CLASSES, FOLDERS, class_of


@pytest.mark.parametrize("label", range(4))
def test_kaggles_folders_and_our_names_match(label: int) -> None:
    assert class_of(FOLDERS[label]) == class_of(CLASSES[label]) == label


@pytest.mark.parametrize(
    ("name", "label"), [("notumor", 2), ("No Tumor", 2), ("no-tumour", 2), ("Glioma", 0), ("PITUITARY_TUMOR", 3)]
)
def test_other_spellings_match(name: str, label: int) -> None:
    assert class_of(name) == label


@pytest.mark.parametrize("name", ["", "tumor", "cats", "gliomas", "Training"])
def test_other_folders_do_not(name: str) -> None:
    assert class_of(name) is None
