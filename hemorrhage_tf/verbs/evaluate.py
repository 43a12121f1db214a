"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hemorrhage_tf.auditing import audit as auditor
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.evaluation import dataset_shift
from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.dataset_shift import FEATURE_DISTANCE
from hemorrhage_tf.evaluation.metrics import binary_metrics, check_prevalence
from hemorrhage_tf.inference.loading import model_form
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import SlicePrediction
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.reports import content
from hemorrhage_tf.training.tensorboard import FIGURES
from hemorrhage_tf.verbs.model_argument import _loaded
from hemorrhage_tf.verbs.results import Evaluation, Run

PROFILED_SLICES = 64  # slices, at most, whose features are compared with the training's


def evaluate(
    model: str | Path | Model | Run | Manifest | None = None,
    data: str | Path | Manifest | None = None,
    *,
    against: str | Path | Model | Run | None = None,
    positive: str | None = None,
    target: str | None = None,
    window: str | Sequence[str] | None = None,
    prevalence: float | None = None,
    report: str | Path | None = None,
    tta: bool = False,
    skip_invalid: bool = False,
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Computes a model's figures on labeled slices, each with its interval.

    It warns where slices were trained on, and where they look unlike those that were, so that a
    figure is read for what it is. `evaluate(data)` evaluates the embedded model.

    Args:
        model: a model of any form (see `load`), what `load` or `fit` gave, or None for the embedded
            one. Where it is the only one of the two that is given, it is the data.
        data: labeled slices, as `fit` takes them.
        against: a second model to compare with on the same slices, or None.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        window: for Hounsfield units; None for the model's.
        prevalence: share of slices with hemorrhage where the model is to be used, in (0, 1).
        report: an HTML file to write for someone who would rather look than read; None for none.
        tta: average each slice's logit over its tta, which takes four times as long. Default
            False.
        skip_invalid: go on without files and rows that cannot be used. Default False.
        log_json: a file to append what happens to, an object of JSON a line, see
            `event_log.EventLog`; None for none.
        quiet: print no progress and no notes. Default False.

    Returns:
        The evaluation. Where labels are of whole scans, so are its metrics: a scan counts with the
        mean of its three highest probabilities.
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
        found = _evaluate(model, data, progress, against=against, report=report, **options)
        figures = {name: found.metrics[name] for name in FIGURES}
        progress.event("result", report=found.report, figures=figures, level=found.level)
    return found


def _evaluate(
    model: str | Path | Model | Run | Manifest | None,
    data: str | Path | Manifest | None,
    progress: Progress,
    *,
    against: str | Path | Model | Run | None,
    positive: str | None,
    target: str | None,
    window: str | Sequence[str] | None,
    prevalence: float | None,
    report: str | Path | None,
    tta: bool,
    skip_invalid: bool,
) -> Evaluation:
    if data is None:
        model, data = None, model
    if isinstance(data, Model | Run) or (
        isinstance(data, str | Path) and model_form(data) is not None
    ):
        named = data if isinstance(data, str | Path) else data.path
        raise OptionError(f"{named}: a model, where labeled slices belong. Name DATA behind it")
    if data is None:
        raise OptionError("no labeled slices are named. Name DATA, as fit takes it")
    check_prevalence(prevalence)
    manifest = read_manifest(data, positive, target, progress=progress)
    slices = build_slice_index(manifest, progress, skip_invalid)
    loaded = _loaded(model, progress, tta)
    probabilities = _probabilities(loaded, slices, window, progress)
    trained_on = loaded.training_hashes()
    overlap = sum(key in trained_on for key in slices.hashes)
    warnings = []
    if overlap:
        warnings.append(
            f"{overlap} of the {len(slices)} slices were trained on, so these figures flatter the "
            "model; the run's own metrics.json has the honest ones"
        )
    unlike = _unlike(loaded, slices, window)
    if unlike:
        warnings.append(f"these slices look unlike the training's: {'; '.join(unlike)}")
    for warning in warnings:
        progress.warn(warning)
    findings = tuple(
        SlicePrediction(
            name, float(probability), bool(probability >= loaded.threshold), warning=warning
        )
        for name, probability, warning in zip(
            slices.names, probabilities, slices.warnings, strict=True
        )
    )
    labels, counted, groups = _counted(slices, probabilities)
    by_scan = manifest.level == "scan"
    threshold = loaded.scan_threshold if by_scan else loaded.threshold
    alone = sum(record.scan is None for record in manifest.records)
    if by_scan and alone and loaded.scan_threshold != loaded.threshold:
        warnings.append(
            f"{alone} of the {len(labels)} scans are single slices; they are judged by the "
            f"threshold of scans ({loaded.scan_threshold:.3g}), which was not chosen for them "
            f"(that of slices: {loaded.threshold:.3g})"
        )
        progress.warn(warnings[-1])
    metrics = binary_metrics(labels, [counted], threshold, groups=groups, prevalence=prevalence)
    metrics["warnings"] = warnings
    unit = "scans" if by_scan else "slices"
    metrics["evaluated_on"] = f"{len(labels)} {unit}" + (", each with its tta" if tta else "")
    comparison = None
    if against is not None:
        other = _loaded(against, progress, tta)
        second = _counted(slices, _probabilities(other, slices, window, progress))[1]
        thresholds = (threshold, other.scan_threshold if by_scan else other.threshold)
        comparison = compare(labels, counted, second, thresholds, groups=groups)
    if report is not None:
        audited = auditor.audit_scanned(slices, progress)
        if audited.best_shortcut is not None:
            best = audited.best_shortcut
            metrics["best_shortcut"] = {"name": best.name, "roc_auc": best.roc_auc.to_dict()}
        names = [
            str(one.path if isinstance(one, Run | Model) else one) for one in (loaded, against)
        ]
        content.write_evaluation_report(
            Path(report),
            f"{names[0]} on {slices.manifest.root.name or 'slices'}",
            loaded,
            loaded.input_for(slices.is_hounsfield, window),
            slices,
            probabilities,
            (labels, counted, groups),
            metrics,
            comparison,
            (names[0], names[1]),
            audited,
            progress,
        )
    return Evaluation(metrics, findings, slices.labels, manifest.level, overlap, comparison)


def _probabilities(
    loaded: Model, slices: SliceIndex, window: str | Sequence[str] | None, progress: Progress
) -> np.ndarray:
    model_input = loaded.input_for(slices.is_hounsfield, window, progress)
    return loaded.probabilities(slices.refs, progress, model_input)


def _counted(
    slices: SliceIndex, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gives labels, figures and patients of what is counted: slices, or scans."""
    patients = slices.patient_groups
    if slices.manifest.level == "slice":
        return slices.labels, probabilities, patients
    members: dict[str, list[int]] = {}
    names, of_slices = slices.names, slices.labels
    for index, record in enumerate(slices.manifest.records):
        members.setdefault(record.scan or names[index], []).append(index)
    labels = np.array([of_slices[indices].max() for indices in members.values()])
    figures = [mean_of_highest(probabilities[indices]) for indices in members.values()]
    if patients is not None:
        patients = np.array([patients[indices[0]] for indices in members.values()])
    return labels, np.array(figures, np.float32), patients


def _unlike(loaded: Model, slices: SliceIndex, window: str | Sequence[str] | None) -> list[str]:
    """Says in what slices look unlike those of the model's run, where that is known."""
    training = loaded.training_profile()
    if training is None:
        return []
    look = dataset_shift.profile_slices(slices, np.arange(len(slices)))
    if FEATURE_DISTANCE in training["quantiles"]:
        chosen = np.linspace(0, len(slices) - 1, min(len(slices), PROFILED_SLICES)).astype(int)
        model_input = loaded.input_for(slices.is_hounsfield, window)
        found = loaded.standardized([slices.refs[index] for index in chosen], model_input)
        if found is not None:
            distances = {FEATURE_DISTANCE: dataset_shift.root_mean_square(found)}
            look["quantiles"] |= dataset_shift.profile(distances, 0.0)["quantiles"]
    return dataset_shift.differences(training, look)
