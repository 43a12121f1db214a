"""The verbs: what the CLI and `import hemorrhage_tf` both call."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf import documents
from hemorrhage_tf.data import splits
from hemorrhage_tf.data.facts import FactsTable
from hemorrhage_tf.data.manifest import Manifest, read_manifest
from hemorrhage_tf.data.model_input import ModelInput, window_for
from hemorrhage_tf.data.phantoms import DEFAULT_SIZE, phantom_set, write_phantoms
from hemorrhage_tf.data.pipeline import explained_read_errors
from hemorrhage_tf.data.scan import ScannedSlices, scan
from hemorrhage_tf.errors import DataError, OptionError
from hemorrhage_tf.evaluation import audit as auditor
from hemorrhage_tf.evaluation import likeness
from hemorrhage_tf.evaluation.audit import Audit
from hemorrhage_tf.evaluation.calibration import apply_temperature
from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.cross_fitting import CrossFit, cross_fit
from hemorrhage_tf.evaluation.metrics import binary_metrics, check_prevalence, summary
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose, parse_operating_point
from hemorrhage_tf.evaluation.report import write_audit
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.benchmark import benchmark as measure
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.options import ExportSettings
from hemorrhage_tf.inference import (
    Finding,
    Model,
    Prediction,
    load,
    load_embedded,
    model_and_images,
    model_form,
)
from hemorrhage_tf.models.backbones import EMBEDDED_BACKBONE, fingerprint, join_hashes
from hemorrhage_tf.models.choices import join_values
from hemorrhage_tf.models.metadata import ModelMetadata, versions, write_metadata
from hemorrhage_tf.models.scan_figure import mean_of_top
from hemorrhage_tf.reporting import Reporter, import_tensorflow, reporting, size_text
from hemorrhage_tf.stopping import on_stop
from hemorrhage_tf.training import feature_cache, unfinished
from hemorrhage_tf.training import run as run_folder
from hemorrhage_tf.training.cluster import SINGLE, SingleProcess, join_cluster
from hemorrhage_tf.training.cluster_spec import read_cluster
from hemorrhage_tf.training.feature_cache import CacheInfo, Pruned, cache_folder
from hemorrhage_tf.training.feature_cache import cache_limit as cache_limit_of
from hemorrhage_tf.training.features import build_source
from hemorrhage_tf.training.loop import Epoch
from hemorrhage_tf.training.plan import Fold, make_plan
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.strategy import resolve_precision, resolve_strategy
from hemorrhage_tf.training.tensorboard import FIGURES, TrainingWatch
from hemorrhage_tf.training.trainer import Head, Trainer, make_part, strategy_of_backbones

PHANTOM_COUNT = 200
FEATURE_DISTANCE = "feature distance"
LOOKED_AT = 64  # slices, at most, whose features are compared with the training's
INNER_FOLDS = 5  # of the training part of a single split, for temperature and operating point


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        path: the run folder.
        config: what is in its `config.json`: settings, data, versions, times.
        metrics: what is in its `metrics.json`, see `evaluation.metrics.binary_metrics`.
        worker: which of several workers this is; the run folder is written by worker 0, the chief.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    worker: int = 0

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
        comparison: with a second model, see `evaluation.comparison.compare`; or None.
    """

    metrics: dict[str, Any]
    findings: tuple[Finding, ...]
    labels: np.ndarray
    level: str
    seen_in_training: int
    comparison: dict[str, Any] | None = None

    @property
    def report(self) -> str:
        """The main figures in one line, with their intervals."""
        return summary(self.metrics)


def fit(
    data: str | Path | Manifest | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    skip_bad: bool = False,
    prevalence: float | None = None,
    audit: bool = True,
    cache: str | Path | None = None,
    cache_limit: str | None = None,
    log_json: str | Path | None = None,
    tensorboard: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Trains a classifier on labeled slices, evaluates it, and writes a run folder.

    Until the run is written, `OUT.unfinished` beside it holds what is done. A fit that is stopped
    or killed at any moment is gone on with by `fit(resume=OUT)`, and ends with the same metrics,
    predictions and weights as one that was not.

    Args:
        data: a Kaggle-style folder, a folder of two class folders, a CSV manifest, the folder of a
            known data set or a `Manifest`; the files may be PNG, JPEG, DICOM or NIfTI. None trains
            on synthetic phantoms with the embedded backbone, offline.
        out: the run folder to write; None for `runs/<time>`.
        overwrite: replace a run folder that is there, or what is unfinished of it. Default False.
        resume: the run folder of a fit that was stopped, to go on with it. What it was asked for is
            known; what is given besides has to be the same. None begins a fit.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        anonymize: keep Patient IDs, and paths that name a patient, out of the run. Default True.
        skip_bad: go on without files and rows that cannot be used. Default False.
        prevalence: share of slices with hemorrhage where the model is to be used, in (0, 1): what
            predictive values are given for besides that of the data.
        audit: also find what gives the labels away beside anatomy. Default True.
        cache: the folder that features are kept in; None for the system's own place.
        cache_limit: what the features in the cache may take after the fit, such as "20GB", or
            "none"; those that were used longest ago are removed. None for
            `$HEMORRHAGE_TF_CACHE_LIMIT`, else 20 GB.
        log_json: a file to append what happens to, an object of JSON a line, see
            `event_log.EventLog`; None for none.
        tensorboard: a folder of TensorBoard's to write curves and figures to while it trains, see
            `training.tensorboard.TrainingWatch`; None for none.
        quiet: print no progress and no notes. Default False.
        **settings: see `training.settings.FitSettings`.

    Returns:
        The run.

    Raises:
        HemorrhageError: a mistake in the options or the data, see its message.
    """
    limit = cache_limit_of(cache_limit)
    asked = _Asked(
        *(data, overwrite, positive, target),
        *(anonymize, skip_bad, prevalence, audit, settings),
    )
    finished = None
    if resume is None:
        run = Path(out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S"))
    else:
        run = unfinished.run_of(Path(resume))
        finished = _finished(run)
        if finished is None:
            asked = _asked_before(run, asked, out)
    _check_beside(run, log_json, tensorboard)
    log_json = _log_of_worker(log_json, asked)
    with reporting("fit", asked.to_log(resume is not None), log_json, quiet) as reporter:
        if finished is None:
            found = _fit(
                *(asked, run, out is not None or resume is not None),
                *(cache_folder(cache), limit, tensorboard, reporter, resume is not None),
            )
        else:
            reporter.note(f"{run} is finished; nothing was left to do.")
            found = finished
        figures = {name: found.metrics[name] for name in FIGURES}
        reporter.event("result", path=str(run), report=found.report, figures=figures)
    return found


def _check_beside(run: Path, log_json: str | Path | None, tensorboard: str | Path | None) -> None:
    """Refuses to write into the run folder what is written before the run is."""
    places = run.resolve(), unfinished.folder_of(run).resolve()
    for option, given, path in (
        ("--log-json", log_json, Path(log_json or "")),
        ("--tensorboard", tensorboard, Path(tensorboard or "", run.name)),
    ):
        at = path.resolve()
        if given is not None and any(
            at.is_relative_to(place) or place.is_relative_to(at) for place in places
        ):
            raise OptionError(
                f"{option} {given}: {path} lies in the place of the run folder {run}, which is "
                "written whole at the end. Name another place"
            )


def _log_of_worker(log_json: str | Path | None, asked: _Asked) -> Path | None:
    """Gives each of several workers, which have the same command line, a log of its own."""
    if log_json is None:
        return None
    path = Path(log_json)
    if asked.settings.get("strategy") != "multiworker":
        return path
    index = read_cluster().index
    return path.with_suffix(f".worker-{index}{path.suffix}") if index else path


@dataclass(frozen=True)
class _Asked:
    """What a fit is asked for, besides where its results and features go; see `fit`."""

    data: str | Path | Manifest | None = None
    overwrite: bool = False
    positive: str | None = None
    target: str | None = None
    anonymize: bool = True
    skip_bad: bool = False
    prevalence: float | None = None
    audit: bool = True
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self, is_named: bool) -> dict[str, Any]:
        """Gives what JSON holds of it.

        Args:
            is_named: whether the path of the data names a patient. It is not written then, not even
                for a while.
        """
        path = None
        if isinstance(self.data, str | Path) and not is_named:
            path = str(Path(self.data).resolve())
        return {**vars(self), "data": path, "is_drawn": self.data is None}

    def to_log(self, resumed: bool) -> dict[str, Any]:
        """Gives what the event log holds of it, which names no data."""
        options = {name: value for name, value in vars(self).items() if name != "data"}
        return {**options.pop("settings"), **options, "resumed": resumed}


def _fit(
    asked: _Asked,
    out: Path,
    out_is_named: bool,
    cache_at: Path,
    limit: int | None,
    tensorboard: str | Path | None,
    reporter: Reporter,
    resumed: bool,
) -> Run:
    """Reads the slices, and does the rest beside what is kept of an unfinished fit."""
    begin = time.monotonic()
    data, settings = asked.data, asked.settings
    run_folder.check_output(out, asked.overwrite)
    check_prevalence(asked.prevalence)
    is_drawn = data is None
    if data is None:
        chosen = _settings(_without_data(settings))
        reporter.note(
            f"No DATA given: training on {PHANTOM_COUNT} synthetic head-CT phantoms that the "
            f"package draws itself, with the backbone {chosen.backbone}."
        )
        data = phantom_set(cache_at / "phantoms", PHANTOM_COUNT, chosen.seed, reporter)
    else:
        chosen = _settings(settings)
    _check_operating_point(chosen)  # before slices are read, which may take long
    cluster: SingleProcess = SINGLE
    if chosen.strategy == "multiworker":
        cluster = _joined_cluster(out, out_is_named, cache_at, chosen, reporter)
    watch = TrainingWatch(tensorboard if cluster.is_chief else None, out.name, reporter, resumed)
    manifest = read_manifest(data, asked.positive, asked.target, asked.anonymize, reporter)
    # Of phantoms, how some of them look is nothing to warn of.
    slices = scan(manifest, Reporter(quiet=True) if is_drawn else reporter, asked.skip_bad)
    model_input = _model_input(slices, chosen)
    _warn_of_scan_labels(manifest, reporter)
    plan = make_plan(slices, chosen, reporter)
    identity = _identity(slices, chosen, asked)
    cluster.agree({name: json.dumps(value) for name, value in identity.items()})
    with unfinished.Unfinished(out, reporter) as state:
        anew = asked.overwrite and not resumed
        state.begin(asked.to_dict(manifest.root_is_named), identity, cluster.is_chief, anew)
        on_stop(f"Stopped. Go on with: hemorrhage-tf fit --resume {out}")
        with cluster.explained():
            run = _train_and_write(
                *(asked, slices, plan, chosen, model_input),
                *(out, cache_at, cluster, state, watch, reporter, begin),
            )
            cluster.barrier()  # the others leave when the run is written
        state.remove()
    if cluster.is_chief:
        _keep_within(cache_at, limit, reporter)
    return run


def _joined_cluster(
    out: Path, out_is_named: bool, cache_at: Path, settings: FitSettings, reporter: Reporter
) -> SingleProcess:
    """Meets the other workers, before TensorFlow is used for anything else."""
    spec = read_cluster()
    if not out_is_named:
        raise OptionError(
            "--strategy multiworker: every worker has to know where the run is written. Name it "
            "with --out, a folder that all of them share"
        )
    with reporter.stage("Importing TensorFlow"):
        import_tensorflow()
    cluster = join_cluster(spec, reporter)
    cluster.check_shared(out.parent, "--out")
    if settings.feature_cache:
        cluster.check_shared(cache_at, "--cache")
    return cluster


def _train_and_write(
    asked: _Asked,
    slices: ScannedSlices,
    plan: list[Fold],
    chosen: FitSettings,
    model_input: ModelInput,
    out: Path,
    cache_at: Path,
    cluster: SingleProcess,
    state: unfinished.Unfinished,
    watch: TrainingWatch,
    reporter: Reporter,
    begin: float,
) -> Run:
    """Does the long part of a fit."""
    audited = auditor.audit_scanned(slices, reporter, chosen.seed) if asked.audit else None
    if audited is None:
        _note_duplicates(slices, reporter)
    else:
        for line in auditor.short(audited):
            reporter.note(line)

    with reporter.stage("Importing TensorFlow"):
        import_tensorflow()
    watch.settings(chosen.to_dict())
    if cluster is SINGLE:  # its devices are asked for only now that TensorFlow is imported
        cluster = SingleProcess(resolve_strategy(chosen.strategy))
    scope = strategy_of_backbones(chosen, cluster).scope()
    with reporter.stage(f"Building {chosen.backbone}"), scope:
        sources = [build_source(each, model_input, chosen.seed) for each in chosen.backbones]
    policies = [resolve_precision(chosen.mixed_precision, source.spec) for source in sources]
    precision = join_values(
        {source.spec.name: policy for source, policy in zip(sources, policies, strict=True)}
    )
    cluster.agree({"precision of the features": precision})
    trainer = Trainer(slices, chosen, sources, policies, cluster, reporter, cache_at)
    trainer.prepare(
        np.arange(len(slices)) if chosen.folds else plan[0].train,
        np.concatenate([fold.test for fold in plan]),
    )
    result = _train(trainer, slices, plan, chosen, reporter, state, watch)
    metrics = _metrics(slices, plan, result, chosen, asked.prevalence)
    if audited is not None and audited.best_shortcut is not None:
        best = audited.best_shortcut
        metrics["best_shortcut"] = {"name": best.name, "roc_auc": best.roc_auc.to_dict()}

    metadata = ModelMetadata(
        image_size=chosen.input_size,
        window=model_input.window,
        canonical=model_input.canonical,
        upright=model_input.upright,
        threshold=result.point.threshold,
        operating_point=result.point.criterion,
        temperature=result.temperature,
        backbone=chosen.backbone,
        feature_layer=chosen.feature_layer,
        pooling=chosen.pooling,
        weights_hash=join_hashes({source.spec.name: source.weights_hash for source in sources}),
        data_hash=slices.data_hash,
        versions=versions(),
    )
    config = {
        "settings": chosen.to_dict(),
        "head_solver": chosen.head_solver,
        "data": _data_config(slices),
        "model": metadata.to_dict(),
        "training_feature_precision": precision,
        "training_look": _training_look(slices, plan, trainer, chosen),
        "replicas": cluster.strategy.num_replicas_in_sync,
        "id": state.id,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if not cluster.is_chief:
        return Run(out, config, metrics, cluster.index)
    writing = run_folder.writing(out, asked.overwrite, state.folder)
    with reporter.stage(f"Writing {out}"), writing as beside:
        trainer.classifier().save(beside / run_folder.MODEL_FILE)
        write_metadata(beside / run_folder.MODEL_FILE, metadata)
        run_folder.write_tables(
            beside, slices, plan, result.probabilities, result.histories, result.decisions
        )
        if audited is not None:
            if slices.manifest.is_anonymous and any(
                record.scan for record in slices.manifest.records
            ):
                # Paths of files that cannot be read may name whoever they are of.
                audited = replace(audited, problems=())
            run_folder.write_json(beside / run_folder.AUDIT_FILE, audited.to_dict())
        run_folder.write_json(beside / run_folder.METRICS_FILE, metrics)
        documents.write_run_card(beside, out.name, metadata, config, metrics, audited)
        config["seconds"] = round(time.monotonic() - begin, 1)
        run_folder.write_json(beside / run_folder.CONFIG_FILE, config)
    watch.finish(metrics, reporter.seconds)
    return Run(out, config, metrics)


def _identity(slices: ScannedSlices, settings: FitSettings, asked: _Asked) -> dict[str, Any]:
    """Gives what has to be the same for a fit to end with the same result."""
    identity = {f"--{name.replace('_', '-')}": value for name, value in settings.to_dict().items()}
    for name in ("positive", "target", "skip_bad", "prevalence", "audit"):
        identity[f"--{name.replace('_', '-')}"] = getattr(asked, name)
    identity |= {f"{name} version": version for name, version in versions().items()}
    identity["slices"] = slices.data_hash
    names = "\n".join(
        f"{name} {key}" for name, key in zip(slices.names, slices.hashes, strict=True)
    )
    identity["names and order of the slices"] = fingerprint({"names": names})[:32]
    for name, weights in ((each.spec.name, each.weights) for each in settings.backbones):
        if Path(weights).is_file():
            with open(weights, "rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            identity[f"weights of {name}"] = digest[:32]
    return identity


def _asked_before(run: Path, given: _Asked, out: str | Path | None) -> _Asked:
    """Gives what an unfinished fit was asked for; what is given besides has to be the same."""
    request = unfinished.read_request(run)
    if request is None:
        raise OptionError(
            f"--resume {run}: there is no {unfinished.folder_of(run)} to go on with. A fit that "
            "was stopped leaves one beside its run folder; begin one with hemorrhage-tf fit DATA "
            f"--out {run}"
        )
    asked = request["asked"]
    is_drawn = asked.pop("is_drawn")
    before = asked["settings"]
    differing = [
        (name, before.get(name, "the default"), value)
        for name, value in given.settings.items()
        if json.loads(json.dumps(value)) != before.get(name, FitSettings.default(name))
    ]
    data = given.data
    if isinstance(data, str | Path):
        data = str(Path(data).resolve())
    if isinstance(data, Manifest) or (asked["data"] is None and not is_drawn):
        asked["data"] = data  # it was not kept
    unsaid = vars(_Asked(settings=given.settings))
    differing += [
        (name, asked[name], value)
        for name, value in vars(replace(given, data=data)).items()
        if value not in (unsaid[name], asked[name])
    ]
    if out is not None and Path(out).resolve() != run.resolve():
        differing.append(("out", str(run), out))
    if differing:
        lines = [f"  {name.replace('_', '-')}: {a} before, {b} now" for name, a, b in differing]
        raise OptionError(
            f"--resume {run}: was begun with something else:\n"
            + "\n".join(lines)
            + "\nLeave that out, or begin another fit with another --out"
        )
    if asked["data"] is None and not is_drawn:
        raise OptionError(f"--resume {run}: name DATA again; its path was not kept")
    return _Asked(**asked)


def _finished(run: Path) -> Run | None:
    """Gives the run where it is written, and removes what was unfinished of it."""
    if not run_folder.is_run_folder(run):
        return None
    config = json.loads((run / run_folder.CONFIG_FILE).read_text(encoding="utf-8"))
    request = unfinished.read_request(run)
    if request is not None:
        if request["id"] != config.get("id"):
            return None  # it was to replace this run
        shutil.rmtree(unfinished.folder_of(run), ignore_errors=True)
    metrics = json.loads((run / run_folder.METRICS_FILE).read_text(encoding="utf-8"))
    return Run(run, config, metrics)


def _keep_within(cache_at: Path, limit: int | None, reporter: Reporter) -> None:
    """Removes the features that were used longest ago where the cache is larger than it may be."""
    pruned = feature_cache.prune(cache_at, limit)
    if pruned.removed:
        reporter.note(
            f"The features that were used longest ago were removed from {cache_at} "
            f"({size_text(pruned.bytes)}); --cache-limit says how much may be kept."
        )


def cache_info(cache: str | Path | None = None) -> CacheInfo:
    """Says what the feature cache holds.

    Args:
        cache: its folder; None for `$HEMORRHAGE_TF_CACHE`, else the system's own place.

    Returns:
        Its features, the most recently used first, with sizes; see `CacheInfo`.
    """
    return feature_cache.inspect(cache_folder(cache), cache_limit_of(None))


def cache_prune(
    cache: str | Path | None = None,
    limit: str | None = None,
    older_than_days: float | None = None,
) -> Pruned:
    """Removes the features that were used longest ago, and what killed processes left behind.

    What a process uses stays.

    Args:
        cache: the cache's folder, see `cache_info`.
        limit: what may stay, such as "20GB", or "none"; None for `$HEMORRHAGE_TF_CACHE_LIMIT`, else
            20 GB.
        older_than_days: remove what was not used for so long, too; None for no such limit.

    Returns:
        What was removed.
    """
    return feature_cache.prune(cache_folder(cache), cache_limit_of(limit), older_than_days)


def cache_clear(cache: str | Path | None = None) -> Pruned:
    """Removes all computed features that no process uses, and drawn phantoms.

    Args:
        cache: the cache's folder, see `cache_info`.

    Returns:
        What was removed.
    """
    return feature_cache.clear(cache_folder(cache))


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
    flips: bool = False,
    skip_bad: bool = False,
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
        flips: average each slice's logit over its flips, which takes four times as long. Default
            False.
        skip_bad: go on without files and rows that cannot be used. Default False.
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
        "flips": flips,
        "skip_bad": skip_bad,
    }
    with reporting("evaluate", options, log_json, quiet) as reporter:
        found = _evaluate(model, data, reporter, against=against, report=report, **options)
        figures = {name: found.metrics[name] for name in FIGURES}
        reporter.event("result", report=found.report, figures=figures, level=found.level)
    return found


def _evaluate(
    model: str | Path | Model | Run | Manifest | None,
    data: str | Path | Manifest | None,
    reporter: Reporter,
    *,
    against: str | Path | Model | Run | None,
    positive: str | None,
    target: str | None,
    window: str | Sequence[str] | None,
    prevalence: float | None,
    report: str | Path | None,
    flips: bool,
    skip_bad: bool,
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
    manifest = read_manifest(data, positive, target, reporter=reporter)
    slices = scan(manifest, reporter, skip_bad)
    loaded = _loaded(model, reporter, flips)
    probabilities = _probabilities(loaded, slices, window, reporter)
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
        reporter.warn(warning)
    findings = tuple(
        Finding(name, float(probability), bool(probability >= loaded.threshold), warning=warning)
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
        reporter.warn(warnings[-1])
    metrics = binary_metrics(labels, [counted], threshold, groups=groups, prevalence=prevalence)
    metrics["warnings"] = warnings
    unit = "scans" if by_scan else "slices"
    metrics["evaluated_on"] = f"{len(labels)} {unit}" + (", each with its flips" if flips else "")
    comparison = None
    if against is not None:
        other = _loaded(against, reporter, flips)
        second = _counted(slices, _probabilities(other, slices, window, reporter))[1]
        thresholds = (threshold, other.scan_threshold if by_scan else other.threshold)
        comparison = compare(labels, counted, second, thresholds, groups=groups)
    if report is not None:
        audited = auditor.audit_scanned(slices, reporter)
        if audited.best_shortcut is not None:
            best = audited.best_shortcut
            metrics["best_shortcut"] = {"name": best.name, "roc_auc": best.roc_auc.to_dict()}
        names = [
            str(one.path if isinstance(one, Run | Model) else one) for one in (loaded, against)
        ]
        documents.write_evaluation_report(
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
            reporter,
        )
    return Evaluation(metrics, findings, slices.labels, manifest.level, overlap, comparison)


def _probabilities(
    loaded: Model, slices: ScannedSlices, window: str | Sequence[str] | None, reporter: Reporter
) -> np.ndarray:
    model_input = loaded.input_for(slices.is_hounsfield, window, reporter)
    return loaded.probabilities(slices.refs, reporter, model_input)


def _counted(
    slices: ScannedSlices, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gives labels, figures and patients of what is counted: slices, or scans."""
    patients = _patients(slices)
    if slices.manifest.level == "slice":
        return slices.labels, probabilities, patients
    members: dict[str, list[int]] = {}
    names, of_slices = slices.names, slices.labels
    for index, record in enumerate(slices.manifest.records):
        members.setdefault(record.scan or names[index], []).append(index)
    labels = np.array([of_slices[indices].max() for indices in members.values()])
    figures = [mean_of_top(probabilities[indices]) for indices in members.values()]
    if patients is not None:
        patients = np.array([patients[indices[0]] for indices in members.values()])
    return labels, np.array(figures, np.float32), patients


def _look(slices: ScannedSlices, indices: np.ndarray) -> dict[str, Any]:
    facts = FactsTable.of(slices.facts).take(indices)
    properties = likeness.properties_of(facts, np.asarray(slices.head_shares)[indices])
    return likeness.look(properties, float(slices.is_hounsfield[indices].mean()))


def _unlike(loaded: Model, slices: ScannedSlices, window: str | Sequence[str] | None) -> list[str]:
    """Says in what slices look unlike those of the model's run, where that is known."""
    training = loaded.training_look()
    if training is None:
        return []
    look = _look(slices, np.arange(len(slices)))
    if FEATURE_DISTANCE in training["quantiles"]:
        chosen = np.linspace(0, len(slices) - 1, min(len(slices), LOOKED_AT)).astype(int)
        model_input = loaded.input_for(slices.is_hounsfield, window)
        found = loaded.standardized([slices.refs[index] for index in chosen], model_input)
        if found is not None:
            distances = {FEATURE_DISTANCE: likeness.root_mean_square(found)}
            look["quantiles"] |= likeness.look(distances, 0.0)["quantiles"]
    return likeness.differences(training, look)


def predict(
    model: str | Path | Model | Run | Iterable[str | Path] | None = None,
    images: str | Path | Iterable[str | Path] | None = None,
    *,
    window: str | Sequence[str] | None = None,
    cam: str | Path | None = None,
    flips: bool = False,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Prediction:
    """Predicts slices, and the volumes and series that they are of.

    `predict("a.png")` takes the embedded model, and imports no TensorFlow.

    Args:
        model: a model of any form (see `load`), what `load` or `fit` gave, or None for the embedded
            one. Where it is the only one of the two that is given, it is the images.
        images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several.
        window: for Hounsfield units; None for the model's.
        cam: a folder to write overlays of the class activation map to; None for none.
        flips: average each slice's logit over its flips, which takes four times as long. Default
            False.
        skip_bad: go on without files that cannot be read. Default False.
        quiet: print no progress and no notes. Default False.

    Returns:
        A finding for each slice, to be gone through like a list; and in `scans` one for each
        volume and series.
    """
    if images is None:
        if isinstance(model, Model | Run):
            raise OptionError(f"{model.path}: a model, and no images. Name images behind it")
        named = [model] if isinstance(model, str | Path) else list(model or ())
        model, images = model_and_images(named)
    reporter = Reporter(quiet=quiet)
    return _loaded(model, reporter, flips).predict(images, skip_bad, reporter, window, cam)


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
        model: a run folder, its `.keras` file, what `fit` gave, or "phantomnet", the embedded one.
        target: `*.tflite` for a TFLite file, anything else for a SavedModel folder.
        verify: labeled slices to compare on; None for those that the run tested on, or of the
            embedded model for phantoms that it has not seen.
        representative: labeled slices to calibrate int8 on; None for those the run trained on, or
            for other phantoms.
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
        models: run folders, `.keras` files, SavedModel folders, `.tflite` files and "phantomnet",
            the embedded model.
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


def audit(
    data: str | Path | Manifest,
    *,
    positive: str | None = None,
    target: str | None = None,
    html: str | Path | None = None,
    quiet: bool = False,
) -> Audit:
    """Finds what is wrong with labeled slices, and what tells the classes apart beside anatomy.

    Bad files, duplicates and contradicting labels are findings here, not errors.

    Args:
        data: labeled slices, as `fit` takes them.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        html: a page to write for someone who would rather look than read; None for none.
        quiet: print no progress. Default False.

    Returns:
        The audit.

    Raises:
        HemorrhageError: there is no data there, or its layout is none of the accepted ones.
    """
    reporter = Reporter(quiet=quiet)
    manifest = read_manifest(data, positive, target, reporter=reporter)
    found = auditor.audit(manifest, reporter)
    if html is not None:
        write_audit(html, manifest.root.name or "slices", found.to_dict())
    return found


def phantoms(
    folder: str | Path,
    count: int = 100,
    seed: int = 0,
    *,
    form: str = "png",
    size: int = DEFAULT_SIZE,
    workers: int = 1,
    quiet: bool = False,
) -> Path:
    """Writes synthetic head-CT slices with masks of the blood and a manifest that `fit` takes.

    Args:
        folder: to write; must not be there yet.
        count: of slices; every second one has a hemorrhage. Default 100.
        seed: the same seed gives the same bytes. Default 0.
        form: "png", "dicom" or "nifti". Default "png".
        size: side of a slice in pixels, 64 to 512; a picture is scaled and cropped afterward.
            Default 512.
        workers: processes that draw; a script that asks for several has to start them below
            `if __name__ == "__main__":`. Default 1.
        quiet: print no progress. Default False.

    Returns:
        The folder, see `data.phantoms.write_phantoms`.
    """
    return write_phantoms(folder, count, seed, form, size, Reporter(quiet=quiet), workers)


def _loaded(
    model: str | Path | Model | Run | None, reporter: Reporter, flips: bool = False
) -> Model:
    """Loads a model, the embedded one for None, and says what that is."""
    if model is None:
        model = load_embedded()
    elif not isinstance(model, Model):
        path = model.path if isinstance(model, Run) else model
        with reporter.stage(f"Loading {path}"):
            model = load(path)
    if model.is_embedded:
        reporter.note(
            "The embedded PhantomNet predicts. It was trained on synthetic phantoms alone; it is "
            "research software, not a medical device."
        )
    return model.with_flips() if flips else model


def _without_data(settings: dict[str, Any]) -> dict[str, Any]:
    """Fills in what suits the phantoms: the embedded backbone, frozen, with its own weights."""
    return {"backbone": EMBEDDED_BACKBONE, **settings}


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
    return ModelInput(settings.input_size, window, settings.canonical, settings.upright)


def _warn_of_scan_labels(manifest: Manifest, reporter: Reporter) -> None:
    if manifest.level == "scan":
        reporter.warn(
            "the labels are of whole scans: each slice is trained and tested with its scan's "
            "label, though most slices of a scan with a hemorrhage show none. Figures count "
            "slices; use such data with evaluate, which counts scans"
        )


def _note_duplicates(slices: ScannedSlices, reporter: Reporter) -> None:
    if slices.exact_pairs or slices.near_pairs:
        reporter.note(
            f"{len(slices.exact_pairs)} exact and {len(slices.near_pairs)} near-duplicate pairs "
            "of slices are kept on one side of every split."
        )


@dataclass(frozen=True)
class _Result:
    """What the trainings of a plan gave, fold by fold."""

    probabilities: list[np.ndarray]
    decisions: list[np.ndarray]
    histories: list[list[Epoch]]
    point: OperatingPoint
    temperature: float


def _train(
    trainer: Trainer,
    slices: ScannedSlices,
    plan: list[Fold],
    settings: FitSettings,
    reporter: Reporter,
    state: unfinished.Unfinished,
    watch: TrainingWatch,
) -> _Result:
    """Trains every fold, and on all slices last where there are several.

    What an earlier process has finished is taken from it.

    Temperature and operating point come from out-of-fold predictions: of a cross-validation those
    of the other folds, of a single split those of a cross-validation of its training part.
    """
    raw: list[np.ndarray] = []
    histories: list[list[Epoch]] = []
    inner = _inner_folds(slices, plan, settings, reporter)
    trainings = len(plan) + (len(plan) > 1) + len(inner)
    advancing = reporter.progress("Training", trainings * trainer.epochs)
    with explained_read_errors(), advancing as advance:
        held_out = np.zeros(len(slices))

        def train(
            name: str, title: str, chosen: np.ndarray, test: np.ndarray, number: int = 0
        ) -> tuple[np.ndarray, list[Epoch]]:
            return _train_once(
                *(trainer, slices, settings, state, watch, advance),
                *(name, title, chosen, test, number),
            )

        for number, (chosen, test) in enumerate(inner):
            title = f"calibration {number + 1}"
            held_out[test] = train(f"inner-{number + 1}", title, chosen, test, number)[0]
        for number, fold in enumerate(plan):
            name = f"repeat-{fold.repeat}-fold-{fold.number}"
            title = _training_name(fold, plan)
            found, history = train(name, title, fold.train, fold.test, number)
            raw.append(found)
            histories.append(history)
        if len(plan) > 1:
            nothing = np.array([], np.int64)
            _, history = train("all", "all slices", np.arange(len(slices)), nothing)
            histories.append(history)

    fit = _cross_fit(slices, plan, raw, inner, held_out, settings)
    if fit.temperature != 1:
        trainer.temper(fit.temperature)
    if fit.point.note:
        reporter.warn(f"--operating-point {settings.operating_point}: {fit.point.note}")
    if len(plan) > 1:
        probabilities = [fit.probabilities[fold.repeat - 1][fold.test] for fold in plan]
        decisions = [fit.decisions[fold.repeat - 1][fold.test] for fold in plan]
    else:
        probabilities = [apply_temperature(raw[0], fit.temperature)]
        decisions = [probabilities[0] >= fit.point.threshold]
    return _Result(probabilities, decisions, histories, fit.point, fit.temperature)


def _train_once(
    trainer: Trainer,
    slices: ScannedSlices,
    settings: FitSettings,
    state: unfinished.Unfinished,
    watch: TrainingWatch,
    advance: Callable[[int], None],
    name: str,
    title: str,
    chosen: np.ndarray,
    test: np.ndarray,
    number: int,
) -> tuple[np.ndarray, list[Epoch]]:
    """Trains one head, or takes what it gave from an earlier process that finished it."""
    before = state.done(name)
    if before is not None:
        trainer.head = Head(*(before[each] for each in ("mean", "variance", "kernel", "bias")))
        advance(trainer.epochs)
        return before["probabilities"], before["history"]
    part = make_part(slices, chosen, settings, settings.seed + number)
    on_epoch = watch.training(title)
    keep = partial(state.keeper, name)
    found, history = trainer.train(part, test, advance, keep, on_epoch)
    # Fine-tuned weights lie in the state after the last epoch, and are brought back from there.
    if not settings.fine_tune_epochs or name.startswith(("inner", "repeat")):
        head = trainer.head
        state.finish(
            name,
            {
                **{"mean": head.mean, "variance": head.variance},
                **{"kernel": head.kernel, "bias": head.bias},
                **{"probabilities": found, "history": history},
            },
        )
    return found, history


def _training_name(fold: Fold, plan: list[Fold]) -> str:
    if len(plan) == 1:
        return "training part"
    repeats = max(each.repeat for each in plan)
    return f"repeat {fold.repeat} fold {fold.number}" if repeats > 1 else f"fold {fold.number}"


def _inner_folds(
    slices: ScannedSlices, plan: list[Fold], settings: FitSettings, reporter: Reporter
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deals the training part of a single split into folds, where that is wanted and quick."""
    kind, _ = parse_operating_point(settings.operating_point)
    wanted = settings.calibration != "none" or kind != "threshold"
    if len(plan) > 1 or not wanted or not settings.trains_quickly:
        return []
    train = plan[0].train
    try:
        dealt = splits.folds(slices.labels[train], slices.groups[train], INNER_FOLDS, settings.seed)
    except DataError as error:
        if kind != "threshold":
            raise
        reporter.note(f"Probabilities are not calibrated: {error}")
        return []
    return [(train[inner], train[test]) for inner, test in dealt]


def _cross_fit(
    slices: ScannedSlices,
    plan: list[Fold],
    raw: list[np.ndarray],
    inner: list[tuple[np.ndarray, np.ndarray]],
    held_out: np.ndarray,
    settings: FitSettings,
) -> CrossFit:
    calibrate = settings.calibration == "temperature"
    labels, patients = slices.labels, _patients(slices)
    if len(plan) > 1:
        repeats = np.zeros((settings.repeats, len(slices)))
        numbers = np.zeros((settings.repeats, len(slices)), np.int64)
        for fold, found in zip(plan, raw, strict=True):
            repeats[fold.repeat - 1, fold.test] = found
            numbers[fold.repeat - 1, fold.test] = fold.number
        calibrate &= settings.trains_quickly
        return cross_fit(
            labels, list(repeats), list(numbers), settings.operating_point, calibrate, patients
        )
    train = plan[0].train
    if not inner:  # only a fixed threshold needs no predictions to be chosen on
        point = choose(labels[plan[0].test], raw[0], settings.operating_point)
        unseen = {"n_positive": 0, "n_negative": 0, "sensitivity": None, "specificity": None}
        return CrossFit(1.0, replace(point, **unseen), [], [])
    numbers = np.zeros(len(slices), np.int64)
    for number, (_, test) in enumerate(inner):
        numbers[test] = number
    return cross_fit(
        labels[train],
        [held_out[train]],
        [numbers[train]],
        settings.operating_point,
        calibrate,
        None if patients is None else patients[train],
    )


def _training_look(
    slices: ScannedSlices, plan: list[Fold], trainer: Trainer, settings: FitSettings
) -> dict[str, Any]:
    """Sums up what the saved model was trained on, for `evaluate` to compare with."""
    trained_on = np.arange(len(slices)) if len(plan) > 1 else plan[0].train
    look = _look(slices, trained_on)
    if not settings.fine_tune_epochs:
        found = [likeness.root_mean_square(rows) for rows in trainer.standardized(trained_on)]
        distances = np.concatenate(found)
        look["quantiles"] |= likeness.look({FEATURE_DISTANCE: distances}, 0.0)["quantiles"]
    return look


def _check_operating_point(settings: FitSettings) -> None:
    kind, _ = parse_operating_point(settings.operating_point)
    if kind != "threshold" and not settings.folds and not settings.trains_quickly:
        raise OptionError(
            f"--operating-point {settings.operating_point}: is chosen on out-of-fold predictions, "
            "which a single split with fine-tuning or without the feature cache does not have. Add "
            "--folds 5, or give threshold=0.5"
        )


def _patients(slices: ScannedSlices) -> np.ndarray | None:
    """Gives the groups where slices have patients: intervals are then over patients."""
    known = any(record.patient for record in slices.manifest.records)
    return slices.groups if known else None


def _metrics(
    slices: ScannedSlices,
    plan: list[Fold],
    result: _Result,
    settings: FitSettings,
    prevalence: float | None,
) -> dict[str, Any]:
    patients = _patients(slices)
    threshold = result.point.threshold
    if not settings.folds:
        test = plan[0].test
        figures = {
            "evaluated_on": f"the test part, {len(test)} of {len(slices)} slices",
            **binary_metrics(
                slices.labels[test],
                result.probabilities,
                threshold,
                groups=None if patients is None else patients[test],
                prevalence=prevalence,
                seed=settings.seed,
            ),
        }
    else:
        repeats = np.full((settings.repeats, len(slices)), np.nan)
        decisions = np.zeros((settings.repeats, len(slices)), bool)
        for fold, found, called in zip(plan, result.probabilities, result.decisions, strict=True):
            repeats[fold.repeat - 1, fold.test] = found
            decisions[fold.repeat - 1, fold.test] = called
        times = f", {settings.repeats} times" if settings.repeats > 1 else ""
        on = f"all {len(slices)} slices, out of fold ({settings.folds} folds{times})"
        figures = {
            "evaluated_on": on,
            **binary_metrics(
                slices.labels,
                list(repeats),
                threshold,
                decisions=list(decisions),
                groups=patients,
                prevalence=prevalence,
                seed=settings.seed,
            ),
        }
    figures["operating_point"] = result.point.to_dict()
    figures["temperature"] = result.temperature
    figures["leaks"] = [leak for fold in plan for leak in fold.leaks]
    return figures
