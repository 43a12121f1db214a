"""Plots of slices: a scan as a strip along its positions, and a grid of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.plots.style import (
    MODEL_STYLES,
    SOFT,
    VERMILLION,
    axes_to_draw_on,
)
from hemorrhage_tf.imaging.readers import SliceRef, read_slice
from hemorrhage_tf.imaging.windows import to_display_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAILS = 9  # slices in the strip of a scan
TOP_SLICES = 3  # of them the ones with the highest probability
_STRIP_HEIGHT = 0.36  # of the axes
_COLUMNS = 6  # of a grid
MAX_SLICES = 40  # in a grid; more could not be seen


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan to draw: images are read when they are drawn.

    Attributes:
        images: Pixels `(height, width[, 3])`, functions that return them, or references to slices.
        probabilities: By model `(n,)`.
        flagged: bool `(n,)`: slices that the first model predicts hemorrhage.
        title: Above the strip.
    """

    images: Sequence[Any]
    probabilities: Mapping[str, np.ndarray]
    flagged: np.ndarray
    title: str


def plot_scan(
    data: Any,
    probabilities: Any = None,
    *,
    scan: str | None = None,
    positions: Any = None,
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot a scan as a strip of slices above their probabilities along the position.

    The strip has the three slices with the highest probability, and others evenly spaced. Filled
    markers are slices that are predicted hemorrhage.

    Args:
        data: A `Prediction`, whose overlays are shown where `predict` wrote them; or a mapping of
            names to predictions of the same scan by several models; or the images of the slices
            from the neck to the vertex, uint8 `(n, height, width[, 3])` in [0, 255] or float32
            `(n, height, width)` in HU, or functions that return one each.
        probabilities: For images: `(n,)` in [0, 1], or a mapping of names to these. Defaults to
            None.
        scan: Name of the scan of a `Prediction`. Defaults to the first one.
        positions: `(n,)`, where the slices lie, in mm. Defaults to their number, from 1.
        threshold: For images: probabilities at or above it are predicted hemorrhage; drawn as a
            line. Defaults to None.
        ax: Axes to draw on. Defaults to those of a new figure, two columns wide.

    Returns:
        The axes with the probabilities.

    Raises:
        DataError: There is no such scan, or a different number of images and probabilities.
        SliceError: A slice cannot be read.

    Example:
        >>> import hemorrhage_tf as htf
        >>> prediction = htf.predict("series", quiet=True)
        >>> ax = htf.plots.plot_scan(prediction)
        >>> ax.get_xlabel(), len(ax.child_axes)
        ('slice (neck to vertex)', 5)
    """
    drawn = _scan_of_images(data, probabilities, threshold)
    if drawn is None:
        drawn = _scan_of_predictions(data, scan)
    n = len(drawn.images)
    x = np.arange(1, n + 1) if positions is None else np.asarray(positions, np.float64)
    if x.shape != (n,):
        raise DataError(f"{len(x)} positions for {n} slices. Pass one for each slice.")
    from matplotlib.ticker import MaxNLocator

    with axes_to_draw_on(ax, (7.1, 2.8)) as axes:
        first = next(iter(drawn.probabilities.values()))
        shown = _choose_thumbnails(first)
        _draw_strip(axes, drawn, shown, x)
        for (name, values), style in zip(drawn.probabilities.items(), MODEL_STYLES, strict=False):
            axes.plot(x, values, color=style.color, linestyle=style.line, label=name)
        style = MODEL_STYLES[0]
        for part, face in ((~drawn.flagged, "none"), (drawn.flagged, style.color)):
            axes.plot(
                x[part], first[part], style.marker, markeredgecolor=style.color,
                markerfacecolor=face, markersize=4,
            )  # fmt: skip
        if threshold is not None:
            axes.axhline(threshold, color=SOFT, linestyle=(0, (1, 2)))
        margin = 0.5 * (abs(x[-1] - x[0]) / max(n - 1, 1) or 1.0)
        # Probabilities fill the part below the strip.
        top = 1.25 / (1 - _STRIP_HEIGHT)
        axes.set(xlim=(x.min() - margin, x.max() + margin), ylim=(-0.04, top))
        axes.set_yticks(np.linspace(0, 1, 5))
        axes.grid(False, axis="x")
        axes.spines["left"].set_bounds(0, 1)
        label = "slice (neck to vertex)" if positions is None else "position (mm)"
        axes.set(xlabel=label, title=drawn.title)
        axes.set_ylabel("probability", y=0.52 / top, ha="center")
        if positions is None:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(drawn.probabilities) > 1:
            axes.legend(loc="center right")
    return axes


def _scan_of_images(data: Any, probabilities: Any, threshold: float | None) -> _Scan | None:
    """Return the scan of images with probabilities; None without probabilities."""
    if probabilities is None:
        return None
    images = list(data)
    named = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    values = {str(name): np.asarray(each, np.float64) for name, each in named.items()}
    for each in values.values():
        if each.shape != (len(images),) or not len(images):
            raise DataError(
                f"{len(images)} images and {len(each)} probabilities: a scan has at least one "
                "slice, and each slice one probability. Pass as many of both."
            )
        if not ((each >= 0) & (each <= 1)).all():
            raise DataError("a probability is not in [0, 1]. Apply the sigmoid to logits first.")
    first = next(iter(values.values()))
    flagged = np.zeros(len(first), bool) if threshold is None else first >= threshold
    return _Scan(images, values, flagged, "")


def _scan_of_predictions(data: Any, scan: str | None) -> _Scan:
    """Return a scan of a `Prediction`, or of several of them by the name of the model."""
    named = data if isinstance(data, Mapping) else {"": data}
    found, values, titles = None, {}, []
    for name, prediction in named.items():
        scans = getattr(prediction, "scans", None)
        if not scans:
            raise DataError(
                f"{type(prediction).__name__}: holds no scan. Pass the Prediction of a scan, or "
                "images with probabilities."
            )
        chosen = next((one for one in scans if one.scan == (scan or scans[0].scan)), None)
        if chosen is None:
            known = ", ".join(one.scan for one in scans[:10])
            raise DataError(f"scan {scan}: is not in the prediction. Pass one of {known}.")
        slices = [one for one in prediction if one.scan == chosen.scan]
        found = found or slices
        if [one.path for one in slices] != [one.path for one in found]:
            raise DataError("the predictions are of different scans. Pass those of the same one.")
        values[str(name)] = np.array([one.final_probability for one in slices])
        decision = "hemorrhage" if chosen.is_hemorrhage else "no hemorrhage"
        prefix = f"{name}: " if name else ""
        titles.append(f"{prefix}probability of the scan {chosen.probability:.3f}, {decision}")
    if found is None:
        raise DataError("there is no prediction to plot. Pass at least one.")
    flagged = np.array([one.is_hemorrhage for one in found])
    return _Scan([_ref(one) for one in found], values, flagged, "; ".join(titles))


def _choose_thumbnails(probabilities: np.ndarray) -> np.ndarray:
    """Return the indices of the slices of the strip, in their order."""
    n = len(probabilities)
    if n <= THUMBNAILS:
        return np.arange(n)
    top = np.argsort(-probabilities, kind="stable")[:TOP_SLICES]
    chosen = set(top.tolist())
    evenly = np.rint(np.linspace(0, n - 1, THUMBNAILS)).astype(int).tolist()
    # Both ends come first, and the others give way to neighbors among the highest.
    for index in (evenly[0], evenly[-1], *evenly[1:-1]):
        if len(chosen) < THUMBNAILS and min(abs(index - each) for each in chosen) > n // 20:
            chosen.add(index)
    return np.array(sorted(chosen))


def _draw_strip(axes: Axes, drawn: _Scan, shown: np.ndarray, x: np.ndarray) -> None:
    """Draw the strip in the upper part of the axes, and lines from it to the probabilities."""
    from matplotlib.patches import ConnectionPatch

    width = 1.0 / max(len(shown), 5)
    left = 0.5 - width * len(shown) / 2
    for place, index in enumerate(shown.tolist()):
        inset = axes.inset_axes(
            (left + place * width, 1 - _STRIP_HEIGHT, 0.98 * width, _STRIP_HEIGHT)
        )
        inset.set_anchor("N")
        _show(inset, drawn.images[index])
        is_flagged = bool(drawn.flagged[index])
        _frame(inset, is_flagged)
        line = ConnectionPatch(
            (0.5, 0.0), (x[index], 1.04), "axes fraction", "data", axesA=inset, axesB=axes,
            color=VERMILLION if is_flagged else SOFT, linewidth=0.6,
        )  # fmt: skip
        axes.add_artist(line)


def plot_slices(
    data: Any,
    *,
    titles: Sequence[str] | None = None,
    flagged: Sequence[bool] | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot slices in a grid, with their overlays where `predict` wrote them.

    Args:
        data: A `Prediction` or some of its slices; or images, uint8 `(n, height, width[, 3])` in
            [0, 255] or float32 `(n, height, width)` in HU, which are shown through the brain
            window. At most 40.
        titles: A text for each slice. Defaults to name and probability of a prediction, and to
            none for images.
        flagged: Whether each slice gets a thick frame. Defaults to those that are predicted
            hemorrhage.
        columns: Number of slices in a row. Defaults to 6, or fewer where there are few slices.
        ax: Axes to draw on. Defaults to those of a new figure, two columns wide.

    Returns:
        The axes; their `child_axes` hold one slice each.

    Raises:
        DataError: No slices, more than 40, or a different number of titles.
        SliceError: A slice cannot be read.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_slices(htf.predict("series", quiet=True), columns=3)
        >>> len(ax.child_axes)
        5
    """
    slices = list(data)
    if not 1 <= len(slices) <= MAX_SLICES:
        raise DataError(
            f"{len(slices)} slices: a grid shows 1 to {MAX_SLICES}. Pass some of them, for example "
            "those that are predicted hemorrhage."
        )
    are_predictions = hasattr(slices[0], "final_probability")
    if are_predictions:
        titles = titles or [f"{Path(one.path).name}\n{one.final_probability:.3f}" for one in slices]
        flagged = flagged or [one.is_hemorrhage for one in slices]
        slices = [_ref(one) for one in slices]
    texts, flags = titles or [""] * len(slices), flagged or [False] * len(slices)
    if len(texts) != len(slices) or len(flags) != len(slices):
        raise DataError(
            f"{len(texts)} titles and {len(flags)} frames for {len(slices)} slices. Pass one of "
            "each for every slice."
        )
    across = columns or min(len(slices), _COLUMNS)
    down = -(-len(slices) // across)
    width, height = grid_size(texts, across)
    inches, row = width / across, height / down
    with axes_to_draw_on(ax, (width, height)) as axes:
        axes.set_axis_off()
        for index, (image, text, flag) in enumerate(zip(slices, texts, flags, strict=True)):
            column, line = index % across, index // across
            bottom = 1 - (line + inches / row) / down
            inset = axes.inset_axes(
                (column / across, bottom, 0.97 / across, 0.97 * inches / row / down)
            )
            _show(inset, image)
            _frame(inset, bool(flag))
            inset.set_xlabel(text, fontsize="small", labelpad=2)
    return axes


def grid_size(titles: Sequence[str], columns: int = _COLUMNS) -> tuple[float, float]:
    """Return width and height of a figure of slices with these titles, in inches."""
    across = min(columns, len(titles))
    side = min(7.1 / across, 2.0)
    # A row is as high as an image is wide, plus its text.
    lines = max(title.count("\n") + bool(title) for title in titles)
    return side * across, (side + 0.15 * lines + 0.06) * -(-len(titles) // across)


def _show(axes: Axes, image: Any) -> None:
    if callable(image):
        image = image()
    pixels = read_slice(image) if isinstance(image, SliceRef) else np.asarray(image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(
            f"an image of shape {pixels.shape}: must be (height, width) or (height, width, 3)."
        )
    axes.imshow(
        to_display_image(pixels), cmap="gray", vmin=0, vmax=255, interpolation="antialiased"
    )
    axes.grid(False)


def _frame(axes: Axes, is_flagged: bool) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=VERMILLION if is_flagged else SOFT)
        spine.set_linewidth(1.8 if is_flagged else 0.5)


def _ref(prediction: Any) -> SliceRef:
    """Return where the overlay of a predicted slice lies, or without one the slice itself."""
    path = prediction.cam or prediction.path
    file, mark, frame = path.rpartition("#")
    if mark and frame.isdigit() and not Path(path).exists():
        return SliceRef(Path(file), int(frame))
    return SliceRef(Path(path))
