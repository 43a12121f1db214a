"""The tags that tell a series from the others of its study.

The rules that choose a series by them are in `datasets.series_choice`.
"""

from __future__ import annotations

import re

import numpy as np

from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_code, read_integer, read_text, read_texts
from hemorrhage_tf.imaging.dicom.frames import FunctionalGroups, find_macro
from hemorrhage_tf.imaging.dicom.geometry import is_axial
from hemorrhage_tf.imaging.header import SeriesTags

SERIES_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "BodyPartExamined",
    "SeriesDescription",
    "ConvolutionKernel",
    "ContrastBolusAgent",
)

# Longer texts are cut: a description has at most 64 characters (PS3.5, section 6.2, LO).
_MAX_TEXT = 128
_MAX_NUMBER = 2**31
_NO_AGENT = ("", "NONE", "NO", "N", "NO CONTRAST", "WITHOUT", "WITHOUT CONTRAST", "0")


def read_series_tags(
    file: DicomFile, groups: FunctionalGroups, orientation: np.ndarray | None
) -> SeriesTags:
    """Read the tags of a file's series; what is missing or malformed is unknown.

    Args:
        file: The file.
        groups: Its functional groups.
        orientation: Of its first frame, from `read_orientation`, or None.
    """
    dataset = file.dataset
    number = read_integer(dataset, "SeriesNumber")
    kernels = find_macro(file, groups, 0, "CTReconstructionSequence") or dataset
    frame_type = find_macro(file, groups, 0, "CTImageFrameTypeSequence") or dataset
    image_type = read_texts(dataset, "ImageType") + read_texts(frame_type, "FrameType")
    agent = description_words(read_text(dataset, "ContrastBolusAgent"))
    return SeriesTags(
        study=read_text(dataset, "StudyInstanceUID"),
        number=number if number is not None and abs(number) < _MAX_NUMBER else None,
        frame_of_reference=read_text(dataset, "FrameOfReferenceUID"),
        modality=read_code(dataset, "Modality"),
        has_image=bool(read_integer(dataset, "Rows") and read_integer(dataset, "Columns")),
        image_type=tuple(text.upper()[:_MAX_TEXT] for text in image_type[:16]),
        body_part=read_code(dataset, "BodyPartExamined"),
        is_axial=None if orientation is None else is_axial(orientation),
        description=description_words(read_text(dataset, "SeriesDescription")),
        kernel=(read_texts(kernels, "ConvolutionKernel") or [""])[0].upper()[:_MAX_TEXT],
        has_contrast=agent not in _NO_AGENT,
    )


def description_words(text: str | None) -> str:
    """Return the words of free text in upper case, separated by spaces.

    Signs that stand for a word are written out: "w/o" is WITHOUT, and "C+" is POSTCONTRAST.
    """
    text = (text or "").upper()[:_MAX_TEXT]
    text = re.sub(r"\bW\s*/\s*O(UT)?\b", " WITHOUT ", text)
    text = re.sub(r"\bC[ -]?SPINE\b", " CSPINE ", text)
    text = re.sub(r"\bC\s?\+|\+\s?C\b", " POSTCONTRAST ", text)
    text = re.sub(r"\bC-(?=\s|$)|(?<!\S)-C\b", " PRECONTRAST ", text)
    return " ".join(re.findall(r"[^\W\d_]+\d*|\d+(?:\.\d+)?[^\W\d_]*", text))
