"""The model card of a recalibrated model: gathers its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.reports.content import describe_model_input, model_rows, not_tested
from hemorrhage_tf.reports.model_card import CardContent, write_model_card


def write_recalibration_card(
    folder: Path,
    name: str,
    metadata: ModelMetadata,
    config: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Write the model card of a recalibrated model.

    Args:
        folder: The run folder.
        name: Of the model.
        metadata: Of the model.
        config: As in its config.json.
        metrics: As in its metrics.json.

    Raises:
        OutputError: If a file cannot be written.
    """
    data, recalibration = config["data"], config["recalibration"]
    seen = recalibration["seen_in_training"]
    counted = ("slices", "hemorrhage", "groups", "patients", "scans", "skipped")
    times = "once" if recalibration["repeats"] == 1 else f"{recalibration['repeats']} times"
    content = CardContent(
        name=name,
        metrics=metrics,
        independence="other patients" if data["patients"] > 0 and not seen else "same set",
        split=(
            f"{recalibration['folds']} folds of whole patients, {times}: calibration and "
            "threshold of a fold come from the others, those of the saved model from all. The "
            "network and its head were trained on other data"
        ),
        counts={key: data[key] for key in counted},
        sources=(f"recalibrated on: {data['layout']} layout, content hash {data['hash']}",),
        model_rows=model_rows(metadata),
        training_rows=[
            ("recalibrated from", f"a model trained on data {metadata.data_hash}"),
            ("fitted", "temperature, offset and thresholds alone"),
            ("random seed", str(recalibration["seed"])),
        ],
        preprocessing=describe_model_input(metadata.model_input),
        operating_point=metrics.get("operating_point"),
        calibration=LogitCalibration(metadata.temperature, metadata.offset),
        limits=not_tested(metrics),
        warnings=recalibration["warnings"],
        versions=metadata.versions,
    )
    write_model_card(folder, content)
