"""The structured report of a scan: Comprehensive 3D SR with the template TID 1500.

One group is for the scan, and one for each flagged slice with its image, so that a viewer can jump
there.

Reference:
    DICOM PS3.16, TID 1500 (Measurement Report), TID 1501 (Measurement and Qualitative Evaluation
    Group), TID 300 (Measurement), TID 4019 (Algorithm Identification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code

from hemorrhage_tf.dicom_results import codes
from hemorrhage_tf.dicom_results.common_tags import (
    add_identity,
    device_context,
    equipment_of,
    evidence_of,
)
from hemorrhage_tf.dicom_results.scan_result import DISCLAIMER, MANUFACTURER, ScanResult

SERIES = 91  # the last digits of the Series Number
_DIGITS = 6


def create_report(result: ScanResult) -> Comprehensive3DSR:
    """Create the structured report of a scan: unverified, partial, preliminary."""
    source = result.source
    has_subtypes = any(result.slices[index].subtypes for index in result.flagged)
    groups = [_scan_group(result), *(_slice_group(result, index) for index in result.flagged)]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device_context(result)),
        procedure_reported=codes.HEAD_CT,
        imaging_measurements=groups,
        title=codes.REPORT_TITLE,
    )
    content[0].ContentSequence.append(
        TextContentItem(
            name=codes.COMMENT,
            value=DISCLAIMER,
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
    )
    report = Comprehensive3DSR(
        evidence=evidence_of(source, source.slices),
        content=content,
        series_instance_uid=result.uid("series", "SR"),
        series_number=result.series_number(SERIES),
        sop_instance_uid=result.uid("instance", "SR"),
        instance_number=1,
        is_complete=False,
        is_final=False,
        is_verified=False,
        coding_schemes=[codes.private_scheme()] if has_subtypes else None,
        **equipment_of(result, "Hemorrhage, research, no diagnosis"),
    )
    report.CompletionFlagDescription = DISCLAIMER
    add_identity(report, source)
    return report


def _scan_group(result: ScanResult) -> MeasurementsAndQualitativeEvaluations:
    """Return the measurement group of the scan, whose sources are all its slices."""
    scan = result.scan
    return _group(
        result,
        "scan",
        range(len(result.slices)),
        is_present=scan.is_hemorrhage,
        measurements={codes.PROBABILITY: scan.probability, codes.THRESHOLD: scan.threshold},
        parameters=result.algorithm.parameters,
    )


def _slice_group(result: ScanResult, index: int) -> MeasurementsAndQualitativeEvaluations:
    """Return the measurement group of one flagged slice."""
    one = result.slices[index]
    subtypes = {
        codes.subtype_probability(name): value for name, value in (one.subtypes or {}).items()
    }
    return _group(
        result,
        f"slice {index + 1}",
        [index],
        is_present=one.is_hemorrhage,
        measurements={
            codes.PROBABILITY: one.final_probability,
            codes.THRESHOLD: result.algorithm.slice_threshold,
            **subtypes,
        },
        parameters=None,
    )


def _group(
    result: ScanResult,
    name: str,
    indices: Sequence[int],
    *,
    is_present: bool,
    measurements: Mapping[Code, float],
    parameters: Sequence[str] | None,
) -> MeasurementsAndQualitativeEvaluations:
    presence = codes.PRESENT if is_present else codes.ABSENT
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=result.uid("tracking", name), identifier=name),
        finding_type=codes.HEMORRHAGE,
        finding_sites=[FindingSite(anatomic_location=codes.INTRACRANIAL)],
        algorithm_id=AlgorithmIdentification(
            name=result.algorithm.name,
            version=result.algorithm.version,
            parameters=parameters,
            family=codes.ALGORITHM_FAMILY,
            manufacturer=MANUFACTURER,
        ),
        measurements=[
            Measurement(name=code, value=round(value, _DIGITS), unit=codes.NO_UNITS)
            for code, value in measurements.items()
        ],
        qualitative_evaluations=[QualitativeEvaluation(name=codes.PRESENCE, value=presence)],
        source_images=[
            SourceImageForMeasurementGroup(
                referenced_sop_class_uid=one.sop_class,
                referenced_sop_instance_uid=one.instance,
                referenced_frame_numbers=None if one.frame is None else [one.frame],
            )
            for one in result.source_slices(indices)
        ],
    )
