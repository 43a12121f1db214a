"""The result of an audit, and its conclusions in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hemorrhage_tf.auditing.class_differences import Difference
from hemorrhage_tf.auditing.duplicate_pairs import EXACT_DUPLICATE
from hemorrhage_tf.auditing.shortcuts import Shortcut
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets.same_image import describe_alike
from hemorrhage_tf.evaluation.intervals import Interval, plain_interval


@dataclass(frozen=True)
class Pair:
    """Two slices that are duplicates.

    Attributes:
        first: Path of the first slice.
        second: Path of the second.
        relation: "exact duplicate", "near-duplicate", or a near-duplicate after a change:
            "near-duplicate, flipped left to right", "near-duplicate, cropped",
            "near-duplicate, cropped and flipped left to right".
        correlation: Of their thumbnails, in [-1, 1].
        first_size: Width and height of the first, in pixels.
        second_size: Width and height of the second.
        first_label: Label of the first.
        second_label: Label of the second.
        across_split: Whether the split column of the manifest puts one in train and one in test.
        same_patient: Whether both are of one patient, None where that is unknown. Defaults to None.
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
    same_patient: bool | None = None

    @property
    def is_exact(self) -> bool:
        """Whether both have the same pixels."""
        return self.relation == EXACT_DUPLICATE

    @property
    def contradicting(self) -> bool:
        """Whether the two have different labels and should not.

        Near-duplicates of one patient are mostly neighbors in a scan, of which one may be the last
        that shows a hemorrhage.
        """
        is_neighbor = self.same_patient is True and not self.is_exact
        return self.first_label != self.second_label and not is_neighbor


@dataclass(frozen=True)
class Patients:
    """Counts of patients and of their labels; no patient is named.

    Attributes:
        count: Number of patients in the manifest.
        unnamed: Number of slices without a patient.
        with_hemorrhage: Number of patients whose slices all have label 1.
        without: Number of patients whose slices all have label 0.
        with_both: Number of patients with slices of both labels.
        across_split: Number of patients that the split column puts on both sides.
        median_slices: Median number of slices per patient; None without patients.
        most_slices: Largest number of slices of one patient.
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
    """Slices that are stored in the same way.

    Attributes:
        file_format: "PNG", "JPEG", "DICOM" or "NIfTI".
        mode: Color mode, by Pillow's name.
        bits: Per sample.
        hemorrhage: Number of these slices with label 1.
        normal: Number of these slices with label 0.
        paths: Of the slices; empty for the most common way.
    """

    file_format: str
    mode: str
    bits: int
    hemorrhage: int
    normal: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        root: Folder that paths are relative to.
        layout: Of the manifest.
        slices: Number of readable slices.
        hemorrhage: Number of these with label 1.
        groups: Number of groups of slices that belong together.
        problems: Unreadable files and unusable rows.
        pairs: Duplicates, exact ones first, then by falling correlation.
        patients: Counts of patients and of their labels.
        storage: Ways in which the pixels are stored, the most common first.
        differences: Properties other than anatomy, the smallest p-value first.
        unvaried: Properties that are the same in all slices, with their value.
        shortcuts: The shortcut baselines.
        audited: Number of slices that the baselines use, fewer than `slices` in a large set.
        alike: Number of pairs of different patients that look alike; they are kept apart.
        same_image_limit: From which correlation of the fine structure two patients' slices are
            the same image; None without two patients.
        notes: Which results of a large set come from a part of it only.

    Example:
        >>> import hemorrhage_tf as htf
        >>> audit = htf.audit("head_ct", quiet=True)
        >>> isinstance(audit, htf.Audit), audit.slices, audit.hemorrhage
        (True, 24, 12)
        >>> [shortcut.name for shortcut in audit.shortcuts][:2]
        ['size, mode and format', 'border']
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
    alike: int = 0
    same_image_limit: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def best_shortcut(self) -> Shortcut | None:
        """The shortcut with the largest area, to compare a model with; None without one."""
        areas = {
            index: shortcut.roc_auc.estimate
            for index, shortcut in enumerate(self.shortcuts)
            if shortcut.roc_auc is not None
        }
        return self.shortcuts[max(areas, key=areas.__getitem__)] if areas else None

    @property
    def leaks(self) -> bool:
        """Whether a property other than anatomy predicts the label; `--strict` then fails."""
        return any(each.above_chance and not each.anatomy for each in self.shortcuts)

    @property
    def conclusions(self) -> list[str]:
        """The conclusions, in sentences."""
        return [
            *_file_conclusions(self),
            *_class_conclusions(self),
            *_shortcut_conclusions(self),
            *self.notes,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without NaN."""
        best = self.best_shortcut
        return {
            "root": self.root,
            "layout": self.layout,
            "slices": self.slices,
            "hemorrhage": self.hemorrhage,
            "normal": self.slices - self.hemorrhage,
            "groups": self.groups,
            "audited": self.audited,
            "alike": self.alike,
            "same_image_limit": self.same_image_limit,
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
                    "roc_auc": plain_interval(each.roc_auc),
                    "above_chance": each.above_chance,
                }
                for each in self.shortcuts
            ],
            "best_shortcut": best and best.name,
            "leaks": self.leaks,
            "conclusions": self.conclusions,
        }


def best_shortcut_metric(audit: Audit | None) -> dict[str, Any] | None:
    """Return the entry `best_shortcut` of `metrics.json`, or None without a shortcut baseline."""
    best = None if audit is None else audit.best_shortcut
    return None if best is None else {"name": best.name, "roc_auc": plain_interval(best.roc_auc)}


def summarize_audit(audit: Audit) -> list[str]:
    """Return the summary that `fit` prints first, at most four lines."""
    lines = []
    if audit.problems:
        lines.append(f"{_count(len(audit.problems), 'file or row', 'files or rows')} unusable.")
    if audit.pairs:
        exact = sum(each.is_exact for each in audit.pairs)
        contradicting = sum(each.contradicting for each in audit.pairs)
        line = (
            f"{_count(exact, 'pair')} of exact duplicates, "
            f"{_count(len(audit.pairs) - exact, 'pair')} of near-duplicates"
        )
        lines.append(
            line + (f"; {contradicting} with contradicting labels." if contradicting else ".")
        )
    clear = [each.name for each in audit.differences if each.significant]
    if clear:
        lines.append(
            "The classes differ in properties other than anatomy: "
            + ", ".join(clear[:5])
            + (f" and {len(clear) - 5} more." if len(clear) > 5 else ".")
        )
    best = audit.best_shortcut
    if best is not None and best.roc_auc is not None:
        parts = [
            f"{each.name} alone {_format_area(each.roc_auc)}"
            for each in audit.shortcuts
            if not each.anatomy and each.roc_auc is not None
        ]
        parts.append(f"the best is {best.name}, {_format_area(best.roc_auc)}")
        lines.append(f"Shortcuts: {'; '.join(parts)}.")
    return lines


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _format_area(area: Interval) -> str:
    return f"AUC {area.estimate:.2f} ({area.low:.2f} to {area.high:.2f})"


def _file_conclusions(audit: Audit) -> Iterable[str]:
    if audit.problems:
        yield f"{_count(len(audit.problems), 'file or row', 'files or rows')} cannot be used."
    exact = sum(each.is_exact for each in audit.pairs)
    near = len(audit.pairs) - exact
    if exact:
        yield f"{_count(exact, 'pair')} of exact duplicates."
    if near:
        yield (
            f"{_count(near, 'pair')} of near-duplicates: the same slice at another size, flipped "
            "or cropped, or neighbors in one scan. If a split separates such a pair, the metrics "
            "are optimistic."
        )
    yield from describe_alike(audit.alike, audit.same_image_limit)
    names = sum(each.same_patient is False for each in audit.pairs)
    if names:
        verb = "is" if names == 1 else "are"
        yield (
            f"{_count(names, 'duplicate pair')} {verb} of different patients: the same image under "
            "two names. These patients form one group."
        )
    contradicting = sum(each.contradicting for each in audit.pairs)
    if contradicting:
        verb = "has" if contradicting == 1 else "have"
        yield f"{_count(contradicting, 'duplicate pair')} {verb} contradicting labels."
    across = sum(each.across_split for each in audit.pairs)
    if across:
        verb = "is" if across == 1 else "are"
        yield (
            f"{_count(across, 'duplicate pair')} {verb} separated by the split column: metrics on "
            "this split are optimistic."
        )
    if audit.patients.across_split:
        verb = "is" if audit.patients.across_split == 1 else "are"
        yield (
            f"{_count(audit.patients.across_split, 'patient')} {verb} on both sides of the split "
            "column: metrics on this split are optimistic."
        )


def _class_conclusions(audit: Audit) -> Iterable[str]:
    patients = audit.patients
    if not audit.slices:
        yield "No slice could be read, so there is nothing to compare."
        return
    if not patients.count:
        yield (
            "The manifest names no patients: slices of one patient may be on both sides of a split."
        )
    elif patients.with_both == 0 and patients.most_slices > 1:
        yield (
            "No patient has slices of both labels: a model can predict the label by recognizing "
            "patients."
        )
    if audit.hemorrhage in (0, audit.slices):
        yield "All slices have the same label, so there is nothing to compare."
        return
    clear = [each.name for each in audit.differences if each.significant]
    if clear:
        yield (
            f"The classes differ in properties other than anatomy: {', '.join(clear)}. Test a "
            "model for shortcut features."
        )


def _shortcut_conclusions(audit: Audit) -> Iterable[str]:
    for each in audit.shortcuts:
        if each.anatomy or each.roc_auc is None:
            continue
        is_plural, area = " and " in each.name, _format_area(each.roc_auc)
        name = each.name.capitalize() if is_plural else f"The {each.name}"
        if each.above_chance:
            yield (
                f"{name} alone {'predict' if is_plural else 'predicts'} the label: {area}. A model "
                "can score that well without using the brain."
            )
        else:
            verb = "do" if is_plural else "does"
            yield f"{name} alone {verb} not predict the label: {area}."
    best = audit.best_shortcut
    if best is not None and best.roc_auc is not None:
        yield (
            f"The best shortcut is {best.name}, {_format_area(best.roc_auc)}: a model must clearly "
            "exceed it to show that it has learned more than shortcuts."
        )
    reasons = {each.reason for each in audit.shortcuts if each.roc_auc is None}
    if audit.shortcuts and len(reasons) == 1 and best is None:
        yield f"There is no shortcut baseline: {reasons.pop()}."
