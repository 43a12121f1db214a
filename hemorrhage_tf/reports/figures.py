"""The figures of an evaluation as files at a paper's size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.plots.distributions import confusion_size
from hemorrhage_tf.evaluation.plots.files import draw_figure, write_figure
from hemorrhage_tf.evaluation.plots.forest import forest_height
from hemorrhage_tf.evaluation.plots.history import has_line
from hemorrhage_tf.evaluation.plots.images import grid_size
from hemorrhage_tf.evaluation.plots.models import PlottedModel
from hemorrhage_tf.evaluation.plots.style import SQUARE, WIDE
from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.models.run_files import is_run_folder, read_history
from hemorrhage_tf.reports.evaluation_content import (
    EvaluationContent,
    gallery_items,
    gallery_kinds,
)
from hemorrhage_tf.reports.gallery import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMN, _PAGE = 3.5, 7.1  # inches: one column of a journal, and two
_SUBGROUP_METRICS = (("roc_auc", "ROC AUC"), ("sensitivity", ""), ("specificity", ""))
_NAME = 20  # characters below an image
MAX_ERRORS = 9  # of each kind, in the grid of wrong slices


@dataclass(frozen=True)
class _Figure:
    """One file to write.

    Attributes:
        name: Without its suffix.
        draw: Draws on given axes.
        size: Width and height in inches.
    """

    name: str
    draw: Callable[[Axes], object]
    size: tuple[float, float]


def check_figure_folder(folder: str | Path | None) -> None:
    """Raise an OutputError for a path that cannot be a folder; None passes."""
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise OutputError(f"--figures {folder}: is a file. Name a folder.")


def write_figures(
    folder: Path, evaluation: EvaluationContent, form: str, progress: Progress
) -> list[Path]:
    """Write every figure that the data has something for.

    Args:
        folder: Where the files go; created if missing. Files of the same names are replaced.
        evaluation: What to draw.
        form: "png", "pdf" or "svg".
        progress: Where progress is reported, and which figures are left out.

    Returns:
        The paths, in the order in which they were written.

    Raises:
        OutputError: A file cannot be written.
    """
    paths = []
    with progress.stage(f"Writing {folder}"):
        for one in _figures(evaluation, progress):
            path = folder / f"{one.name}.{form}"
            write_figure(path, draw_figure(one.draw, one.size))
            paths.append(path)
    return paths


def _figures(evaluation: EvaluationContent, progress: Progress) -> Iterator[_Figure]:
    for level in evaluation.levels:
        yield from _level_figures(evaluation, level, progress)
    yield from _history_figures(evaluation)
    yield from _forest_figures(evaluation)
    yield from _slice_figures(evaluation, progress)
    yield from _scan_figures(evaluation)


def _level_figures(
    evaluation: EvaluationContent, level: str, progress: Progress
) -> Iterator[_Figure]:
    suffix = "" if level == evaluation.main_level else f"_{level}"
    models = level_models(evaluation, level)

    def figure(name: str, plot: Callable[..., object], size: tuple[float, float]) -> _Figure:
        return _Figure(f"{name}{suffix}", lambda ax: plot(models, ax=ax), size)

    labels = np.asarray(evaluation.levels[level].labels)
    if labels.min() < labels.max():
        yield figure("roc", plots.plot_roc, SQUARE)
        yield figure("precision_recall", plots.plot_precision_recall, SQUARE)
        yield figure("decision_curve", plots.plot_decision_curve, WIDE)
    else:
        progress.note(
            f"No ROC, precision-recall and decision curves of {LEVEL_NAMES[level]}: they need both "
            "classes."
        )
    yield figure("calibration", plots.plot_calibration, SQUARE)
    yield figure("histogram", plots.plot_score_histogram, WIDE)
    yield figure("confusion", plots.plot_confusion, confusion_size(len(models)))


def level_models(evaluation: EvaluationContent, level: str) -> dict[str, PlottedModel]:
    """Return one model or two to plot at a level, by name; a single one has no name."""
    other = evaluation.against_levels.get(level)
    first, second = _names(evaluation) if other is not None else ("", "")
    known = evaluation.metrics_of(level)
    models = {first: PlottedModel(first, evaluation.levels[level], known)}
    if other is not None:
        second = second if second != first else f"{second} (second)"
        models[second] = PlottedModel(second, other)
    return models


def _names(evaluation: EvaluationContent) -> tuple[str, str]:
    """Return the last part of both models' paths, since a legend has no room for a path.

    The whole paths are returned where their last parts are the same.
    """
    names = evaluation.model_names
    first, second = (Path(name).name or name for name in names)
    return names if first == second else (first, second)


def _history_figures(evaluation: EvaluationContent) -> Iterator[_Figure]:
    first, second = _names(evaluation)
    paths = {first: evaluation.model.path}
    if evaluation.against_path is not None:
        paths[second] = evaluation.against_path
    histories = {name: read_history(path) for name, path in paths.items() if is_run_folder(path)}
    for metric in ("loss", "accuracy"):
        drawn = {name: rows for name, rows in histories.items() if has_line(rows, metric)}
        if drawn:
            data: Any = drawn if len(drawn) > 1 else next(iter(drawn.values()))
            yield _Figure(
                f"history_{metric}", _drawing(plots.plot_history, data, metric=metric), WIDE
            )


def _forest_figures(evaluation: EvaluationContent) -> Iterator[_Figure]:
    for key, title in _SUBGROUP_METRICS:
        rows = {
            f"{group.name} (n = {group.n})": group.metrics[key]
            for group in evaluation.subgroups
            if group.metrics[key] is not None
        }
        yield from _forest(f"subgroups_{key}", rows, title or key, is_area=key == "roc_auc")
    subtypes = evaluation.metrics.get("subtypes") or {}
    areas = {name: values["roc_auc"] for name, values in subtypes.items() if values["roc_auc"]}
    yield from _forest("subtypes", areas, "ROC AUC", is_area=True)


def _forest(
    name: str, rows: Mapping[str, Mapping[str, Any]], label: str, is_area: bool
) -> Iterator[_Figure]:
    if not rows:
        return

    def draw(ax: Axes) -> None:
        reference = (0.5, "chance") if is_area else None
        plots.plot_forest(rows, reference=reference, percent=not is_area, ax=ax)
        ax.set_xlabel(f"{label} (95% CI)")

    yield _Figure(name, draw, (_COLUMN, forest_height(list(rows)) + 0.2))


def _slice_figures(evaluation: EvaluationContent, progress: Progress) -> Iterator[_Figure]:
    """Yield the grid of wrong slices of each kind, the most confident first."""
    if evaluation.main_level not in evaluation.levels or evaluation.metrics["level"] == "scan":
        return
    labels, probabilities = evaluation.slices.labels, evaluation.slice_probabilities
    kinds = gallery_kinds(labels, probabilities, evaluation.model.threshold)
    for name, kind in KINDS.items():
        if not kind.is_wrong:
            continue
        # `gallery_kinds` sorts by falling probability.
        chosen = [index for index, one in kinds.items() if one == name]
        chosen = (chosen[::-1] if kind.lowest_first else chosen)[:MAX_ERRORS]
        if not chosen:
            continue
        items = gallery_items(evaluation, dict.fromkeys(chosen, name), progress)
        images = [_decode(item.overlay or item.image) for item in items]
        titles = [f"{_end(item.name)}\n{item.probability:.3f}" for item in items]
        flags = [item.predicted_hemorrhage for item in items]
        yield _Figure(
            f"{name.replace(' ', '_')}s",
            _drawing(plots.plot_slices, images, titles=titles, flagged=flags),
            grid_size(titles, 6),
        )


def _end(name: str) -> str:
    """Return the end of a name that fits below an image."""
    return name if len(name) <= _NAME else "…" + name[1 - _NAME :]


def _scan_figures(evaluation: EvaluationContent) -> Iterator[_Figure]:
    """Yield the scan with the clearest outcome of each kind: detected, missed, false alarm."""
    outcomes = {
        (1, True): ("scan_detected", 1),
        (1, False): ("scan_missed", -1),
        (0, True): ("scan_false_alarm", 1),
    }
    scans = evaluation.slices.scans
    places = {name: index for index, name in enumerate(scans.names)}
    for outcome, (name, sign) in outcomes.items():
        candidates = [
            one
            for one, label in zip(evaluation.scans, evaluation.scan_labels, strict=True)
            if (int(label), one.is_hemorrhage) == outcome and one.scan in places
        ]
        if candidates:
            best = max(candidates, key=lambda one: sign * one.probability)
            draw = _scan_plot(evaluation, scans.members[places[best.scan]], best.probability)
            yield _Figure(name, draw, (_PAGE, 2.8))


def _scan_plot(
    evaluation: EvaluationContent, members: np.ndarray, probability: float
) -> Callable[[Axes], object]:
    model, slices = evaluation.model, evaluation.slices
    predictions = [evaluation.predictions[index] for index in members.tolist()]
    in_scans = predictions[0].probability_in_scan is not None
    threshold = model.slice_in_scan_threshold if in_scans else model.threshold
    positions = slices.scans.positions[members]

    def draw(ax: Axes) -> None:
        plots.plot_scan(
            [partial(_read_image, evaluation, index) for index in members.tolist()],
            [one.final_probability for one in predictions],
            positions=positions if np.isfinite(positions).all() else None,
            threshold=threshold,
            ax=ax,
        )
        ax.set_title(f"probability of the scan {probability:.3f}")

    return draw


def _read_image(evaluation: EvaluationContent, index: int) -> np.ndarray:
    """Return the pixels of a slice through the window of the model, uint8."""
    pixels = evaluation.model_input.apply_window(read_slice(evaluation.slices.refs[index]))
    return np.rint(pixels).astype(np.uint8)


def _decode(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as file:
        return np.asarray(file.convert("RGB"))


def _drawing(plot: Callable[..., object], data: Any, **options: Any) -> Callable[[Axes], object]:
    """Return a function that draws a plot of some data on given axes."""
    return lambda ax: plot(data, ax=ax, **options)
