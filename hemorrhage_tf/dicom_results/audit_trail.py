"""The audit trail of predictions: which model found what in which scan, without identity.

It is written into the event log (`--log-json`), an event `scan` for each scan. Its keys:

| key | value |
|---|---|
| `study`, `series` | the UIDs that `--anonymize` writes for them; null where there is none |
| `model`, `model_hash` | name and hash of the model |
| `probability`, `threshold`, `hemorrhage` | of the scan |
| `slices`, `flagged`, `warnings` | how many slices there are, are flagged, have an input warning |
| `objects` | SOP Instance UIDs of what `--dicom-out` wrote; else empty |

Who has a study can compute its UIDs in the trail, and find what was run on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.dicom_results.source_scan import SourceScan, deidentify
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.model_hash import model_hash
from hemorrhage_tf.inference.predictions import Prediction


def log_scans(
    prediction: Prediction,
    sources: Mapping[str, SourceScan],
    model: Model,
    objects: Mapping[str, Iterable[str]],
    progress: Progress,
) -> None:
    """Write an event for each scan of a prediction.

    Args:
        prediction: The prediction.
        sources: The scans that have a study, by name.
        model: The model that predicted.
        objects: SOP Instance UIDs of what was written, by name of the scan.
        progress: Writes the events.
    """
    used_hash = model_hash(model)
    for scan in prediction.scans:
        source = sources.get(scan.scan)
        if source is not None and not source.is_anonymous:
            source = deidentify(source)
        progress.event(
            "scan",
            study=None if source is None else source.study,
            series=None if source is None else source.series,
            model=model.metadata.backbone,
            model_hash=used_hash,
            probability=round(scan.probability, 6),
            threshold=round(scan.threshold, 6),
            hemorrhage=int(scan.is_hemorrhage),
            slices=scan.slices,
            flagged=scan.flagged,
            warnings=sum(1 for one in prediction if one.scan == scan.scan and one.warning),
            objects=list(objects.get(scan.scan, ())),
        )
