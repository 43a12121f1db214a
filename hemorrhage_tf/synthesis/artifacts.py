"""Artifacts of a scan: beam hardening, shading, metal, motion and rings.

Wrong projections are drawn as such, on a coarse grid, and their reconstruction is added to the
slice.
"""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import step
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.projections import Projector, projector, resample

# Metal that the anatomy or a finding contains is at least this dense.
METAL = 2800.0  # HU

# Rows and angles of the grids: beam hardening is smooth, edges that moved are not.
_COARSE, _FINE = (64, 28), (96, 80)
_BONE = 120.0  # HU above which tissue hardens the beam as bone does
_SOFT = 90.0  # HU up to which it is brain or blood
_DENSEST_BONE = 2.2  # the same, in units of 1000 HU
# Error of a projection per squared length of bone of 1000 HU, in 1 / mm.
_HARDENING = 0.0002, 0.0012
_STREAK_HARDENING = 0.0001, 0.0009
# Lengths of metal that stop nearly all photons, and beyond which nothing changes, in mm.
_OPAQUE, _LONGEST = 6.0, 24.0
# An object of metal lies in the slices this far up and down from its own, in units of the level.
_METAL_REACH = 0.03, 0.2


def add_shading(head: PhantomHead, rng: np.random.Generator) -> tuple[str, ...]:
    """Add a brighter band along the skull, a darker middle, and sometimes a darker hemisphere.

    Args:
        head: The head, drawn; its canvas is changed.
        rng: Random generator of the strength.

    Returns:
        Names of the artifacts.
    """
    image = head.canvas.hounsfield
    cup = np.float32(rng.uniform(0, 9)) * np.exp(-np.clip(head.inside, 0, None) / rng.uniform(3, 9))
    image += cup * step(head.inside + 1, 1.0)
    image -= np.float32(rng.uniform(0, 2)) * step(head.inside - 25, 20.0)
    strength, width = rng.normal(0, 4), rng.uniform(20, 160)
    if rng.random() > 0.15:
        return ()
    # A head that lies beside the center of the scanner gets the wrong filter on one side.
    image += np.float32(strength) * _hemisphere(head, rng, width) * step(head.depth + 4, 6.0)
    return ("shading",)


def _hemisphere(head: PhantomHead, rng: np.random.Generator, width: float) -> np.ndarray:
    """Return 1 on one side of a random line and 0 on the other, with a ramp of a width in mm."""
    direction = rng.uniform(0, 2 * np.pi)
    across = head.canvas.x * np.float32(np.cos(direction))
    across += head.canvas.y * np.float32(np.sin(direction))
    return step(across - np.float32(rng.normal(0, 15)), width)


def add_beam_hardening(
    head: PhantomHead, rng: np.random.Generator, streak_rng: np.random.Generator
) -> tuple[str, ...]:
    """Darken what lies between bones, and at the base and below add streaks from bone to bone.

    Args:
        head: The head with everything in it; its canvas is changed.
        rng: Random generator of the hardening.
        streak_rng: Random generator of the streaks.

    Returns:
        Names of the artifacts.
    """
    grid, canvas = projector(*_COARSE), head.canvas
    image = resample(canvas.hounsfield, grid.side)
    bone = (image - np.float32(_BONE)) * np.float32(0.001)
    lengths = grid.project(bone.clip(0, _DENSEST_BONE))
    pixel = canvas.size * canvas.pixel / grid.side
    error = lengths * lengths * np.float32(-rng.uniform(*_HARDENING) * pixel)
    streaks = min(head.front, head.back) < 0.27 and streak_rng.random() < 0.85
    if streaks:
        uneven = np.exp(streak_rng.normal(0, streak_rng.uniform(0.1, 0.6), len(grid.angles)))
        strength = streak_rng.uniform(*_STREAK_HARDENING) * uneven[:, np.newaxis] * pixel
        error -= lengths * lengths * strength.astype(np.float32)
    change = np.float32(1000) * grid.reconstruct(error)
    # A scanner is calibrated so that brain within the skull has its Hounsfield units.
    nearest = ((np.arange(grid.side) + 0.5) * canvas.size / grid.side).astype(int)
    within = step(head.inside[np.ix_(nearest, nearest)], 6.0)
    brain = (within > 0.9) & (image > 0) & (image < _SOFT)
    if brain.any():
        change -= np.float32(rng.uniform(0.8, 1.0)) * change[brain].mean() * within
    canvas.hounsfield += resample(change, canvas.size)
    return ("beam hardening",) if streaks else ()


def add_metal(head: PhantomHead, rng: np.random.Generator) -> tuple[str, ...]:
    """Add an object of metal to some slices, and streaks around all metal.

    Args:
        head: The head with everything in it; its canvas is changed.
        rng: Random generator of the object, the same for all slices of a scan.

    Returns:
        Names of the artifacts.
    """
    angle, away, density = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.15), rng.uniform(0, 1)
    level, reach = rng.uniform(-0.1, 1.0), rng.uniform(*_METAL_REACH)
    radii = rng.uniform(0.7, 3.0, 2)
    streaks = np.random.default_rng(rng.integers(2**31))
    canvas = head.canvas
    if rng.random() < 0.2 and abs(head.level - level) < reach:
        x, y = away * head.half_width * np.cos(angle), away * head.half_length * np.sin(angle)
        shape = canvas.ellipse((float(x), float(y)), radii, float(angle), inner=False)
        canvas.paint(shape, 2900 + 1100 * density)
    if canvas.hounsfield.max() < METAL:
        return ()
    _add_metal_streaks(head, streaks)
    return ("metal",)


def _add_metal_streaks(head: PhantomHead, rng: np.random.Generator) -> None:
    """Add dark bands between pieces of metal and rays from each."""
    grid, canvas = projector(*_FINE), head.canvas
    image = resample(np.clip(canvas.hounsfield, -1000, None), grid.side)
    pixel = canvas.size * canvas.pixel / grid.side
    metal = resample((canvas.hounsfield > METAL).astype(np.float32), grid.side)
    lengths, dense = (
        grid.project(part).clip(0, _LONGEST / pixel)
        for part in (metal, (image * np.float32(0.001)).clip(0, 3))
    )
    hardening = np.exp(rng.uniform(np.log(0.03), np.log(0.2)))
    error = np.float32(-hardening * pixel) * lengths * (lengths + dense)
    # A few millimeters of metal absorb nearly all photons. What is left of the signal is noise.
    starved = np.exp(rng.uniform(np.log(0.6), np.log(4))) * lengths.clip(0, _OPAQUE / pixel)
    error += starved.astype(np.float32) * rng.standard_normal(lengths.shape, np.float32)
    change = np.float32(1000) * grid.reconstruct(error)
    near = resample(resample(metal, grid.side // 4), grid.side)
    change *= 1 - np.float32(0.8) * (16 * near).clip(0, 1)  # the metal keeps its size
    canvas.hounsfield += resample(change.clip(-900, 900), canvas.size)


def add_motion(
    head: PhantomHead, rng: np.random.Generator, slice_rng: np.random.Generator
) -> tuple[str, ...]:
    """Let a restless head move while some slices are scanned.

    Args:
        head: The head with everything in it; its canvas is changed.
        rng: Random generator of the patient, the same for all slices of a scan.
        slice_rng: Random generator of the movement in this slice.

    Returns:
        Names of the artifacts.
    """
    restless, share = rng.random() < 0.3, rng.uniform(0.1, 0.7)
    if slice_rng.random() > share or not restless:
        return ()
    grid, canvas = projector(*_FINE), head.canvas
    pixel = canvas.size * canvas.pixel / grid.side
    shifts = _movement(grid, slice_rng) / pixel
    density = resample(canvas.hounsfield, grid.side) * np.float32(0.001) + np.float32(1)
    change = resample(
        np.float32(1000) * grid.reconstruct(grid.project(density), shifts), canvas.size
    )
    if slice_rng.random() < 0.4:  # the scanner corrects one half of the turn
        change = change * _hemisphere(head, slice_rng, slice_rng.uniform(10, 60))
    canvas.hounsfield += change
    return ("motion",)


def _movement(grid: Projector, rng: np.random.Generator) -> np.ndarray:
    """Return how far the head has moved along the detector at each angle, in mm."""
    direction = rng.uniform(0, 2 * np.pi)
    distance = np.exp(rng.uniform(np.log(0.25), np.log(2.5)))
    time = np.linspace(0, 1, len(grid.angles))
    if rng.random() < 0.6:  # a jerk
        path = np.clip((time - rng.uniform(0.1, 0.9)) / rng.uniform(0.02, 0.3), 0, 1)
    else:  # a slow drift or a tremor
        path = np.sin(2 * np.pi * (rng.uniform(0.3, 3) * time + rng.random())) / 2
    # The scanner starts at any angle.
    start = int(rng.integers(len(path)))
    path = np.roll(path, start)
    return distance * path * np.cos(grid.angles - direction)


def add_rings(head: PhantomHead, rng: np.random.Generator) -> tuple[str, ...]:
    """Add rings of detector elements that are out of calibration, in few scans.

    Args:
        head: The head, drawn; its canvas is changed.
        rng: Random generator of the rings.

    Returns:
        Names of the artifacts.
    """
    radii, strengths = rng.uniform(2, 80, 3), rng.normal(0, 4, 3)
    if rng.random() > 0.02:
        return ()
    canvas = head.canvas
    along = ((np.arange(canvas.size) + 0.5) * canvas.pixel).astype(np.float32)
    along -= np.float32(canvas.size * canvas.pixel / 2)
    away = np.sqrt(along * along + (along * along)[:, np.newaxis])
    for radius, strength in zip(radii, strengths, strict=True):
        ring = step(np.float32(1.0) - np.abs(away - np.float32(radius)), canvas.blur)
        canvas.hounsfield += np.float32(strength) * ring
    return ("rings",)
