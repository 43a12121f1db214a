"""The result of an audit: what was found, and the conclusions in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hemorrhage_tf.auditing.shortcuts import Shortcut
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.evaluation.intervals import Interval

SIGNIFICANCE = 0.05


SAME_PIXELS = "same pixels"


ALIKE = "alike"


@dataclass(frozen=True)
class Pair:
    """Two slices that show the same picture.

    Attributes:
        first: path of the one, as outputs show it.
        second: path of the other.
        relation: "same pixels", "alike", or alike after a change: "alike, flipped left to right",
            "alike, cropped", "alike, cropped and flipped left to right".
        correlation: of their thumbnails, in [-1, 1].
        first_size: width and height of the first, in pixels.
        second_size: width and height of the second.
        first_label: label of the first.
        second_label: label of the second.
        across_split: whether the manifest's split column puts one in train and one in test.
    """

    first: str
    second: str
    relation: str
    correlation: float
    first_size: tuple[int, int]
    second_size: tuple[int, int]
    first_label: int
    second_label: int
    across_split: bool

    @property
    def contradicting(self) -> bool:
        """Whether the two have different labels."""
        return self.first_label != self.second_label


@dataclass(frozen=True)
class Patients:
    """How the labels are spread over the patients; no patient is named.

    Attributes:
        count: how many patients the manifest names.
        unnamed: slices without a patient.
        with_hemorrhage: patients whose slices all have label 1.
        without: patients whose slices all have label 0.
        with_both: patients with slices of both labels.
        across_split: patients that the manifest's split column puts on both sides.
        median_slices: slices per patient, the median; None without patients.
        most_slices: the most that one patient has.
    """

    count: int
    unnamed: int
    with_hemorrhage: int
    without: int
    with_both: int
    across_split: int
    median_slices: float | None
    most_slices: int


@dataclass(frozen=True)
class Storage:
    """One way in which the pixels of some slices are stored.

    Attributes:
        file_format: "PNG", "JPEG", "DICOM" or "NIfTI".
        mode: color mode, by Pillow's name.
        bits: per sample.
        hemorrhage: how many of these slices have label 1.
        normal: how many have label 0.
        paths: of the slices; none for the way that most are stored in.
    """

    file_format: str
    mode: str
    bits: int
    hemorrhage: int
    normal: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How one property that is not anatomy differs between the classes.

    Attributes:
        name: the property.
        hemorrhage: what it is in slices with hemorrhage: median and quartiles, or counts.
        normal: what it is in the others.
        measure: what `effect` is: "AUC" of a number, 0.5 for none, or "V" (Cramer's) of a kind, 0
            for none.
        effect: how far it tells the classes apart; an AUC above 0.5 is more with hemorrhage.
        p: p-value of the Mann-Whitney test or of the chi-squared test (Fisher's exact test where
            there are two kinds); duplicates and slices of one patient count once.
        p_adjusted: after Holm, over all the properties.
    """

    name: str
    hemorrhage: str
    normal: str
    measure: str
    effect: float
    p: float
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether chance alone hardly gives such a difference."""
        return self.p_adjusted < SIGNIFICANCE


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        root: the folder that paths are shown relative to.
        layout: of the manifest.
        slices: how many could be read.
        hemorrhage: how many of these have label 1.
        groups: how many groups there are of slices that belong together.
        problems: files that cannot be read, and rows that cannot be used.
        pairs: slices that show the same picture, the most alike first.
        patients: how the labels are spread over the patients.
        storage: the ways in which the pixels are stored, the most common first.
        differences: properties that are not anatomy, the clearest first.
        unvaried: the properties that are the same in all slices, with their value.
        shortcuts: the shortcut baselines.
        audited: how many slices the baselines rest on, fewer than `slices` in a large set.
        notes: what rests on a part of a large set only.
    """

    root: str
    layout: str
    slices: int
    hemorrhage: int
    groups: int
    problems: tuple[Problem, ...]
    pairs: tuple[Pair, ...]
    patients: Patients
    storage: tuple[Storage, ...]
    differences: tuple[Difference, ...]
    unvaried: dict[str, str]
    shortcuts: tuple[Shortcut, ...]
    audited: int
    notes: tuple[str, ...] = ()

    @property
    def best_shortcut(self) -> Shortcut | None:
        """The shortcut with the largest area, to stand beside a model's own; None without one."""
        found = [each for each in self.shortcuts if each.roc_auc is not None]
        return max(found, key=lambda each: each.roc_auc.estimate, default=None)

    @property
    def leaks(self) -> bool:
        """Whether something that is not anatomy tells the classes apart: what `--strict` fails."""
        return any(each.above_chance and not each.anatomy for each in self.shortcuts)

    @property
    def conclusions(self) -> list[str]:
        """What was found, in plain sentences."""
        return [
            *_said_of_files(self),
            *_said_of_classes(self),
            *_said_of_shortcuts(self),
            *self.notes,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON, without NaN."""
        best = self.best_shortcut
        return {
            "root": self.root,
            "layout": self.layout,
            "slices": self.slices,
            "hemorrhage": self.hemorrhage,
            "normal": self.slices - self.hemorrhage,
            "groups": self.groups,
            "audited": self.audited,
            "problems": [asdict(each) for each in self.problems],
            "pairs": [
                {
                    **asdict(each),
                    "first_size": list(each.first_size),
                    "second_size": list(each.second_size),
                    "contradicting": each.contradicting,
                }
                for each in self.pairs
            ],
            "patients": asdict(self.patients),
            "storage": [{**asdict(each), "paths": list(each.paths)} for each in self.storage],
            "differences": [
                {**asdict(each), "significant": each.significant} for each in self.differences
            ],
            "unvaried": dict(self.unvaried),
            "shortcuts": [
                {
                    **asdict(each),
                    "roc_auc": each.roc_auc and each.roc_auc.to_dict(),
                    "above_chance": each.above_chance,
                }
                for each in self.shortcuts
            ],
            "best_shortcut": best and best.name,
            "leaks": self.leaks,
            "conclusions": self.conclusions,
        }


def short(audit: Audit) -> list[str]:
    """Says in one to four lines what stands at the start of a fit.

    Args:
        audit: the audit.
    """
    contradicting = sum(each.contradicting for each in audit.pairs)
    lines = []
    if audit.problems:
        lines.append(f"{_counted(len(audit.problems), 'file or row', 'files or rows')} unusable.")
    if audit.pairs:
        exact = sum(each.relation == SAME_PIXELS for each in audit.pairs)
        line = (
            f"{_counted(exact, 'pair')} of slices with the same pixels, "
            f"{len(audit.pairs) - exact} that look alike"
        )
        lines.append(
            line + (f"; {contradicting} with contradicting labels." if contradicting else ".")
        )
    clear = [each for each in audit.differences if each.significant]
    if clear:
        lines.append(
            "The classes differ in what is not anatomy: "
            + ", ".join(each.name for each in clear[:5])
            + (f" and {len(clear) - 5} more." if len(clear) > 5 else ".")
        )
    best = audit.best_shortcut
    if best is not None:
        free = [each for each in audit.shortcuts if not each.anatomy and each.roc_auc is not None]
        lines.append(
            "Shortcuts: "
            + "".join(f"{each.name} alone {_area_said(each.roc_auc)}; " for each in free)
            + f"the best of all is {best.name}, {_area_said(best.roc_auc)}."
        )
    return lines


# How it is said.


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _area_said(area: Interval) -> str:
    return f"AUC {area.estimate:.2f} ({area.low:.2f} to {area.high:.2f})"


def _said_of_files(audit: Audit) -> Iterable[str]:
    if audit.problems:
        found = _counted(len(audit.problems), "file or row", "files or rows")
        yield f"{found} cannot be used."
    exact = sum(each.relation == SAME_PIXELS for each in audit.pairs)
    alike = len(audit.pairs) - exact
    if exact:
        yield f"{_counted(exact, 'pair')} of slices with the same pixels."
    if alike:
        yield (
            f"{_counted(alike, 'pair')} of slices that look alike: the same picture at another "
            "size, flipped or cropped, or neighbors of one scan. What stands on both sides of a "
            "split flatters the model."
        )
    contradicting = sum(each.contradicting for each in audit.pairs)
    if contradicting:
        yield f"{_counted(contradicting, 'pair')} of these with contradicting labels."
    across = sum(each.across_split for each in audit.pairs)
    if across:
        yield f"{_counted(across, 'pair')} of these on both sides of the split column."
    if audit.patients.across_split:
        found = _counted(audit.patients.across_split, "patient")
        yield f"{found} on both sides of the split column."


def _said_of_classes(audit: Audit) -> Iterable[str]:
    patients = audit.patients
    if not audit.slices:
        yield "No slice could be read, so that there is nothing to compare."
        return
    if not patients.count:
        yield (
            "The manifest names no patients: slices of one patient may stand on both sides of a "
            "split."
        )
    elif patients.with_both == 0 and patients.most_slices > 1:
        yield (
            "No patient has slices of both labels: what tells patients apart tells the classes "
            "apart."
        )
    if audit.hemorrhage in (0, audit.slices):
        yield "All slices have the same label, so that there is nothing to compare."
        return
    clear = [each.name for each in audit.differences if each.significant]
    if clear:
        yield "The classes differ in what is not anatomy: " + ", ".join(clear) + "."


def _said_of_shortcuts(audit: Audit) -> Iterable[str]:
    for each in audit.shortcuts:
        if each.anatomy or each.roc_auc is None:
            continue
        several, area = " and " in each.name, _area_said(each.roc_auc)
        name = each.name.capitalize() if several else f"The {each.name}"
        if each.above_chance:
            yield (
                f"{name} alone {'tell' if several else 'tells'} the classes apart: {area}. A model "
                "can score that well without looking at the brain."
            )
        else:
            verb = "do" if several else "does"
            yield f"{name} alone {verb} not tell the classes apart: {area}."
    best = audit.best_shortcut
    if best is not None:
        yield (
            f"The best shortcut is {best.name}, {_area_said(best.roc_auc)}: a model has learned "
            "something only where it does clearly better."
        )
    missing = {each.reason for each in audit.shortcuts if each.roc_auc is None}
    if audit.shortcuts and len(missing) == 1 and best is None:
        yield f"There is no shortcut baseline: {missing.pop()}."
