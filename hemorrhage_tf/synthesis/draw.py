"""Draw phantoms: synthetic head-CT slices and scans in Hounsfield units, with masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.anatomy import draw_head
from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.head import PhantomHead
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

# Raise it with every change after which the same seed draws other phantoms.
GENERATOR_VERSION = 6

SMALLEST_SIZE, LARGEST_SIZE = 64, 512  # pixels
DEFAULT_SIZE = 512
HEAD_HEIGHT = 150.0  # mm from level 0 to level 1

# How often hemorrhages are planned again if one of them is not visible.
_TRIES = 8
_SCAN_TRIES = 10  # for each subtype

# A mimic, and the hemorrhage, of a scan extend over some of its slices.
_MIMIC_EXTENT = 20.0  # mm
_HEMORRHAGE_REACH = 8.0, 35.0  # mm up and down from its center

# Streams of random numbers, one for each part of a phantom.
_LEVEL, _HEAD, _MIMICS, _BLOOD, _HOLDER, _SCANNER, _TURN, _NOISE, _SCAN, _STREAKS = range(10)
_Streams = Callable[[int], np.random.Generator]


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic head-CT slice.

    Attributes:
        hounsfield: float32 `(size, size)`, whole HU, as a scanner stores them.
        blood: uint8 `(size, size)`: bit k is set where there is blood of the k-th subtype:
            intraparenchymal, intraventricular, subarachnoid, subdural, epidural.
        bright: bool `(size, size)`: where a mimic is bright enough to resemble blood.
        label: 1 with a hemorrhage, 0 without.
        subtypes: Subtypes of the hemorrhages.
        mimics: Names of the mimics and artifacts.
        level: 0 at the skull base to 1 at the vertex.
        pixel: Side of a pixel, in mm.
        thickness: Slice thickness, in mm.

    Example:
        >>> import hemorrhage_tf as htf
        >>> phantom = htf.draw_phantom(seed=0, index=1, size=128)
        >>> phantom.hounsfield.shape, phantom.label
        ((128, 128), 1)
        >>> bool(phantom.mask().any())
        True
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
        """Return where there is blood: bool `(size, size)`.

        Args:
            subtype: Name of a subtype, see `blood`; None for any. Defaults to None.
        """
        return (self.blood if subtype is None else blood_of(self.blood, subtype)) > 0


def draw_phantom(
    seed: int,
    index: int,
    label: int | None = None,
    *,
    size: int = DEFAULT_SIZE,
    subtype: str | None = None,
) -> Phantom:
    """Draw one synthetic head-CT slice.

    The same seed and index give the same head, scanner and mimics for both labels, and the same
    anatomy at any size. Only the blood and its mass effect differ.

    Args:
        seed: Random seed of the set, 0 or more.
        index: Index of the slice in the set, 0 or more.
        label: 1 to draw a hemorrhage, 0 for none; None for 1 at odd indices. Defaults to None.
        size: Side of the slice in pixels, 64 to 512. Defaults to 512.
        subtype: Subtype of a hemorrhage to draw, which also determines the level; requires label
            1. One of "intraparenchymal", "intraventricular", "subarachnoid", "subdural" and
            "epidural"; None for any. Defaults to None.

    Returns:
        The phantom.

    Raises:
        OptionError: Size, label, subtype, seed or index is not accepted.

    Example:
        >>> import hemorrhage_tf as htf
        >>> phantom = htf.draw_phantom(seed=0, index=3, label=1, size=128, subtype="epidural")
        >>> "epidural" in phantom.subtypes
        True
    """
    label = _check(seed, index, label, size, subtype)

    def streams(stream: int) -> np.random.Generator:
        return np.random.default_rng([GENERATOR_VERSION, seed, index, stream])

    rng = streams(_LEVEL)
    # The skull base takes more to learn, so it is drawn more often.
    level = rng.uniform(0.02, 1.0) if rng.random() < 0.85 else rng.uniform(0.02, 0.4)
    if subtype is not None:
        level = level_for(subtype, rng)
    request = _SliceRequest(streams, level, label, size, subtype)
    return _scan(request, _draw_contents(request) or _draw_visible_hemorrhage(request))


def draw_phantom_scan(
    seed: int, index: int, label: int | None = None, *, size: int = DEFAULT_SIZE
) -> tuple[Phantom, ...]:
    """Draw all slices of one head, one slice thickness apart, from the skull base to the vertex.

    Proportions of the head, scanner and holder are the same in all slices. A mimic extends over
    some consecutive slices, and so does the only hemorrhage, which is largest in its middle.

    Args:
        seed: Random seed of the set, 0 or more.
        index: Index of the scan in the set, 0 or more.
        label: 1 for a hemorrhage in some of the slices, 0 for none; None for 1 at odd indices.
            Defaults to None.
        size: Side of a slice in pixels, 64 to 512. Defaults to 512.

    Returns:
        14 to 60 phantoms. The label of each is 1 if that slice has blood.

    Raises:
        OptionError: Size, label, seed or index is not accepted.

    Example:
        >>> import hemorrhage_tf as htf
        >>> scan = htf.draw_phantom_scan(seed=0, index=1, size=64)
        >>> len({phantom.thickness for phantom in scan})
        1
        >>> any(phantom.label for phantom in scan)
        True
    """
    label = _check(seed, index, label, size, None)
    head = _ScanRequest.create(seed, index, size)
    bleeding = _draw_scan_hemorrhage(head) if label else {}
    slices = []
    for number in range(len(head.levels)):
        phantom = bleeding.get(number) or head.draw_slice(number, None)
        assert phantom is not None  # a slice without a hemorrhage needs no tries
        slices.append(phantom)
    return tuple(slices)


def blood_of(blood: np.ndarray, subtype: str) -> np.ndarray:
    """Return the pixels of one subtype in a map of bits; blood is where they are not 0."""
    return blood & np.uint8(1 << SUBTYPES.index(subtype))


@dataclass(frozen=True, slots=True)
class _SliceRequest:
    """What to draw in a slice.

    Attributes:
        streams: Returns the random generator of each part.
        level: Level of the slice.
        label: 1 for a hemorrhage, 0 for none.
        size: Side in pixels.
        subtype: Subtype that is required; None for any.
        plan: The only hemorrhage; None to plan some.
    """

    streams: _Streams
    level: float
    label: int
    size: int
    subtype: str | None = None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class _ScanRequest:
    """One head, of which all slices are drawn.

    Attributes:
        stream: Returns the random generator of a key.
        size: Side of a slice in pixels.
        thickness: Slice thickness, in mm.
        levels: Level of each slice.
        subtypes: Subtypes of the hemorrhage in the order in which they are tried.
    """

    stream: Callable[..., np.random.Generator]
    size: int
    thickness: float
    levels: np.ndarray
    subtypes: np.ndarray

    @classmethod
    def create(cls, seed: int, index: int, size: int) -> _ScanRequest:
        """Draw the slice thickness and the levels of a scan."""

        def stream(*key: int) -> np.random.Generator:
            return np.random.default_rng([GENERATOR_VERSION, seed, index, _SCAN, *key])

        thickness = _place_head(_SliceRequest(stream, 0.5, 0, SMALLEST_SIZE), stream(_BLOOD))[2]
        rng = stream(_LEVEL)
        levels = np.arange(rng.uniform(0.0, 0.1), 1.0, thickness / HEAD_HEIGHT)
        return cls(stream, size, thickness, levels, rng.permutation(SUBTYPES))

    def draw_slice(self, number: int, plan: Plan | None) -> Phantom | None:
        """Draw one slice; return None if a planned hemorrhage would not be visible in it."""

        def streams(stream: int) -> np.random.Generator:
            if stream == _MIMICS:
                return self.stream(stream, int(number * self.thickness / _MIMIC_EXTENT))
            return self.stream(stream, number) if stream == _NOISE else self.stream(stream)

        label = int(plan is not None)
        request = _SliceRequest(streams, float(self.levels[number]), label, self.size, plan=plan)
        contents = _draw_contents(request)
        return None if contents is None else _scan(request, contents, self.stream(_STREAKS))


def _draw_scan_hemorrhage(scan: _ScanRequest) -> dict[int, Phantom]:
    """Draw the slices of a scan that show its hemorrhage, by their numbers."""
    for attempt in range(_SCAN_TRIES * len(SUBTYPES)):
        rng = scan.stream(_BLOOD, attempt)
        # Some heads have no room for some subtypes: slit ventricles, for one.
        subtype = str(scan.subtypes[attempt // _SCAN_TRIES])
        middle, reach = level_for(subtype, rng), rng.uniform(*_HEMORRHAGE_REACH) / HEAD_HEIGHT
        side, extent = int(rng.choice((-1, 1))), float(rng.uniform(0.15, 1))
        head = _place_head(_SliceRequest(scan.stream, middle, 0, SMALLEST_SIZE), rng)[0]
        draw_head(head)
        shallowest, deepest = (0.5, 10.0) if subtype == "subarachnoid" else (5.0, 70.0)
        place = head.random_place(rng, shallowest, deepest)
        if subtype == "intraparenchymal" and place is not None:
            side = 1 if place[0] > 0 else -1  # it pushes the midline to the other side
        within = np.abs(scan.levels - middle) <= reach
        if subtype == "epidural":  # it does not cross the tentorium
            within &= (scan.levels < FOSSA_TOP) == (middle < FOSSA_TOP)
        visible: dict[int, Phantom] = {}
        for number in np.flatnonzero(within):
            # Its cross sections are those of a ball.
            share = float(np.sqrt(1 - ((scan.levels[number] - middle) / reach) ** 2))
            phantom = scan.draw_slice(int(number), Plan(subtype, side, extent * share, place))
            if phantom is not None:
                visible[int(number)] = phantom
        if visible:  # the longest run of consecutive slices is the hemorrhage
            numbers = np.array(list(visible))
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            return {int(number): visible[number] for number in max(runs, key=len)}
    # At least one attempt in four gives a visible hemorrhage.
    raise AssertionError("no hemorrhage could be drawn")


@dataclass(frozen=True, slots=True)
class _Contents:
    """A head with everything in it, before it is scanned; see `Phantom`."""

    head: PhantomHead
    mimics: tuple[str, ...]
    bright: np.ndarray
    blood: np.ndarray
    thickness: float


def _draw_contents(request: _SliceRequest) -> _Contents | None:
    """Draw a head; return None if no plan led to a hemorrhage that is visible at its level."""
    rng = request.streams(_BLOOD)
    for attempt in range(1 if request.plan else _TRIES):
        head, plans, thickness = _place_head(request, rng)
        draw_head(head)
        mimics, bright = draw_mimics(head, request.streams(_MIMICS))
        if not request.label:
            return _Contents(head, mimics, bright, np.zeros(bright.shape, np.uint8), thickness)
        blood, complete = draw_hemorrhages(head, plans, rng)
        required = request.subtype is None or blood_of(blood, request.subtype).any()
        # After a few attempts one visible hemorrhage of two planned ones is enough.
        if required and (complete or (attempt > 2 and blood.any())):
            return _Contents(head, mimics, bright, blood, thickness)
    return None


def _draw_visible_hemorrhage(request: _SliceRequest) -> _Contents:
    """Draw a large hemorrhage, if necessary at another level, after no plan gave a visible one."""
    level = request.level
    for stream in range(100, 200):
        rng = request.streams(stream)
        if request.subtype is not None:
            level = level_for(request.subtype, rng)
        elif stream > 103:
            level = float(rng.uniform(0.3, 0.7))
        head, _, thickness = _place_head(
            _SliceRequest(request.streams, level, 0, request.size), rng
        )
        draw_head(head)
        mimics, bright = draw_mimics(head, request.streams(_MIMICS))
        plan = Plan(request.subtype or "intraparenchymal", int(rng.choice((-1, 1))), 0.8)
        blood, complete = draw_hemorrhages(head, [plan], rng)
        if complete:
            return _Contents(head, mimics, bright, blood, thickness)
    # One attempt in four succeeds.
    raise AssertionError("no hemorrhage could be drawn")


def _place_head(
    request: _SliceRequest, hemorrhage_rng: np.random.Generator
) -> tuple[PhantomHead, list[Plan], float]:
    """Place a head on a canvas, with room for the planned hemorrhages.

    Returns:
        The head, the plans and the slice thickness in mm.
    """
    rng, level = request.streams(_HEAD), request.level
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
    canvas = Canvas(request.size, field, center, rotation, rng)
    # A thick slice blurs oblique surfaces, most of all the skull near the vertex.
    canvas.blur = float(np.hypot(canvas.blur, 0.12 * thickness))
    if level > 0.72:
        oblique = min(thickness * (level - 0.72) * 2.2, 3.5)
        canvas.blur = float(np.hypot(canvas.blur, oblique))
    plans: list[Plan] = []
    if request.plan is not None:
        plans = [request.plan]
    elif request.label:
        plans = plan_hemorrhages(level, hemorrhage_rng, request.subtype)
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
    """Move the tissue inside the skull: most in the middle, nothing where the falx holds it."""
    bend = np.exp(-((canvas.y / np.float32(48)) ** 2)) * np.exp(-((canvas.x / np.float32(60)) ** 2))
    canvas.inner_x = canvas.x - np.float32(shift) * bend


def _scan(
    request: _SliceRequest, contents: _Contents, streak_rng: np.random.Generator | None = None
) -> Phantom:
    """Scan a head; see `scan_head` for `streak_rng`."""
    head, blood = contents.head, contents.blood
    streams = request.streams
    draw_holder(head, streams(_HOLDER))
    artifacts = scan_head(head, streams(_SCANNER), streams(_NOISE), streak_rng)
    turn = streams(_TURN)
    hounsfield = np.rint(head.canvas.hounsfield)
    bright = contents.bright & (blood == 0)
    if turn.random() < 0.03:  # a head that lies on its side
        turns = int(turn.choice((1, 3)))
        hounsfield, blood, bright = (np.rot90(part, turns) for part in (hounsfield, blood, bright))
    return Phantom(
        np.ascontiguousarray(hounsfield, np.float32),
        np.ascontiguousarray(blood),
        np.ascontiguousarray(bright),
        request.label,
        tuple(name for name in SUBTYPES if blood_of(blood, name).any()),
        (*contents.mimics, *artifacts),
        head.level,
        head.canvas.pixel,
        contents.thickness,
    )


def _check(seed: int, index: int, label: int | None, size: int, subtype: str | None) -> int:
    """Check the arguments and return the label, which defaults to 1 at odd indices."""
    if seed < 0 or index < 0:
        raise OptionError(f"seed {seed}, index {index}: negative. Pass numbers of 0 or more.")
    if label is None:
        label = index % 2
    if label not in (0, 1):
        raise OptionError(f"label {label}: unknown. Pass 1 for a hemorrhage or 0 for none.")
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise OptionError(
            f"size {size}: out of range. Pass {SMALLEST_SIZE} to {LARGEST_SIZE} pixels."
        )
    if subtype is not None and subtype not in SUBTYPES:
        raise OptionError(f"subtype {subtype}: unknown. Pass one of {', '.join(SUBTYPES)}.")
    if subtype is not None and not label:
        raise OptionError(f"subtype {subtype}: requires a hemorrhage. Pass label 1, not 0.")
    return label
