"""Secondary captures of a scan: the flagged slices with their overlays, and the summary page.

Reference:
    DICOM PS3.3, sections A.8.1 (Secondary Capture Image IOD) and C.7.6.1 (General Image).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from hemorrhage_tf.dicom_results.codes import SOURCE_IMAGE, SOURCE_MONTAGE
from hemorrhage_tf.dicom_results.common_tags import add_identity, equipment_of, evidence_of
from hemorrhage_tf.dicom_results.scan_result import DISCLAIMER, ScanResult
from hemorrhage_tf.dicom_results.source_scan import SourceSlice

SERIES = 93  # the last digits of the Series Number
# The readers show rows from anterior to posterior, columns from the patient's right to left.
_ORIENTATION = ("L", "P")


def create_slice_capture(result: ScanResult, index: int, pixels: np.ndarray) -> SCImage:
    """Create the capture of one flagged slice.

    Args:
        result: The result.
        index: The index of the slice.
        pixels: uint8 `(height, width, 3)`, the slice with its overlay and texts.
    """
    capture = _create(result, f"slice {index + 1}", index + 2, pixels)
    capture.PatientOrientation = list(_ORIENTATION)
    _refer_to(capture, result.source_slices([index]), SOURCE_IMAGE)
    if result.source.frame_of_reference is not None:
        capture.FrameOfReferenceUID = result.source.frame_of_reference
        capture.PositionReferenceIndicator = ""
    return capture


def create_summary_capture(
    result: ScanResult, indices: Sequence[int], pixels: np.ndarray
) -> SCImage:
    """Create the capture of the summary page.

    Args:
        result: The result.
        indices: The slices that the page shows.
        pixels: uint8 `(height, width, 3)`, the page.
    """
    capture = _create(result, "summary", 1, pixels)
    capture.PatientOrientation = []
    _refer_to(capture, result.source_slices(indices), SOURCE_MONTAGE)
    return capture


def _create(result: ScanResult, name: str, number: int, pixels: np.ndarray) -> SCImage:
    [reference] = evidence_of(result.source, result.source.slices[:1])
    capture = SCImage.from_ref_dataset(
        ref_dataset=reference,
        pixel_array=np.ascontiguousarray(pixels),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=_ORIENTATION,
        series_instance_uid=result.uid("series", "SC"),
        series_number=result.series_number(SERIES),
        sop_instance_uid=result.uid("instance", "SC", name),
        instance_number=number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment_of(result, "Hemorrhage, captures, research"),
    )
    capture.BodyPartExamined = "HEAD"
    capture.ConversionType = "WSD"
    capture.DateOfSecondaryCapture = capture.ContentDate
    capture.TimeOfSecondaryCapture = capture.ContentTime
    capture.LossyImageCompression = "00"
    capture.ImageComments = DISCLAIMER
    capture.DerivationDescription = "Overlay of a class activation map, and texts"
    # The texts are no identity. Without --anonymize the flag warns of texts of any kind.
    capture.BurnedInAnnotation = "NO" if result.source.is_anonymous else "YES"
    add_identity(capture, result.source)
    return capture


def _refer_to(capture: SCImage, slices: Sequence[SourceSlice], purpose: Code) -> None:
    items = []
    for one in slices:
        item = Dataset()
        item.ReferencedSOPClassUID = one.sop_class
        item.ReferencedSOPInstanceUID = one.instance
        if one.frame is not None:
            item.ReferencedFrameNumber = one.frame
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
        items.append(item)
    capture.SourceImageSequence = items
