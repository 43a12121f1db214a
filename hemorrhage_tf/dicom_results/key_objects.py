"""The Key Object Selection of a scan: its flagged slices.

Reference:
    DICOM PS3.16, TID 2010 (Key Object Selection); PS3.3, section C.18.4 (frames of an image).
"""

from __future__ import annotations

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument

from hemorrhage_tf.dicom_results.codes import OF_INTEREST
from hemorrhage_tf.dicom_results.common_tags import (
    add_identity,
    device_context,
    equipment_of,
    evidence_of,
)
from hemorrhage_tf.dicom_results.scan_result import DISCLAIMER, ScanResult

SERIES = 92  # the last digits of the Series Number


def create_key_objects(result: ScanResult) -> KeyObjectSelectionDocument:
    """Create the selection of the flagged slices; there must be at least one."""
    flagged = result.source_slices(result.flagged)
    evidence = evidence_of(result.source, flagged)
    content = KeyObjectSelection(
        document_title=OF_INTEREST,
        referenced_objects=evidence,
        observer_device_context=device_context(result),
        description=f"Slices that are predicted hemorrhage. {DISCLAIMER}",
    )
    frames: dict[str, list[int]] = {}
    for one in flagged:
        if one.frame is not None:
            frames.setdefault(one.instance, []).append(one.frame)
    for item in content[0].ContentSequence:
        for reference in item.get("ReferencedSOPSequence", ()):
            numbers = frames.get(reference.ReferencedSOPInstanceUID)
            if numbers:
                reference.ReferencedFrameNumber = numbers
    document = KeyObjectSelectionDocument(
        evidence=evidence,
        content=content,
        series_instance_uid=result.uid("series", "KO"),
        series_number=result.series_number(SERIES),
        sop_instance_uid=result.uid("instance", "KO"),
        instance_number=1,
        **equipment_of(result, "Hemorrhage, flagged slices, research"),
    )
    add_identity(document, result.source)
    return document
