"""Display images: a phantom as the 8-bit image that a PNG or JPEG file holds.

It is windowed, cropped or surrounded, scaled, shown on a screen, annotated with letters, tinted and
compressed once or twice, with the same probabilities for both labels.
"""

from __future__ import annotations

import io
import string
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.synthesis.draw import Phantom

SMALLEST_HEIGHT, LARGEST_HEIGHT = 128, 900  # pixels


@dataclass(frozen=True, slots=True)
class DisplayImage:
    """A slice as a display image, with its masks.

    Attributes:
        pixels: uint8 `(height, width)`, or `(height, width, 3)` if it is tinted.
        blood: uint8 `(height, width)`: bit k is set where there is blood of `SUBTYPES[k]`.
        bright: bool `(height, width)`: where a mimic is bright enough to resemble blood.
    """

    pixels: np.ndarray
    blood: np.ndarray
    bright: np.ndarray


def draw_display_image(
    phantom: Phantom, rng: np.random.Generator, height: float | None = None
) -> DisplayImage:
    """Render a phantom as a display image.

    Args:
        phantom: The slice.
        rng: Random generator of window, crop, scale, annotations, tint and compression.
        height: Height in pixels; None for a random one from `SMALLEST_HEIGHT` to
            `LARGEST_HEIGHT`. Defaults to None.

    Returns:
        The image, and the masks scaled to its pixels.
    """
    window, part = _choose_window(rng), _choose_crop(phantom, rng)
    if phantom.label and not phantom.blood[part].any():
        part = (slice(None), slice(None))  # the hemorrhage must be in the image
    surround = _choose_surround(rng)
    gray, blood, bright = (
        surround.add(layer, value)
        for layer, value in (
            (window.apply(phantom.hounsfield[part]), surround.gray),
            (phantom.blood[part], 0),
            (phantom.bright[part], 0),
        )
    )
    if height is None:
        height = np.exp(rng.uniform(np.log(SMALLEST_HEIGHT), np.log(LARGEST_HEIGHT)))
    width = height * gray.shape[1] / gray.shape[0] * np.exp(rng.normal(0, 0.04))
    shape = round(width), round(height)
    resampling = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    image = _to_image(gray).resize(shape, Image.Resampling(int(resampling)))
    masks = (
        np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST))
        for mask in (blood, bright)
    )
    return DisplayImage(_degrade(image, rng), *masks)


def _to_image(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _degrade(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels after the effects of screens, annotations and compression: uint8."""
    image = _show_on_screen(image, rng)
    if rng.random() < 0.3:
        _annotate(image, rng)
    if rng.random() < 0.06:
        _draw_frame(image, rng)
    if rng.random() < 0.08:
        tint = 1 + rng.uniform(-0.12, 0.06, 3)
        colors = np.asarray(image)[..., np.newaxis] * tint
        image = _to_image(colors.clip(0, 255))
    kind, shape = rng.random(), image.size
    if kind < 0.7:
        image = _compress(image, rng)
    if kind < 0.2:  # a slide or a page, from which the image was copied at another size
        scale = np.exp(rng.uniform(np.log(0.55), np.log(1.6)))
        other = max(64, round(shape[0] * scale)), max(64, round(shape[1] * scale))
        image = image.resize(other, Image.Resampling.BILINEAR)
        image = _compress(image, rng).resize(shape, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _compress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
    return Image.open(buffer)


def _show_on_screen(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image with a screen's gamma and brightness, and sometimes a photograph of it."""
    levels: np.ndarray = np.asarray(image).astype(np.float32)
    if rng.random() < 0.35:
        levels = 255 * (levels / 255) ** np.float32(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.2:  # black that is not quite black, white that is not quite white
        levels = rng.uniform(0, 25) + levels * np.float32(rng.uniform(0.8, 0.98))
    if rng.random() < 0.05:  # a photograph: darker to one side, and not quite sharp
        across, down = (
            rng.normal(0, 0.08) * np.linspace(-1, 1, count, dtype=np.float32)
            for count in (levels.shape[1], levels.shape[0])
        )
        shade: np.ndarray = 1 + across + down[:, np.newaxis]
        levels = levels * shade.astype(np.float32)
        radius = rng.uniform(0.2, 1) * image.height / 400
        return _to_image(levels.clip(0, 255)).filter(ImageFilter.GaussianBlur(radius))
    return _to_image(levels.clip(0, 255))


def _draw_frame(image: Image.Image, rng: np.random.Generator) -> None:
    """Draw a frame, as around an image in a viewer."""
    inset, gray = int(rng.uniform(0, 0.02) * image.height), int(rng.uniform(60, 256))
    edges = (inset, inset, image.width - 1 - inset, image.height - 1 - inset)
    ImageDraw.Draw(image).rectangle(edges, outline=gray, width=1 + image.height // 300)


def _choose_window(rng: np.random.Generator) -> Window:
    kind = rng.random()
    if kind < 0.3:
        return Window(40.0, 80.0)
    if kind < 0.52:
        return Window(40.0, 120.0)
    if kind < 0.88:
        # In a narrower window most blood is as white as bone.
        return Window(float(rng.uniform(32, 48)), float(rng.uniform(70, 120)))
    return Window(float(rng.uniform(30, 60)), float(rng.uniform(100, 200)))


@dataclass(frozen=True, slots=True)
class _Surround:
    """What a viewer shows around a slice.

    Attributes:
        shares: Height above and below, width at the left and the right, as shares of the side.
        gray: Its gray level.
    """

    shares: tuple[float, float, float, float]
    gray: float

    def add(self, layer: np.ndarray, value: float) -> np.ndarray:
        """Return an image or a mask with the surround filled with a value."""
        top, bottom, left, right = (int(share * max(layer.shape)) for share in self.shares)
        return np.pad(layer, ((top, bottom), (left, right)), constant_values=value)


def _choose_surround(rng: np.random.Generator) -> _Surround:
    """Choose none for most slices, else bars at two sides or at all."""
    kind, gray = rng.random(), float(rng.uniform(0, 30)) * float(rng.random() < 0.3)
    first, second, third, fourth = rng.uniform(0, 0.25, 4).tolist()
    if kind < 0.08:
        return _Surround((0.0, 0.0, first, first), gray)
    if kind < 0.11:
        return _Surround((first, first, 0.0, 0.0), gray)
    if kind < 0.16:
        return _Surround((first, second, third, fourth), gray)
    return _Surround((0.0, 0.0, 0.0, 0.0), gray)


def _choose_crop(phantom: Phantom, rng: np.random.Generator) -> tuple[slice, slice]:
    """Choose all of the slice, the head with a margin, or less than the head."""
    size = len(phantom.hounsfield)
    kind = rng.random()
    if kind < 0.25:
        return slice(0, size), slice(0, size)
    head = phantom.hounsfield > -300
    rows, columns = np.flatnonzero(head.sum(axis=1) > 4), np.flatnonzero(head.sum(axis=0) > 4)
    if not len(rows) or not len(columns):
        return slice(0, size), slice(0, size)
    margin = rng.uniform(-0.035, 0.06, 4) if kind < 0.85 else rng.uniform(0.05, 0.3, 4)
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    top, bottom = rows[0] - margin[0] * height, rows[-1] + margin[1] * height
    left, right = columns[0] - margin[2] * width, columns[-1] + margin[3] * width
    return (
        slice(max(int(top), 0), min(int(bottom) + 1, size)),
        slice(max(int(left), 0), min(int(right) + 1, size)),
    )


def _annotate(image: Image.Image, rng: np.random.Generator) -> None:
    """Write letters into the corners, and sometimes draw an arrow or a ruler."""
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
        arrow, angle = rng.uniform(0.06, 0.15) * height, rng.uniform(0, 2 * np.pi)
        tip = np.array([x, y])
        back = tip + arrow * np.array([np.cos(angle), np.sin(angle)])
        draw.line([tuple(tip), tuple(back)], fill=gray, width=max(1, height // 150))
        for turn in (-0.4, 0.4):
            barb = tip + 0.35 * arrow * np.array([np.cos(angle + turn), np.sin(angle + turn)])
            draw.line([tuple(tip), tuple(barb)], fill=gray, width=max(1, height // 150))
    if rng.random() < 0.15:
        x = rng.choice((0.02, 0.97)) * width
        draw.line([(x, 0.3 * height), (x, 0.7 * height)], fill=gray)
        for mark in np.linspace(0.3, 0.7, 9):
            draw.line([(x, mark * height), (x + 0.015 * width, mark * height)], fill=gray)
