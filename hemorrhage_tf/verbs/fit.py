"""The verb `fit`: read the data, train, evaluate, write the run folder."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.auditing import audit as auditor
from hemorrhage_tf.auditing.audit_result import Audit, best_shortcut_metric, summarize_audit
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.formatting import format_size
from hemorrhage_tf.core.native_output import import_tensorflow, start_importing_tensorflow
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.core.signals import set_stop_message
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.datasets.subtype_columns import asks_for_subtypes, subtype_labels
from hemorrhage_tf.evaluation.predictive_values import check_prevalence
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.models import run_files
from hemorrhage_tf.models.metadata import ModelMetadata, versions, write_metadata
from hemorrhage_tf.pipeline.model_input import ModelInput, choose_window
from hemorrhage_tf.reports.run_card import write_run_card
from hemorrhage_tf.training.checkpoint import FitCheckpoint, run_folder_of
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.cross_validation import FitResult, train_folds
from hemorrhage_tf.training.distributed.cluster import join_cluster
from hemorrhage_tf.training.distributed.cluster_spec import read_cluster
from hemorrhage_tf.training.distributed.single_process import SINGLE, SingleProcess
from hemorrhage_tf.training.evaluated_sets import EXTERNAL
from hemorrhage_tf.training.feature_sources import trains_with_tensorflow, uses_tensorflow
from hemorrhage_tf.training.features import cache_limits
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.training.features.cache_location import cache_limit as parse_cache_limit
from hemorrhage_tf.training.folds import make_folds
from hemorrhage_tf.training.run_folder import (
    atomic_run_folder,
    check_output,
    write_json,
    write_tables,
)
from hemorrhage_tf.training.scan_folds import choose_scan_model
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.strategy import resolve_strategy
from hemorrhage_tf.training.tensorboard import HEADLINE_METRICS, TensorBoardLog
from hemorrhage_tf.verbs.arguments import check_data
from hemorrhage_tf.verbs.data_config import data_config
from hemorrhage_tf.verbs.error_previews import ErrorPreviews
from hemorrhage_tf.verbs.fit_further_data import read_further_data
from hemorrhage_tf.verbs.fit_outputs import check_outside_of_run, log_of_worker
from hemorrhage_tf.verbs.fit_request import FitRequest, read_finished_run, restore_request
from hemorrhage_tf.verbs.results import Run

PHANTOM_COUNT = 200


# A verb takes each option of its command as a keyword.
def fit(
    data: str | Path | Manifest | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
    positive: str | None = None,
    target: str | None = None,
    external: str | Path | Manifest | None = None,
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
    """Train a classifier on labeled slices, evaluate it, and write a run folder.

    You can stop and resume a fit: until the run folder is written, `OUT.checkpoint` next to it
    holds the finished work. `fit(resume=OUT)` continues from there, and ends with the same
    metrics, predictions and weights.

    Args:
        data: A Kaggle-style folder, a folder of two class folders, a CSV manifest, the folder of a
            known data set, or a `Manifest`; files are PNG, JPEG, DICOM or NIfTI. None trains on
            synthetic phantoms with the embedded backbone, offline.
        out: Run folder to write. None for `runs/<time>`.
        overwrite: Replace an existing run folder, or its checkpoint. Defaults to False.
        resume: Run folder of a stopped fit to resume, with its original options; options given
            besides must be the same. Defaults to None.
        positive: Name of the positive class, where it is not a known one.
        target: Column to use as label, where there are several. "all" trains an output for any
            hemorrhage and one for each subtype; the data needs a column for each.
        external: A second set of labeled slices, in any form of `data`. It is only evaluated: its
            metrics show whether the model has learned more than the habits of the first.
        anonymize: Keep patient IDs, and paths that contain one, out of the run. Defaults to True.
        skip_invalid: Continue without files and rows that cannot be used. Defaults to False.
        prevalence: Prevalence of hemorrhage where the model will be used, in (0, 1): predictive
            values are computed for it, too.
        audit: Test for shortcut features. Defaults to True.
        cache: Folder of the feature cache. None for the cache folder of the system.
        cache_limit: Size that the feature cache is pruned to after the fit, such as "20GB", or
            "none". None for `$HEMORRHAGE_TF_CACHE_LIMIT`, or else 20 GB.
        log_json: File to append events to as JSON Lines; see `core.event_log.EventLog`.
        tensorboard: TensorBoard folder to write curves and metrics to during training.
        quiet: Print no progress and no notes. Defaults to False.
        **settings: See `training.settings.FitSettings`.

    Returns:
        The run.

    Raises:
        HemorrhageError: An option or the data cannot be used; the message says what to do.

    Example:
        >>> import hemorrhage_tf as htf
        >>> run = htf.fit("head_ct", backbone="tiny", image_size=32, out="runs/third", quiet=True)
        >>> 0 <= run.metrics["accuracy"]["estimate"] <= 1
        True
    """
    limit = parse_cache_limit(cache_limit)
    request = FitRequest(
        data=None if data is None else check_data(data),
        external=None if external is None else check_data(external),
        overwrite=overwrite,
        positive=positive,
        target=target,
        anonymize=anonymize,
        skip_invalid=skip_invalid,
        prevalence=prevalence,
        audit=audit,
        settings=settings,
    )
    finished = None
    folder = Path(out or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    if resume is not None:
        folder = run_folder_of(Path(resume))
        finished = read_finished_run(folder)
        if finished is None:
            request = restore_request(folder, request, out)
    check_outside_of_run(folder, log_json, tensorboard)
    places = _Places(
        out=folder,
        is_out_given=out is not None or resume is not None,
        cache=cache_folder(cache),
        cache_limit=limit,
        tensorboard=tensorboard,
        is_resumed=resume is not None,
    )
    log = log_of_worker(log_json, request)
    with verb_progress("fit", request.to_log(places.is_resumed), log, quiet) as progress:
        if finished is not None:
            progress.note(f"{folder} is already complete.")
        run = finished or _Fit(request, places, progress).run()
        progress.event(
            "result",
            path=str(run.path),
            summary=run.summary,
            metrics={name: run.metrics[name] for name in HEADLINE_METRICS},
        )
    return run


@dataclass(frozen=True)
class _Places:
    """Where a fit reads and writes.

    Attributes:
        out: The run folder.
        is_out_given: Whether the user named it.
        cache: The folder of the feature cache.
        cache_limit: Its size in bytes after the fit; None for no limit.
        tensorboard: The TensorBoard folder, or None.
        is_resumed: Whether an earlier fit is resumed.
    """

    out: Path
    is_out_given: bool
    cache: Path
    cache_limit: int | None
    tensorboard: str | Path | None
    is_resumed: bool


class _Fit:
    """One fit, from its options to its run folder.

    Args:
        request: The options.
        places: Where it reads and writes.
        progress: Shows progress, notes and warnings.
    """

    def __init__(self, request: FitRequest, places: _Places, progress: Progress) -> None:
        self._request = request
        self._places = places
        self._progress = progress
        self._start = time.monotonic()

    def run(self) -> Run:
        request, places, progress = self._request, self._places, self._progress
        check_output(places.out, request.overwrite)
        check_prevalence(request.prevalence)
        settings = request.fit_settings()
        if settings.strategy != "multiworker" and uses_tensorflow(settings, places.cache):
            start_importing_tensorflow()
        data = self._data(settings)
        cluster: SingleProcess = SINGLE
        if settings.strategy == "multiworker":
            cluster = self._join_cluster(settings)
        tensorboard = TensorBoardLog(
            places.tensorboard if cluster.is_chief else None,
            places.out.name,
            progress,
            places.is_resumed,
        )
        manifest = read_manifest(
            data, request.positive, request.target, request.anonymize, progress
        )
        # The appearance of phantoms is no reason for a warning.
        index_progress = Progress(quiet=True) if request.uses_phantoms else progress
        keep_in = places.cache / SLICE_INDEX
        slices = build_slice_index(
            manifest, index_progress, request.skip_invalid, keep_in, workers=cluster
        )
        model_input = _model_input(slices, settings)
        folds = make_folds(slices, settings, progress)
        scan_model = choose_scan_model(slices, settings, folds, progress)
        if scan_model is not None:  # trained with TensorFlow, after the heads
            start_importing_tensorflow()
        _warn_of_scan_labels(slices, scan_model is not None, progress)
        subtypes = None
        if asks_for_subtypes(request.target):
            subtypes = subtype_labels(slices.manifest)
        further = read_further_data(request, settings, places.cache, cluster, progress)
        external = further.evaluated.get(EXTERNAL)
        identity = request.identity(slices, settings, subtypes, external)
        cluster.require_agreement({name: json.dumps(value) for name, value in identity.items()})
        with FitCheckpoint(places.out, progress) as checkpoint:
            checkpoint.open(
                options=request.to_dict(manifest.root_is_named, further.external_root_is_named),
                identity=identity,
                writes=cluster.is_chief,
                restart=request.overwrite and not places.is_resumed,
            )
            set_stop_message(f"Stopped. Resume with: hemorrhage-tf fit --resume {places.out}")
            with cluster.explain_worker_loss():
                audit = self._audit(slices, settings)
                if trains_with_tensorflow(settings):
                    with progress.stage("Importing TensorFlow"):
                        import_tensorflow()
                if cluster is SINGLE:
                    cluster = SingleProcess(resolve_strategy(settings.strategy))
                context = FitContext(
                    slices=slices,
                    settings=settings,
                    model_input=model_input,
                    cluster=cluster,
                    progress=progress,
                    cache_folder=places.cache,
                    subtypes=subtypes,
                    scan_model=scan_model,
                    phantoms=further.phantoms,
                    evaluated=further.evaluated,
                )
                result = train_folds(context, folds, checkpoint, tensorboard, request.prevalence)
                run = self._finish(context, result, audit, checkpoint)
                cluster.barrier()  # the other workers leave when the run is written
            checkpoint.remove()
        if cluster.is_chief:
            tensorboard.finish(run.metrics, progress.seconds)
            self._prune_cache()
        return run

    def _data(self, settings: FitSettings) -> str | Path | Manifest:
        if self._request.data is not None:
            return self._request.data
        self._progress.note(
            f"No DATA given: training on {PHANTOM_COUNT} synthetic head-CT phantoms with the "
            f"backbone {settings.backbone}."
        )
        # Only here, because importing the generator takes a while.
        from hemorrhage_tf.synthesis.phantom_sets import cached_phantoms

        folder = self._places.cache / "phantoms"
        return cached_phantoms(folder, PHANTOM_COUNT, settings.seed, self._progress)

    def _join_cluster(self, settings: FitSettings) -> SingleProcess:
        """Meet the other workers, before TensorFlow is used for anything else."""
        spec = read_cluster()
        if not self._places.is_out_given:
            raise OptionError(
                "--strategy multiworker: all workers must know the run folder. Name a shared "
                "folder with --out."
            )
        with self._progress.stage("Importing TensorFlow"):
            import_tensorflow()
        cluster = join_cluster(spec, self._progress)
        cluster.check_shared(self._places.out.parent, "--out")
        if settings.feature_cache:
            cluster.check_shared(self._places.cache, "--cache")
        return cluster

    def _audit(self, slices: SliceIndex, settings: FitSettings) -> Audit | None:
        if not self._request.audit:
            if len(slices.exact_pairs) or len(slices.near_pairs):
                self._progress.note(
                    f"{len(slices.exact_pairs)} pairs of exact duplicates and "
                    f"{len(slices.near_pairs)} of near-duplicates stay on one side of every split."
                )
            return None
        audit = auditor.audit_slices(slices, self._progress, settings.seed)
        for line in summarize_audit(audit):
            self._progress.note(line)
        return audit

    def _finish(
        self,
        context: FitContext,
        result: FitResult,
        audit: Audit | None,
        checkpoint: FitCheckpoint,
    ) -> Run:
        """Write the run folder; workers other than the chief only return the run."""
        request, places = self._request, self._places
        metrics = dict(result.metrics)
        shortcut = best_shortcut_metric(audit)
        if shortcut is not None:
            metrics["best_shortcut"] = shortcut
        metadata = _metadata(context, result)
        external = context.evaluated.get(EXTERNAL)
        config = {
            "settings": context.settings.to_dict(),
            "head_solver": context.settings.head_solver,
            "data": data_config(context.slices),
            "external": None if external is None else data_config(external),
            "phantom_weight": result.phantom_weight,
            "model": metadata.to_dict(),
            "training_feature_precision": result.precision,
            "training_profile": result.training_profile,
            "replicas": context.cluster.replicas,
            "id": checkpoint.id,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        if not context.cluster.is_chief:
            return Run(places.out, config, metrics, context.cluster.index)
        run = Run(
            places.out, config, metrics, previews=_error_previews(context, result, places.out)
        )
        writing = atomic_run_folder(places.out, request.overwrite, within=checkpoint.folder)
        with self._progress.stage(f"Writing {places.out}"), writing as folder:
            result.write_classifier(folder / run_files.MODEL_FILE)
            write_metadata(folder / run_files.MODEL_FILE, metadata)
            scan_tables = None
            if result.scan_model is not None:
                result.scan_model.build().save(folder / run_files.SCAN_MODEL_FILE)
                scan_tables = result.scan_model.tables
            write_tables(folder, context.slices, result.folds, result.final_history, scan_tables)
            if audit is not None:
                audit = _without_patients(audit, context.slices.manifest)
                write_json(folder / run_files.AUDIT_FILE, audit.to_dict())
            write_json(folder / run_files.METRICS_FILE, metrics)
            write_run_card(folder, places.out.name, metadata, config, metrics, audit)
            config["seconds"] = round(time.monotonic() - self._start, 1)
            write_json(folder / run_files.CONFIG_FILE, config)
        return run

    def _prune_cache(self) -> None:
        pruned = cache_limits.prune(self._places.cache, self._places.cache_limit)
        if pruned.removed:
            self._progress.note(
                f"Removed the least recently used features from {self._places.cache} "
                f"({format_size(pruned.bytes)}). Set the limit with --cache-limit."
            )


def _model_input(slices: SliceIndex, settings: FitSettings) -> ModelInput:
    images = int((~slices.is_hounsfield).sum())
    if settings.window and images:
        raise OptionError(
            f"--window {','.join(settings.window)}: {images} of {len(slices)} slices are display "
            "images, which already have a window. Only Hounsfield units (DICOM, NIfTI) take one. "
            "Leave out --window or the display images."
        )
    return ModelInput(
        image_size=settings.input_size,
        window=choose_window(slices.is_hounsfield, settings.window),
        crop_head=settings.crop_head,
        upright=settings.upright,
    )


def _error_previews(context: FitContext, result: FitResult, out: Path) -> ErrorPreviews:
    """Return the previews of the worst out-of-fold errors, averaged over the repeats."""
    sums, counts = np.zeros((2, len(context.slices)))
    for each in result.folds:
        sums[each.fold.test] += each.probabilities
        counts[each.fold.test] += 1
    probabilities = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    threshold = result.operating_point.threshold
    return ErrorPreviews.of_slices(
        context.slices, probabilities, threshold, partial(load, out), context.model_input
    )


def _warn_of_scan_labels(slices: SliceIndex, has_scan_model: bool, progress: Progress) -> None:
    unknown = int((~slices.has_slice_label & (slices.labels == 1)).sum())
    if unknown and not has_scan_model:
        progress.warn(
            f"the labels of {unknown} of {len(slices)} slices belong to whole scans. Without a "
            "scan model, each of these slices is trained and tested with the label of its scan, "
            "although most slices of a scan with a hemorrhage show none."
        )


def _metadata(context: FitContext, result: FitResult) -> ModelMetadata:
    settings, model_input = context.settings, context.model_input
    scans, scan_model = result.metrics["scans"], result.scan_model
    scan_point = {} if scans is None else scans["operating_point"]
    slice_point = None if scan_model is None else scan_model.slices_in_scans.point
    return ModelMetadata(
        image_size=settings.input_size,
        window=model_input.window,
        crop_head=model_input.crop_head,
        upright=model_input.upright,
        threshold=result.operating_point.threshold,
        operating_point=result.operating_point.criterion,
        temperature=result.calibration.temperature,
        offset=result.calibration.offset,
        backbone=settings.backbone,
        feature_layer=settings.feature_layer,
        pooling=settings.pooling,
        weights_hash=result.weights_hash,
        data_hash=context.slices.data_hash,
        versions=versions(),
        scan_threshold=scan_point.get("threshold"),
        scan_operating_point=scan_point.get("criterion"),
        scan_model=None if scan_model is None else scan_model.kind,
        slice_in_scan_threshold=None if slice_point is None else slice_point.threshold,
        subtypes=SUBTYPES if result.subtype_rules else (),
        subtype_thresholds=tuple(rule.threshold for rule in result.subtype_rules),
    )


def _without_patients(audit: Audit, manifest: Manifest) -> Audit:
    """Leave out the paths of unreadable files where they may contain a patient's name."""
    if manifest.is_anonymous and not manifest.records.are_display_images:
        return replace(audit, problems=())
    return audit
