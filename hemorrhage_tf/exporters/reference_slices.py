"""The slices that an export is verified and calibrated on."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.exporters.settings import MIN_CALIBRATION_SLICES
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.inference.forms import is_embedded
from hemorrhage_tf.models.run_files import CONFIG_FILE, SPLIT_FILE, is_run_folder
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.phantom_sets import cached_phantoms
from hemorrhage_tf.training.features.cache_location import cache_folder

BATCH_SIZE = 32
VERIFICATION_PHANTOMS = 100
SLICES_OF_A_SEQUENCE = 25  # where the slices belong to no scans


@dataclass(frozen=True)
class SliceSource:
    """One of the two places where an export needs slices.

    Attributes:
        option: The option that names other slices.
        part: The part of a run's split that serves by default.
        phantom_seed: Random seed of the embedded model's phantoms, distinct from the seeds of its
            training and from those that users are likely to choose.
    """

    option: str
    part: str
    phantom_seed: int


VERIFICATION = SliceSource("--verify", "test", 910_100)
CALIBRATION = SliceSource("--representative", "train", 910_064)


@dataclass(frozen=True)
class ReferenceScans:
    """Which of the reference slices form scans.

    Attributes:
        members: For each scan the int64 indices of its slices, from the neck to the vertex.
        positions: float64 `(n,)` of all slices, in mm; NaN where unknown.
    """

    members: Sequence[np.ndarray]
    positions: np.ndarray


@dataclass(frozen=True)
class ReferenceSlices:
    """Slices with labels.

    Attributes:
        refs: `n` slices.
        labels: `(n,)`, 0 or 1.
        scans: The scans; None if none are known. Defaults to None.
    """

    refs: Sequence[SliceRef]
    labels: np.ndarray
    scans: ReferenceScans | None = None

    @property
    def sequences(self) -> ReferenceScans:
        """The scans to compare scan models on; else sequences of consecutive slices.

        The comparison is between two forms of one model, so it needs no real scans.
        """
        if self.scans is not None:
            return self.scans
        count = len(self.refs)
        ends = range(SLICES_OF_A_SEQUENCE, count, SLICES_OF_A_SEQUENCE)
        members = np.split(np.arange(count), ends)
        return ReferenceScans(members, np.full(count, np.nan))


def select_slices(
    model: Path,
    model_input: ModelInput,
    source: SliceSource,
    data: str | Path | Manifest | None,
    phantoms: int,
    progress: Progress,
) -> ReferenceSlices:
    """Select the slices to verify or calibrate an export on.

    Args:
        model: The model to export: a run folder, a `.keras` file or "phantomnet".
        model_input: Its preprocessing.
        source: `VERIFICATION` or `CALIBRATION`.
        data: Labeled slices; None for a part of the run's own slices, or for phantoms if the
            embedded model is exported.
        phantoms: Number of phantoms.
        progress: Receives progress.

    Raises:
        OptionError: The slices do not suit the model, or there are none by default.
        DataError: The run's slices are no longer available.
    """
    if data is not None:
        manifest = read_manifest(data, progress=progress)
        index = build_slice_index(manifest, progress, keep_in=cache_folder() / SLICE_INDEX)
        if not model_input.takes_display_images and not index.is_hounsfield.all():
            raise OptionError(
                f"{source.option} {data}: contains display images, but the model needs Hounsfield "
                f"units for its windows {', '.join(model_input.window or ())}. Pass DICOM or NIfTI."
            )
        scans = index.scans
        known = ReferenceScans(scans.members, scans.positions) if len(scans) else None
        return ReferenceSlices(index.refs, index.labels, known)
    if is_embedded(model):
        with progress.stage("Drawing phantoms"):
            folder = cached_phantoms(cache_folder() / "phantoms", phantoms, source.phantom_seed)
        manifest = read_manifest(folder)
        return ReferenceSlices([record.ref for record in manifest.records], manifest.labels)
    if not is_run_folder(model):
        raise OptionError(
            f"{model}: not a run folder, so its slices are unknown. Pass {source.option} DATA."
        )
    return _slices_of_run(model, source)


def _slices_of_run(folder: Path, source: SliceSource) -> ReferenceSlices:
    """Return the slices of a part of a run's split, after checking that they are unchanged."""
    rows = list(csv.DictReader((folder / SPLIT_FILE).read_text(encoding="utf-8").splitlines()))
    # After cross-validation there is no such part: every slice was both trained on and held out.
    chosen = [row for row in rows if row["part"] == source.part] or rows
    root = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["data"]["root"]
    if root is None:
        raise DataError(
            f"{folder}: the run does not record where its slices are, because their path names a "
            f"patient. Pass {source.option} DATA."
        )
    refs = [
        SliceRef(Path(root) / row["path"], int(row["frame"]) if row["frame"] else None)
        for row in chosen
    ]
    for ref, row in zip(refs, chosen, strict=True):
        if not ref.path.is_file() or content_hash(read_slice(ref)) != row["content_hash"]:
            raise DataError(
                f"{ref}: this slice of the run is missing or has changed, or the run does not "
                f"record its name. Pass {source.option} DATA."
            )
    labels = np.array([int(row["label"]) for row in chosen])
    return ReferenceSlices(refs, labels, _scans_of_rows(chosen))


def _scans_of_rows(rows: Sequence[dict[str, str]]) -> ReferenceScans | None:
    """Return the scans that rows of a `split.csv` name; None for a run without scans."""
    in_scan: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.get("scan"):
            in_scan.setdefault(row["scan"], []).append(index)
    if not in_scan:
        return None
    members = [
        np.array(sorted(indices, key=lambda index: int(rows[index]["order"])))
        for indices in in_scan.values()
    ]
    positions = [float(row["position"]) if row["position"] else np.nan for row in rows]
    return ReferenceScans(members, np.array(positions, np.float64))


def calibration_images(
    refs: Sequence[SliceRef], model_input: ModelInput, count: int
) -> list[np.ndarray]:
    """Read evenly spaced slices, so that all classes and sources are represented.

    Args:
        refs: The slices to choose from.
        model_input: The preprocessing of the model.
        count: Maximum number of slices.

    Returns:
        float32 `(size, size, 3)` in [0, 255] for each slice.

    Raises:
        DataError: Too few slices.
    """
    if len(refs) < MIN_CALIBRATION_SLICES:
        raise DataError(
            f"{len(refs)} slices to calibrate on: int8 needs at least {MIN_CALIBRATION_SLICES}. "
            f"Pass more with {CALIBRATION.option} DATA."
        )
    places = np.linspace(0, len(refs) - 1, min(len(refs), count)).astype(int)
    chosen = [refs[index] for index in places]
    return [image for batch in input_batches(chosen, model_input, BATCH_SIZE) for image in batch]
