"""What lies around a head in a scanner: headrest, couch, blanket, tubes and hands."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, step
from hemorrhage_tf.synthesis.head import MUSCLE, SIDES, PhantomHead

_AIR = -800.0  # HU below which nothing is drawn yet


def draw_holder(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw headrest, couch, blanket and hands into the air around a head.

    Args:
        head: The head, drawn.
        rng: Random generator of the holder.
    """
    canvas = head.canvas
    free = step(-head.depth - 2, 1.0) * (canvas.hounsfield < _AIR)  # not in the head
    if rng.random() < 0.75:
        _draw_headrest(head, free, rng)
    if rng.random() < 0.2:  # a tube, a cable or a hair clip
        center = rng.uniform(-1, 1) * head.half_width * 1.3, rng.uniform(-1, 1) * head.half_length
        ring = canvas.ellipse(center, rng.uniform(1, 4, 2), inner=False)
        ring.alpha[...] *= free[ring.window]
        canvas.paint(ring, rng.uniform(0, 800))
    if rng.random() < 0.02:
        _draw_hands(head, free, rng)


def _draw_headrest(head: PhantomHead, free: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a shell around the head with foam in it, and the couch below."""
    canvas = head.canvas
    # The holder does not turn with the head.
    along = ((np.arange(canvas.size) + 0.5) * canvas.pixel).astype(np.float32)
    along -= np.float32(canvas.size * canvas.pixel / 2)
    x, y = along[np.newaxis] - rng.normal(0, 5), along[:, np.newaxis]
    alpha = np.zeros_like(head.depth)
    if rng.random() < 0.8:
        # Wide shells show only at the lower edge of a slice.
        radius = np.float32(80 + rng.uniform(16, 60))
        middle = rng.uniform(-12, 22)
        away = np.sqrt(x * x + (y - np.float32(middle)) ** 2)
        shell = rng.uniform(0.6, 2.0) - np.abs(away - radius)
        below = step(y - np.float32(middle + rng.uniform(-30, 60)), 2.0)
        foam = step(radius - away, 1.5) * below * free
        canvas.paint(canvas.everywhere(foam), rng.uniform(-995, -900))
        alpha = np.maximum(alpha, step(shell, canvas.blur) * below)
    if rng.random() < 0.4:
        height = rng.uniform(105, 135)
        for offset in (0.0, rng.uniform(8, 25)):
            curved = y - np.float32(height + offset) + x * x * np.float32(rng.uniform(0, 0.0015))
            alpha = np.maximum(alpha, step(1.0 - np.abs(curved), canvas.blur))
    canvas.paint(canvas.everywhere(alpha * free), rng.uniform(-250, 900))


def _draw_hands(head: PhantomHead, free: np.ndarray, rng: np.random.Generator) -> None:
    """Draw fingers that hold the head, on one side or both."""
    canvas = head.canvas
    for side in SIDES if rng.random() < 0.6 else (int(rng.choice(SIDES)),):
        x, y = side * (head.half_width + rng.uniform(18, 28)), rng.uniform(-50, 20)
        for _ in range(int(rng.integers(2, 6))):
            radius, ratio = rng.uniform(6, 9), rng.uniform(0.9, 1.5)
            for size, value in ((1.0, MUSCLE), (rng.uniform(0.45, 0.65), rng.uniform(500, 1300))):
                radii = radius * size, radius * ratio * size
                finger = canvas.ellipse((x, y), radii, 0.0, Roughness(0.1, rng), inner=False)
                finger.alpha[...] *= free[finger.window]
                canvas.paint(finger, value)
            x, y = x + rng.normal(0, 4), y + 2.1 * radius * ratio
