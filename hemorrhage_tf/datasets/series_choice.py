"""Choose the series of a study to predict: axial, of the head, plain, with a soft kernel.

The rules apply one after the other. Each leaves out the series that break it, unless all do: a
derived series, or one with contrast agent, is used where the study has no better one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.datasets import series_words
from hemorrhage_tf.imaging.header import Header, SeriesTags

MIN_SLICES = 8  # a head has more, unless they are thicker than 2 cm
THICKNESS = 5.0  # mm; the usual slice of a plain head CT, with the least noise
_SIMILAR_THICKNESS = 0.5  # mm
# A series of which a smaller share overlaps with the chosen one shows another part of the head.
_LEAST_OVERLAP = 0.25
_LISTED = 20


@dataclass(frozen=True)
class SeriesSummary:
    """What the choice needs to know of a series.

    Attributes:
        study: Equal for the series among which one is chosen; None to use it in any case.
        uid: The Series Instance UID, or None.
        path: The folder, or the file of several slices.
        tags: The tags that most of its files have.
        positions: float64 `(n,)` of its slices, in mm; NaN where unknown.
        thickness: The slice thickness in mm that most of its files have, or None.
    """

    study: tuple[str, ...] | None
    uid: str | None
    path: str
    tags: SeriesTags
    positions: np.ndarray
    thickness: float | None

    @property
    def slices(self) -> int:
        """The number of slices."""
        return len(self.positions)

    @property
    def spacing(self) -> float | None:
        """The slice thickness in mm, else the usual distance of the slices; None if unknown."""
        if self.thickness is not None:
            return self.thickness
        gaps = np.diff(np.unique(self.positions[np.isfinite(self.positions)]))
        return float(np.median(gaps)) if len(gaps) else None

    @property
    def repeats_positions(self) -> bool:
        """Whether most positions have several slices, as in a perfusion study."""
        known = self.positions[np.isfinite(self.positions)]
        return len(known) > 1 and 2 * len(np.unique(known)) <= len(known)


class SeriesCollector:
    """Collects what the choice needs to know of a series while its headers are read.

    Args:
        path: The folder, or the file of several slices.

    Attributes:
        tags: How many files have which tags.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.tags: Counter[SeriesTags] = Counter()
        self._thickness: Counter[float | None] = Counter()
        self._positions: list[float | None] = []

    def add(self, header: Header) -> None:
        """Add a file."""
        if header.series_tags is not None:
            self.tags[header.series_tags] += 1
        self._thickness[header.thickness] += 1
        self._positions += header.positions

    def update(self, other: SeriesCollector) -> None:
        """Add the files of another folder."""
        self.tags.update(other.tags)
        self._thickness.update(other._thickness)
        self._positions += other._positions

    def summary(self, study: tuple[str, ...] | None, uid: str | None) -> SeriesSummary:
        """Return the summary of the series; see `SeriesSummary`."""
        return SeriesSummary(
            study=study,
            uid=uid,
            path=self._path,
            tags=self.tags.most_common(1)[0][0] if self.tags else SeriesTags(),
            positions=np.array(self._positions, np.float64),
            thickness=self._thickness.most_common(1)[0][0],
        )


@dataclass(frozen=True)
class LeftOutSeries:
    """A series that was not used.

    Attributes:
        series: What `--series` accepts for it: its Series Number, or the end of its Series Instance
            UID if its study has that number twice; None if it has neither.
        path: The folder, or the file of several slices.
        slices: Number of slices.
        reason: Why it was not used, a clause.
    """

    series: str | None
    path: str
    slices: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "series": self.series,
            "path": self.path,
            "slices": self.slices,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        """Return a line for a list."""
        name = self.path if self.series is None else f"series {self.series} of {self.path}"
        count = "1 slice" if self.slices == 1 else f"{self.slices} slices"
        return f"{name} ({count}): {self.reason}"


@dataclass(frozen=True)
class SeriesChoice:
    """Which series are used.

    Attributes:
        used: Indices of the series that are used.
        unused: Indices of the other ones.
        left_out: What they are, in the same order.
    """

    used: tuple[int, ...]
    unused: tuple[int, ...]
    left_out: tuple[LeftOutSeries, ...]


class _Rule(NamedTuple):
    """A rule, and the reason to leave out a series that breaks it."""

    is_kept: Callable[[SeriesSummary], bool]
    reason: str


RULES = (
    _Rule(lambda one: one.tags.has_image, "it holds no image"),
    _Rule(lambda one: one.tags.modality in ("", "CT"), "its modality is not CT"),
    _Rule(lambda one: not series_words.is_localizer(one.tags), "a localizer, or a page of text"),
    _Rule(lambda one: one.tags.is_axial is not False, "not axial"),
    _Rule(lambda one: series_words.is_head(one.tags), "not of the head"),
    _Rule(lambda one: one.slices >= MIN_SLICES, f"fewer than {MIN_SLICES} slices"),
    _Rule(
        lambda one: series_words.is_plain(one.tags) and not one.repeats_positions,
        "with contrast agent, an angiography or a perfusion study",
    ),
    _Rule(lambda one: series_words.is_original(one.tags), "derived from another series"),
    _Rule(lambda one: not series_words.is_sharp(one.tags), "a sharp kernel, as for bone"),
)


def choose_series(series: Sequence[SeriesSummary], requested: Iterable[str] = ()) -> SeriesChoice:
    """Choose the series to use, one of each study.

    Further series of a study are used where they show another part of the head than the chosen one,
    as if a scanner made one series of the base and one of the vertex.

    Args:
        series: All series, in their order.
        requested: Series Numbers, Series Instance UIDs or ends of these, which override the rules.
            Defaults to none.

    Raises:
        OptionError: A requested series does not exist, or several fit.
    """
    labels = _labels(series)
    requested = tuple(requested)
    if requested:
        used = _find_requested(series, labels, requested)
        reasons = dict.fromkeys(set(range(len(series))) - used, "not passed as --series")
    else:
        reasons = {}
        studies: dict[tuple[str, ...], list[int]] = {}
        for index, one in enumerate(series):
            if one.study is not None:
                studies.setdefault(one.study, []).append(index)
        for members in studies.values():
            reasons.update(_choose_within(series, labels, members))
    unused = sorted(reasons)
    return SeriesChoice(
        used=tuple(index for index in range(len(series)) if index not in reasons),
        unused=tuple(unused),
        left_out=tuple(
            LeftOutSeries(labels[index], series[index].path, series[index].slices, reasons[index])
            for index in unused
        ),
    )


def _choose_within(
    series: Sequence[SeriesSummary], labels: Sequence[str | None], members: Sequence[int]
) -> dict[int, str]:
    """Return why each series of a study that is not used is left out."""
    reasons: dict[int, str] = {}
    left = list(members)
    for rule in RULES:
        kept = [index for index in left if rule.is_kept(series[index])]
        if kept:
            reasons.update({index: rule.reason for index in left if index not in kept})
            left = kept
    left.sort(key=lambda index: _preference(series[index]))
    used = left[:1]
    for index in left[1:]:
        if all(_shows_another_part(series[index], series[other]) for other in used):
            used.append(index)
        else:
            best = labels[used[0]]
            name = series[used[0]].path if best is None else f"series {best}"
            reasons[index] = _why_second(series[index], series[used[0]], name)
    return reasons


def _preference(one: SeriesSummary) -> tuple[float, ...]:
    """Return a key by which the best of equal series comes first; sorting keeps their order."""
    number = np.inf if one.tags.number is None else one.tags.number
    return (_distance_to_usual(one), -one.slices, number)


def _distance_to_usual(one: SeriesSummary) -> float:
    """Return how far the thickness is from the usual one, in steps that count."""
    spacing = one.spacing
    return np.inf if spacing is None else abs(spacing - THICKNESS) // _SIMILAR_THICKNESS


def _why_second(one: SeriesSummary, best: SeriesSummary, name: str) -> str:
    """Explain why a series that no rule leaves out comes after the best one."""
    if _distance_to_usual(one) > _distance_to_usual(best):
        own = "of unknown thickness" if one.spacing is None else f"{one.spacing:.3g} mm thick"
        return f"its slices are {own}; those of {name} are closer to {THICKNESS:g} mm"
    if one.slices < best.slices:
        return f"otherwise equal to {name}, which has more slices"
    if _preference(one) > _preference(best):
        return f"equal to {name}, which has the lower series number"
    return f"equal to {name}, which comes first"


def _shows_another_part(one: SeriesSummary, other: SeriesSummary) -> bool:
    """Return whether the slices of two series of one study lie in different parts of the head."""
    frame = one.tags.frame_of_reference
    if frame is None or frame != other.tags.frame_of_reference:
        return False
    if not (np.isfinite(one.positions).all() and np.isfinite(other.positions).all()):
        return False
    bottom, top = one.positions.min(), one.positions.max()
    common = min(top, other.positions.max()) - max(bottom, other.positions.min())
    return bool(common < _LEAST_OVERLAP * (top - bottom))


def _labels(series: Sequence[SeriesSummary]) -> list[str | None]:
    """Return what names each series: its number, or the end of its UID where this is ambiguous."""
    uids = {one.uid for one in series if one.uid}
    numbers = Counter((one.study, one.tags.number) for one in series)
    labels: list[str | None] = []
    for one in series:
        if one.tags.number is not None and numbers[one.study, one.tags.number] == 1:
            labels.append(str(one.tags.number))
        else:
            labels.append(one.uid and _shortest_end(one.uid, uids))
    return labels


def _shortest_end(uid: str, uids: set[str]) -> str:
    """Return the shortest end of a UID that no other one has, of two components or more."""
    parts = uid.split(".")
    for count in range(2, len(parts) + 1):
        end = ".".join(parts[-count:])
        if sum(other.endswith(end) for other in uids) == 1:
            return end
    return uid


def _find_requested(
    series: Sequence[SeriesSummary], labels: Sequence[str | None], requested: Sequence[str]
) -> set[int]:
    """Return the indices of the requested series."""
    uids = {one.uid for one in series if one.uid}
    used: set[int] = set()
    problems = []
    for text in requested:
        found = _matching(series, text.strip())
        ambiguous = _ambiguous(series, found, text.strip())
        if ambiguous:
            ends = ", ".join(_shortest_end(uid, uids) for uid in sorted(ambiguous))
            problems.append(f"--series {text}: {len(ambiguous)} series fit ({ends})")
        elif not found:
            problems.append(f"--series {text}: no such series")
        used.update(found)
    if problems:
        known = list(dict.fromkeys(label for label in labels if label))
        more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
        raise OptionError(
            f"{'; '.join(problems)}. Pass a Series Number, a Series Instance UID, or an end of one "
            f"that no other series has: {', '.join(known[:_LISTED]) or 'there is none'}{more}."
        )
    return used


def _matching(series: Sequence[SeriesSummary], text: str) -> list[int]:
    """Return the series of a number, else that of a UID, else those whose UID ends so."""
    tests: tuple[Callable[[SeriesSummary], bool], ...] = (
        lambda one: str(one.tags.number) == text,
        lambda one: one.uid == text,
        lambda one: bool(text) and (one.uid or "").endswith(text),
    )
    for fits in tests:
        found = [index for index, one in enumerate(series) if fits(one)]
        if found:
            return found
    return []


def _ambiguous(series: Sequence[SeriesSummary], found: Sequence[int], text: str) -> set[str]:
    """Return the UIDs that fit a text that should mean one series; of each study if a number."""
    uids: dict[tuple[str, ...] | None, set[str]] = {}
    for index in found:
        one = series[index]
        scope = one.study if str(one.tags.number) == text else None
        uids.setdefault(scope, set()).add(one.uid or "")
    return next((each for each in uids.values() if len(each) > 1), set())


def describe_choice(series: Sequence[SeriesSummary], choice: SeriesChoice) -> tuple[str, str]:
    """Describe which series are used.

    Returns:
        A sentence without names; and the list of the series, which may name patients.
    """
    labels = _labels(series)
    lines = ["Used:"]
    for index in choice.used[:_LISTED]:
        one = series[index]
        name = one.path if labels[index] is None else f"series {labels[index]} of {one.path}"
        lines.append(f"  {name} ({one.slices} slices)")
    if len(choice.used) > _LISTED:
        lines.append(f"  and {len(choice.used) - _LISTED} more")
    lines.append("Left out:")
    lines += [f"  {one}" for one in choice.left_out[:_LISTED]]
    if len(choice.left_out) > _LISTED:
        lines.append(f"  and {len(choice.left_out) - _LISTED} more")
    text = (
        f"Chose {len(choice.used)} of {len(series)} series. Pass --series NUMBER (series=NUMBER) "
        "to use others."
    )
    return text, "\n" + "\n".join(lines)
