"""TODO docstring."""

from __future__ import annotations

import re

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import _code, _integer, _items, _Source, _texts
from hemorrhage_tf.imaging.dicom.geometry import _is_axial, _normal

MODALITIES = ("CT", "OT", "SC")


BODY_PARTS = ("HEAD", "SKULL", "BRAIN", "CRANI")


_NAME_TAGS = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")


_NUMBER_TAGS = ("OtherPatientIDs", "AccessionNumber", "AdmissionID", "PatientBirthDate")


def _identifying(source: _Source) -> tuple[str, ...]:
    """Gives what could stand in a file's name and tell who the patient is."""
    dataset = source.dataset
    names = [text for tag in (*_NAME_TAGS, "ResponsiblePerson") for text in _texts(dataset, tag)]
    parts = [part for name in names for part in re.split(r"[\^=\s,]+", name)]
    for tag in (*_NUMBER_TAGS, "PatientTelephoneNumbers"):
        parts += _texts(dataset, tag)
    for item in _items(source, dataset, "OtherPatientIDsSequence"):
        parts += _texts(item, "PatientID")
    # Shorter parts stand in half of all names, and tell nobody from anybody.
    return tuple(dict.fromkeys(part for part in parts if len(part) >= 3))


def _input_warning(source: _Source, orientation: np.ndarray | None) -> str | None:
    dataset = source.dataset
    if not _integer(dataset, "Rows") or not _integer(dataset, "Columns"):
        return "it holds no picture"
    modality = _code(dataset, "Modality")
    if modality and modality not in MODALITIES:
        return f"its modality is {modality}, not CT"
    kinds = {text.upper() for text in _texts(dataset, "ImageType")}
    if kinds & {"LOCALIZER", "SCOUT"}:
        return "a localizer (Image Type), not an axial slice"
    if orientation is not None and not _is_axial(orientation):
        axis = np.abs(_normal(orientation)).argmax()
        plane = "sagittal" if axis == 0 else "coronal" if axis == 1 else "oblique"
        return f"not an axial slice (its orientation is {plane})"
    part = _code(dataset, "BodyPartExamined")
    if part and not part.startswith(BODY_PARTS):
        return f"its Body Part Examined is {part}, not the head"
    return None


def _require_modality(source: _Source) -> None:
    modality = _code(source.dataset, "Modality")
    if modality and modality not in MODALITIES:
        raise SliceError(
            source.path, f"its modality is {modality}: accepted are {', '.join(MODALITIES)}"
        )
