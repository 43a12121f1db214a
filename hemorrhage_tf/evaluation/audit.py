"""The audit: what is wrong with labeled slices, and what tells the classes apart beside anatomy.

It raises nothing because of bad files: they are findings. Every file is read once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.data import duplicates, resemblance
from hemorrhage_tf.data.columns import Made
from hemorrhage_tf.data.facts import Facts, FactsTable
from hemorrhage_tf.data.looks import Looks, look_at
from hemorrhage_tf.data.manifest import Manifest
from hemorrhage_tf.data.scan import ScannedSlices
from hemorrhage_tf.errors import Problem
from hemorrhage_tf.evaluation.intervals import Interval
from hemorrhage_tf.evaluation.shortcuts import Shortcut, sample, shortcuts
from hemorrhage_tf.reporting import Reporter

SIGNIFICANCE = 0.05

SAME_PIXELS = "same pixels"
ALIKE = "alike"

MOST_PAIRS = 10_000  # that are listed


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


def audit(manifest: Manifest, reporter: Reporter, seed: int = 0) -> Audit:
    """Audits labeled slices.

    Args:
        manifest: what to audit. Files that cannot be read are findings, no errors.
        reporter: where progress goes.
        seed: of the folds and of the models of the shortcut baselines. Default 0.
    """
    records = manifest.records
    looks = look_at(Made(records.ref, len(records)), reporter, "Auditing slices", for_audit=True)
    problems = list(manifest.problems)
    for index, problem in sorted(looks.problems.items()):
        problems.append(replace(problem, path=manifest.name_at(index)))
    good = replace(manifest, records=records.take(looks.good), problems=())
    with reporter.stage("Comparing slices"):
        links = _links(looks)
    groups = duplicates.merge_groups(
        len(looks),
        [(i, j) for i, j, _, _ in links],
        shared=[good.records.patients],
    )
    return _audit(good, problems, looks.facts, links, groups, reporter, seed)


def audit_scanned(
    slices: ScannedSlices,
    reporter: Reporter,
    seed: int = 0,
    facts: Sequence[Facts] | None = None,
) -> Audit:
    """Audits slices that were scanned, by the duplicates and groups that the scan found.

    Args:
        slices: the scanned slices.
        reporter: where progress goes.
        seed: of the folds and of the models of the shortcut baselines. Default 0.
        facts: what `facts_of` gave for each slice; None for what the scan found. Default None.
    """
    if facts is None:
        facts = slices.facts
    links = [(i, j, SAME_PIXELS, 1.0) for i, j in slices.exact_pairs]
    links += [(i, j, ALIKE, correlation) for i, j, correlation in slices.near_pairs]
    return _audit(slices.manifest, slices.skipped, facts, links, slices.groups, reporter, seed)


def _audit(
    manifest: Manifest,
    problems: Sequence[Problem],
    facts: Sequence[Facts],
    links: Sequence[tuple[int, int, str, float]],
    groups: np.ndarray,
    reporter: Reporter,
    seed: int,
) -> Audit:
    labels = manifest.labels
    table = FactsTable.of(facts)
    differences, unvaried = _differences(table, labels, groups)
    chosen = sample(len(groups), seed)
    drawn = [table[index] for index in chosen]
    found = shortcuts(drawn, labels[chosen], groups[chosen], reporter, seed)
    return Audit(
        root="" if manifest.root_is_named else str(manifest.root),
        layout=manifest.layout,
        slices=len(labels),
        hemorrhage=int(labels.sum()),
        groups=len(np.unique(groups)),
        problems=tuple(problems),
        pairs=tuple(_pair(manifest, table, *link) for link in links[:MOST_PAIRS]),
        patients=_patients(manifest),
        storage=_storage(manifest, table),
        differences=differences,
        unvaried=unvaried,
        shortcuts=found,
        audited=len(chosen),
        notes=_notes(len(labels), len(chosen), len(links)),
    )


def _notes(slices: int, drawn: int, links: int) -> tuple[str, ...]:
    """Says what rests on a part of a large set only."""
    notes = []
    if links > MOST_PAIRS:
        notes.append(
            f"Of {links} pairs of slices that show the same picture the first {MOST_PAIRS} are "
            "listed and counted."
        )
    if slices > duplicates.ALL_PAIRS_UP_TO:
        notes.append(
            f"Of {slices} slices {drawn} were drawn for the shortcut baselines, and crops were "
            f"looked for among the {resemblance.CROP_CANDIDATES} slices nearest to each in gray "
            "levels."
        )
    return tuple(notes)


# What slices have to do with each other.


def _links(looks: Looks) -> list[tuple[int, int, str, float]]:
    """Finds the pairs that show the same picture, each once, by the simplest of its relations."""
    found: dict[tuple[int, int], tuple[str, float]] = {}
    keys = [key.tobytes() for key in looks.hashes.packed]
    first: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        original = first.setdefault(key, index)
        if original != index:
            found[original, index] = (SAME_PIXELS, 1.0)
    if keys:
        every = np.arange(len(keys))
        for flip in (None, *duplicates.FLIPS):
            relation = ALIKE if flip is None else f"{ALIKE}, flipped {flip}"
            pairs = resemblance.near_pairs(looks.thumbnails, every, flip)
            for i, j, correlation in zip(*(column.tolist() for column in pairs), strict=True):
                # A head is nearly symmetric: of several flips that fit, the best is meant.
                if correlation > found.get((i, j), ("", -1.0))[1] + 1e-3 and keys[i] != keys[j]:
                    found[i, j] = (relation, correlation)
        for i, j, correlation, flip in resemblance.cropped_pairs(
            looks.contents, looks.shares, every
        ):
            if keys[i] != keys[j]:
                relation = f"{ALIKE}, cropped" + (f" and flipped {flip}" if flip else "")
                found.setdefault((i, j), (relation, correlation))
    links = [(i, j, relation, value) for (i, j), (relation, value) in found.items()]
    return sorted(links, key=lambda link: (link[2] != SAME_PIXELS, -link[3], link[:2]))


def _pair(
    manifest: Manifest, facts: FactsTable, i: int, j: int, relation: str, correlation: float
) -> Pair:
    one, other = manifest.records[i], manifest.records[j]
    numbers = facts.numbers
    sizes = [(int(numbers[at]["width"]), int(numbers[at]["height"])) for at in (i, j)]
    return Pair(
        manifest.name(one),
        manifest.name(other),
        relation,
        round(min(correlation, 1.0), 4),
        *sizes,
        one.label,
        other.label,
        one.split != other.split,
    )


def _patients(manifest: Manifest) -> Patients:
    labels: dict[str, list[int]] = {}
    parts: dict[str, set[str | None]] = {}
    for record in manifest.records:
        if record.patient is not None:
            labels.setdefault(record.patient, []).append(record.label)
            parts.setdefault(record.patient, set()).add(record.split)
    kinds = [set(found) for found in labels.values()]
    counts = [len(found) for found in labels.values()]
    return Patients(
        count=len(labels),
        unnamed=len(manifest.records) - sum(counts),
        with_hemorrhage=kinds.count({1}),
        without=kinds.count({0}),
        with_both=kinds.count({0, 1}),
        across_split=sum(len(found) > 1 for found in parts.values()),
        median_slices=float(np.median(counts)) if counts else None,
        most_slices=max(counts, default=0),
    )


def _storage(manifest: Manifest, facts: FactsTable) -> tuple[Storage, ...]:
    bits = facts.numbers["bits"].tolist()
    kinds = [
        (file_format, mode, depth)
        for (mode, file_format, _), depth in zip(facts.texts, bits, strict=True)
    ]
    labels = manifest.labels.tolist()
    found = []
    for rank, (kind, count) in enumerate(Counter(kinds).most_common()):
        places = [place for place, each in enumerate(kinds) if each == kind]
        positive = sum(labels[place] for place in places)
        names = () if rank == 0 else tuple(manifest.name_at(place) for place in places)
        found.append(Storage(*kind, positive, count - positive, names))
    return tuple(found)


# What differs between the classes.


def _differences(
    facts: FactsTable, labels: np.ndarray, groups: np.ndarray
) -> tuple[tuple[Difference, ...], dict[str, str]]:
    """Compares the classes in each property, and lists the properties that do not vary."""
    units = _units(labels, groups)
    found: list[Difference] = []
    unvaried: dict[str, str] = {}
    for name, values, present in _properties(facts):
        kinds = np.unique(values[present])
        if not len(kinds):
            continue
        if len(kinds) == 1:
            unvaried[name] = _value_said(kinds[0].item())
            continue
        if len(np.unique(labels[present])) < 2:
            continue
        compare = _compare_kinds if kinds.dtype.kind == "U" else _compare_numbers
        found.append(compare(name, values[present], labels[present], units[present]))
    order = sorted(found, key=lambda each: (each.p, each.name))
    adjusted, largest = [], 0.0
    for rank, each in enumerate(order):  # Holm, Scandinavian Journal of Statistics 6 (1979), 65-70
        largest = max(largest, min(1.0, (len(order) - rank) * each.p))
        adjusted.append(replace(each, p_adjusted=largest))
    return tuple(adjusted), unvaried


def _properties(facts: FactsTable) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Gives each property that is not anatomy: its name, numbers or texts `(n,)`, and who has it.

    One by one, since of many slices all together would take much memory.
    """
    numbers, texts = facts.numbers, facts.texts
    every = np.ones(len(facts), bool)

    def said(say: Callable[[tuple], str]) -> np.ndarray:
        return np.array([say(value) for value in texts.values], str)[texts.codes]

    if not len(facts):
        return
    yield "file format", said(lambda value: value[1]), every
    yield "mode", said(lambda value: value[0]), every
    width, height = numbers["width"], numbers["height"]
    yield "bits per sample", numbers["bits"], every
    yield "width", width, every
    yield "height", height, every
    yield "aspect", width / height, every
    yield "color", numbers["color"], every
    yield "JPEG quality", numbers["jpeg_quality"], numbers["jpeg_quality"] >= 0
    present = np.unique(texts.codes)
    for held in sorted(set().union(*(texts.values[code][2] for code in present))):
        yield (
            f"holds {held}",
            said(lambda value, held=held: "yes" if held in value[2] else "no"),
            every,
        )
    border = np.concatenate(
        [
            np.stack(
                [
                    *(each[..., 0].mean(axis=1), each[..., 1].mean(axis=1)),
                    *(each[..., 2].max(axis=1), each[..., 3].mean(axis=1)),
                ],
                axis=1,
            )
            for _, each in facts.blocks()
        ]
    )
    for place, what in enumerate(("mean", "spread", "maximum", "not black")):
        yield f"border {what}", border[:, place], every
    yield "marks at the edges", numbers["marks"], every


def _units(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Numbers what counts once in a test: the slices of one group that have one label."""
    return 2 * np.asarray(groups, np.int64) + labels


def _compare_numbers(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import mannwhitneyu

    numbers = values.astype(np.float64)
    found, inverse = np.unique(units, return_inverse=True)
    means = np.bincount(inverse, numbers) / np.bincount(inverse)
    positive, negative = means[found % 2 == 1], means[found % 2 == 0]
    if np.ptp(means) == 0:
        area, p = 0.5, 1.0
    else:
        test = mannwhitneyu(positive, negative, method="asymptotic")
        area, p = test.statistic / (len(positive) * len(negative)), test.pvalue
    return Difference(
        name,
        _quartiles_said(numbers[labels == 1]),
        _quartiles_said(numbers[labels == 0]),
        "AUC",
        float(area),
        float(p),
        float(p),
    )


def _compare_kinds(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import chi2_contingency, fisher_exact

    kinds, inverse = np.unique(values, return_inverse=True)
    counts = np.zeros((2, len(kinds)), int)
    found, of_unit = np.unique(units, return_inverse=True)
    held = np.bincount(of_unit * len(kinds) + inverse, minlength=len(found) * len(kinds))
    most = held.reshape(len(found), len(kinds)).argmax(axis=1)
    np.add.at(counts, (found % 2, most), 1)
    counts = counts[:, counts.any(axis=0)]
    effect, p = 0.0, 1.0
    if counts.shape[1] > 1:
        test = chi2_contingency(counts, correction=False)
        effect = math.sqrt(test.statistic / counts.sum())
        p = fisher_exact(counts).pvalue if counts.shape[1] == 2 else test.pvalue
    return Difference(
        name,
        _counts_said(values, labels == 1),
        _counts_said(values, labels == 0),
        "V",
        float(effect),
        float(p),
        float(p),
    )


# How it is said.


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _number_said(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _value_said(value: str | float) -> str:
    return value if isinstance(value, str) else _number_said(value)


def _quartiles_said(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    if low == high:  # then the quartiles do not show what varies
        same = int(np.sum(values == middle))
        return f"{_number_said(middle)} in {same} of {len(values)}"
    return f"{_number_said(middle)} ({_number_said(low)} to {_number_said(high)})"


def _counts_said(values: Iterable[str], chosen: np.ndarray) -> str:
    counts = Counter(value for value, kept in zip(values, chosen, strict=True) if kept)
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


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
