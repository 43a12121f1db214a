"""What the secondary captures show: a slice with texts, and the summary page of a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemorrhage_tf.dicom_results.scan_result import DISCLAIMER, ScanResult

SHOWN_SLICES = 6  # on the summary page

_WIDTH, _HEIGHT, _MARGIN = 1024, 768, 32  # of the summary page, in pixels
_THUMBNAIL, _GAP = 152, 10
_CURVE = (_MARGIN + 44, 486, _WIDTH - _MARGIN, 668)  # left, top, right, bottom
_TITLE, _TEXT, _SMALL = 34, 20, 16  # font sizes
_WHITE, _GRAY, _RED, _YELLOW = (255, 255, 255), (150, 150, 150), (255, 90, 80), (255, 220, 90)


def draw_slice_capture(result: ScanResult, index: int, view: Image.Image) -> np.ndarray:
    """Write on a slice what it is: its place, its probability, and that it is no diagnosis.

    Args:
        result: The result.
        index: The index of the slice.
        view: The slice with its overlay.

    Returns:
        uint8 `(height, width, 3)`.
    """
    image = view.copy()
    draw = ImageDraw.Draw(image)
    size = max(9, min(_SMALL, view.width // 34))
    one = result.slices[index]
    top = f"slice {index + 1} of {len(result.slices)}, hemorrhage {one.final_probability:.3f}"
    _write(draw, (4, 3), top, size)
    _write(draw, (4, image.height - size - 6), DISCLAIMER, size)
    return np.asarray(image)


def slices_to_show(result: ScanResult) -> list[int]:
    """Return the indices of the slices on the summary page, in the order of the scan."""
    final = np.array([one.final_probability for one in result.slices])
    return sorted(np.argsort(-final, kind="stable")[:SHOWN_SLICES].tolist())


def draw_summary(
    result: ScanResult, views: Mapping[int, Image.Image], notes: Sequence[str]
) -> np.ndarray:
    """Draw the summary page: the decision, the likeliest slices, the curve over the scan.

    Args:
        result: The result.
        views: The slices to show by index, see `slices_to_show`.
        notes: Further lines below the decision.

    Returns:
        uint8 `(768, 1024, 3)`.
    """
    page = Image.new("RGB", (_WIDTH, _HEIGHT))
    draw = ImageDraw.Draw(page)
    scan, algorithm = result.scan, result.algorithm
    title = "Predicted: hemorrhage" if scan.is_hemorrhage else "Predicted: no hemorrhage"
    _write(draw, (_MARGIN, 20), title, _TITLE, _RED if scan.is_hemorrhage else _WHITE)
    lines = [
        f"Scan: probability {scan.probability:.3f}, threshold {scan.threshold:.3f}. "
        f"{scan.flagged} of {scan.slices} slices flagged.",
        f"Algorithm: {algorithm.name}, hemorrhage_tf {algorithm.version}",
        *notes,
    ]
    for number, line in enumerate(lines):
        _write(draw, (_MARGIN, 72 + 30 * number), line, _TEXT)
    _draw_strip(page, draw, result, views)
    _draw_curve(draw, result)
    _write(draw, (_MARGIN, _HEIGHT - 44), DISCLAIMER, _TEXT, _YELLOW)
    return np.asarray(page)


def _draw_strip(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    result: ScanResult,
    views: Mapping[int, Image.Image],
) -> None:
    top = 252
    _write(draw, (_MARGIN, top - 28), "Likeliest slices, from the neck up", _SMALL, _GRAY)
    for number, index in enumerate(sorted(views)):
        left = _MARGIN + number * (_THUMBNAIL + _GAP)
        view = views[index].copy()
        view.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        page.paste(view, (left, top))
        one = result.slices[index]
        color = _RED if one.is_hemorrhage else _WHITE
        text = f"slice {index + 1}: {one.final_probability:.3f}"
        _write(draw, (left, top + _THUMBNAIL + 4), text, _SMALL, color)


def _draw_curve(draw: ImageDraw.ImageDraw, result: ScanResult) -> None:
    """Draw the probability of each slice over the scan, and the threshold."""
    left, top, right, bottom = _CURVE
    _write(draw, (_MARGIN, top - 28), "Probability of each slice", _SMALL, _GRAY)
    for value in (0.0, 0.5, 1.0):
        y = bottom - value * (bottom - top)
        draw.line([(left, y), (right, y)], fill=(60, 60, 60))
        _write(draw, (_MARGIN, y - _SMALL / 2), f"{value:.1f}", _SMALL, _GRAY)
    threshold = bottom - result.algorithm.slice_threshold * (bottom - top)
    for x in range(left, right, 12):
        draw.line([(x, threshold), (min(x + 6, right), threshold)], fill=_YELLOW)
    text = f"threshold {result.algorithm.slice_threshold:.3f}"
    _write_right(draw, (right, top - 28), text, _YELLOW)
    final = np.array([one.final_probability for one in result.slices])
    x_of = np.linspace(left + 4, right - 4, len(final))
    points = list(zip(x_of.tolist(), (bottom - final * (bottom - top)).tolist(), strict=True))
    draw.line(points, fill=_WHITE, width=2)
    for (x, y), one in zip(points, result.slices, strict=True):
        if one.is_hemorrhage:
            draw.ellipse([(x - 4, y - 4), (x + 4, y + 4)], fill=_RED)
    _write(draw, (left, bottom + 6), "slice 1 (neck)", _SMALL, _GRAY)
    _write_right(draw, (right, bottom + 6), f"slice {len(final)} (vertex)", _GRAY)


def _write_right(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, color: tuple[int, int, int]
) -> None:
    """Write a small text that ends at a place."""
    width = ImageFont.load_default(_SMALL).getlength(text)
    _write(draw, (place[0] - width, place[1]), text, _SMALL, color)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    color: tuple[int, int, int] = _WHITE,
) -> None:
    # The black outline keeps a text legible on bone.
    draw.text(
        place, text, fill=color, font=ImageFont.load_default(size), stroke_width=1, stroke_fill=0
    )
