"""The model cards of a run and of the embedded model: gathers their content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.models.backbone_options import join_backbone_values, split_backbone_values
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.reports.content import (
    NOT_TESTED,
    TRAINED_ON_PHANTOMS,
    describe_model_input,
    model_rows,
    not_tested,
)
from hemorrhage_tf.reports.model_card import CardContent, write_model_card


def write_run_card(
    folder: Path,
    name: str,
    metadata: ModelMetadata,
    config: dict[str, Any],
    metrics: dict[str, Any],
    audit: Audit | None,
) -> None:
    """Write the model card of a run.

    Args:
        folder: The run folder.
        name: Of the model.
        metadata: Of the model.
        config: Of the run, as in config.json.
        metrics: Of the run, as in metrics.json.
        audit: Of the run's slices, or None.

    Raises:
        OutputError: If a file cannot be written.
    """
    settings, data, leaks = config["settings"], config["data"], metrics["leaks"]
    by_patient = data["patients"] > 0
    counted = ("slices", "hemorrhage", "groups", "patients", "scans", "skipped")
    leak_warning = f"{len(leaks)} slices are on both sides of the split."
    content = CardContent(
        name=name,
        metrics=metrics,
        independence="other patients" if by_patient and not leaks else "same set",
        split=_describe_split(settings, data, metrics),
        counts={key: data[key] for key in counted},
        sources=(f"{data['layout']} layout, content hash {data['hash']}",),
        model_rows=model_rows(metadata),
        training_rows=[
            ("head", config["head_solver"]),
            ("augmentation", ", ".join(settings["augment"]) or "none"),
            ("views", str(settings["views"])),
            ("class weights", settings["class_weights"]),
            ("prior of the head", settings["prior"]),
            *_phantom_rows(config),
            ("random seed", str(settings["seed"])),
        ],
        preprocessing=describe_model_input(metadata.model_input),
        weights=_describe_weights(settings),
        operating_point=metrics["operating_point"],
        calibration=LogitCalibration(metadata.temperature, metadata.offset),
        audit=audit.to_dict() if audit is not None else None,
        limits=not_tested(metrics),
        warnings=[leak_warning] if leaks else [],
        versions=metadata.versions,
    )
    write_model_card(folder, content)


def _phantom_rows(config: dict[str, Any]) -> list[tuple[str, str]]:
    count = config["settings"]["phantoms"]
    weight = f"{count} besides the data, weight {config['phantom_weight']:g}"
    return [("phantoms", weight)] if count else []


def _describe_split(settings: dict[str, Any], data: dict[str, Any], metrics: dict[str, Any]) -> str:
    if settings["folds"]:
        repeats = settings["repeats"]
        split = (
            f"{settings['folds']} stratified folds, "
            f"{'once' if repeats == 1 else f'{repeats} times'}; the saved model is trained on all "
            "slices"
        )
    else:
        unit = "scans" if metrics.get("level") == "scan" else "slices"
        split = f"{metrics['n']} of {data[unit]} {unit} held out, stratified"
    grouped = "Patients, duplicates" if data["patients"] > 0 else "Duplicates"
    return f"{split}. {grouped} and near-duplicates stay on one side of the split"


def _describe_weights(settings: dict[str, Any]) -> str | None:
    """Return the origin of the backbones' initial weights, files without their folder."""
    weights = split_backbone_values(settings["weights"], settings["backbone"])
    return join_backbone_values({name: Path(str(value)).name for name, value in weights.items()})


def write_embedded_card(
    folder: Path,
    metadata: ModelMetadata,
    labels: np.ndarray,
    probabilities: np.ndarray,
    verified_on: str,
) -> None:
    """Write the model card of the embedded model, with metrics from an export's verification.

    Args:
        folder: Where the files are written.
        metadata: Of the model.
        labels: `(n,)`, of the slices that the export was verified on.
        probabilities: `(n,)`, of the same, from the model before its export.
        verified_on: Description of these slices.

    Raises:
        OutputError: If a file cannot be written.
    """
    metrics = binary_metrics(labels, [probabilities], metadata.threshold)
    metrics["evaluated_on"] = f"{len(labels)} {verified_on}"
    content = CardContent(
        name=EMBEDDED_MODEL,
        metrics=metrics,
        independence="same set",
        split="none: trained on synthetic phantoms, and on no slice of a patient",
        sources=(f"synthetic phantoms from the package, content hash {metadata.data_hash}",),
        model_rows=model_rows(metadata),
        training_rows=_pretraining_rows(read_embedded().pretraining),
        preprocessing=describe_model_input(metadata.model_input),
        weights="none: pretrained on synthetic phantoms from random weights",
        calibration=LogitCalibration(metadata.temperature, metadata.offset),
        limits=(TRAINED_ON_PHANTOMS, *NOT_TESTED),
        warnings=[TRAINED_ON_PHANTOMS],
        versions=metadata.versions,
    )
    write_model_card(folder, content)


def _pretraining_rows(pretraining: dict[str, Any]) -> list[tuple[str, str]]:
    """List settings and metrics of a pretraining, and those of its scan model."""
    scan_model = pretraining.get("scan_model", {})
    rows = [
        (f"{kind}: {name}", value)
        for prefix, source in (("", pretraining), ("scan model ", scan_model))
        # The packaged file stores its metrics as "figures".
        for kind, key in ((f"{prefix}setting", "settings"), (f"{prefix}metric", "figures"))
        for name, value in source.get(key, {}).items()
    ]
    return [(name.replace("_", " "), _format_value(value)) for name, value in rows]


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
