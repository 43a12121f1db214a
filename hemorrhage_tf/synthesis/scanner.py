"""The scanner: couch and headrest, beam hardening, metal, motion, kernel and noise."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import AIR, step
from hemorrhage_tf.synthesis.head import PhantomHead

LOWEST_HU = AIR - 24  # as a 12-bit scanner stores it


def draw_holder(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw headrest, couch and blanket into the air around a head.

    Args:
        head: The head, drawn.
        rng: Random generator of the holder.
    """
    if rng.random() < 0.3:
        return
    canvas = head.canvas
    free = step(-head.depth - 13, 1.0)  # not in the head
    # The holder does not turn with the head.
    along = ((np.arange(canvas.size) + 0.5) * canvas.pixel).astype(np.float32)
    along -= np.float32(canvas.size * canvas.pixel / 2)
    x, y = along[np.newaxis] - rng.normal(0, 5), along[:, np.newaxis]
    alpha = np.zeros_like(head.depth)
    if rng.random() < 0.75:
        radius = head.half_width + rng.uniform(16, 34)
        middle = rng.uniform(-12, 22)
        away = np.sqrt(x * x + (y - np.float32(middle)) ** 2)
        shell = rng.uniform(0.8, 2.2) - np.abs(away - np.float32(radius))
        opening = rng.uniform(-10, 45)
        below = step(y - np.float32(middle + opening), 2.0)
        foam = step(np.float32(radius) - away, 1.5) * below * free
        canvas.paint(canvas.everywhere(foam), rng.uniform(-985, -900))
        alpha = np.maximum(alpha, step(shell, canvas.blur) * below)
    if rng.random() < 0.6:
        height = rng.uniform(105, 135)
        for offset in (0.0, rng.uniform(8, 25)):
            curved = y - np.float32(height + offset) + x * x * np.float32(rng.uniform(0, 0.0015))
            alpha = np.maximum(alpha, step(1.0 - np.abs(curved), canvas.blur))
    canvas.paint(canvas.everywhere(alpha * free), rng.uniform(-250, 350))
    if rng.random() < 0.2:  # a tube, a cable or a hair clip
        center = rng.uniform(-1, 1) * head.half_width * 1.3, rng.uniform(-1, 1) * head.half_length
        ring = canvas.ellipse(center, (4, 4), inner=False)
        ring.alpha[...] *= free[ring.window]
        canvas.paint(ring, rng.uniform(0, 800))


def scan_head(
    head: PhantomHead,
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
    streak_rng: np.random.Generator | None = None,
    noise: float = 1.0,
) -> tuple[str, ...]:
    """Turn a drawn head into the image that a scanner makes of it.

    Args:
        head: The head with everything in it. Its canvas is changed.
        rng: Random generator of the scanner's settings.
        noise_rng: Random generator of the noise, a different one for each slice of a scan.
        streak_rng: Random generator of the beam hardening at the skull base; None for `rng`. Only
            some slices of a scan have it, and the scanner's settings must not depend on that.
        noise: Factor of the standard deviation of the noise. Defaults to 1.

    Returns:
        Names of the artifacts in the slice.
    """
    artifacts = []
    _add_cupping(head, rng)
    if min(head.front, head.back) < 0.27:
        streaks = rng if streak_rng is None else streak_rng
        if streaks.random() < 0.85:
            _add_beam_hardening(head, streaks)
            artifacts.append("beam hardening")
    if rng.random() < 0.05:
        _add_metal(head, rng)
        artifacts.append("metal")
    if rng.random() < 0.12:
        _add_motion(head, rng)
        artifacts.append("motion")
    image = _apply_kernel(head, rng)
    image = image + _noise(head, rng, noise_rng) * np.float32(noise)
    image[image < LOWEST_HU] = LOWEST_HU
    head.canvas.hounsfield = image
    return tuple(artifacts)


def _add_cupping(head: PhantomHead, rng: np.random.Generator) -> None:
    """Add a brighter band along the skull and a darker middle."""
    image = head.canvas.hounsfield
    cup = np.float32(rng.uniform(0, 9)) * np.exp(-np.clip(head.inside, 0, None) / rng.uniform(3, 9))
    image += cup * step(head.inside + 1, 1.0)
    image -= np.float32(rng.uniform(0, 2)) * step(head.inside - 25, 20.0)


def _add_beam_hardening(head: PhantomHead, rng: np.random.Generator) -> None:
    """Add a dark bar between the petrous bones and streaks from bone to bone."""
    image, x, y = head.canvas.hounsfield, head.canvas.x, head.canvas.y
    within = step(head.depth + 2, 4.0)
    base = min(head.front, head.back)
    strength = rng.uniform(2, 20) * min(1.0, (0.3 - base) / 0.1)
    middle, width = rng.normal(6, 5), rng.uniform(4, 12)
    bar = np.exp(-(((y - np.float32(middle)) / np.float32(width)) ** 2))
    image -= np.float32(strength) * bar * step(44 * head.scale - np.abs(x), 12.0)
    for _ in range(int(rng.integers(1, 7))):
        slope, height = rng.normal(0, 0.25), rng.normal(8, 22)
        away = np.abs(y - np.float32(height) - np.float32(slope) * x)
        change = rng.uniform(-14, 14) * min(1.0, (0.32 - base) / 0.1)
        image += np.float32(change) * np.clip(1 - away / rng.uniform(1, 4), 0, 1) * within


def _add_metal(head: PhantomHead, rng: np.random.Generator) -> None:
    canvas = head.canvas
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.05)
    center_x = away * head.half_width * np.cos(angle)
    center_y = away * head.half_length * np.sin(angle)
    dx, dy = canvas.x - np.float32(center_x), canvas.y - np.float32(center_y)
    turn = np.arctan2(dy, dx)
    distance = np.sqrt(dx * dx + dy * dy)
    rays = np.zeros_like(turn)
    for _ in range(4):
        rays += np.cos(rng.integers(2, 14) * turn + rng.uniform(0, 6))
    rays = rays * np.float32(rng.uniform(5, 22)) * np.exp(-distance / rng.uniform(15, 60))
    canvas.hounsfield += rays
    metal = canvas.ellipse((float(center_x), float(center_y)), (2.5, 2), inner=False)
    canvas.paint(metal, 3000)


def _add_motion(head: PhantomHead, rng: np.random.Generator) -> None:
    canvas = head.canvas
    image = canvas.hounsfield
    offset = max(1, round(rng.uniform(1, 5) / canvas.pixel))
    axis, share = int(rng.integers(2)), np.float32(rng.uniform(0.15, 0.5))
    image += share * (np.roll(image, offset, axis) - image)
    if rng.random() < 0.5:
        waves = np.sin((canvas.x * np.float32(rng.normal(0, 1)) + canvas.y) / rng.uniform(1.5, 5))
        image += np.float32(rng.uniform(0.5, 3.5)) * waves * step(head.depth + 2, 4.0)


def _apply_kernel(head: PhantomHead, rng: np.random.Generator) -> np.ndarray:
    """Return the image after a kernel, from a smooth one to one that overshoots at edges."""
    image, pixel = head.canvas.hounsfield, head.canvas.pixel
    # Pixels smaller than the scanner's resolution need several passes.
    for _ in range(max(1, round(0.55 / pixel))):
        image = _blur(image, rng.uniform(0.03, 0.22))
    if rng.random() < 0.25:
        blurred = _blur(_blur(image, 0.25), 0.25)
        overshoot = np.clip(image - blurred, -120, 120)
        image = image + np.float32(rng.uniform(0.2, 0.9)) * overshoot
    return image


def _noise(
    head: PhantomHead, rng: np.random.Generator, noise_rng: np.random.Generator
) -> np.ndarray:
    """Return correlated noise, stronger at the base and inside the skull, in HU."""
    noise = noise_rng.standard_normal(head.depth.shape, np.float32)
    grain = rng.uniform(0.05, 0.25)
    for _ in range(max(1, round(0.6 / head.canvas.pixel))):
        noise = _blur(noise, grain)
    noise *= np.float32(np.exp(rng.uniform(np.log(1.1), np.log(4.5))) / float(noise.std()))
    if min(head.front, head.back) < 0.3:
        noise *= np.float32(1 + rng.uniform(0, 0.8))
    noise *= 0.75 + 0.25 * step(head.depth - 20, 40.0)
    return noise


def _blur(image: np.ndarray, weight: float) -> np.ndarray:
    """Return an image in which each pixel takes a share of its neighbors along both axes."""
    side, middle = np.float32(weight), np.float32(1 - 2 * weight)
    blurred = image * middle
    blurred[1:] += side * image[:-1]
    blurred[:-1] += side * image[1:]
    blurred[0] += side * image[0]
    blurred[-1] += side * image[-1]
    both = blurred * middle
    both[:, 1:] += side * blurred[:, :-1]
    both[:, :-1] += side * blurred[:, 1:]
    both[:, 0] += side * blurred[:, 0]
    both[:, -1] += side * blurred[:, -1]
    return both
