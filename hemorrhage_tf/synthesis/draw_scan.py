"""Draw phantom scans: all slices of one synthetic head, with at most one hemorrhage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.anatomy import draw_head
from hemorrhage_tf.synthesis.draw import (
    BLOOD,
    DEFAULT_SIZE,
    GENERATOR_VERSION,
    HEAD_HEIGHT,
    LEVEL,
    LOWEST_LEVEL,
    MIMICS,
    NOISE,
    SCAN,
    SMALLEST_SIZE,
    STREAKS,
    Phantom,
    SliceRequest,
    check_arguments,
    draw_contents,
    place_head,
    scan_contents,
)
from hemorrhage_tf.synthesis.hemorrhage import (
    FOSSA_TOP,
    SUBTYPES,
    Plan,
    draw_plan,
    level_for,
    reach_of,
)

THINNEST, THICKEST = 0.6, 10.0  # mm
# From the first to the last slice, in mm: at most from the shoulders to the vertex.
SMALLEST_COVERAGE, LARGEST_COVERAGE = 40.0, (1 - LOWEST_LEVEL) * HEAD_HEIGHT

# Level of the first slice of most scans, and the share of those that begin below.
_USUAL_START, _NECK_SHARE = (-0.35, 0.05), 1 / 3
_LOWEST_END = 0.35  # least level of a scan's last slice: it shows brain
_LOWEST_HEMORRHAGE = -0.03  # level, where the posterior fossa ends

# How often the hemorrhage is planned again if it is not visible, for each subtype in turn.
_TRIES = 10
_ROUNDS = 6

# A mimic of a scan extends over some of its slices.
_MIMIC_EXTENT = 20.0  # mm
# Distance of the slices in which a plan is tried first.
_PROBE_DISTANCE = 2.5  # mm

_THINNEST_BY_CHANCE = 2.5  # mm; scans of thinner slices take long to draw


def draw_phantom_scan(
    seed: int,
    index: int,
    label: int | None = None,
    *,
    size: int = DEFAULT_SIZE,
    thickness: float | None = None,
    count: int | None = None,
) -> tuple[Phantom, ...]:
    """Draw all slices of one head, one slice thickness apart, from the neck or base to the vertex.

    Most scans begin 50 mm below the skull base to 8 mm above it, and a third of them in the neck,
    down to the upper edge of the shoulders. Slices of the face and neck have no `brain_area`.
    Proportions of the head, scanner and holder are the same in all slices. A mimic extends over
    some consecutive slices, and so does the only hemorrhage, which is largest in its middle. Their
    extents in mm do not depend on the thickness.

    Args:
        seed: Random seed of the set, 0 or more.
        index: Index of the scan in the set, 0 or more.
        label: 1 for a hemorrhage in some of the slices, 0 for none; None for 1 at odd indices.
            Defaults to None.
        size: Side of a slice in pixels, 64 to 512. Defaults to 512.
        thickness: Slice thickness, 0.6 to 10 mm, with the noise that belongs to it; None for a
            random one of 2.5 mm or more. Defaults to None.
        count: Number of slices. They cover 40 to 300 mm and begin at a random height, and at least
            the upper ones show brain; None for all slices up to the vertex. Defaults to None.

    Returns:
        The phantoms, 14 to 120 by default. The label of each is 1 if that slice has blood.

    Raises:
        OptionError: An argument is not accepted.

    Example:
        >>> import hemorrhage_tf as htf
        >>> scan = htf.draw_phantom_scan(seed=0, index=1, size=64)
        >>> len({phantom.thickness for phantom in scan})
        1
        >>> any(phantom.label for phantom in scan)
        True
        >>> len(htf.draw_phantom_scan(seed=0, index=0, size=64, thickness=5.0, count=20))
        20
    """
    label = check_arguments(seed, index, label, size, None)
    scan = _ScanRequest.create(seed, index, size, thickness, count)
    bleeding = _draw_scan_hemorrhage(scan) if label else {}
    return tuple(
        bleeding[number] if number in bleeding else scan.draw_normal_slice(number)
        for number in range(len(scan.levels))
    )


def draw_scan_pair(
    seed: int, index: int, size: int, thickness: float, count: int
) -> tuple[tuple[Phantom, ...], tuple[Phantom, ...]]:
    """Draw the same head without and with a hemorrhage, see `draw_phantom_scan`.

    Returns:
        Both scans. Slices without blood are the same objects in both.
    """
    check_arguments(seed, index, None, size, None)
    scan = _ScanRequest.create(seed, index, size, thickness, count)
    normal = tuple(scan.draw_normal_slice(number) for number in range(count))
    bleeding = _draw_scan_hemorrhage(scan)
    return normal, tuple(bleeding.get(number, normal[number]) for number in range(count))


@dataclass(frozen=True, slots=True)
class _ScanRequest:
    """One head, of which all slices are drawn.

    Attributes:
        stream: Returns the random generator of a key.
        size: Side of a slice in pixels.
        thickness: Slice thickness, in mm.
        levels: Level of each slice.
        center_range: Lowest and highest level of the hemorrhage's center.
        subtypes: Subtypes of the hemorrhage in the order in which they are tried.
    """

    stream: Callable[..., np.random.Generator]
    size: int
    thickness: float
    levels: np.ndarray
    center_range: tuple[float, float]
    subtypes: np.ndarray

    @classmethod
    def create(
        cls, seed: int, index: int, size: int, thickness: float | None, count: int | None
    ) -> _ScanRequest:
        """Draw what is not given: the slice thickness and the levels of a scan."""

        def stream(*key: int) -> np.random.Generator:
            return np.random.default_rng([GENERATOR_VERSION, seed, index, SCAN, *key])

        if thickness is None:
            request = SliceRequest(stream, 0.5, 0, SMALLEST_SIZE)
            thickness = max(place_head(request, stream(BLOOD))[2], _THINNEST_BY_CHANCE)
        _check_field(thickness, count)
        rng = stream(LEVEL)
        in_neck = rng.random() < _NECK_SHARE
        first = (
            rng.uniform(LOWEST_LEVEL, _USUAL_START[0]) if in_neck else rng.uniform(*_USUAL_START)
        )
        levels = np.arange(first, 1.0, thickness / HEAD_HEIGHT)
        subtypes = rng.permutation(SUBTYPES)
        if count is not None:
            covered = (count - 1) * thickness / HEAD_HEIGHT
            highest = 1 - covered
            lowest = max(min(first, highest), _LOWEST_END - covered, LOWEST_LEVEL)
            levels = rng.uniform(lowest, highest) + np.arange(count) * thickness / HEAD_HEIGHT
        center_range = max(float(levels[0]), 0.0), float(levels[-1])
        return cls(stream, size, thickness, levels, center_range, subtypes)

    def draw_normal_slice(self, number: int) -> Phantom:
        """Draw one slice without a hemorrhage."""
        phantom = self.draw_slice(number, None)
        assert phantom is not None  # only a hemorrhage may be invisible
        return phantom

    def draw_slice(self, number: int, plan: Plan | None) -> Phantom | None:
        """Draw one slice; return None if a planned hemorrhage would not be visible in it."""

        def streams(stream: int) -> np.random.Generator:
            if stream == MIMICS:
                return self.stream(stream, int(number * self.thickness / _MIMIC_EXTENT))
            return self.stream(stream, number) if stream == NOISE else self.stream(stream)

        request = SliceRequest(
            streams,
            float(self.levels[number]),
            int(plan is not None),
            self.size,
            plan=plan,
            thickness=self.thickness,
        )
        contents = draw_contents(request)
        return None if contents is None else scan_contents(request, contents, self.stream(STREAKS))


@dataclass(frozen=True, slots=True)
class _ScanHemorrhage:
    """The plan of a scan's hemorrhage.

    Attributes:
        plan: Its subtype, side, place, and its extent in the middle.
        middle: Level of its center.
        reach: How far it reaches up and down from its center, in units of the level.
        numbers: int64, the slices that it may be visible in.
    """

    plan: Plan
    middle: float
    reach: float
    numbers: np.ndarray


def _draw_scan_hemorrhage(scan: _ScanRequest) -> dict[int, Phantom]:
    """Draw the slices of a scan that show its hemorrhage, by their numbers."""
    for attempt in range(_ROUNDS * _TRIES * len(SUBTYPES)):
        visible = _draw_visible_slices(scan, _plan_hemorrhage(scan, attempt))
        if visible:  # the longest run of consecutive slices is the hemorrhage
            numbers = np.array(sorted(visible))
            runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
            return {int(number): visible[number] for number in max(runs, key=len)}
    # At least one attempt in four gives a visible hemorrhage, and one in ten at the skull base.
    raise AssertionError("no hemorrhage could be drawn")


def _plan_hemorrhage(scan: _ScanRequest, attempt: int) -> _ScanHemorrhage:
    """Choose a hemorrhage and its place in the head."""
    rng = scan.stream(BLOOD, attempt)
    # Some heads have no room for some subtypes: slit ventricles, for one.
    subtype = str(scan.subtypes[attempt // _TRIES % len(SUBTYPES)])
    middle = level_for(subtype, rng, scan.center_range)
    head = place_head(SliceRequest(scan.stream, middle, 0, SMALLEST_SIZE), rng)[0]
    plan = draw_plan(subtype, middle, rng, head.impact)
    reach = max(reach_of(plan, rng), 0.6 * scan.thickness) / HEAD_HEIGHT
    draw_head(head)
    shallowest, deepest = (0.5, 10.0) if subtype == "subarachnoid" else (5.0, 70.0)
    place = head.random_place(rng, shallowest, deepest)
    plan = replace(plan, place=place)
    if subtype == "intraparenchymal" and place is not None:
        # It pushes the midline to the other side.
        plan = replace(plan, side=1 if place[0] > 0 else -1)
    within = (np.abs(scan.levels - middle) <= reach) & (scan.levels > _LOWEST_HEMORRHAGE)
    if subtype == "epidural":  # it does not cross the tentorium
        within &= (scan.levels < FOSSA_TOP) == (middle < FOSSA_TOP)
    return _ScanHemorrhage(plan, middle, reach, np.flatnonzero(within))


def _draw_visible_slices(scan: _ScanRequest, hemorrhage: _ScanHemorrhage) -> dict[int, Phantom]:
    """Draw the slices in which a planned hemorrhage is visible, by their numbers."""
    # Thin slices take long to draw, so a few of them are tried first.
    probes = hemorrhage.numbers[:: max(1, int(_PROBE_DISTANCE / scan.thickness))]
    visible: dict[int, Phantom] = {}
    for numbers in (probes, np.setdiff1d(hemorrhage.numbers, probes)):
        for number in numbers:
            away = (scan.levels[number] - hemorrhage.middle) / hemorrhage.reach
            share = float(np.sqrt(1 - away**2))  # its cross sections are those of a ball
            plan = replace(hemorrhage.plan, share=share)
            phantom = scan.draw_slice(int(number), plan)
            if phantom is not None:
                visible[int(number)] = phantom
        if not visible:
            break
    return visible


def _check_field(thickness: float, count: int | None) -> None:
    """Check that slices of a thickness in mm lie in the head, and cover enough of it."""
    if not THINNEST <= thickness <= THICKEST:
        raise OptionError(
            f"thickness {thickness:g}: out of range. Pass {THINNEST:g} to {THICKEST:g} mm."
        )
    if count is None:
        return
    covered = (count - 1) * thickness
    if not SMALLEST_COVERAGE <= covered <= LARGEST_COVERAGE:
        fewest = math.ceil(SMALLEST_COVERAGE / thickness) + 1
        most = math.floor(LARGEST_COVERAGE / thickness) + 1
        raise OptionError(
            f"count {count}: slices of {thickness:g} mm would cover {covered:g} mm, but "
            f"{SMALLEST_COVERAGE:g} to {LARGEST_COVERAGE:g} mm are accepted. "
            f"Pass {fewest} to {most}."
        )
