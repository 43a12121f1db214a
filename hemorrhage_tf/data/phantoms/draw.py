"""Phantoms: head-CT slices in Hounsfield units that show nobody, with masks of what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.data.phantoms.anatomy import Head, draw_head
from hemorrhage_tf.data.phantoms.canvas import Canvas
from hemorrhage_tf.data.phantoms.hemorrhage import (
    SUBTYPES,
    Plan,
    draw_hemorrhages,
    level_for,
    plan_hemorrhages,
)
from hemorrhage_tf.data.phantoms.mimics import draw_mimics
from hemorrhage_tf.data.phantoms.scanner import draw_holder, scan_head
from hemorrhage_tf.errors import OptionError

# Raise it when the same seed would draw other slices.
GENERATOR_VERSION = 4

SMALLEST, LARGEST = 64, 512
DEFAULT_SIZE = 512

# How often a hemorrhage is planned anew where what was drawn could not be seen.
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Phantom:
    """A slice that shows nobody.

    Attributes:
        hounsfield: float32 `(size, size)`, whole HU, as a scanner gives them.
        blood: uint8 `(size, size)`: bit k is set where there is blood of `SUBTYPES[k]`.
        bright: bool `(size, size)`: where something is bright and is no blood.
        label: 1 with a hemorrhage, 0 without.
        subtypes: of the hemorrhages, in the order of `SUBTYPES`.
        mimics: names of what else was drawn that is no hemorrhage.
        level: 0 at the skull base to 1 at the vertex.
        pixel: side of a pixel, in mm.
        thickness: of the slice, in mm.
    """

    hounsfield: np.ndarray
    blood: np.ndarray
    bright: np.ndarray
    label: int
    subtypes: tuple[str, ...]
    mimics: tuple[str, ...]
    level: float
    pixel: float
    thickness: float

    def mask(self, subtype: str | None = None) -> np.ndarray:
        """Gives where there is blood: bool `(size, size)`.

        Args:
            subtype: one of `SUBTYPES`, or None for any.
        """
        if subtype is None:
            return self.blood > 0
        return (self.blood >> SUBTYPES.index(subtype) & 1).astype(bool)


def draw_phantom(
    seed: int,
    index: int,
    label: int | None = None,
    *,
    size: int = DEFAULT_SIZE,
    subtype: str | None = None,
) -> Phantom:
    """Draws one slice.

    The same seed and index give the same head, scanner and mimics whatever the label, and at any
    size the same anatomy; only the blood, and the room that it makes itself, differ.

    Args:
        seed: of the set, 0 or more.
        index: of the slice in the set, 0 or more.
        label: 1 to draw a hemorrhage, 0 for none; None for 1 at odd indices. Default None.
        size: side of the slice in pixels, 64 to 512. Default 512.
        subtype: one of `SUBTYPES` that there is to be; it decides the level, and needs label 1.
            None for any. Default None.

    Returns:
        The phantom.

    Raises:
        OptionError: a size, label, subtype, seed or index that is none of the accepted ones.
    """
    label = index % 2 if label is None and index >= 0 else label
    _check(seed, index, label, size, subtype)

    def generator(stage: int) -> np.random.Generator:
        return np.random.default_rng([GENERATOR_VERSION, seed, index, stage])

    placing, hemorrhages = generator(0), generator(3)
    level = placing.uniform(0.07, 1.0) if placing.random() < 0.85 else placing.uniform(0.1, 0.4)
    if subtype is not None:
        level = level_for(subtype, placing)
    for attempt in range(_TRIES):
        head, plans, thickness = _placed(generator, level, label, size, subtype, hemorrhages)
        draw_head(head)
        mimics, bright = draw_mimics(head, generator(2))
        blood = np.zeros(bright.shape, np.uint8)
        if not label:
            break
        blood, complete = draw_hemorrhages(head, plans, hemorrhages)
        wanted = subtype is None or blood_of(blood, subtype).any()
        # Where one of two cannot be seen it was not drawn, and the other is enough in the end.
        if wanted and (complete or (attempt > 2 and blood.any())):
            break
    else:
        head, mimics, bright, blood, thickness = _largest(generator, level, size, subtype)
    draw_holder(head, generator(4))
    artifacts = scan_head(head, generator(5))
    turn = generator(6)
    hounsfield = np.rint(head.canvas.hounsfield)
    bright &= blood == 0
    if turn.random() < 0.03:  # a head that lies on its side
        turns = int(turn.choice((1, 3)))
        hounsfield, blood, bright = (np.rot90(part, turns) for part in (hounsfield, blood, bright))
    return Phantom(
        np.ascontiguousarray(hounsfield, np.float32),
        np.ascontiguousarray(blood),
        np.ascontiguousarray(bright),
        label,
        tuple(name for name in SUBTYPES if blood_of(blood, name).any()),
        (*mimics, *artifacts),
        head.level,
        head.canvas.pixel,
        thickness,
    )


def blood_of(blood: np.ndarray, subtype: str) -> np.ndarray:
    """Gives the pixels of one subtype out of a map of bits, not zero where there are some."""
    return blood & np.uint8(1 << SUBTYPES.index(subtype))


def _placed(generator, level, label, size, subtype, hemorrhages):
    """Places a head on a canvas, with room for the hemorrhages that are planned."""
    rng = generator(1)
    scale = float(np.clip(rng.normal(1.0, 0.055), 0.86, 1.14))
    if rng.random() < 0.04:
        scale *= float(rng.uniform(0.8, 0.92))  # a child
    atrophy = float(rng.beta(1.1, 1.4))
    tilt = float(rng.normal(0, 0.035))
    field = float(rng.uniform(205, 265)) if rng.random() < 0.9 else float(rng.uniform(265, 330))
    free = max(field / 2 - 104 * scale, 2.0)
    center = (
        float(np.clip(rng.normal(0, 5), -free, free)),
        float(np.clip(rng.normal(-3, 6), -free, free)),
    )
    rotation = float(rng.normal(0, 0.09)) if rng.random() < 0.85 else float(rng.normal(0, 0.3))
    thickness = float(rng.choice((2.5, 3.0, 4.0, 5.0, 5.0, 5.0, 7.0, 10.0)))
    canvas = Canvas(size, field, center, rotation, rng)
    # A thick slice blurs what is oblique to it: the skull toward the vertex most of all.
    canvas.blur = float(np.hypot(canvas.blur, 0.12 * thickness))
    if level > 0.72:
        oblique = min(thickness * (level - 0.72) * 2.2, 3.5)
        canvas.blur = float(np.hypot(canvas.blur, oblique))
    plans: list[Plan] = []
    if label:
        plans = plan_hemorrhages(level, hemorrhages, subtype)
        shift = sum(plan.shift for plan in plans) * scale
        if shift:
            _move_midline(canvas, shift)
    head = Head(
        canvas,
        rng,
        front=float(np.clip(level + tilt, 0, 1)),
        back=float(np.clip(level - tilt, 0, 1)),
        scale=scale,
        atrophy=atrophy,
    )
    return head, plans, thickness


def _move_midline(canvas: Canvas, shift: float) -> None:
    """Moves what is inside: most in the middle, not at all where the falx is held."""
    bend = np.exp(-((canvas.y / np.float32(48)) ** 2)) * np.exp(-((canvas.x / np.float32(60)) ** 2))
    canvas.inner_x = canvas.x - np.float32(shift) * bend


def _largest(generator, level, size, subtype):
    """Draws a hemorrhage that can be seen for certain, where no plan led to one."""
    for stage in range(100, 200):
        rng = generator(stage)
        if subtype is not None:
            level = level_for(subtype, rng)
        elif stage > 103:
            level = float(rng.uniform(0.3, 0.7))
        head, _, thickness = _placed(generator, level, 0, size, None, rng)
        draw_head(head)
        mimics, bright = draw_mimics(head, generator(2))
        plan = Plan(subtype or "intraparenchymal", int(rng.choice((-1, 1))), 0.8)
        blood, complete = draw_hemorrhages(head, [plan], rng)
        if complete:
            return head, mimics, bright, blood, thickness
    raise AssertionError("no hemorrhage could be drawn")  # one in four of the above succeeds


def _check(seed: int, index: int, label: int | None, size: int, subtype: str | None) -> None:
    if seed < 0 or index < 0:
        raise OptionError(f"seed {seed}, index {index}: accepted are numbers of 0 and above")
    if label not in (0, 1):
        raise OptionError(f"label {label}: accepted are 0 and 1")
    if not SMALLEST <= size <= LARGEST:
        raise OptionError(f"size {size}: accepted is {SMALLEST} to {LARGEST} pixels")
    if subtype is not None and subtype not in SUBTYPES:
        raise OptionError(f"subtype {subtype}: accepted are {', '.join(SUBTYPES)}")
    if subtype is not None and not label:
        raise OptionError(f"subtype {subtype}: goes with label 1. Received: label {label}")
