"""Phantoms: head-CT slices in Hounsfield units that show nobody, with masks of what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.anatomy import PhantomHead, draw_head
from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.hemorrhage import (
    FOSSA_TOP,
    SUBTYPES,
    Plan,
    draw_hemorrhages,
    level_for,
    plan_hemorrhages,
)
from hemorrhage_tf.synthesis.mimics import draw_mimics
from hemorrhage_tf.synthesis.scanner import draw_holder, scan_head

# Raise it when the same seed would draw other slices.
GENERATOR_VERSION = 6

SMALLEST, LARGEST = 64, 512
DEFAULT_SIZE = 512

# How often a hemorrhage is planned anew where what was drawn could not be seen.
_TRIES = 8

# What is drawn, by the stream of random numbers that it is drawn from.
_LEVEL, _HEAD, _MIMICS, _BLOOD, _HOLDER, _SCANNER, _TURN, _NOISE, _SCAN, _STREAKS = range(10)
_Generator = Callable[[int], np.random.Generator]

HEIGHT = 150.0  # mm from level 0 to level 1
# Mimics and hemorrhages of a scan go through some of its slices.
_MIMIC_REACH, _BLOOD_REACH = 20.0, (8.0, 35.0)  # mm; of blood up and down from its middle
_SCAN_TRIES = 10  # for each subtype


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

    placing = generator(_LEVEL)
    # The base takes more to learn than what is above it.
    level = placing.uniform(0.02, 1.0) if placing.random() < 0.85 else placing.uniform(0.02, 0.4)
    if subtype is not None:
        level = level_for(subtype, placing)
    drawn = _planned(generator, level, label, size, subtype)
    return _scanned(generator, label, drawn or _largest(generator, level, size, subtype))


def draw_phantom_scan(
    seed: int, index: int, label: int | None = None, *, size: int = DEFAULT_SIZE
) -> tuple[Phantom, ...]:
    """Draws all slices of one head, a slice's thickness apart, from the skull base to the vertex.

    Proportions of the head, scanner and holder are the same in all of them; a mimic, and the one
    hemorrhage, goes through some that follow each other. It is largest in its middle.

    Args:
        seed: of the set, 0 or more.
        index: of the scan in the set, 0 or more.
        label: 1 for a hemorrhage in some of the slices, 0 for none; None for 1 at odd indices.
            Default None.
        size: side of a slice in pixels, 64 to 512. Default 512.

    Returns:
        The phantoms, 14 to 60 of them. The label of each says whether there is blood in it.

    Raises:
        OptionError: a size, label, seed or index that is none of the accepted ones.
    """
    label = index % 2 if label is None and index >= 0 else label
    _check(seed, index, label, size, None)

    def stream(*key: int) -> np.random.Generator:
        return np.random.default_rng([GENERATOR_VERSION, seed, index, _SCAN, *key])

    thickness = _placed(stream, 0.5, 0, SMALLEST, None, stream(_BLOOD))[2]
    placing = stream(_LEVEL)
    levels = np.arange(placing.uniform(0.0, 0.1), 1.0, thickness / HEIGHT)
    subtypes = placing.permutation(SUBTYPES)

    def generator_of(number: int) -> _Generator:
        def generator(stage: int) -> np.random.Generator:
            if stage == _MIMICS:
                return stream(stage, int(number * thickness / _MIMIC_REACH))
            return stream(stage, number) if stage == _NOISE else stream(stage)

        return generator

    def slice_at(number: int, plan: Plan | None) -> Phantom | None:
        level, with_blood = float(levels[number]), int(plan is not None)
        generator = generator_of(number)
        drawn = _planned(generator, level, with_blood, size, None, plan)
        return drawn and _scanned(generator, with_blood, drawn, stream(_STREAKS))

    shown: dict[int, Phantom] = {}
    for attempt in range(_SCAN_TRIES * len(SUBTYPES) if label else 0):
        rng = stream(_BLOOD, attempt)
        # Slit ventricles, for one, have no room for blood in any slice.
        subtype = str(subtypes[attempt // _SCAN_TRIES])
        middle, reach = level_for(subtype, rng), rng.uniform(*_BLOOD_REACH) / HEIGHT
        side, extent = int(rng.choice((-1, 1))), float(rng.uniform(0.15, 1))
        head = _placed(stream, middle, 0, SMALLEST, None, rng)[0]
        draw_head(head)
        deep = (0.5, 10.0) if subtype == "subarachnoid" else (5.0, 70.0)
        place = head.random_place(rng, *deep)
        if subtype == "intraparenchymal" and place is not None:
            side = 1 if place[0] > 0 else -1  # what it pushes the midline away from
        within = np.abs(levels - middle) <= reach
        if subtype == "epidural":  # none goes through the tentorium
            within &= (levels < FOSSA_TOP) == (middle < FOSSA_TOP)
        for number in np.flatnonzero(within):
            # As a ball is cut: all of it in the middle, little at its ends.
            share = float(np.sqrt(1 - ((levels[number] - middle) / reach) ** 2))
            found = slice_at(int(number), Plan(subtype, side, extent * share, place))
            if found is not None:
                shown[int(number)] = found
        if shown:  # of what shows here and there, the longest part is the hemorrhage
            numbers = np.array(list(shown))
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            shown = {int(number): shown[number] for number in max(runs, key=len)}
            break
    if label and not shown:  # at least one in four of the tries shows something
        raise AssertionError("no hemorrhage could be drawn")
    slices = [shown.get(number) or slice_at(number, None) for number in range(len(levels))]
    return tuple(each for each in slices if each is not None)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A head with all that is in it, before it is scanned; see `Phantom`."""

    head: PhantomHead
    mimics: tuple[str, ...]
    bright: np.ndarray
    blood: np.ndarray
    thickness: float


def _planned(
    generator: _Generator,
    level: float,
    label: int,
    size: int,
    subtype: str | None,
    plan: Plan | None = None,
) -> _Drawn | None:
    """Draws a head at a level; None where no plan leads to a hemorrhage that can be seen there.

    Args:
        generator: gives the random numbers for what is drawn.
        level: of the slice.
        label: 1 for a hemorrhage.
        size: in pixels.
        subtype: that there is to be; None for any.
        plan: the only hemorrhage to draw; None to plan some. Default None.
    """
    hemorrhages = generator(_BLOOD)
    for attempt in range(1 if plan else _TRIES):
        head, plans, thickness = _placed(generator, level, label, size, subtype, hemorrhages, plan)
        draw_head(head)
        mimics, bright = draw_mimics(head, generator(_MIMICS))
        if not label:
            return _Drawn(head, mimics, bright, np.zeros(bright.shape, np.uint8), thickness)
        blood, complete = draw_hemorrhages(head, plans, hemorrhages)
        wanted = subtype is None or blood_of(blood, subtype).any()
        # Where one of two cannot be seen it was not drawn, and the other is enough in the end.
        if wanted and (complete or (attempt > 2 and blood.any())):
            return _Drawn(head, mimics, bright, blood, thickness)
    return None


def _scanned(
    generator: _Generator,
    label: int,
    drawn: _Drawn,
    streak_rng: np.random.Generator | None = None,
) -> Phantom:
    """Scans a head that was drawn; see `scan_head` for where streaks come from."""
    head, blood = drawn.head, drawn.blood
    draw_holder(head, generator(_HOLDER))
    artifacts = scan_head(head, generator(_SCANNER), generator(_NOISE), streak_rng)
    turn = generator(_TURN)
    hounsfield = np.rint(head.canvas.hounsfield)
    bright = drawn.bright & (blood == 0)
    if turn.random() < 0.03:  # a head that lies on its side
        turns = int(turn.choice((1, 3)))
        hounsfield, blood, bright = (np.rot90(part, turns) for part in (hounsfield, blood, bright))
    return Phantom(
        np.ascontiguousarray(hounsfield, np.float32),
        np.ascontiguousarray(blood),
        np.ascontiguousarray(bright),
        label,
        tuple(name for name in SUBTYPES if blood_of(blood, name).any()),
        (*drawn.mimics, *artifacts),
        head.level,
        head.canvas.pixel,
        drawn.thickness,
    )


def blood_of(blood: np.ndarray, subtype: str) -> np.ndarray:
    """Gives the pixels of one subtype out of a map of bits, not zero where there are some."""
    return blood & np.uint8(1 << SUBTYPES.index(subtype))


def _placed(generator, level, label, size, subtype, hemorrhages, plan=None):
    """Places a head on a canvas, with room for the hemorrhages that are planned."""
    rng = generator(_HEAD)
    scale = float(np.clip(rng.normal(1.0, 0.055), 0.86, 1.14))
    if rng.random() < 0.04:
        scale *= float(rng.uniform(0.8, 0.92))  # a child
    atrophy = float(rng.beta(1.1, 1.4))
    tilt = float(rng.normal(0, 0.035))
    roll = float(rng.normal(0, 0.015 if rng.random() < 0.75 else 0.045))
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
        plans = [plan] if plan else plan_hemorrhages(level, hemorrhages, subtype)
        shift = sum(plan.shift for plan in plans) * scale
        if shift:
            _move_midline(canvas, shift)
    head = PhantomHead(
        canvas,
        rng,
        front=float(np.clip(level + tilt, 0, 1)),
        back=float(np.clip(level - tilt, 0, 1)),
        scale=scale,
        atrophy=atrophy,
        roll=roll,
    )
    return head, plans, thickness


def _move_midline(canvas: Canvas, shift: float) -> None:
    """Moves what is inside: most in the middle, not at all where the falx is held."""
    bend = np.exp(-((canvas.y / np.float32(48)) ** 2)) * np.exp(-((canvas.x / np.float32(60)) ** 2))
    canvas.inner_x = canvas.x - np.float32(shift) * bend


def _largest(generator: _Generator, level: float, size: int, subtype: str | None) -> _Drawn:
    """Draws a hemorrhage that can be seen for certain, where no plan led to one."""
    for stage in range(100, 200):
        rng = generator(stage)
        if subtype is not None:
            level = level_for(subtype, rng)
        elif stage > 103:
            level = float(rng.uniform(0.3, 0.7))
        head, _, thickness = _placed(generator, level, 0, size, None, rng)
        draw_head(head)
        mimics, bright = draw_mimics(head, generator(_MIMICS))
        plan = Plan(subtype or "intraparenchymal", int(rng.choice((-1, 1))), 0.8)
        blood, complete = draw_hemorrhages(head, [plan], rng)
        if complete:
            return _Drawn(head, mimics, bright, blood, thickness)
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
