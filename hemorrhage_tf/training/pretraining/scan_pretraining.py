"""Train the scan model of PhantomNet on phantom scans alone.

Run it with `python -m hemorrhage_tf.training.pretraining.scan_pretraining`. No real slice takes
part. The features of phantom scans of all lengths and thicknesses are computed once; the kinds of
scan models are compared by cross-validation over heads; the best one is trained on all of them and
calibrated out of fold. Its operating points are chosen out of fold and on scans of another random
seed, and the metrics are computed on scans of a third seed.

An interrupted run resumes with the features that it computed. `docs/phantomnet.md` lists the
command that trained the scan model of the package.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import expit

from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.embedded_model import EmbeddedModel
from hemorrhage_tf.models.scan_model import SCAN_MODELS
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION
from hemorrhage_tf.training.pretraining.metrics import feature_computer, threshold_for
from hemorrhage_tf.training.pretraining.options import (
    count_option,
    seed_option,
    work_option,
    workers_option,
)
from hemorrhage_tf.training.pretraining.scan_samples import (
    HEAD_SEED,
    ScanFeatures,
    ScanFeatureStore,
)
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings

# Offsets of the random seed, so that no head is in two sets.
THRESHOLD_SEED, TEST_SEED = 7_000_007, 8_000_008


@dataclass(frozen=True)
class ScanPretrainingSettings:
    """Everything that determines the scan model, besides PhantomNet itself.

    Attributes:
        count: Number of training scans, half of them with a hemorrhage.
        threshold_count: Number of further scans to choose the operating points on, besides the
            training scans out of fold.
        test_count: Number of scans to measure on.
        kind: Kind of the scan model; "auto" for the one with the lowest log loss of scans in the
            cross-validation.
        folds: Number of folds of the cross-validation, and of the slice heads whose logits the scan
            model is trained on.
        l2: Strength of the penalty of these slice heads.
        scan_specificity: Specificity on scans for which their threshold is chosen.
        slice_specificity: Specificity on the slices of scans without a hemorrhage for which the
            threshold of slices in their scans is chosen.
        seed: Random seed of the phantoms and of the training.
    """

    count: int = 600
    threshold_count: int = 300
    test_count: int = 400
    kind: str = "auto"
    folds: int = 5
    l2: float = PretrainingSettings.l2
    scan_specificity: float = 0.95
    slice_specificity: float = 0.96
    seed: int = 0


def pretrain_scan_model(
    settings: ScanPretrainingSettings, store: ScanFeatureStore, model: EmbeddedModel, out: Path
) -> dict[str, Any]:
    """Train a scan model for the embedded model, and add it to the files of the embedded model.

    Args:
        settings: What determines the scan model.
        store: The features of phantom scans.
        model: The embedded model.
        out: Folder with the embedded model's files, to which the scan model is added.

    Returns:
        Settings and metrics, as written next to the weights.
    """
    from hemorrhage_tf.models.embedded_model import write_embedded_scan_model
    from hemorrhage_tf.training.pretraining.scan_fitting import (
        OutOfFold,
        fit_scan_model,
        scan_probabilities,
    )
    from hemorrhage_tf.training.pretraining.scan_metrics import ScanDecisions, scan_model_metrics
    from hemorrhage_tf.training.pretraining.slice_head import cross_fitted_logits

    seeds = (settings.seed + offset for offset in (HEAD_SEED, THRESHOLD_SEED, TEST_SEED))
    counts = settings.count, settings.threshold_count, settings.test_count
    names = "training scans", "scans for the thresholds", "test scans"
    training, held_out, test = (
        _standardized(store.scans(*each), model) for each in zip(seeds, counts, names, strict=True)
    )
    head = model.head["kernel"], model.head["bias"]
    logits_alone = cross_fitted_logits(training, settings.l2, settings.folds, settings.seed)
    compared = _compare(settings, training, logits_alone, store.progress)
    kind = min(compared, key=lambda name: compared[name].log_loss)
    with store.progress.stage(f"Training the scan model ({kind})"):
        logits = compared[kind].logits
        scan_model, calibrations = fit_scan_model(
            training, head, kind, OutOfFold(logits_alone, logits), settings.seed
        )
        for_scans, for_slices = calibrations
        out_of_fold = for_scans.apply(expit(logits.scans)), for_slices.apply(expit(logits.slices))
        held_out_scans, held_out_slices = scan_probabilities(scan_model, held_out)
        scan_threshold, slice_threshold = _choose_thresholds(
            settings,
            (training, out_of_fold[0], out_of_fold[1]),
            (held_out, held_out_scans, held_out_slices),
        )
        of_scans, of_slices = scan_probabilities(scan_model, test)
        alone = expit(test.features @ head[0] + head[1])[:, 0].astype(np.float64)
        decisions = ScanDecisions(of_scans, of_slices, alone, scan_threshold, slice_threshold)
        figures = scan_model_metrics(test, decisions)
    for name, result in compared.items():
        figures[f"cross-validation, {name}: roc_auc"] = result.roc_auc
        figures[f"cross-validation, {name}: log_loss"] = result.log_loss
    for name, calibration in zip(("scan", "slice"), calibrations, strict=True):
        figures[f"{name} temperature"] = calibration.temperature
        figures[f"{name} offset"] = calibration.offset
    recorded = {**asdict(settings), "kind": kind, "generator": GENERATOR_VERSION}
    # The names of these keys are part of the file's format.
    description = {"settings": recorded, "figures": _rounded(figures)}
    metadata = replace(
        model.metadata,
        scan_model=kind,
        scan_threshold=scan_threshold,
        scan_operating_point=f"specificity={settings.scan_specificity:g}",
        slice_in_scan_threshold=slice_threshold,
    )
    pretraining = {**model.pretraining, "scan_model": description}
    write_embedded_scan_model(out, scan_model, metadata, pretraining)
    return description


def _choose_thresholds(
    settings: ScanPretrainingSettings, *sets: tuple[ScanFeatures, np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Choose the thresholds of scans and of slices in their scans.

    Args:
        settings: With both specificities.
        *sets: Scans that the model did not see, with the probabilities of the scans and of their
            slices.

    Returns:
        Both thresholds.
    """
    of_scans, of_slices = [], []
    for scans, scan_probabilities, slice_probabilities in sets:
        of_scans.append(scan_probabilities[scans.scan_labels == 0])
        of_slices.append(slice_probabilities[scans.of_normal_scans])
    return (
        threshold_for(np.concatenate(of_scans), settings.scan_specificity),
        threshold_for(np.concatenate(of_slices), settings.slice_specificity),
    )


@dataclass(frozen=True)
class _Compared:
    """The cross-validation of one kind.

    Attributes:
        logits: `ScanLogits` out of fold.
        roc_auc: Of the scans.
        log_loss: Of the scans, after calibration.
    """

    logits: Any
    roc_auc: float
    log_loss: float


def _compare(
    settings: ScanPretrainingSettings,
    training: ScanFeatures,
    logits_alone: np.ndarray,
    progress: Progress,
) -> dict[str, _Compared]:
    """Cross-validate the kinds."""
    from sklearn.metrics import log_loss, roc_auc_score

    from hemorrhage_tf.evaluation.logit_calibration import fit_calibration
    from hemorrhage_tf.training.pretraining.scan_fitting import cross_validate

    compared = {}
    labels = training.scan_labels
    for kind in SCAN_MODELS if settings.kind == "auto" else (settings.kind,):
        with progress.stage(f"Cross-validating {kind}"):
            logits = cross_validate(training, logits_alone, kind, settings.folds, settings.seed)
        probabilities = expit(logits.scans)
        calibrated = fit_calibration(labels, probabilities).apply(probabilities)
        area = float(roc_auc_score(labels, logits.scans))
        loss = float(log_loss(labels, calibrated))
        progress.note(f"{kind}: ROC AUC of scans {area:.4f}, log loss {loss:.4f}")
        compared[kind] = _Compared(logits, area, loss)
    return compared


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(each) for each in value]
        return round(value, 4) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in figures.items()}


def _standardized(scans: ScanFeatures, model: EmbeddedModel) -> ScanFeatures:
    """Standardize the features of scans as the embedded model's head does."""
    from hemorrhage_tf.models.classifier import standardize

    features = standardize(scans.features, model.head["mean"], model.head["variance"])
    return replace(scans, features=features)


@click.command()
@work_option("Store features here (50 MB).")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with the embedded model's files [default: the package's].",
)
@count_option(ScanPretrainingSettings, "count", "Train on N scans.", least=2)
@count_option(
    ScanPretrainingSettings, "threshold-count", "Choose the thresholds on N more scans.", least=2
)
@count_option(ScanPretrainingSettings, "test-count", "Compute metrics on N scans.", least=2)
@click.option(
    "--kind",
    type=click.Choice(("auto", *SCAN_MODELS)),
    default="auto",
    show_default=True,
    help="Kind of the scan model; auto compares all.",
)
@seed_option
@workers_option
def main(work: Path, out: Path | None, workers: int, **settings: Any) -> None:
    """Train the scan model of PhantomNet on phantom scans alone, or resume an interrupted run."""
    from hemorrhage_tf.models.backbones import build_backbone
    from hemorrhage_tf.models.embedded_model import read_embedded
    from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL, FOLDER

    import_tensorflow()
    model = read_embedded()
    backbone = build_backbone(EMBEDDED_MODEL, "embedded", model.metadata.image_size)
    store = ScanFeatureStore(
        work, feature_computer(backbone), model.metadata.weights_hash, workers, Progress()
    )
    chosen = ScanPretrainingSettings(**settings)
    description = pretrain_scan_model(chosen, store, model, out or FOLDER)
    click.echo(json.dumps(description["figures"], indent=2))


if __name__ == "__main__":
    main()
