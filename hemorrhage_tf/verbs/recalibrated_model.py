"""Writing a recalibrated model: its weights, and what was done to them and on which data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import atomic_folder, describe_os_error
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.evaluation import dataset_shift
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES, SLICES_IN_SCANS
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.inference.forms import (
    EMBEDDED,
    HUB_FOLDER,
    KERAS,
    RUN_FOLDER,
    TFLITE,
    model_form,
)
from hemorrhage_tf.inference.keras_model import load_scan_model
from hemorrhage_tf.models import run_files
from hemorrhage_tf.models.metadata import ModelMetadata, write_metadata
from hemorrhage_tf.models.recalibration import recalibrate_classifier, recalibrate_scan_model
from hemorrhage_tf.reports.model_card import JSON_FILE, MARKDOWN_FILE
from hemorrhage_tf.reports.recalibration_card import write_recalibration_card
from hemorrhage_tf.training.folds import Fold, FoldResult
from hemorrhage_tf.training.run_folder import check_output, write_csv, write_json, write_tables
from hemorrhage_tf.training.scan_folds import ScanTables
from hemorrhage_tf.verbs.data_config import data_config
from hemorrhage_tf.verbs.recalibrated_levels import RecalibratedLevels

_FOREIGN_ENDINGS = (".keras", ".h5", ".onnx", ".pb")


@dataclass(frozen=True, eq=False)
class RecalibratedModel:
    """A recalibrated model, ready to be written.

    Attributes:
        source: A run folder, its `.keras` file, or "phantomnet".
        classifier: The Keras model as it is; writing changes its weights.
        metadata: The metadata of the recalibrated model.
        levels: What was fitted.
        trained_on: Content hashes of the slices that the model was trained on.
        metrics: Content of `metrics.json`.
        warnings: What a reader must not miss.
    """

    source: Path
    classifier: Any
    metadata: ModelMetadata
    levels: RecalibratedLevels
    trained_on: set[str]
    metrics: dict[str, Any]
    warnings: list[str]

    def write(self, out: Path, overwrite: bool, progress: Progress) -> dict[str, Any]:
        """Write a run folder, or a verified `.tflite` file where the name ends so.

        Returns:
            The content of `config.json`.

        Raises:
            OutputError: It cannot be written.
            ModelError: The `.tflite` file disagrees with the model.
        """
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.suffix.lower() != ".tflite":
                with progress.stage(f"Writing {out}"), atomic_folder(out, overwrite) as folder:
                    return self._fill(folder, out.name)
            with tempfile.TemporaryDirectory(prefix=f".{out.name[:60]}.", dir=out.parent) as place:
                run = Path(place) / "run"
                run.mkdir()
                config = self._fill(run, out.stem)
                self._export(run, Path(place) / "export" / out.name, out, progress)
            return config
        except OSError as error:
            raise OutputError(
                f"--out {out}: cannot be written ({describe_os_error(error)}). Nothing was left "
                "behind. Make room, or name another place."
            ) from None

    def _export(self, run: Path, draft: Path, out: Path, progress: Progress) -> None:
        slices = self.levels.before.units.slices
        exporter.export(run, draft, ExportSettings(), progress, verify=slices.manifest)
        for name in (JSON_FILE, MARKDOWN_FILE):
            card = draft.with_name(f"{draft.stem}.{name}")
            card.replace(out.parent / card.name)
        draft.replace(out)

    def _fill(self, folder: Path, name: str) -> dict[str, Any]:
        """Write all files of a run folder."""
        levels, slices = self.levels, self.levels.before.units.slices
        of_slices = levels.calibration(SLICES)
        recalibrate_classifier(self.classifier, of_slices.temperature, of_slices.offset)
        self.classifier.save(folder / run_files.MODEL_FILE)
        write_metadata(folder / run_files.MODEL_FILE, self.metadata)
        if self.metadata.scan_model is not None:
            scan_model = load_scan_model(self.source)
            scans, inside = levels.calibration(SCANS), levels.calibration(SLICES_IN_SCANS)
            recalibrate_scan_model(
                scan_model,
                scans=(scans.temperature, scans.offset),
                slices=(inside.temperature, inside.offset),
            )
            scan_model.save(folder / run_files.SCAN_MODEL_FILE)
        write_tables(folder, slices, fold_results(levels), scan_tables=scan_tables(levels))
        rows: Iterable[dict[str, str]] = ({"content_hash": key} for key in sorted(self.trained_on))
        write_csv(folder / run_files.ORIGIN_FILE, rows, ("content_hash",))
        write_json(folder / run_files.METRICS_FILE, self.metrics)
        config = self._config()
        write_recalibration_card(folder, name, self.metadata, config, self.metrics)
        write_json(folder / run_files.CONFIG_FILE, config)
        return config

    def _config(self) -> dict[str, Any]:
        levels, slices = self.levels, self.levels.before.units.slices
        original = levels.before.model.metadata
        fitted = {
            name: {
                "temperature": one.fit.calibration.temperature,
                "offset": one.fit.calibration.offset,
                "threshold": one.fit.point.threshold,
                "criterion": one.fit.point.criterion,
            }
            for name, one in levels.fitted.items()
        }
        return {
            "recalibration": {
                **asdict(levels.settings),
                "fitted": fitted,
                "kept": levels.kept,
                "original": original.to_dict(),
                "data_hash": slices.data_hash,
                "seen_in_training": self.metrics["recalibration"]["seen_in_training"],
                "warnings": self.warnings,
            },
            "data": data_config(slices),
            "model": self.metadata.to_dict(),
            "training_profile": dataset_shift.profile_slices(slices, np.arange(len(slices))),
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        }


def check_source(model: Path) -> Path:
    """Return the path of a model that can be recalibrated.

    Raises:
        OptionError: It is an export, whose weights are not changed.
    """
    form = model_form(model)
    # Loading says what is wrong with None.
    if form in (RUN_FOLDER, KERAS, HUB_FOLDER, EMBEDDED, None):
        return model
    raise OptionError(
        f"--model {model}: an exported model cannot be recalibrated, because its weights are "
        "converted. Pass the run folder that it was exported from, or phantomnet; an --out that "
        "ends with .tflite exports the result."
    )


def check_target(out: Path, source: Path, overwrite: bool) -> None:
    """Check before any work that the result can be written.

    Raises:
        OptionError: The name is that of another kind of file.
        OutputError: It exists and may not be replaced, or it cannot be written.
    """
    ending = out.suffix.lower()
    if ending in _FOREIGN_ENDINGS:
        raise OptionError(
            f"--out {out}: the ending {ending} is not supported. Pass a name that ends with "
            ".tflite, or that of a run folder."
        )
    if (
        out.exists()
        and source.exists()
        and out.resolve()
        in (
            source.resolve(),
            source.resolve().parent,
        )
    ):
        raise OptionError(f"--out {out}: this is the model itself. Name another folder.")
    if ending != f".{TFLITE}" or not out.exists():
        check_output(out, overwrite)
    elif out.is_dir():
        raise OutputError(f"--out {out}: a folder with the name of a file. Name another file.")
    elif not overwrite:
        raise OutputError(
            f"--out {out}: exists. Name another file, or replace it with --overwrite."
        )


def fold_results(levels: RecalibratedLevels) -> list[FoldResult]:
    """Return the predictions of all slices as the folds of a fit, for the tables of a run."""
    results = []
    repeats = zip(levels.folds, *levels.slices(SLICES), strict=True)
    for repeat, (numbers, probabilities, decisions) in enumerate(repeats, start=1):
        for number in range(1, levels.settings.folds + 1):
            test = np.flatnonzero(numbers == number)
            fold = Fold(repeat, number, np.flatnonzero(numbers != number), test)
            results.append(FoldResult(fold, probabilities[test], decisions[test], []))
    return results


def scan_tables(levels: RecalibratedLevels) -> ScanTables | None:
    """Return the predictions of a scan model, for the tables of a run; None without one."""
    slices = levels.before.units.slices
    if not levels.before.model.has_scan_model or not len(slices.scans):
        return None
    _, scores, decided = levels.levels[SCANS].check()
    count = len(slices.scans)  # single slices follow the scans
    probabilities, _ = levels.slices(SLICES_IN_SCANS)
    inside = np.flatnonzero(slices.scans.scan_of_slice >= 0)
    # Scans that keep their calibration have the same predictions in each repeat.
    shape = len(levels.folds), count
    return ScanTables(
        scans=np.arange(count),
        probabilities=np.broadcast_to(scores[:, :count], shape),
        decisions=np.broadcast_to(decided[:, :count], shape),
        slices=inside,
        in_scans=np.stack(probabilities)[:, inside],
    )
