"""The verb `recalibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.evaluation.recalibration import RecalibrationSettings, needed_for_half
from hemorrhage_tf.inference.keras_model import KerasModel, load_classifier
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.training.tensorboard import HEADLINE_METRICS
from hemorrhage_tf.verbs.arguments import ModelArgument, check_data, model_name
from hemorrhage_tf.verbs.evaluation_levels import CountedUnits, ModelLevels
from hemorrhage_tf.verbs.recalibrated_levels import (
    RecalibratedLevels,
    describe_kept,
    recalibrate_levels,
)
from hemorrhage_tf.verbs.recalibrated_model import RecalibratedModel, check_source, check_target
from hemorrhage_tf.verbs.results import Recalibration


# A verb takes each option of its command as a keyword.
def recalibrate(
    data: str | Path | Manifest,
    *,
    out: str | Path,
    model: ModelArgument = EMBEDDED_MODEL,
    operating_point: str = "balanced",
    scan_operating_point: str = "balanced",
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    positive: str | None = None,
    target: str | None = None,
    window: str | Sequence[str] | None = None,
    skip_invalid: bool = False,
    overwrite: bool = False,
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Recalibration:
    """Fit a model's calibration and thresholds to local data, and nothing else.

    A model from elsewhere keeps its features and their weights; the logits get a temperature and an
    offset, and slices and scans get thresholds. The metrics afterwards are out of fold: those of a
    patient come from a calibration and thresholds of other patients. Without a scan model the score
    of a scan, the mean of its three highest probabilities, gets a threshold only.

    Args:
        data: Labeled slices or scans, as `fit` accepts them. All of them are used; a split column
            is not.
        out: Run folder to write, or a file that ends with `.tflite`.
        model: A run folder, its `.keras` file, the result of `fit`, or "phantomnet", the embedded
            model. Defaults to "phantomnet".
        operating_point: Criterion for the threshold of slices, see
            `evaluation.operating_point.parse_operating_point`. Defaults to "balanced", the share of
            hemorrhage in the data.
        scan_operating_point: The same for scans. Defaults to "balanced".
        folds: Number of folds of whole patients, at least 2. Defaults to 5.
        repeats: Number of repetitions with other folds. Defaults to 5.
        seed: Random seed of the folds. Defaults to 0.
        positive: Name of the positive class, where it is not a known one.
        target: Column to use as label, where there are several.
        window: Window for Hounsfield units; None for the model's.
        skip_invalid: Continue without files and rows that cannot be used. Defaults to False.
        overwrite: Replace what `out` names. Defaults to False.
        log_json: File to append events to as JSON Lines; see `core.event_log.EventLog`.
        quiet: Print no progress and no notes. Defaults to False.

    Returns:
        The recalibrated model, with its metrics before and after.

    Raises:
        DataError: The data cannot be used, or has too few patients of a class.
        ModelError: There is no model at that path, or it is damaged.
        OptionError: An option is not accepted, or the model is an export.
        OutputError: The result cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> result = htf.recalibrate("head_ct", model="runs/first", out="runs/local", quiet=True)
        >>> result.before["threshold"] == htf.load("runs/first").threshold
        True
        >>> result.after["threshold"] == result.model().threshold
        True
    """
    options = {
        "operating_point": operating_point,
        "scan_operating_point": scan_operating_point,
        "folds": folds,
        "repeats": repeats,
        "seed": seed,
        "positive": positive,
        "target": target,
        "window": window,
        "skip_invalid": skip_invalid,
        "overwrite": overwrite,
    }
    with verb_progress("recalibrate", options, log_json, quiet) as progress:
        settings = RecalibrationSettings(
            operating_point, scan_operating_point, folds, repeats, seed
        )
        data = check_data(data)
        if isinstance(model, Model) and model.uses_tta:
            raise OptionError(
                "model: with test-time augmentation, which a saved model does not have. Pass the "
                "model without it."
            )
        source, path = check_source(Path(model_name(model))), Path(out)
        check_target(path, source, overwrite)
        manifest = read_manifest(data, positive, target, progress=progress)
        keep_in = cache_folder() / SLICE_INDEX
        slices = build_slice_index(manifest, progress, skip_invalid, keep_in=keep_in)
        recalibrator = _Recalibrator(slices, source, window, progress)
        result = recalibrator.run(settings, path, overwrite)
        progress.event(
            "result",
            path=str(path),
            summary=result.summary,
            metrics={name: result.after[name] for name in HEADLINE_METRICS},
            level=result.after["level"],
        )
    return result


class _Recalibrator:
    """Recalibrates one model on one set of slices.

    Args:
        slices: The labeled slices.
        source: Path of the model.
        window: The requested window, or None.
        progress: Shows progress, notes and warnings.
    """

    def __init__(
        self,
        slices: SliceIndex,
        source: Path,
        window: str | Sequence[str] | None,
        progress: Progress,
    ) -> None:
        self._slices = slices
        self._source = source
        self._window = window
        self._progress = progress

    def run(self, settings: RecalibrationSettings, out: Path, overwrite: bool) -> Recalibration:
        slices, progress = self._slices, self._progress
        units = CountedUnits.of(slices)
        with progress.stage(f"Loading {self._source}"):
            metadata, classifier = load_classifier(self._source)
            # The model that is written is the one that predicts here, also of the embedded one.
            model = KerasModel(self._source, metadata, classifier)
        model_input = model.input_for(slices.is_hounsfield, self._window, progress)
        before = ModelLevels(
            units,
            model,
            model.scan_probabilities(
                slices.refs, units.scans.members, units.scans.positions, progress, model_input
            ),
        )
        with progress.stage("Cross-fitting"):
            levels = recalibrate_levels(before, settings)
        trained_on = model.training_hashes()
        seen = sum(key in trained_on for key in slices.hashes)
        warnings = self._warnings(levels, model, seen)
        if self._window is not None:
            metadata = replace(metadata, window=model_input.window)
        metrics_before, metrics_after = before.metrics(None), levels.metrics()
        needed = {name: needed_for_half(one) for name, one in levels.levels.items()}
        metrics_after["warnings"] = metrics_before["warnings"] = warnings
        recalibrated = RecalibratedModel(
            source=self._source,
            classifier=classifier,
            metadata=levels.metadata(metadata),
            levels=levels,
            trained_on=trained_on,
            metrics={
                **metrics_after,
                "before": metrics_before,
                "recalibration": {"needed_for_half": needed, "seen_in_training": seen},
            },
            warnings=warnings,
        )
        config = recalibrated.write(out, overwrite, progress)
        return Recalibration(out, metrics_before, metrics_after, config, needed, tuple(warnings))

    def _warnings(self, levels: RecalibratedLevels, model: Model, seen: int) -> list[str]:
        slices, progress = self._slices, self._progress
        warnings = describe_kept(levels)
        if seen:
            warnings.append(
                f"{seen} of the {len(slices)} slices were trained on: their probabilities are more "
                "extreme than those of new patients, so the calibration and the metrics are "
                "optimistic. Recalibrate on other slices"
            )
        for warning in warnings:
            progress.warn(f"{warning[:1].upper()}{warning[1:]}.")
        if model.subtypes:
            progress.note(
                "Subtypes are not recalibrated: each keeps its threshold, and stays capped at the "
                "probability of any hemorrhage."
            )
        if levels.before.units.level == "scan":
            progress.note("Labels belong to whole scans: the calibration of slices stays as it is.")
        if any(record.split for record in slices.manifest.records):
            progress.note("The split column is not used: every slice takes part.")
        return warnings
