"""The verbs: what the CLI and `import hemorrhage_tf` both call."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.auditing import audit as auditor
from hemorrhage_tf.auditing import audit_result
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.formatting import format_size
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.core.signals import set_stop_message
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.evaluation.metrics import check_prevalence
from hemorrhage_tf.models import run_files
from hemorrhage_tf.models.backbones import EMBEDDED_BACKBONE, fingerprint
from hemorrhage_tf.models.metadata import ModelMetadata, versions, write_metadata
from hemorrhage_tf.pipeline.model_input import ModelInput, window_for
from hemorrhage_tf.reports.run_card import write_run_card
from hemorrhage_tf.synthesis import phantom_set
from hemorrhage_tf.training import checkpoint, run_folder
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.cross_validation import train_folds
from hemorrhage_tf.training.distributed.cluster import join_cluster
from hemorrhage_tf.training.distributed.cluster_spec import read_cluster
from hemorrhage_tf.training.distributed.single_process import SINGLE, SingleProcess
from hemorrhage_tf.training.features import cache_limits
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.training.features.cache_location import cache_limit as cache_limit_of
from hemorrhage_tf.training.folds import Fold, make_folds
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.strategy import resolve_strategy
from hemorrhage_tf.training.tensorboard import HEADLINE_METRICS, TensorBoardLog
from hemorrhage_tf.verbs.results import Run

PHANTOM_COUNT = 200


def fit(
    data: str | Path | Manifest | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    skip_invalid: bool = False,
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

    Until the run is written, `OUT.checkpoint` beside it holds what is done. A fit that is stopped
    or killed at any moment is gone on with by `fit(resume=OUT)`, and ends with the same metrics,
    predictions and weights as one that was not.

    Args:
        data: a Kaggle-style folder, a folder of two class folders, a CSV manifest, the folder of a
            known data set or a `Manifest`; the files may be PNG, JPEG, DICOM or NIfTI. None trains
            on synthetic phantoms with the embedded backbone, offline.
        out: the run folder to write; None for `runs/<time>`.
        overwrite: replace a run folder that is there, or what is checkpoint of it. Default False.
        resume: the run folder of a fit that was stopped, to go on with it. What it was asked for is
            known; what is given besides has to be the same. None begins a fit.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        anonymize: keep Patient IDs, and paths that name a patient, out of the run. Default True.
        skip_invalid: go on without files and rows that cannot be used. Default False.
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
            `training.tensorboard.TensorBoardLog`; None for none.
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
        *(anonymize, skip_invalid, prevalence, audit, settings),
    )
    finished = None
    if resume is None:
        run = Path(out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S"))
    else:
        run = checkpoint.run_folder_of(Path(resume))
        finished = _finished(run)
        if finished is None:
            asked = _asked_before(run, asked, out)
    _check_beside(run, log_json, tensorboard)
    log_json = _log_of_worker(log_json, asked)
    with verb_progress("fit", asked.to_log(resume is not None), log_json, quiet) as progress:
        if finished is None:
            found = _fit(
                *(asked, run, out is not None or resume is not None),
                *(cache_folder(cache), limit, tensorboard, progress, resume is not None),
            )
        else:
            progress.note(f"{run} is finished; nothing was left to do.")
            found = finished
        figures = {name: found.metrics[name] for name in HEADLINE_METRICS}
        progress.event("result", path=str(run), report=found.report, metrics=figures)
    return found


def _check_beside(run: Path, log_json: str | Path | None, tensorboard: str | Path | None) -> None:
    """Refuses to write into the run folder what is written before the run is."""
    places = run.resolve(), checkpoint.checkpoint_folder(run).resolve()
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
    skip_invalid: bool = False
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
    progress: Progress,
    resumed: bool,
) -> Run:
    """Reads the slices, and does the rest beside what is kept of an checkpoint fit."""
    begin = time.monotonic()
    data, settings = asked.data, asked.settings
    run_folder.check_output(out, asked.overwrite)
    check_prevalence(asked.prevalence)
    is_drawn = data is None
    if data is None:
        chosen = _settings(_without_data(settings))
        progress.note(
            f"No DATA given: training on {PHANTOM_COUNT} synthetic head-CT phantoms that the "
            f"package draws itself, with the backbone {chosen.backbone}."
        )
        data = phantom_set(cache_at / "phantoms", PHANTOM_COUNT, chosen.seed, progress)
    else:
        chosen = _settings(settings)
    cluster: SingleProcess = SINGLE
    if chosen.strategy == "multiworker":
        cluster = _joined_cluster(out, out_is_named, cache_at, chosen, progress)
    watch = TensorBoardLog(tensorboard if cluster.is_chief else None, out.name, progress, resumed)
    manifest = read_manifest(data, asked.positive, asked.target, asked.anonymize, progress)
    # Of phantoms, how some of them look is nothing to warn of.
    slices = build_slice_index(
        manifest, Progress(quiet=True) if is_drawn else progress, asked.skip_invalid
    )
    model_input = _model_input(slices, chosen)
    _warn_of_scan_labels(manifest, progress)
    plan = make_folds(slices, chosen, progress)
    identity = _identity(slices, chosen, asked)
    cluster.require_agreement({name: json.dumps(value) for name, value in identity.items()})
    with checkpoint.FitCheckpoint(out, progress) as state:
        anew = asked.overwrite and not resumed
        state.open(asked.to_dict(manifest.root_is_named), identity, cluster.is_chief, anew)
        set_stop_message(f"Stopped. Go on with: hemorrhage-tf fit --resume {out}")
        with cluster.explain_worker_loss():
            run = _train_and_write(
                *(asked, slices, plan, chosen, model_input),
                *(out, cache_at, cluster, state, watch, progress, begin),
            )
            cluster.barrier()  # the others leave when the run is written
        state.remove()
    if cluster.is_chief:
        _keep_within(cache_at, limit, progress)
    return run


def _joined_cluster(
    out: Path, out_is_named: bool, cache_at: Path, settings: FitSettings, progress: Progress
) -> SingleProcess:
    """Meets the other workers, before TensorFlow is used for anything else."""
    spec = read_cluster()
    if not out_is_named:
        raise OptionError(
            "--strategy multiworker: every worker has to know where the run is written. Name it "
            "with --out, a folder that all of them share"
        )
    with progress.stage("Importing TensorFlow"):
        import_tensorflow()
    cluster = join_cluster(spec, progress)
    cluster.check_shared(out.parent, "--out")
    if settings.feature_cache:
        cluster.check_shared(cache_at, "--cache")
    return cluster


def _train_and_write(
    asked: _Asked,
    slices: SliceIndex,
    plan: list[Fold],
    chosen: FitSettings,
    model_input: ModelInput,
    out: Path,
    cache_at: Path,
    cluster: SingleProcess,
    state: checkpoint.FitCheckpoint,
    watch: TensorBoardLog,
    progress: Progress,
    begin: float,
) -> Run:
    """Does the long part of a fit."""
    audited = auditor.audit_slices(slices, progress, chosen.seed) if asked.audit else None
    if audited is None:
        _note_duplicates(slices, progress)
    else:
        for line in audit_result.short(audited):
            progress.note(line)

    with progress.stage("Importing TensorFlow"):
        import_tensorflow()
    if cluster is SINGLE:  # its devices are asked for only now that TensorFlow is imported
        cluster = SingleProcess(resolve_strategy(chosen.strategy))
    context = FitContext(
        slices=slices,
        settings=chosen,
        model_input=model_input,
        cluster=cluster,
        progress=progress,
        cache_folder=cache_at,
    )
    result = train_folds(context, plan, state, watch, asked.prevalence)
    metrics = result.metrics
    if audited is not None and audited.best_shortcut is not None:
        best = audited.best_shortcut
        metrics["best_shortcut"] = {"name": best.name, "roc_auc": best.roc_auc.to_dict()}

    metadata = ModelMetadata(
        image_size=chosen.input_size,
        window=model_input.window,
        crop_head=model_input.crop_head,
        upright=model_input.upright,
        threshold=result.operating_point.threshold,
        operating_point=result.operating_point.criterion,
        temperature=result.temperature,
        backbone=chosen.backbone,
        feature_layer=chosen.feature_layer,
        pooling=chosen.pooling,
        weights_hash=result.weights_hash,
        data_hash=slices.data_hash,
        versions=versions(),
    )
    config = {
        "settings": chosen.to_dict(),
        "head_solver": chosen.head_solver,
        "data": _data_config(slices),
        "model": metadata.to_dict(),
        "training_feature_precision": result.precision,
        "training_profile": result.training_profile,
        "replicas": cluster.strategy.num_replicas_in_sync,
        "id": state.id,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if not cluster.is_chief:
        return Run(out, config, metrics, cluster.index)
    writing = run_folder.atomic_run_folder(out, asked.overwrite, state.folder)
    with progress.stage(f"Writing {out}"), writing as beside:
        result.build_classifier().save(beside / run_files.MODEL_FILE)
        write_metadata(beside / run_files.MODEL_FILE, metadata)
        run_folder.write_tables(beside, slices, result.folds, result.final_history)
        if audited is not None:
            if slices.manifest.is_anonymous and any(
                record.scan for record in slices.manifest.records
            ):
                # Paths of files that cannot be read may name whoever they are of.
                audited = replace(audited, problems=())
            run_folder.write_json(beside / run_files.AUDIT_FILE, audited.to_dict())
        run_folder.write_json(beside / run_files.METRICS_FILE, metrics)
        write_run_card(beside, out.name, metadata, config, metrics, audited)
        config["seconds"] = round(time.monotonic() - begin, 1)
        run_folder.write_json(beside / run_files.CONFIG_FILE, config)
    watch.finish(metrics, progress.seconds)
    return Run(out, config, metrics)


def _identity(slices: SliceIndex, settings: FitSettings, asked: _Asked) -> dict[str, Any]:
    """Gives what has to be the same for a fit to end with the same result."""
    identity = {f"--{name.replace('_', '-')}": value for name, value in settings.to_dict().items()}
    for name in ("positive", "target", "skip_invalid", "prevalence", "audit"):
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
    """Gives what an checkpoint fit was asked for; what is given besides has to be the same."""
    request = checkpoint.read_checkpoint_header(run)
    if request is None:
        raise OptionError(
            f"--resume {run}: there is no {checkpoint.checkpoint_folder(run)} to go on with. A fit that "
            "was stopped leaves one beside its run folder; begin one with hemorrhage-tf fit DATA "
            f"--out {run}"
        )
    asked = request.options
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
    """Gives the run where it is written, and removes what was checkpoint of it."""
    if not run_files.is_run_folder(run):
        return None
    config = json.loads((run / run_files.CONFIG_FILE).read_text(encoding="utf-8"))
    request = checkpoint.read_checkpoint_header(run)
    if request is not None:
        if request.id != config.get("id"):
            return None  # it was to replace this run
        shutil.rmtree(checkpoint.checkpoint_folder(run), ignore_errors=True)
    metrics = json.loads((run / run_files.METRICS_FILE).read_text(encoding="utf-8"))
    return Run(run, config, metrics)


def _keep_within(cache_at: Path, limit: int | None, progress: Progress) -> None:
    """Removes the features that were used longest ago where the cache is larger than it may be."""
    pruned = cache_limits.prune(cache_at, limit)
    if pruned.removed:
        progress.note(
            f"The features that were used longest ago were removed from {cache_at} "
            f"({format_size(pruned.bytes)}); --cache-limit says how much may be kept."
        )


def _without_data(settings: dict[str, Any]) -> dict[str, Any]:
    """Fills in what suits the phantoms: the embedded backbone, frozen, with its own weights."""
    return {"backbone": EMBEDDED_BACKBONE, **settings}


def _settings(values: dict[str, Any]) -> FitSettings:
    try:
        return FitSettings(**values)
    except TypeError as error:
        accepted = ", ".join(FitSettings.__dataclass_fields__)
        raise OptionError(f"unknown setting ({error}). Accepted: {accepted}") from None


def _data_config(slices: SliceIndex) -> dict[str, Any]:
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


def _model_input(slices: SliceIndex, settings: FitSettings) -> ModelInput:
    pictures = int((~slices.is_hounsfield).sum())
    if settings.window and pictures:
        raise OptionError(
            f"--window {','.join(settings.window)}: {pictures} of {len(slices)} slices are "
            "pictures, which were windowed already; only Hounsfield units (DICOM, NIfTI) can be. "
            "Leave --window or the pictures out"
        )
    window = window_for(slices.is_hounsfield, settings.window)
    return ModelInput(settings.input_size, window, settings.crop_head, settings.upright)


def _warn_of_scan_labels(manifest: Manifest, progress: Progress) -> None:
    if manifest.level == "scan":
        progress.warn(
            "the labels are of whole scans: each slice is trained and tested with its scan's "
            "label, though most slices of a scan with a hemorrhage show none. Figures count "
            "slices; use such data with evaluate, which counts scans"
        )


def _note_duplicates(slices: SliceIndex, progress: Progress) -> None:
    if slices.exact_pairs or slices.near_pairs:
        progress.note(
            f"{len(slices.exact_pairs)} exact and {len(slices.near_pairs)} near-duplicate pairs "
            "of slices are kept on one side of every split."
        )
