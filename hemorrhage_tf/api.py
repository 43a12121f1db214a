"""The verbs: what the CLI and `import hemorrhage_tf` both call."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data.manifest import Manifest, read_manifest
from hemorrhage_tf.data.model_input import ModelInput, window_for
from hemorrhage_tf.data.phantoms import phantom_set
from hemorrhage_tf.data.pipeline import explained_read_errors
from hemorrhage_tf.data.scan import ScannedSlices, scan
from hemorrhage_tf.errors import OptionError
from hemorrhage_tf.evaluation.metrics import DEFAULT_THRESHOLD, binary_metrics, summary
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.benchmark import benchmark as measure
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.options import ExportSettings
from hemorrhage_tf.inference import Finding, Model, Prediction, load, mean_of_top
from hemorrhage_tf.models.backbones import EMBEDDED_BACKBONE, backbone_spec, build_backbone
from hemorrhage_tf.models.backbones import weights_hash as hash_weights
from hemorrhage_tf.models.metadata import ModelMetadata, versions, write_metadata
from hemorrhage_tf.reporting import Reporter, import_tensorflow
from hemorrhage_tf.training import run as run_folder
from hemorrhage_tf.training.features import FeatureSource, cache_folder
from hemorrhage_tf.training.loop import Epoch
from hemorrhage_tf.training.plan import Fold, make_plan
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.strategy import resolve_precision, resolve_strategy
from hemorrhage_tf.training.trainer import Trainer, make_part

PHANTOM_COUNT = 200


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        path: the run folder.
        config: what is in its `config.json`: settings, data, versions, times.
        metrics: what is in its `metrics.json`, see `evaluation.metrics.binary_metrics`.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def report(self) -> str:
        """The main figures in one line, with their intervals."""
        return summary(self.metrics)

    def model(self) -> Model:
        """Loads the trained model."""
        return load(self.path)


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on labeled slices.

    Attributes:
        metrics: see `evaluation.metrics.binary_metrics`.
        findings: one for each slice, in the manifest's order.
        labels: `(n,)`, 0 or 1.
        level: what the figures count: "slice", or "scan" where the labels are of whole scans.
        seen_in_training: how many of the slices the run trained on, by their pixels.
    """

    metrics: dict[str, Any]
    findings: tuple[Finding, ...]
    labels: np.ndarray
    level: str
    seen_in_training: int

    @property
    def report(self) -> str:
        """The main figures in one line, with their intervals."""
        return summary(self.metrics)


def fit(
    data: str | Path | Manifest | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    skip_bad: bool = False,
    cache: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Trains a classifier on labeled slices, evaluates it, and writes a run folder.

    Args:
        data: a Kaggle-style folder, a folder of two class folders, a CSV manifest, the folder of a
            known data set or a `Manifest`; the files may be PNG, JPEG, DICOM or NIfTI. None trains
            on synthetic phantoms with the embedded backbone, offline.
        out: the run folder to write; None for `runs/<time>`.
        overwrite: replace a run folder that is there. Default False.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        anonymize: keep Patient IDs, and paths that name a patient, out of the run. Default True.
        skip_bad: go on without files and rows that cannot be used. Default False.
        cache: the folder that features are kept in; None for the system's own place.
        quiet: print no progress and no notes. Default False.
        **settings: see `training.settings.FitSettings`.

    Returns:
        The run.

    Raises:
        HemorrhageError: a mistake in the options or the data, see its message.
    """
    begin = time.monotonic()
    reporter = Reporter(quiet=quiet)
    out = Path(out) if out is not None else Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    run_folder.check_output(out, overwrite)
    cache_at = cache_folder(cache)
    if data is None:
        chosen = _settings(_without_data(settings))
        reporter.note(
            f"No DATA given: training on {PHANTOM_COUNT} synthetic head-CT phantoms that the "
            f"package draws itself, with the backbone {chosen.backbone}."
        )
        data = phantom_set(cache_at / "phantoms", PHANTOM_COUNT, chosen.seed)
    else:
        chosen = _settings(settings)
    manifest = read_manifest(data, positive, target, anonymize, reporter)
    slices = scan(manifest, reporter, skip_bad)
    model_input = _model_input(slices, chosen)
    _warn_of_scan_labels(manifest, reporter)
    plan = make_plan(slices, chosen, reporter)
    _note_duplicates(slices, reporter)

    with reporter.stage("Importing TensorFlow"):
        import_tensorflow()
    strategy = resolve_strategy(chosen.strategy)
    spec = backbone_spec(chosen.backbone)
    with reporter.stage(f"Building {chosen.backbone}"), strategy.scope():
        backbone = build_backbone(
            chosen.backbone, chosen.weights, chosen.image_size, chosen.feature_layer, chosen.seed
        )
    policy = resolve_precision(chosen.mixed_precision, spec)
    source = FeatureSource(
        spec, backbone, hash_weights(backbone), chosen.feature_layer, model_input, "float32"
    )
    trainer = Trainer(slices, chosen, source, policy, strategy, reporter, cache_at)
    trainer.prepare(
        np.arange(len(slices)) if chosen.folds else plan[0].train,
        np.concatenate([fold.test for fold in plan]),
    )
    probabilities, histories = _train(trainer, slices, plan, chosen, reporter)
    metrics = _metrics(slices, plan, probabilities, chosen)

    metadata = ModelMetadata(
        image_size=chosen.image_size,
        window=model_input.window,
        canonical=model_input.canonical,
        upright=model_input.upright,
        threshold=DEFAULT_THRESHOLD,
        backbone=chosen.backbone,
        feature_layer=chosen.feature_layer,
        pooling=chosen.pooling,
        weights_hash=source.weights_hash,
        data_hash=slices.data_hash,
        versions=versions(),
    )
    config = {
        "settings": chosen.to_dict(),
        "data": _data_config(slices),
        "model": metadata.to_dict(),
        "training_feature_precision": policy,
        "replicas": strategy.num_replicas_in_sync,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with reporter.stage(f"Writing {out}"), run_folder.writing(out, overwrite) as beside:
        trainer.classifier().save(beside / run_folder.MODEL_FILE)
        write_metadata(beside / run_folder.MODEL_FILE, metadata)
        run_folder.write_tables(beside, slices, plan, probabilities, histories, DEFAULT_THRESHOLD)
        run_folder.write_json(beside / run_folder.METRICS_FILE, metrics)
        config["seconds"] = round(time.monotonic() - begin, 1)
        run_folder.write_json(beside / run_folder.CONFIG_FILE, config)
    return Run(out, config, metrics)


def evaluate(
    model: str | Path | Model | Run,
    data: str | Path | Manifest,
    *,
    positive: str | None = None,
    target: str | None = None,
    window: str | Sequence[str] | None = None,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Computes a model's figures on labeled slices, each with its interval.

    Args:
        model: a run folder, a `.keras` file, or what `load` or `fit` gave.
        data: labeled slices, as `fit` takes them.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        window: for Hounsfield units; None for the model's.
        skip_bad: go on without files and rows that cannot be used. Default False.
        quiet: print no progress and no notes. Default False.

    Returns:
        The evaluation. Where labels are of whole scans, so are its metrics: a scan counts with the
        mean of its three highest probabilities.
    """
    reporter = Reporter(quiet=quiet)
    manifest = read_manifest(data, positive, target, reporter=reporter)
    slices = scan(manifest, reporter, skip_bad)
    loaded = _loaded(model, reporter)
    model_input = loaded.input_for(slices.is_hounsfield, window, reporter)
    probabilities = loaded.probabilities(slices.refs, reporter, model_input)
    seen = loaded.training_hashes()
    overlap = sum(key in seen for key in slices.hashes)
    if overlap:
        reporter.warn(
            f"{overlap} of the {len(slices)} slices were trained on, so these figures flatter the "
            "model; the run's own metrics.json has the honest ones"
        )
    findings = tuple(
        Finding(name, float(probability), bool(probability >= loaded.threshold))
        for name, probability in zip(slices.names, probabilities, strict=True)
    )
    labels, counted = slices.labels, probabilities
    if manifest.level == "scan":
        labels, counted = _by_scan(slices, probabilities)
    metrics = {
        "evaluated_on": f"{len(labels)} {manifest.level}s",
        **binary_metrics(labels, [counted], loaded.threshold),
    }
    return Evaluation(metrics, findings, slices.labels, manifest.level, overlap)


def predict(
    model: str | Path | Model | Run,
    images: str | Path | Iterable[str | Path],
    *,
    window: str | Sequence[str] | None = None,
    cam: str | Path | None = None,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Prediction:
    """Predicts slices, and the volumes and series that they are of.

    Args:
        model: a run folder, a `.keras` file, or what `load` or `fit` gave.
        images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several.
        window: for Hounsfield units; None for the model's.
        cam: a folder to write overlays of the class activation map to; None for none.
        skip_bad: go on without files that cannot be read. Default False.
        quiet: print no progress and no notes. Default False.

    Returns:
        A finding for each slice, to be gone through like a list; and in `scans` one for each
        volume and series.
    """
    reporter = Reporter(quiet=quiet)
    return _loaded(model, reporter).predict(images, skip_bad, reporter, window, cam)


def export(
    model: str | Path | Run,
    target: str | Path,
    *,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Export:
    """Exports a trained model to a TFLite file or a SavedModel folder, and verifies it.

    The exported model is run with its own runtime beside the trained one, on slices that were held
    out; where it does not answer the same, nothing is written.

    Args:
        model: a run folder, its `.keras` file, or what `fit` gave.
        target: `*.tflite` for a TFLite file, anything else for a SavedModel folder.
        verify: labeled slices to compare on; None for those that the run tested on.
        representative: labeled slices to calibrate int8 on; None for those the run trained on.
        quiet: print no progress and no notes. Default False.
        **settings: see `exporters.options.ExportSettings`.

    Returns:
        The export, with the figures of its verification.
    """
    try:
        chosen = ExportSettings(**settings)
    except TypeError as error:
        accepted = ", ".join(ExportSettings.__dataclass_fields__)
        raise OptionError(f"unknown setting ({error}). Accepted: {accepted}") from None
    source = model.path if isinstance(model, Run) else Path(model)
    reporter = Reporter(quiet=quiet)
    return exporter.export(source, Path(target), chosen, reporter, verify, representative)


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    images: str | Path | Iterable[str | Path] | None = None,
    threads: int = 1,
    batch_size: int = 32,
    rounds: int = 30,
    quiet: bool = False,
) -> list[Measurement]:
    """Measures models side by side, each in a process of its own.

    Args:
        models: run folders, `.keras` files, SavedModel folders and `.tflite` files.
        images: slices to measure on: files, folders or globs; None for phantoms.
        threads: threads that each runs with. Default 1.
        batch_size: slices in a batch, for the throughput. Default 32.
        rounds: slices that the latency is taken from. Default 30.
        quiet: print no progress. Default False.

    Returns:
        A measurement for each model; the first is what the others are compared with.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    if isinstance(images, str | Path):
        images = [images]
    return measure(
        paths,
        images=list(images) if images else None,
        threads=threads,
        batch_size=batch_size,
        rounds=rounds,
        reporter=Reporter(quiet=quiet),
    )


def _loaded(model: str | Path | Model | Run, reporter: Reporter) -> Model:
    if isinstance(model, Model):
        return model
    path = model.path if isinstance(model, Run) else model
    with reporter.stage(f"Loading {path}"):
        return load(path)


def _without_data(settings: dict[str, Any]) -> dict[str, Any]:
    """Fills in what suits the phantoms: the embedded backbone, which is trained with the head.

    Its weights are random, so that frozen it would see little; it is small enough to train at once.
    """
    if settings.get("backbone", EMBEDDED_BACKBONE) != EMBEDDED_BACKBONE:
        return settings
    tuning = {
        "fine_tune_from": "block1_convolution",
        "fine_tune_epochs": 40,
        "fine_tune_learning_rate": 3e-3,
    }
    chosen = {} if tuning.keys() & settings.keys() else tuning
    return {"backbone": EMBEDDED_BACKBONE, **chosen, **settings}


def _settings(values: dict[str, Any]) -> FitSettings:
    try:
        return FitSettings(**values)
    except TypeError as error:
        accepted = ", ".join(FitSettings.__dataclass_fields__)
        raise OptionError(f"unknown setting ({error}). Accepted: {accepted}") from None


def _data_config(slices: ScannedSlices) -> dict[str, Any]:
    manifest = slices.manifest
    records = manifest.records
    return {
        "root": None if manifest.root_is_named else str(manifest.root.resolve()),
        "layout": manifest.layout,
        "level": manifest.level,
        "hash": slices.data_hash,
        "slices": len(slices),
        "in_hounsfield_units": int(slices.is_hounsfield.sum()),
        "hemorrhage": int(slices.labels.sum()),
        "groups": len(np.unique(slices.groups)),
        "patients": len({record.patient for record in records if record.patient}),
        "scans": len({record.scan for record in records if record.scan}),
        "exact_duplicate_pairs": len(slices.exact_pairs),
        "near_duplicate_pairs": len(slices.near_pairs),
        "skipped": len(slices.skipped),
    }


def _model_input(slices: ScannedSlices, settings: FitSettings) -> ModelInput:
    pictures = int((~slices.is_hounsfield).sum())
    if settings.window and pictures:
        raise OptionError(
            f"--window {','.join(settings.window)}: {pictures} of {len(slices)} slices are "
            "pictures, which were windowed already; only Hounsfield units (DICOM, NIfTI) can be. "
            "Leave --window or the pictures out"
        )
    window = window_for(slices.is_hounsfield, settings.window)
    return ModelInput(settings.image_size, window, settings.canonical, settings.upright)


def _warn_of_scan_labels(manifest: Manifest, reporter: Reporter) -> None:
    if manifest.level == "scan":
        reporter.warn(
            "the labels are of whole scans: each slice is trained and tested with its scan's "
            "label, though most slices of a scan with a hemorrhage show none. Figures count "
            "slices; use such data with evaluate, which counts scans"
        )


def _by_scan(slices: ScannedSlices, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives label and figure of each scan; a slice without one is its own."""
    members: dict[str, list[int]] = {}
    for index, record in enumerate(slices.manifest.records):
        members.setdefault(record.scan or slices.names[index], []).append(index)
    labels = [slices.labels[indices].max() for indices in members.values()]
    figures = [mean_of_top(probabilities[indices]) for indices in members.values()]
    return np.array(labels), np.array(figures, np.float32)


def _note_duplicates(slices: ScannedSlices, reporter: Reporter) -> None:
    if slices.exact_pairs or slices.near_pairs:
        reporter.note(
            f"{len(slices.exact_pairs)} exact and {len(slices.near_pairs)} near-duplicate pairs "
            "of slices are kept on one side of every split."
        )


def _train(
    trainer: Trainer,
    slices: ScannedSlices,
    plan: list[Fold],
    settings: FitSettings,
    reporter: Reporter,
) -> tuple[list[np.ndarray], list[list[Epoch]]]:
    """Trains every fold, and on all slices last where there are several."""
    probabilities: list[np.ndarray] = []
    histories: list[list[Epoch]] = []
    trainings = len(plan) + (len(plan) > 1)
    with (
        explained_read_errors(),
        reporter.progress("Training", trainings * trainer.epochs) as advance,
    ):
        for number, fold in enumerate(plan):
            part = make_part(slices, fold.train, settings, settings.seed + number)
            found, history = trainer.train(part, fold.test, advance)
            probabilities.append(found)
            histories.append(history)
        if len(plan) > 1:
            part = make_part(slices, np.arange(len(slices)), settings, settings.seed)
            _, history = trainer.train(part, np.array([], np.int64), advance)
            histories.append(history)
    return probabilities, histories


def _metrics(
    slices: ScannedSlices,
    plan: list[Fold],
    probabilities: list[np.ndarray],
    settings: FitSettings,
) -> dict[str, Any]:
    if not settings.folds:
        labels = slices.labels[plan[0].test]
        return {
            "evaluated_on": f"the test part, {len(labels)} of {len(slices)} slices",
            **binary_metrics(labels, probabilities),
        }
    repeats = np.full((settings.repeats, len(slices)), np.nan)
    for fold, found in zip(plan, probabilities, strict=True):
        repeats[fold.repeat - 1, fold.test] = found
    times = f", {settings.repeats} times" if settings.repeats > 1 else ""
    return {
        "evaluated_on": f"all {len(slices)} slices, out of fold ({settings.folds} folds{times})",
        **binary_metrics(slices.labels, list(repeats)),
    }
