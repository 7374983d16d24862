"""DICOM and NIfTI files made of given pixels, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

PATIENT = "Erika^Mustermann"


def dicom_of(pixels: npt.NDArray[Any], **tags: Any) -> FileDataset:
    """Return grey frames  # (rows, columns) or (frames, rows, columns), or one in colour with SamplesPerPixel=3."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID = PATIENT, "4711"
    samples = tags.setdefault("SamplesPerPixel", 1)
    made.Rows, made.Columns = pixels.shape[:2] if samples == 3 else pixels.shape[-2:]
    if pixels.ndim == 3 and samples == 1:
        made.NumberOfFrames = len(pixels)
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PhotometricInterpretation = "MONOCHROME2"
    if samples == 3:
        made.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = pixels.tobytes()
    return made


def write_dicom(path: Path, pixels: npt.NDArray[Any], **tags: Any) -> Path:
    """Write what `dicom_of` makes."""
    dicom_of(pixels, **tags).save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, slices: npt.NDArray[Any], *, directions: str = "RAS") -> Path:
    """Write axial slices as they are to be seen  # (slices, rows, columns), stored along `directions`."""
    voxels = slices.transpose(2, 1, 0)[::-1, ::-1]  # (x to the right, y to the front, z up)
    flips = [1 if found == usual else -1 for found, usual in zip(directions, "RAS", strict=True)]
    stored = voxels[:: flips[0], :: flips[1], :: flips[2]]
    affine = np.diag([*map(float, flips), 1.0])
    image = nibabel.Nifti1Image(np.ascontiguousarray(stored), affine)  # type: ignore[no-untyped-call]
    image.to_filename(path)
    return path
