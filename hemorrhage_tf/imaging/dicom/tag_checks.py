"""Check by its tags whether a file holds axial slices of a head CT; pixels are not examined."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_code, read_integer, read_texts
from hemorrhage_tf.imaging.dicom.geometry import is_axial, slice_normal

MODALITIES = ("CT", "OT", "SC")
# Prefixes of Body Part Examined that include the head (PS3.16, annex L).
BODY_PARTS = ("HEAD", "SKULL", "BRAIN", "CRANI")


def check_tags(file: DicomFile, orientation: np.ndarray | None) -> str | None:
    """Return an input warning: why a file does not look like axial head CT, or None."""
    dataset = file.dataset
    if not read_integer(dataset, "Rows") or not read_integer(dataset, "Columns"):
        return "it holds no image"
    modality = read_code(dataset, "Modality")
    if modality and modality not in MODALITIES:
        return f"its modality is {modality}, not CT"
    image_types = {text.upper() for text in read_texts(dataset, "ImageType")}
    if image_types & {"LOCALIZER", "SCOUT"}:
        return "a localizer (Image Type), not an axial slice"
    if orientation is not None and not is_axial(orientation):
        axis = np.abs(slice_normal(orientation)).argmax()
        plane = "sagittal" if axis == 0 else "coronal" if axis == 1 else "oblique"
        return f"not an axial slice (its orientation is {plane})"
    part = read_code(dataset, "BodyPartExamined")
    if part and not part.startswith(BODY_PARTS):
        return f"its Body Part Examined is {part}, not the head"
    return None


def require_modality(file: DicomFile) -> None:
    """Raise a SliceError for modalities other than CT and secondary captures."""
    modality = read_code(file.dataset, "Modality")
    if modality and modality not in MODALITIES:
        raise SliceError(
            file.path, f"its modality is {modality}: it must be one of {', '.join(MODALITIES)}"
        )
