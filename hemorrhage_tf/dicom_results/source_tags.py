"""The tags of a source image that results repeat, and which of their values DICOM allows."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import (
    is_empty,
    read_code,
    read_integer,
    read_text,
)
from hemorrhage_tf.imaging.dicom.frames import (
    FRAME_COUNT_KEYWORDS,
    read_frame_count,
    read_functional_groups,
)
from hemorrhage_tf.imaging.dicom.geometry import read_orientations
from hemorrhage_tf.imaging.dicom.parse import open_dicom

# What results say of the patient and the study, with the value representations (PS3.3, C.7.1.1
# and C.7.2.1).
IDENTITY = {
    "PatientName": "PN",
    "PatientID": "LO",
    "IssuerOfPatientID": "LO",
    "PatientBirthDate": "DA",
    "PatientSex": "CS",
    "StudyDate": "DA",
    "StudyTime": "TM",
    "AccessionNumber": "SH",
    "ReferringPhysicianName": "PN",
    "StudyID": "SH",
    "StudyDescription": "LO",
}
_REQUIRED_IDENTITY = ("PatientName", "PatientID")
_UIDS = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
}
_KEYWORDS = (
    *IDENTITY,
    *_UIDS,
    "FrameOfReferenceUID",
    "SeriesNumber",
    "ContentDate",
    "ContentTime",
    "BurnedInAnnotation",
    "ImageOrientationPatient",
    *FRAME_COUNT_KEYWORDS,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_LONGEST = {"LO": 64, "SH": 16}
_LONGEST_NAME = 64  # of each way of writing it
_LONGEST_UID = 64
_MAX_NUMBER = 2**31
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # all Secondary Capture SOP classes begin so
# Images of luggage (DICOS) and of materials (DICONDE) are no medical images.
_INDUSTRIAL = ("1.2.840.10008.5.1.4.1.1.501.", "1.2.840.10008.5.1.4.1.1.601.")
_REPLACEMENT = "\ufffd"  # stands for bytes that do not fit the character set
# Cosines of one series differ by rounding.
_DIGITS = 2


@dataclass(frozen=True)
class SourceTags:
    """The tags of one file.

    Attributes:
        identity: What it says of the patient and the study, by keyword; "" where it says nothing
            or nothing that DICOM allows.
        left_empty: The keywords of `identity` whose values DICOM does not allow.
        sop_class: The SOP Class UID.
        instance: The SOP Instance UID.
        study: The Study Instance UID.
        series: The Series Instance UID.
        frame_of_reference: The Frame of Reference UID, or None.
        number: The Series Number, or None.
        date: The Content Date, else the Study Date; "" if unknown.
        time: The time that belongs to it; "" if unknown.
        may_show_names: Whether the pixels may name the patient.
        rows: Height in pixels.
        columns: Width in pixels.
        orientations: The rounded directions of its frames; None where unknown.
    """

    identity: Mapping[str, str]
    left_empty: tuple[str, ...]
    sop_class: str
    instance: str
    study: str
    series: str
    frame_of_reference: str | None
    number: int | None
    date: str
    time: str
    may_show_names: bool
    rows: int
    columns: int
    orientations: frozenset[tuple[float, ...] | None]


def read_source_tags(path: Path, anonymize: bool) -> SourceTags:
    """Read the tags of a file.

    Args:
        path: A DICOM file.
        anonymize: Whether the results will not identify the patient, so that neither an unreadable
            name nor a UID that DICOM does not allow matters.

    Raises:
        SliceError: The file cannot be read, or results cannot refer to it: a UID is missing, or a
            UID, the patient's name or ID is not valid.
    """
    with open_dicom(path, _KEYWORDS) as file:
        dataset = file.dataset
        texts = {keyword: read_text(dataset, keyword) or "" for keyword in IDENTITY}
        unreadable = {
            keyword
            for keyword, representation in IDENTITY.items()
            if not (texts[keyword] or is_empty(dataset, keyword))
            or not is_valid_text(texts[keyword], representation)
        }
        uids = {keyword: read_text(dataset, keyword) or "" for keyword in _UIDS}
        if not anonymize:
            _check_identity(path, unreadable)
        _check_uids(path, uids, anonymize)
        groups = read_functional_groups(file)
        orientations = {
            _rounded(orientation)
            for orientation in read_orientations(file, groups, read_frame_count(file))
        }
        date, time = (read_text(dataset, f"Content{kind}") or "" for kind in ("Date", "Time"))
        if not (date and is_valid_text(date, "DA")):
            date, time = texts["StudyDate"], texts["StudyTime"]
        number = read_integer(dataset, "SeriesNumber")
        frame_of_reference = read_text(dataset, "FrameOfReferenceUID") or ""
        return SourceTags(
            identity={one: "" if one in unreadable else text for one, text in texts.items()},
            left_empty=tuple(sorted(unreadable)),
            sop_class=uids["SOPClassUID"],
            instance=uids["SOPInstanceUID"],
            study=uids["StudyInstanceUID"],
            series=uids["SeriesInstanceUID"],
            frame_of_reference=frame_of_reference if is_valid_uid(frame_of_reference) else None,
            number=number if number is not None and abs(number) < _MAX_NUMBER else None,
            date=date if is_valid_text(date, "DA") else "",
            time=time if is_valid_text(time, "TM") else "",
            may_show_names=_may_show_names(
                uids["SOPClassUID"], read_code(dataset, "BurnedInAnnotation")
            ),
            rows=read_integer(dataset, "Rows") or 0,
            columns=read_integer(dataset, "Columns") or 0,
            orientations=frozenset(orientations),
        )


def is_valid_uid(text: str) -> bool:
    """Return whether DICOM allows a UID.

    Reference:
        DICOM PS3.5, section 9.1 (UID encoding rules).
    """
    return len(text) <= _LONGEST_UID and bool(re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", text))


def is_image_class(uid: str) -> bool:
    """Return whether a SOP class is that of medical images which DICOM has and has not retired."""
    from pydicom.uid import UID

    known = UID(uid)
    return (
        known.type == "SOP Class"
        and "Image Storage" in known.name
        and not known.is_retired
        and not uid.startswith(_INDUSTRIAL)
    )


def is_valid_text(text: str, representation: str) -> bool:
    """Return whether DICOM allows a text without padding; an empty one is valid.

    Args:
        text: The text.
        representation: One of DA, TM, CS (of a sex), PN, LO and SH.

    Reference:
        DICOM PS3.5, section 6.2 (value representation).
    """
    if not text:
        return True
    if representation == "DA":
        return _is_date(text)
    if representation == "TM":
        return bool(re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", text))
    if representation == "CS":
        return text in ("M", "F", "O")
    if "\\" in text or _REPLACEMENT in text or re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        return False
    if representation == "PN":
        parts = text.split("=")
        fits = all(len(one) <= _LONGEST_NAME and one.count("^") <= 4 for one in parts)
        return len(parts) <= 3 and fits
    return len(text) <= _LONGEST[representation]


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _check_identity(path: Path, unreadable: set[str]) -> None:
    names = {"PatientName": "Patient's Name", "PatientID": "Patient ID"}
    for keyword in _REQUIRED_IDENTITY:
        if keyword in unreadable:
            raise SliceError(
                path,
                f"its {names[keyword]} does not fit its character set, is too long or has control "
                "characters, and a result must not name another patient",
            )


def _check_uids(path: Path, uids: Mapping[str, str], anonymize: bool) -> None:
    for keyword, text in uids.items():
        if not text:
            raise SliceError(path, f"it has no {_UIDS[keyword]} to refer to")
        # A class is never replaced.
        if not is_valid_uid(text) and (keyword == "SOPClassUID" or not anonymize):
            raise SliceError(path, f"its {_UIDS[keyword]} is not a valid UID")
    if not is_image_class(uids["SOPClassUID"]):
        raise SliceError(
            path,
            f"its SOP class {uids['SOPClassUID']} is not an image of current DICOM, so no result "
            "can refer to it",
        )


def _may_show_names(sop_class: str, burned_in: str) -> bool:
    """Return whether texts in the pixels may name the patient; captures may unless they deny it."""
    return burned_in == "YES" or (sop_class.startswith(_CAPTURES) and burned_in != "NO")


def _rounded(orientation: np.ndarray | None) -> tuple[float, ...] | None:
    if orientation is None:
        return None
    # Adding 0 turns -0.0 into 0.0.
    return tuple(float(value) + 0.0 for value in orientation.round(_DIGITS).ravel())
