"""Pictures: what becomes of a slice on its way to a PNG or JPEG file.

Windowed at a console, cropped, scaled, compressed, photographed off a screen with letters on it:
all by the same chances whatever the label.
"""

from __future__ import annotations

import io
import string
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.synthesis.draw import Phantom

# Shorter and longer sides of a picture, in pixels.
SMALLEST, LARGEST = 128, 900


@dataclass(frozen=True, slots=True)
class DisplayImage:
    """A slice as a picture.

    Attributes:
        pixels: uint8 `(height, width)`, or `(height, width, 3)` where it is tinted.
        blood: uint8 `(height, width)`: bit k is set where there is blood of `SUBTYPES[k]`.
        bright: bool `(height, width)`: where something is bright and is no blood.
    """

    pixels: np.ndarray
    blood: np.ndarray
    bright: np.ndarray


def _window(rng: np.random.Generator) -> Window:
    kind = rng.random()
    if kind < 0.4:
        return Window(40.0, 80.0)
    if kind < 0.92:
        # Not so narrow that most blood is as white as bone.
        return Window(float(rng.uniform(36, 48)), float(rng.uniform(74, 110)))
    return Window(float(rng.uniform(35, 60)), float(rng.uniform(110, 170)))


def _crop(phantom: Phantom, rng: np.random.Generator) -> tuple[slice, slice]:
    """Chooses the part that is shown: all, the head with a margin, or less than the head."""
    size = len(phantom.hounsfield)
    kind = rng.random()
    if kind < 0.25:
        return slice(0, size), slice(0, size)
    head = phantom.hounsfield > -300
    rows, columns = np.flatnonzero(head.sum(axis=1) > 4), np.flatnonzero(head.sum(axis=0) > 4)
    if not len(rows) or not len(columns):
        return slice(0, size), slice(0, size)
    margin = rng.uniform(-0.035, 0.06, 4) if kind < 0.85 else rng.uniform(0.05, 0.3, 4)
    high, wide = rows[-1] - rows[0], columns[-1] - columns[0]
    top, bottom = rows[0] - margin[0] * high, rows[-1] + margin[1] * high
    left, right = columns[0] - margin[2] * wide, columns[-1] + margin[3] * wide
    return (
        slice(max(int(top), 0), min(int(bottom) + 1, size)),
        slice(max(int(left), 0), min(int(right) + 1, size)),
    )


def _letters(image: Image.Image, rng: np.random.Generator) -> None:
    """Writes letters into the corners, and at times an arrow, a cross or a ruler."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    font = ImageFont.load_default(size=max(8, int(height * rng.uniform(0.025, 0.05))))
    gray = int(rng.uniform(150, 256))
    for _ in range(int(rng.integers(1, 5))):
        length = int(rng.integers(1, 12))
        text = "".join(rng.choice(list(string.ascii_uppercase + string.digits + " .:"), length))
        corner = rng.choice((0.01, 0.78)), rng.choice((0.01, 0.05, 0.9))
        draw.text((corner[0] * width, corner[1] * height), text, fill=gray, font=font)
    if rng.random() < 0.3:
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
        length, angle = rng.uniform(0.06, 0.15) * height, rng.uniform(0, 2 * np.pi)
        tip = np.array([x, y])
        back = tip + length * np.array([np.cos(angle), np.sin(angle)])
        draw.line([tuple(tip), tuple(back)], fill=gray, width=max(1, height // 150))
        for turn in (-0.4, 0.4):
            barb = tip + 0.35 * length * np.array([np.cos(angle + turn), np.sin(angle + turn)])
            draw.line([tuple(tip), tuple(barb)], fill=gray, width=max(1, height // 150))
    if rng.random() < 0.15:
        x = rng.choice((0.02, 0.97)) * width
        draw.line([(x, 0.3 * height), (x, 0.7 * height)], fill=gray)
        for mark in np.linspace(0.3, 0.7, 9):
            draw.line([(x, mark * height), (x + 0.015 * width, mark * height)], fill=gray)


def draw_display_image(
    phantom: Phantom, rng: np.random.Generator, height: float | None = None
) -> DisplayImage:
    """Makes a picture of a phantom.

    Args:
        phantom: the slice.
        rng: where everything about the picture comes from.
        height: of the picture before it is stretched, in pixels; None for one from `SMALLEST` to
            `LARGEST`. Default None.

    Returns:
        The picture, and the masks brought to its pixels.
    """
    window, part = _window(rng), _crop(phantom, rng)
    if phantom.label and not phantom.blood[part].any():
        part = (slice(None), slice(None))  # what the label speaks of is in the picture
    gray = window.apply(phantom.hounsfield[part])
    if height is None:
        height = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    width = height * gray.shape[1] / gray.shape[0] * np.exp(rng.normal(0, 0.04))
    shape = round(width), round(height)
    filter_ = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    image = Image.fromarray(np.rint(gray).astype(np.uint8)).resize(shape, int(filter_))
    blood = Image.fromarray(phantom.blood[part]).resize(shape, Image.Resampling.NEAREST)
    bright = Image.fromarray(phantom.bright[part]).resize(shape, Image.Resampling.NEAREST)

    levels = np.asarray(image).astype(np.float32)
    if rng.random() < 0.3:  # a screen's gamma and brightness
        levels = 255 * (levels / 255) ** np.float32(np.exp(rng.normal(0, 0.15)))
    if rng.random() < 0.2:  # black that is not quite black, white that is not quite white
        levels = rng.uniform(0, 25) + levels * np.float32(rng.uniform(0.8, 0.98))
    image = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    if rng.random() < 0.3:
        _letters(image, rng)
    if rng.random() < 0.08:
        tint = 1 + rng.uniform(-0.12, 0.06, 3)
        colors = np.asarray(image)[..., np.newaxis] * tint
        image = Image.fromarray(np.rint(colors.clip(0, 255)).astype(np.uint8))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
        image = Image.open(buffer)
    return DisplayImage(np.asarray(image), np.asarray(blood), np.asarray(bright))
