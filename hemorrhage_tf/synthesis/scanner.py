"""The scanner: what it makes of a head, from artifacts to the stored Hounsfield units."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.artifacts import (
    add_beam_hardening,
    add_metal,
    add_motion,
    add_rings,
    add_shading,
)
from hemorrhage_tf.synthesis.canvas import AIR
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.reconstruction import Kernel, apply_kernel, draw_noise

LOWEST_HU, HIGHEST_HU = AIR - 24, 3071.0  # as a 12-bit scanner stores it
_PARTS = 7  # parts of the scanner with a generator of their own


def noise_of(rng: np.random.Generator, thickness: float) -> float:
    """Return the standard deviation of the noise that `scan_head` adds in an average head, in HU.

    Args:
        rng: Random generator of the scanner's settings, in the same state.
        thickness: Slice thickness, in mm.
    """
    seed = rng.integers(2**31, size=_PARTS)[0]
    return Kernel.draw(np.random.default_rng(seed), thickness).noise


def scan_head(
    head: PhantomHead,
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
    streak_rng: np.random.Generator | None = None,
    thickness: float = 5.0,
) -> tuple[str, ...]:
    """Turn a drawn head into the image that a scanner makes of it.

    Args:
        head: The head with everything in it. Its canvas is changed.
        rng: Random generator of the scanner's settings.
        noise_rng: Random generator of the noise and the movement, a different one for each slice
            of a scan.
        streak_rng: Random generator of the streaks at the skull base; None for `rng`. Only some
            slices of a scan have them, and the scanner's settings must not depend on that.
        thickness: Slice thickness, in mm. Thin slices have more noise. Defaults to 5.

    Returns:
        Names of the artifacts in the slice.
    """
    # Each has its own generator, so that one that a slice does not have changes no other.
    seeds = rng.integers(2**31, size=_PARTS)
    own = [np.random.default_rng(seed) for seed in seeds]
    kernel = Kernel.draw(own[0], thickness)
    movement = np.random.default_rng(noise_rng.integers(2**31))  # the same at any size
    noise = draw_noise(head, kernel, noise_rng)
    artifacts = [
        *add_beam_hardening(head, own[1], own[2] if streak_rng is None else streak_rng),
        *add_metal(head, own[3]),
        *add_motion(head, own[4], movement),
        *add_shading(head, own[5]),
        *add_rings(head, own[6]),
    ]
    image = apply_kernel(head.canvas, kernel) + noise
    head.canvas.hounsfield = image.clip(LOWEST_HU, HIGHEST_HU)
    return tuple(artifacts)
