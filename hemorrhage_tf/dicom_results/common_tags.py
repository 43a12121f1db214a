"""The tags that all results of a scan share: patient, study, equipment, and dates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from hemorrhage_tf.dicom_results.codes import BASIC_PROFILE
from hemorrhage_tf.dicom_results.scan_result import MANUFACTURER, ScanResult
from hemorrhage_tf.dicom_results.source_scan import SourceScan, SourceSlice
from hemorrhage_tf.version import __version__

# Replaces a date or time that the images do not have, where DICOM requires one.
UNKNOWN_DATE, UNKNOWN_TIME = "19000101", "000000"
_UTF_8 = "ISO_IR 192"
_LONGEST = 64  # characters of a long string, LO


def evidence_of(source: SourceScan, slices: Iterable[SourceSlice]) -> list[Dataset]:
    """Return the headers that highdicom refers to: one for each file of some slices."""
    evidence: dict[str, Dataset] = {}
    for one in slices:
        if one.instance in evidence:
            continue
        dataset = Dataset()
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(dataset, keyword, None)
        for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(dataset, keyword, None)
        dataset.StudyInstanceUID = source.study
        dataset.SeriesInstanceUID = source.series
        dataset.SOPClassUID = one.sop_class
        dataset.SOPInstanceUID = one.instance
        dataset.Rows, dataset.Columns = one.rows, one.columns
        evidence[one.instance] = dataset
    return list(evidence.values())


def equipment_of(result: ScanResult, description: str) -> Mapping[str, Any]:
    """Return the arguments that all constructors of highdicom take: equipment, date, character set.

    Args:
        result: The result.
        description: The Series Description.
    """
    algorithm = result.algorithm
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": algorithm.name[:_LONGEST],
        "software_versions": __version__,
        "device_serial_number": algorithm.model_hash[:_LONGEST],
        "series_description": description,
        "specific_character_set": _UTF_8,
        "content_date": result.source.date or UNKNOWN_DATE,
        "content_time": result.source.time or UNKNOWN_TIME,
    }


def device_context(result: ScanResult) -> ObserverContext:
    """Return the device observer: the model."""
    algorithm = result.algorithm
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid,
            name=algorithm.name,
            manufacturer_name=MANUFACTURER,
            model_name=algorithm.name,
            serial_number=algorithm.model_hash,
        ),
    )


def add_identity(dataset: Dataset, source: SourceScan) -> None:
    """Give an object the patient and the study of its source, and no time of its own.

    The date of an object is that of the images. So the same prediction gives the same bytes.
    """
    for keyword, text in source.identity.items():
        if text or keyword not in ("IssuerOfPatientID", "StudyDescription"):
            setattr(dataset, keyword, text)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        del item.ContributionDateTime
    if source.is_anonymous:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "PS3.15 Basic Application Level Confidentiality Profile"
        dataset.DeidentificationMethodCodeSequence = [CodedConcept.from_code(BASIC_PROFILE)]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
