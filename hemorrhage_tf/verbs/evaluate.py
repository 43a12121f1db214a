"""The verb `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hemorrhage_tf.auditing.audit import audit_slices
from hemorrhage_tf.auditing.audit_result import best_shortcut_metric
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.evaluation import dataset_shift
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.plots.files import check_format
from hemorrhage_tf.evaluation.predictive_values import check_prevalence
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES_IN_SCANS
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.reports.evaluation_content import EvaluationContent
from hemorrhage_tf.reports.evaluation_report import write_evaluation_report
from hemorrhage_tf.reports.figures import check_figure_folder, write_figures
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.training.tensorboard import HEADLINE_METRICS
from hemorrhage_tf.verbs.arguments import ModelArgument, check_data, model_name, resolve_model
from hemorrhage_tf.verbs.error_previews import ErrorPreviews
from hemorrhage_tf.verbs.evaluated_subtypes import evaluated_subtypes, metrics_of_subtypes
from hemorrhage_tf.verbs.evaluation_levels import CountedUnits, ModelLevels, compare_levels
from hemorrhage_tf.verbs.results import Evaluation

PROFILED_SLICES = 64  # at most so many slices have their features compared with the training's


# A verb takes each option of its command as a keyword.
def evaluate(
    data: str | Path | Manifest,
    *,
    model: ModelArgument = EMBEDDED_MODEL,
    against: ModelArgument | None = None,
    positive: str | None = None,
    target: str | None = None,
    window: str | Sequence[str] | None = None,
    prevalence: float | None = None,
    report: str | Path | None = None,
    figures: str | Path | None = None,
    figure_format: str = "png",
    tta: bool = False,
    skip_invalid: bool = False,
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Compute a model's metrics on labeled slices and scans, each with its interval.

    The metrics are those of slices alone and, where the data has scans, of scans. A model with a
    scan model also has those of slices in their scans; without one, the probability of a scan is
    the mean of its three highest slices. Intervals are over patients where patients are known.
    Warns where slices were trained on, and where they look different from the training slices.

    Args:
        data: Labeled slices, as `fit` accepts them.
        model: A model of any form, see `load`; or the result of `load` or `fit`. Defaults to
            "phantomnet", the embedded model.
        against: A second model to compare with on the same slices and scans. Defaults to None.
        positive: Name of the positive class, where it is not a known one.
        target: Column to use as label, where there are several.
        window: Window for Hounsfield units; None for the model's.
        prevalence: Prevalence of hemorrhage where the model will be used, in (0, 1): predictive
            values are computed for it, too.
        report: HTML file to write a report to. Defaults to None.
        figures: Folder to write the figures of a paper to, see `plots`. Defaults to None.
        figure_format: "png", "pdf" or "svg". Defaults to "png".
        tta: Average over each slice and its flips, which takes four times as long. Defaults to
            False.
        skip_invalid: Continue without files and rows that cannot be used. Defaults to False.
        log_json: File to append events to as JSON Lines; see `core.event_log.EventLog`.
        quiet: Print no progress and no notes. Defaults to False.

    Returns:
        The evaluation. Where labels belong to whole scans only, its main metrics count scans.

    Raises:
        DataError: Files or labels cannot be used, all listed in one message.
        ModelError: There is no model at that path, or it is damaged.
        OptionError: An option does not fit the model or the slices.

    Example:
        >>> import hemorrhage_tf as htf
        >>> evaluation = htf.evaluate("head_ct", model="runs/first", quiet=True)
        >>> sorted(evaluation.metrics["roc_auc"])
        ['estimate', 'high', 'low', 'n']
    """
    options = {
        "positive": positive,
        "target": target,
        "window": window,
        "prevalence": prevalence,
        "tta": tta,
        "skip_invalid": skip_invalid,
    }
    with verb_progress("evaluate", options, log_json, quiet) as progress:
        data = check_data(data)
        check_prevalence(prevalence)
        check_format(figure_format)
        check_figure_folder(figures)
        manifest = read_manifest(data, positive, target, progress=progress)
        keep_in = cache_folder() / SLICE_INDEX
        slices = build_slice_index(manifest, progress, skip_invalid, keep_in=keep_in)
        evaluator = _Evaluator(slices, window, prevalence, progress)
        evaluator.subtypes = evaluated_subtypes(slices, target)
        evaluator.target = (target or "").strip().lower()
        loaded = resolve_model(model, progress, tta)
        second = None if against is None else resolve_model(against, progress, tta)
        evaluation = evaluator.evaluate(loaded, second)
        if report is not None or figures is not None:
            with_audit = report is not None
            content = evaluator.content(loaded, second, evaluation, with_audit)
            if report is not None:
                write_evaluation_report(Path(report), content, progress)
            if figures is not None:
                write_figures(Path(figures), content, figure_format, progress)
        progress.event(
            "result",
            summary=evaluation.summary,
            metrics={name: evaluation.metrics[name] for name in HEADLINE_METRICS},
            level=evaluation.level,
        )
    return evaluation


class _Evaluator:
    """Evaluates models on one set of slices.

    Args:
        slices: The labeled slices.
        window: The requested window, or None.
        prevalence: For predictive values, or None.
        progress: Shows progress, notes and warnings.

    Attributes:
        subtypes: Labels of subtypes from `evaluated_subtypes`, or None. Defaults to None.
        target: Column of the labels; empty for any hemorrhage. Defaults to empty.
    """

    subtypes: np.ndarray | None = None
    target = ""

    def __init__(
        self,
        slices: SliceIndex,
        window: str | Sequence[str] | None,
        prevalence: float | None,
        progress: Progress,
    ) -> None:
        self._slices = slices
        self._window = window
        self._prevalence = prevalence
        self._progress = progress
        self._units = CountedUnits.of(slices)
        self._against_levels: dict[str, LabeledPredictions] = {}

    def evaluate(self, model: Model, against: Model | None) -> Evaluation:
        slices, units = self._slices, self._units
        levels = self._predict(model)
        trained_on = model.training_hashes()
        overlap = sum(key in trained_on for key in slices.hashes)
        metrics = levels.metrics(self._prevalence)
        metrics |= metrics_of_subtypes(slices, model, self.subtypes, levels.probabilities)
        if model.subtypes and self.subtypes is None and self.target not in model.subtypes:
            self._progress.note("The data has no subtypes: any hemorrhage alone is evaluated.")
        metrics["warnings"] = self._warnings(model, overlap)
        comparisons = {}
        if against is not None:
            other = self._predict(against)
            self._against_levels = other.levels
            comparisons = compare_levels(levels, other)
        predictions, scans = levels.predictions()
        return Evaluation(
            metrics=metrics,
            predictions=predictions,
            labels=slices.labels,
            level=units.level,
            seen_in_training=overlap,
            comparison=comparisons.get(units.main_level),
            scans=scans,
            scan_labels=units.scans.labels,
            in_scan_comparison=comparisons.get(SLICES_IN_SCANS),
            scan_comparison=comparisons.get(SCANS),
            levels=levels.levels,
            columns=self._columns(),
            previews=ErrorPreviews.of_slices(
                slices,
                levels.probabilities.slices,
                model.threshold,
                lambda: model,
                model.input_for(slices.is_hounsfield, self._window),
            ),
        )

    def content(
        self, model: Model, against: Model | None, evaluation: Evaluation, with_audit: bool
    ) -> EvaluationContent:
        """Return what the report and the figures show; the report has an audit, too."""
        slices, metrics = self._slices, evaluation.metrics
        audit = audit_slices(slices, self._progress) if with_audit else None
        shortcut = best_shortcut_metric(audit)
        names = (model_name(model), "" if against is None else model_name(against))
        return EvaluationContent(
            title=f"{names[0]} on {slices.manifest.root.name or 'slices'}",
            model=model,
            model_input=model.input_for(slices.is_hounsfield, self._window),
            slices=slices,
            predictions=evaluation.predictions,
            levels=evaluation.levels,
            columns=evaluation.columns,
            scans=evaluation.scans,
            scan_labels=evaluation.scan_labels,
            metrics=metrics | ({"best_shortcut": shortcut} if shortcut else {}),
            audit=audit,
            comparisons={
                name: comparison
                for name, comparison in (
                    (self._units.main_level, evaluation.comparison),
                    (SLICES_IN_SCANS, evaluation.in_scan_comparison),
                    (SCANS, evaluation.scan_comparison),
                )
                if comparison is not None
            },
            model_names=names,
            against_levels=self._against_levels,
            against_path=None if against is None else against.path,
        )

    def _columns(self) -> dict[str, np.ndarray]:
        """Return the further columns of the manifest, for the slices that the metrics count."""
        manifest, labeled = self._slices.manifest, self._units.labeled
        # Columns of subtypes divide slices by their label.
        names = [name for name in manifest.columns if name not in SUBTYPES]
        if not self._units.counts_slices or not names:
            return {}
        cells = [manifest.records[index].columns for index in labeled.tolist()]
        places = {name: manifest.columns.index(name) for name in names}
        return {name: np.array([row[place] for row in cells]) for name, place in places.items()}

    def _predict(self, model: Model) -> ModelLevels:
        slices, scans = self._slices, self._units.scans
        model_input = model.input_for(slices.is_hounsfield, self._window, self._progress)
        probabilities = model.scan_probabilities(
            slices.refs, scans.members, scans.positions, self._progress, model_input
        )
        return ModelLevels(self._units, model, probabilities)

    def _warnings(self, model: Model, overlap: int) -> list[str]:
        slices, units = self._slices, self._units
        warnings = []
        if overlap:
            warnings.append(
                f"{overlap} of the {len(slices)} slices were trained on, so these metrics are "
                "optimistic. The metrics.json of the run has the out-of-fold metrics"
            )
        if self.target in model.subtypes:
            warnings.append(
                f"the labels are those of {self.target}, and the metrics those of the probability "
                f"of any hemorrhage. Pass --target all for the model's probability of {self.target}"
            )
        differences = self._differences_from_training(model)
        if differences:
            warnings.append(
                f"these slices look different from the training slices: {'; '.join(differences)}"
            )
        single = sum(record.scan is None for record in slices.manifest.records)
        if units.level == "scan" and single and model.scan_threshold != model.threshold:
            warnings.append(
                f"{single} of the {len(units.scans)} scans are single slices. The threshold for "
                f"scans ({model.scan_threshold:.3g}) applies to them, which was not chosen for "
                f"single slices (their threshold is {model.threshold:.3g})"
            )
        for warning in warnings:
            self._progress.warn(f"{warning}.")
        return warnings

    def _differences_from_training(self, model: Model) -> list[str]:
        """Describe how the slices differ from the training slices, where these are known."""
        training = model.training_profile()
        if training is None:
            return []
        slices = self._slices
        profile = dataset_shift.profile_slices(slices, np.arange(len(slices)))
        if dataset_shift.FEATURE_DISTANCE in training["quantiles"]:
            count = min(len(slices), PROFILED_SLICES)
            chosen = np.linspace(0, len(slices) - 1, count).astype(int)
            model_input = model.input_for(slices.is_hounsfield, self._window)
            features = model.standardized([slices.refs[index] for index in chosen], model_input)
            if features is not None:
                profile = dataset_shift.add_feature_distance(profile, [features])
        return dataset_shift.describe_differences(training, profile)
