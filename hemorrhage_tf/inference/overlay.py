"""Overlays: the evidence of a class activation map drawn on its slice, at the slice's resolution.

What is drawn where, and in which color, is the business of `evidence`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemorrhage_tf.imaging.head_crop import (
    DISPLAY_RIM,
    HU_RIM,
    HeadRegion,
    find_head,
    head_pixels,
    uncrop,
)
from hemorrhage_tf.imaging.readers import drop_equal_channels, to_rgb
from hemorrhage_tf.inference.evidence import (
    CONTOURS,
    FULL_COLOR,
    Decision,
    blend_evidence,
    color_evidence,
    locate_evidence,
    outline_evidence,
)
from hemorrhage_tf.pipeline.model_input import ModelInput

_BAR_WIDTH, _BAR_HEIGHT = 14, 256  # pixels
_BAR_MARGIN = 8
_BAR_TEXT = 11  # height of the letters
_BAR_GRAY = 128  # of the brain below
_BAR_TITLE = "evidence (logit)"
_TICKS = (0.0, 10.0, 20.0, FULL_COLOR)


@dataclass(frozen=True)
class SliceView:
    """A slice as it is shown, and where its class activation map lies on it.

    Attributes:
        image: uint8 `(height, width)` or `(height, width, 3)`; Hounsfield units are shown through
            the window.
        region: The head crop; None where the model saw the whole slice.
        head: bool `(height, width)`, the pixels of the head.
    """

    image: np.ndarray
    region: HeadRegion | None
    head: np.ndarray

    @classmethod
    def of_slice(cls, pixels: np.ndarray, model_input: ModelInput) -> SliceView:
        """Return the view of a slice.

        Args:
            pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])` in [0, 255].
            model_input: How the slice was converted to model input.
        """
        pixels = drop_equal_channels(pixels)
        region = model_input.find_head(pixels)
        found = find_head(pixels) if region is None else region
        rim = DISPLAY_RIM if pixels.dtype == np.uint8 else HU_RIM
        head = head_pixels(found, pixels.shape[:2], rim)
        return cls(np.rint(model_input.apply_window(pixels)).astype(np.uint8), region, head)

    def place(self, evidence: np.ndarray) -> np.ndarray:
        """Place evidence on the slice.

        Args:
            evidence: float32 `(h, w)`, from `locate_evidence`.

        Returns:
            float32 `(height, width)`; 0 outside of the head.
        """
        return map_to_slice(evidence, self.image.shape[:2], self.region) * self.head

    def draw(self, evidence: np.ndarray | None, contours: bool = False) -> Image.Image:
        """Draw evidence on the slice.

        Args:
            evidence: float32 `(h, w)`, from `locate_evidence`; None for the slice alone.
            contours: Draw contours instead of colors. Defaults to False.

        Returns:
            An RGB image of the slice's own size.
        """
        image = to_rgb(self.image)
        if evidence is None or not evidence.any():
            return Image.fromarray(image)
        draw = outline_evidence if contours else blend_evidence
        return Image.fromarray(draw(image, self.place(evidence)))


def draw_overlay(
    pixels: np.ndarray,
    cam: np.ndarray,
    model_input: ModelInput,
    decision: Decision,
    contours: bool = False,
) -> Image.Image:
    """Color a slice where the model sees the evidence by which it exceeds the threshold.

    A slice below the threshold stays as it is. The color scale is the same for every slice, see
    `evidence`.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])` in [0, 255].
        cam: float32 `(h, w)`, the class activation map; its mean is the logit of the slice alone.
        model_input: How the slice was converted to model input.
        decision: That on the slice.
        contours: Draw contours instead of colors. Defaults to False.

    Returns:
        An RGB image of the slice's own size; Hounsfield units are shown through the window.
    """
    return SliceView.of_slice(pixels, model_input).draw(locate_evidence(cam, decision), contours)


def map_to_slice(cam: np.ndarray, shape: tuple[int, int], head: HeadRegion | None) -> np.ndarray:
    """Resize a map of the model input to the part of the slice that the model saw.

    Args:
        cam: float32 `(h, w)`.
        shape: Height and width of the slice.
        head: The head crop, or None where the model saw the whole slice.

    Returns:
        float32 of that shape; 0 outside the head crop.
    """
    if head is None:
        return _resize(cam, *shape)
    return uncrop(_resize(cam, head.side, head.side), head, shape)


def _resize(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(cam).resize((width, height), Image.Resampling.BILINEAR))


def draw_color_bar(contours: bool = False) -> Image.Image:
    """Draw the color bar of the overlays: evidence in logits, from 0 at the bottom.

    Args:
        contours: Show the two contours instead of colors. Defaults to False.

    Returns:
        An RGB image.
    """
    font = ImageFont.load_default(_BAR_TEXT)
    top, bottom = 2 * _BAR_TEXT, _BAR_HEIGHT - _BAR_MARGIN
    scale = np.linspace(FULL_COLOR, 0, bottom - top, dtype=np.float32)
    column = np.full((len(scale), _BAR_WIDTH, 3), _BAR_GRAY, np.uint8)
    if contours:
        for level in CONTOURS:
            at = int(np.argmin(np.abs(scale - level)))
            color, _ = color_evidence(np.array(level, np.float32))
            column[max(at - 1, 0) : at + 1] = np.rint(color)
    else:
        column = blend_evidence(column, np.repeat(scale[:, np.newaxis], _BAR_WIDTH, axis=1))
    width = 2 * _BAR_MARGIN + math.ceil(font.getlength(_BAR_TITLE))
    bar = Image.new("RGB", (width, _BAR_HEIGHT))
    bar.paste(Image.fromarray(column), (_BAR_MARGIN, top))
    pen = ImageDraw.Draw(bar)
    pen.text((_BAR_MARGIN, 3), _BAR_TITLE, fill="white", font=font)
    for tick in (0.0, *CONTOURS) if contours else _TICKS:
        label = f"{tick:g}+" if tick == FULL_COLOR else f"{tick:g}"
        at_tick = bottom - 1 - (bottom - 1 - top) * tick / FULL_COLOR
        left = _BAR_MARGIN + _BAR_WIDTH + 4
        pen.text((left, at_tick), label, fill="white", font=font, anchor="lm")
    return bar
