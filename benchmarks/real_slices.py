"""Measure a model on real slices by source, level, subtype and window; show its worst slices.

Run with `python benchmarks/real_slices.py DATA... [--model MODEL] [--sheets DIR]`. Each DATA is
what `hemorrhage-tf evaluate` accepts. The table has a row for each set, and rows for its sources
(the first folder of each path), its levels, its subtypes and, for slices in HU, the display windows
that they are shown through. The level is the model's own estimate: a ridge regression from
PhantomNet's features to the level of phantoms. With `--sheets`, a contact sheet of the worst slices
of each set shows the 20 highest probabilities without hemorrhage and the 20 lowest with one.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import hemorrhage_tf as htf
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.datasets.subtype_columns import subtype_columns
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.imaging.windows import Window, to_display_image
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.backbones import build_backbone
from hemorrhage_tf.models.phantomnet import IMAGE_SIZE
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.training.pretraining.metrics import feature_computer
from hemorrhage_tf.training.pretraining.samples import gray_model_input

LEVELS = {"neck": (-9.0, 0.0), "base": (0.0, 0.3), "middle": (0.3, 0.75), "vertex": (0.75, 9.0)}
# Display windows that slices in HU are shown through, besides the model's own.
WINDOWS = {"40/80": Window(40, 80), "40/120": Window(40, 120), "75/215": Window(75, 215)}
PHANTOMS = 2000  # that the level is learned from
WORST = 20
_BATCH = 32
_TILE = 180  # pixels
_SEED = 9_000_009  # apart from the phantoms of the training

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """The slices of one set, with their predictions.

    Attributes:
        index: The slices.
        probabilities: float64 `(n,)`, of the slices alone.
        levels: float64 `(n,)`, estimated.
        is_hounsfield: bool `(n,)`.
    """

    index: SliceIndex
    probabilities: np.ndarray
    levels: np.ndarray
    is_hounsfield: np.ndarray


class LevelEstimator:
    """Estimates the level of a slice from PhantomNet's features, as it learned it from phantoms.

    Args:
        count: Number of phantoms.
    """

    def __init__(self, count: int = PHANTOMS) -> None:
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._compute = feature_computer(build_backbone("phantomnet", "embedded", IMAGE_SIZE))
        drawn = [_draw_image_and_level(number) for number in range(count)]
        features = self._compute(np.stack([image for image, _ in drawn]))
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9)))
        self._ridge = ridge.fit(features, [level for _, level in drawn])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the level of uint8 gray model inputs `(n, 192, 192)`: float64 `(n,)`."""
        return self._ridge.predict(self._compute(images))


def _draw_image_and_level(number: int) -> tuple[np.ndarray, float]:
    phantom = draw_phantom(_SEED, number, size=224)
    pixels = phantom.hounsfield
    if number % 4 < 3:
        pixels = draw_display_image(phantom, np.random.default_rng([_SEED, number]), 300.0).pixels
    return gray_model_input(pixels), phantom.level


def measure(data: str, model: Model, level_of: LevelEstimator) -> Measured:
    """Predict all slices of a set, each of which is read once."""
    progress = Progress(quiet=True)
    index = build_slice_index(read_manifest(data, progress=progress), progress)
    probabilities, levels = [], []
    is_hounsfield: list[bool] = []
    for slices in _batches(index):
        images = np.stack([model.metadata.model_input(pixels) for pixels in slices])
        probabilities.append(model.run(images))
        levels.append(level_of(np.stack([gray_model_input(pixels) for pixels in slices])))
        is_hounsfield.extend(pixels.dtype != np.uint8 for pixels in slices)
    return Measured(
        index,
        np.concatenate(probabilities).astype(np.float64),
        np.concatenate(levels),
        np.array(is_hounsfield),
    )


def _batches(index: SliceIndex) -> Iterator[list[np.ndarray]]:
    for first in range(0, len(index), _BATCH):
        yield [read_slice(ref) for ref in index.refs[first : first + _BATCH]]


def through_window(index: SliceIndex, model: Model, window: Window) -> np.ndarray:
    """Predict slices in HU as display images of a window: float64 `(n,)`."""
    display_input = ModelInput(model.metadata.image_size, None, model.metadata.crop_head)
    probabilities = []
    for slices in _batches(index):
        shown = [np.rint(window.apply(pixels)).astype(np.uint8) for pixels in slices]
        probabilities.append(model.run(np.stack([display_input(pixels) for pixels in shown])))
    return np.concatenate(probabilities).astype(np.float64)


def rows_of(measured: Measured, model: Model) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the name, the slices (bool `(n,)`) and the probabilities of each row of a set."""
    index, probabilities = measured.index, measured.probabilities
    everything = np.ones(len(index), bool)
    yield "all slices", everything, probabilities
    sources = np.array([Path(name).parts[0] if Path(name).parts else "" for name in index.names])
    if 1 < len(np.unique(sources)) <= 12:
        for source in np.unique(sources):
            yield f"source {source}", sources == source, probabilities
    for name, (low, high) in LEVELS.items():
        yield f"level: {name}", (measured.levels >= low) & (measured.levels < high), probabilities
    for name, shows in subtype_columns(index.manifest).items():
        yield f"subtype: {name}", shows | (index.labels == 0), probabilities
    if measured.is_hounsfield.all():
        for name, window in WINDOWS.items():
            yield f"window {name}", everything, through_window(index, model, window)


def describe(
    measured: Measured, chosen: np.ndarray, probabilities: np.ndarray, model: Model
) -> str:
    """Return a row of the table: counts, ROC AUC, sensitivity, specificity, false alarms."""
    index = measured.index
    labels, groups = index.labels[chosen], index.patient_groups
    metrics = compute_metrics(
        LabeledPredictions(
            labels,
            [probabilities[chosen]],
            model.threshold,
            groups=None if groups is None else groups[chosen],
        ),
        bootstrap=Bootstrap(resamples=200),
    ).to_dict()
    columns = [f"{len(labels):6d} {int(labels.sum()):5d}", _text(metrics["roc_auc"], 3)]
    columns += [_text(metrics[name], 2) for name in ("sensitivity", "specificity")]
    scans = index.scans
    normal = [scans.members[scan] for scan in np.flatnonzero(scans.labels == 0)]
    flagged = chosen & (probabilities >= model.threshold)
    alarms = f"{np.mean([flagged[members].sum() for members in normal]):.2f}" if normal else "-"
    return "  ".join([*columns, f"{alarms:>6}"])


def _text(interval: dict[str, float] | None, digits: int) -> str:
    if interval is None:
        return f"{'-':>21}"
    values = (f"{interval[name]:.{digits}f}" for name in ("estimate", "low", "high"))
    return f"{'{} ({} to {})'.format(*values):>21}"


def write_contact_sheet(path: Path, measured: Measured) -> None:
    """Write the worst slices as one image: false alarms above, missed hemorrhages below."""
    index, probabilities = measured.index, measured.probabilities
    order = np.argsort(probabilities, kind="stable")
    normal = [i for i in order[::-1] if not index.labels[i]][:WORST]
    bleeding = [i for i in order if index.labels[i]][:WORST]
    columns = 10
    rows_each = -(-WORST // columns)
    sheet = Image.new("L", (columns * _TILE, 2 * rows_each * (_TILE + 24)))
    draw = ImageDraw.Draw(sheet)
    for block, chosen in enumerate((normal, bleeding)):
        for number, i in enumerate(chosen):
            row, column = divmod(number, columns)
            x, y = column * _TILE, (block * rows_each + row) * (_TILE + 24)
            pixels = to_display_image(read_slice(index.refs[i]))
            tile = Image.fromarray(pixels).convert("L")
            tile.thumbnail((_TILE, _TILE))
            sheet.paste(tile, (x, y + 24))
            caption = f"{probabilities[i]:.2f}  level {measured.levels[i]:.2f}"
            name = "/".join(Path(index.names[i]).parts[-3:])
            draw.text((x + 2, y), caption, fill=255)
            draw.text((x + 2, y + 11), textwrap.shorten(name, 28, placeholder="..."), fill=180)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each set, and write the contact sheets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--model", default="phantomnet")
    parser.add_argument("--sheets", type=Path, metavar="DIR")
    parser.add_argument("--phantoms", type=int, default=PHANTOMS, help="to learn the level from")
    chosen = parser.parse_args(arguments)
    model, level_of = htf.load(chosen.model), LevelEstimator(chosen.phantoms)
    names = ("slices", "with", "ROC AUC", "sensitivity", "specificity", "alarms")
    widths = (6, 5, 21, 21, 21, 6)
    for data in chosen.data:
        measured = measure(data, model, level_of)
        heads = [f"{name:>{width}}" for name, width in zip(names, widths, strict=True)]
        print(f"{Path(data).name}, threshold {model.threshold:.3f}")
        print(f"{'':26}{heads[0]} {'  '.join(heads[1:])}")
        for name, slices, probabilities in rows_of(measured, model):
            if slices.any():
                print(f"{name:26}{describe(measured, slices, probabilities, model)}", flush=True)
        if chosen.sheets is not None:
            write_contact_sheet(chosen.sheets / f"{Path(data).name}_worst.png", measured)


if __name__ == "__main__":
    main()
