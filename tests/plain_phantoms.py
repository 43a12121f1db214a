"""Plain phantoms: cheap gray test pictures of a head, with and without a bright hemorrhage.

They stay the same whatever the package's own phantoms become, so that what a test expects of them
stays true.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GENERATOR_VERSION = 1
SIZE = 128

_BRAIN, _VENTRICLE, _BLOOD, _BONE = 90.0, 35.0, 180.0, 250.0


def draw_phantom(seed: int, index: int, label: int) -> np.ndarray:
    """Draws one slice.

    Args:
        seed: of the set.
        index: of the slice in the set.
        label: 1 to draw a hemorrhage, 0 for none.

    Returns:
        uint8 `(128, 128)` in [0, 255].
    """
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index])
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE / 2) - 1
    angle, y0, x0 = rng.uniform(-0.4, 0.4), *rng.uniform(-0.15, 0.15, 2)
    u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    v = (y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)
    width, height = rng.uniform(0.52, 0.72), rng.uniform(0.66, 0.86)
    thickness = rng.uniform(0.05, 0.16)
    # A few harmonics make every outline another one.
    theta = np.arctan2(v / height, u / width)
    outline = 1 + sum(
        rng.normal(0, 0.025) * np.cos(k * theta + rng.uniform(0, 6)) for k in (2, 3, 5)
    )
    radius = np.hypot(u / width, v / height) / outline
    brain = radius < 1 - thickness
    image = np.zeros((SIZE, SIZE))
    image[radius < 1] = _BONE
    image[brain] = _BRAIN + rng.normal(0, 4)

    def ellipse(cu: float, cv: float, a: float, b: float, turn: float) -> np.ndarray:
        p = (u - cu) * np.cos(turn) + (v - cv) * np.sin(turn)
        q = (v - cv) * np.cos(turn) - (u - cu) * np.sin(turn)
        return (np.hypot(p / a, q / b) < 1) & brain

    spread, length = rng.uniform(0.05, 0.12), rng.uniform(0.12, 0.26)
    slimness = rng.uniform(0.03, 0.06)
    for side in (-1, 1):
        tilt = side * rng.uniform(0.1, 0.4)
        image[ellipse(side * spread, -0.05, slimness, length, tilt)] = _VENTRICLE
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(0.015, 0.03)
        image[ellipse(*rng.uniform(-0.4, 0.4, 2), size, size, 0)] = _BLOOD + rng.uniform(20, 60)
    # Drawn whatever the label, so that what follows is the same slice with or without the blood.
    blood = (*rng.uniform(-0.35, 0.35, 2), *rng.uniform(0.1, 0.24, 2), rng.uniform(0, 3))
    level = _BLOOD + rng.uniform(-20, 15)
    if label:
        image[ellipse(*blood)] = level
    blurred = np.asarray(
        Image.fromarray(image.astype(np.float32))
        .resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX)
        .resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    )
    noisy = blurred + rng.normal(0, rng.uniform(4, 12), image.shape) * (radius < 1.05)
    return noisy.clip(0, 255).round().astype(np.uint8)
