"""The scanner: couch and headrest, kernel, noise, beam hardening, motion and metal."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.anatomy import PhantomHead
from hemorrhage_tf.synthesis.canvas import AIR, step


def draw_holder(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draws headrest, couch and blanket into the air around a head."""
    canvas = head.canvas
    if rng.random() < 0.3:
        return
    free = step(-head.depth - 13, 1.0)  # not in the head
    # It does not turn with the head.
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
        place = rng.uniform(-1, 1) * head.half_width * 1.3, rng.uniform(-1, 1) * head.half_length
        ring = canvas.ellipse(*place, 4, 4, inner=False)
        ring.alpha[...] *= free[ring.window]
        canvas.paint(ring, rng.uniform(0, 800))


def _mean_of_neighbors(image: np.ndarray, weight: float) -> np.ndarray:
    """Blurs a little: each pixel takes a share of its four neighbors, along both axes."""
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


def scan_head(
    head: PhantomHead,
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
    streak_rng: np.random.Generator | None = None,
) -> tuple[str, ...]:
    """Turns what was drawn into what a scanner shows of it.

    Args:
        head: drawn, with all that is in it. Its canvas is changed.
        rng: where the scanner's settings come from.
        noise_rng: where its noise comes from, which is another one in each slice of a scan.
        streak_rng: where the beam hardening of the skull base comes from; None for `rng`. Only some
            slices of a scan have it, and the scanner's settings must not differ for that.

    Returns:
        Names of the artifacts that disturb the slice.
    """
    canvas = head.canvas
    artifacts = []
    x, y, image = canvas.x, canvas.y, canvas.hounsfield
    within = step(head.depth + 2, 4.0)

    # Beam hardening: a brighter band along the skull and a darker middle.
    cup = np.float32(rng.uniform(0, 9)) * np.exp(-np.clip(head.inside, 0, None) / rng.uniform(3, 9))
    image += cup * step(head.inside + 1, 1.0)
    image -= np.float32(rng.uniform(0, 2)) * step(head.inside - 25, 20.0)
    base = min(head.front, head.back)
    streaks = rng if streak_rng is None else streak_rng
    if base < 0.27 and streaks.random() < 0.85:
        # Between the petrous bones lies a dark bar, and streaks run from bone to bone.
        strength = streaks.uniform(2, 20) * min(1.0, (0.3 - base) / 0.1)
        middle, wide = streaks.normal(6, 5), streaks.uniform(4, 12)
        bar = np.exp(-(((y - np.float32(middle)) / np.float32(wide)) ** 2))
        image -= np.float32(strength) * bar * step(44 * head.scale - np.abs(x), 12.0)
        for _ in range(int(streaks.integers(1, 7))):
            slope, height = streaks.normal(0, 0.25), streaks.normal(8, 22)
            streak = np.abs(y - np.float32(height) - np.float32(slope) * x)
            sign = streaks.uniform(-14, 14) * min(1.0, (0.32 - base) / 0.1)
            image += np.float32(sign) * np.clip(1 - streak / streaks.uniform(1, 4), 0, 1) * within
        artifacts.append("beam hardening")

    if rng.random() < 0.05:
        artifacts.append("metal")
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.05)
        cx, cy = (
            away * head.half_width * np.cos(angle),
            away * head.half_length * np.sin(angle),
        )
        dx, dy = x - np.float32(cx), y - np.float32(cy)
        turn = np.arctan2(dy, dx)
        distance = np.sqrt(dx * dx + dy * dy)
        rays = np.zeros_like(turn)
        for _ in range(4):
            rays += np.cos(rng.integers(2, 14) * turn + rng.uniform(0, 6))
        image += rays * np.float32(rng.uniform(5, 22)) * np.exp(-distance / rng.uniform(15, 60))
        canvas.paint(canvas.ellipse(float(cx), float(cy), 2.5, 2, inner=False), 3000)
        image = canvas.hounsfield

    if rng.random() < 0.12:
        artifacts.append("motion")
        offset = max(1, round(rng.uniform(1, 5) / canvas.pixel))
        axis, share = int(rng.integers(2)), np.float32(rng.uniform(0.15, 0.5))
        image += share * (np.roll(image, offset, axis) - image)
        if rng.random() < 0.5:
            waves = np.sin((x * np.float32(rng.normal(0, 1)) + y) / rng.uniform(1.5, 5))
            image += np.float32(rng.uniform(0.5, 3.5)) * waves * within

    # Kernel: from smooth to one that overshoots at edges. A pixel that is smaller than what the
    # scanner resolves is blurred as often as it takes.
    for _ in range(max(1, round(0.55 / canvas.pixel))):
        image = _mean_of_neighbors(image, rng.uniform(0.03, 0.22))
    if rng.random() < 0.25:
        blurred = _mean_of_neighbors(_mean_of_neighbors(image, 0.25), 0.25)
        overshoot = np.clip(image - blurred, -120, 120)
        image = image + np.float32(rng.uniform(0.2, 0.9)) * overshoot

    noise = noise_rng.standard_normal(image.shape, np.float32)
    grain = rng.uniform(0.05, 0.25)
    for _ in range(max(1, round(0.6 / canvas.pixel))):
        noise = _mean_of_neighbors(noise, grain)
    noise *= np.float32(np.exp(rng.uniform(np.log(1.1), np.log(4.5))) / float(noise.std()))
    if base < 0.3:
        noise *= np.float32(1 + rng.uniform(0, 0.8))
    noise *= 0.75 + 0.25 * step(head.depth - 20, 40.0)
    image = image + noise
    image[image < AIR - 24] = AIR - 24
    canvas.hounsfield = image
    return tuple(artifacts)
