"""The texts in a header that identify the patient, so that they can be kept out of output."""

from __future__ import annotations

import re

from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_items, read_texts

_NAMES = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
)
_NUMBERS = (
    "OtherPatientIDs",
    "AccessionNumber",
    "AdmissionID",
    "PatientBirthDate",
    "PatientTelephoneNumbers",
)

IDENTIFYING_KEYWORDS = (*_NAMES, *_NUMBERS, "OtherPatientIDsSequence", "PatientID")

# Shorter texts occur in many file names by chance.
_SHORTEST = 3


def read_identifying_texts(file: DicomFile) -> tuple[str, ...]:
    """Return the texts that could occur in a file's name and identify the patient."""
    dataset = file.dataset
    names = [text for keyword in _NAMES for text in read_texts(dataset, keyword)]
    parts = [part for name in names for part in re.split(r"[\^=\s,]+", name)]
    for keyword in _NUMBERS:
        parts += read_texts(dataset, keyword)
    for item in read_items(file, dataset, "OtherPatientIDsSequence"):
        parts += read_texts(item, "PatientID")
    return tuple(dict.fromkeys(part for part in parts if len(part) >= _SHORTEST))
