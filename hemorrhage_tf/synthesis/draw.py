"""Draw phantoms: synthetic head-CT slices in Hounsfield units, with masks.

Whole scans are drawn by `draw_scan` from the same parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.anatomy import draw_head
from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.head import PhantomHead, interpolate
from hemorrhage_tf.synthesis.hemorrhage import (
    LIMITS,
    SUBTYPES,
    Plan,
    VisibilityLimits,
    draw_hemorrhages,
    level_for,
    plan_hemorrhages,
)
from hemorrhage_tf.synthesis.holder import draw_holder
from hemorrhage_tf.synthesis.mimics import draw_mimics
from hemorrhage_tf.synthesis.scanner import noise_of, scan_head

# Raise it with every change after which the same seed draws other phantoms.
GENERATOR_VERSION = 7

SMALLEST_SIZE, LARGEST_SIZE = 64, 512  # pixels
DEFAULT_SIZE = 512
HEAD_HEIGHT = 150.0  # mm from level 0 to level 1
CHILDREN = 0.1  # share of the heads
# Real hemorrhages are rare at the lowest levels, where bone, muscle and streaks are as bright. This
# share of those that would lie below the level is drawn above.
BASE_TOP, HIGHER_SHARE = 0.12, 0.65
NECK_SHARE = 0.15  # of the slices without a hemorrhage, below the skull base
LOWEST_LEVEL = -1.0  # the upper edge of the shoulders

# HU that streaks of the skull base add to and take from brain, at the base and above it.
_STREAKS_AT_BASE = 8.0, 0.0

# How often hemorrhages are planned again if one of them is not visible.
_TRIES = 8

# Streams of random numbers, one for each part of a phantom.
LEVEL, HEAD, MIMICS, BLOOD, HOLDER, SCANNER, TURN, NOISE, SCAN, STREAKS = range(10)
Streams = Callable[[int], np.random.Generator]


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
        level: 0 at the skull base to 1 at the vertex; -1 at the upper edge of the shoulders.
        pixel: Side of a pixel, in mm.
        thickness: Slice thickness, in mm.
        position: Height of the slice above the skull base, in mm; negative below it.
        brain_area: Area inside the dura of the skull, in mm2; 0 in slices of the face and neck
            without intracranial content.

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
    position: float
    brain_area: float

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
    anatomy at any size. Only the blood and its mass effect differ. Some slices without a hemorrhage
    lie below the skull base; with label 1 the same head is cut at a level with brain.

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
    label = check_arguments(seed, index, label, size, subtype)

    def streams(stream: int) -> np.random.Generator:
        return np.random.default_rng([GENERATOR_VERSION, seed, index, stream])

    rng = streams(LEVEL)
    # The skull base takes more to learn, so it is drawn more often.
    level = rng.uniform(0.02, 1.0) if rng.random() < 0.85 else rng.uniform(0.02, 0.4)
    if rng.random() < NECK_SHARE and not label:
        # Scans show more of the face than of the neck below the chin.
        face = rng.random() < 0.7
        level = -float(rng.triangular(0, 0.08, 0.45) if face else rng.uniform(0.3, -LOWEST_LEVEL))
    if label and level < BASE_TOP and rng.random() < HIGHER_SHARE:
        level = rng.uniform(BASE_TOP, 1.0)
    if subtype is not None:
        level = level_for(subtype, rng)
    request = SliceRequest(streams, level, label, size, subtype)
    return scan_contents(request, draw_contents(request) or _draw_visible_hemorrhage(request))


def blood_of(blood: np.ndarray, subtype: str) -> np.ndarray:
    """Return the pixels of one subtype in a map of bits; blood is where they are not 0."""
    return blood & np.uint8(1 << SUBTYPES.index(subtype))


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """What to draw in a slice.

    Attributes:
        streams: Returns the random generator of each part.
        level: Level of the slice.
        label: 1 for a hemorrhage, 0 for none.
        size: Side in pixels.
        subtype: Subtype that is required; None for any.
        plan: The only hemorrhage; None to plan some.
        thickness: Slice thickness, in mm; None for a random one.
    """

    streams: Streams
    level: float
    label: int
    size: int
    subtype: str | None = None
    plan: Plan | None = None
    thickness: float | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """A head with everything in it, before it is scanned; see `Phantom`."""

    head: PhantomHead
    mimics: tuple[str, ...]
    bright: np.ndarray
    blood: np.ndarray
    thickness: float


def draw_contents(request: SliceRequest) -> Contents | None:
    """Draw a head; return None if no plan led to a hemorrhage that is visible at its level."""
    rng = request.streams(BLOOD)
    for _ in range(1 if request.plan else _TRIES):
        head, plans, thickness = place_head(request, rng)
        draw_head(head)
        mimics, bright = draw_mimics(head, request.streams(MIMICS))
        if not request.label:
            return Contents(head, mimics, bright, np.zeros(bright.shape, np.uint8), thickness)
        limits = _limits(request, head, thickness)
        blood, _ = draw_hemorrhages(head, plans, rng, limits)
        required = request.subtype is None or blood_of(blood, request.subtype).any()
        # One visible hemorrhage of two planned ones is enough.
        if required and blood.any():
            return Contents(head, mimics, bright, blood, thickness)
    return None


def _limits(request: SliceRequest, head: PhantomHead, thickness: float) -> VisibilityLimits:
    """Return what a hemorrhage needs to be visible in the noise and the streaks of the slice."""
    streaks = interpolate(head.level, (0.15, 0.3), _STREAKS_AT_BASE)
    return LIMITS.at_noise(max(noise_of(request.streams(SCANNER), thickness), streaks))


def _draw_visible_hemorrhage(request: SliceRequest) -> Contents:
    """Draw a large hemorrhage, if necessary at another level, after no plan gave a visible one."""
    level = request.level
    for stream in range(100, 200):
        rng = request.streams(stream)
        if request.subtype is not None:
            level = level_for(request.subtype, rng)
        elif stream > 103:
            level = float(rng.uniform(0.3, 0.7))
        head, _, thickness = place_head(SliceRequest(request.streams, level, 0, request.size), rng)
        draw_head(head)
        mimics, bright = draw_mimics(head, request.streams(MIMICS))
        plan = Plan(request.subtype or "intraparenchymal", int(rng.choice((-1, 1))), 0.8)
        limits = _limits(request, head, thickness)
        blood, complete = draw_hemorrhages(head, [plan], rng, limits)
        if complete:
            return Contents(head, mimics, bright, blood, thickness)
    # One attempt in four succeeds.
    raise AssertionError("no hemorrhage could be drawn")


def place_head(
    request: SliceRequest, hemorrhage_rng: np.random.Generator
) -> tuple[PhantomHead, list[Plan], float]:
    """Place a head on a canvas, with room for the planned hemorrhages.

    Returns:
        The head, the plans and the slice thickness in mm.
    """
    rng, level = request.streams(HEAD), request.level
    scale = float(np.clip(rng.normal(1.0, 0.055), 0.86, 1.14))
    young, youth = rng.random() < CHILDREN, float(rng.beta(0.8, 1.6))
    youth = youth if young else 0.0
    scale *= 1 - 0.32 * youth
    atrophy = float(rng.beta(1.1, 1.4)) * (1 - 0.9 * float(young))
    tilt = float(rng.normal(0, 0.035 if rng.random() < 0.6 else 0.08))
    roll = float(rng.normal(0, 0.015 if rng.random() < 0.75 else 0.045))
    canvas, thickness = _place_canvas(request, rng, scale)
    impact = float(rng.uniform(0, 2 * np.pi))
    plans: list[Plan] = []
    if request.plan is not None:
        plans = [request.plan]
    elif request.label:
        plans = plan_hemorrhages(level, hemorrhage_rng, request.subtype, impact)
    shift = sum(plan.shift for plan in plans) * scale
    if shift:
        _move_midline(canvas, shift)
    head = PhantomHead(
        canvas,
        rng,
        front=min(level + tilt, 1.0),
        back=min(level - tilt, 1.0),
        scale=scale,
        atrophy=atrophy,
        roll=roll,
        impact=impact,
    )
    return head, plans, thickness


def _place_canvas(
    request: SliceRequest, rng: np.random.Generator, scale: float
) -> tuple[Canvas, float]:
    """Choose the field of view, where the head lies in it, and the slice thickness in mm."""
    level, kind = request.level, rng.random()
    field = float(rng.uniform(200, 255))
    if kind < 0.2:  # a large field, or one that cuts the head
        field = float(rng.uniform(255, 330) if kind < 0.11 else rng.uniform(165, 200))
    free = max(field / 2 - 104 * scale, 2.0)
    spread = 5.0
    if rng.random() < 0.2:  # far from the center, and in half of them beyond the border
        spread, free = 16.0, free + float(rng.uniform(0, 22)) * float(rng.integers(0, 2))
    center = (
        float(np.clip(rng.normal(0, spread), -free, free)),
        float(np.clip(rng.normal(-3, 1.2 * spread), -free, free)),
    )
    rotation = float(rng.normal(0, 0.08)) if rng.random() < 0.8 else float(rng.uniform(-0.55, 0.55))
    thickness = float(rng.choice((2.5, 3.0, 4.0, 5.0, 5.0, 5.0, 7.0, 10.0)))
    thin = float(rng.choice((0.6, 0.625, 0.75, 1.0, 1.0, 1.25, 1.5, 2.0)))
    if rng.random() < 0.22:
        thickness = thin
    if request.thickness is not None:
        thickness = request.thickness
    canvas = Canvas(request.size, field, center, rotation, rng)
    # A thick slice blurs oblique surfaces, most of all the skull near the vertex.
    canvas.blur = float(np.hypot(canvas.blur, 0.12 * thickness))
    if level > 0.72:
        oblique = min(thickness * (level - 0.72) * 2.2, 3.5)
        canvas.blur = float(np.hypot(canvas.blur, oblique))
    return canvas, thickness


def _move_midline(canvas: Canvas, shift: float) -> None:
    """Move the tissue inside the skull: most in the middle, nothing where the falx holds it."""
    bend = np.exp(-((canvas.y / np.float32(48)) ** 2)) * np.exp(-((canvas.x / np.float32(60)) ** 2))
    canvas.inner_x = canvas.x - np.float32(shift) * bend


def scan_contents(
    request: SliceRequest, contents: Contents, streak_rng: np.random.Generator | None = None
) -> Phantom:
    """Scan a head; see `scan_head` for `streak_rng`."""
    head, blood = contents.head, contents.blood
    streams = request.streams
    draw_holder(head, streams(HOLDER))
    artifacts = scan_head(head, streams(SCANNER), streams(NOISE), streak_rng, contents.thickness)
    turn = streams(TURN)
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
        request.level * HEAD_HEIGHT,
        head.brain_area,
    )


def check_arguments(
    seed: int, index: int, label: int | None, size: int, subtype: str | None
) -> int:
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
