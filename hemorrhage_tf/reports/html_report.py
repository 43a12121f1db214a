"""The report: one HTML file for someone who would rather look than read, from plain values alone.

It needs nothing beside it: no script, no style sheet, no picture from elsewhere. Charts are shapes
computed here from numbers, which `templates/charts.html` writes as SVG; texts stand in
`templates/report.html`.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OutputError
from hemorrhage_tf.evaluation.calibration import check_predictions
from hemorrhage_tf.evaluation.intervals import Resamples
from hemorrhage_tf.reports.charts import (
    Chart,
    _trainings,
    bar_chart,
    curve_chart,
    curves,
    histogram_chart,
    history_chart,
    interval_chart,
    reliability_chart,
)
from hemorrhage_tf.reports.embedded_images import data_uris
from hemorrhage_tf.reports.number_formats import (
    flatten,
    format_change,
    format_metric,
    format_number,
    format_p_value,
    format_share,
)

FALSE_NEGATIVE, FALSE_POSITIVE = "false negative", "false positive"


CERTAIN_HEMORRHAGE, CERTAIN_NORMAL = "most certain hemorrhage", "most certain normal"


KINDS = {
    FALSE_NEGATIVE: (
        "Missed hemorrhages",
        "Every false negative, the most confidently wrong first.",
        "No hemorrhage was missed.",
    ),
    FALSE_POSITIVE: (
        "False alarms",
        "Every false positive, the most confidently wrong first.",
        "No normal slice was called hemorrhage.",
    ),
    CERTAIN_HEMORRHAGE: (
        "Most certain hemorrhages",
        "Rightly called hemorrhage, with the highest probabilities.",
        "No slice was rightly called hemorrhage.",
    ),
    CERTAIN_NORMAL: (
        "Most certain normal slices",
        "Rightly called normal, with the lowest probabilities.",
        "No slice was rightly called normal.",
    ),
}


BANDS = 500  # bootstrap resamples behind each band


SHOWN = 12  # slices of a kind, and rows of a table, before the rest is folded away


LISTED = 2000  # slices in the list of all of them


@dataclass(frozen=True)
class GalleryItem:
    """One slice to look at.

    Attributes:
        name: of the slice, as outputs show it.
        label: 0 or 1.
        probability: in [0, 1].
        decision: True where it was called hemorrhage.
        kind: "false negative", "false positive", "most certain hemorrhage" or "most certain
            normal".
        image: the slice, the bytes of a PNG or JPEG of 8 bits, of any size.
        overlay: the same with the class activation map over it; None without one.
    """

    name: str
    label: int
    probability: float
    decision: bool
    kind: str
    image: bytes
    overlay: bytes | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"a slice's kind must be one of {list(KINDS)}. Received: {self.kind}")


@dataclass(frozen=True, eq=False)
class ReportContent:
    """What a report shows.

    Attributes:
        title: the page's.
        metrics: from `metrics.binary_metrics`; further keys such as `evaluated_on` are welcome.
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or `(repeats, n)` of repeated out-of-fold predictions; in [0, 1].
        threshold: probabilities at or above it count as hemorrhage.
        names: of the n slices, or none.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own.
        seed: of the bands' bootstrap. Default 0.
        model_rows: what describes the model: pairs of a name and a value.
        data_rows: the same of the data.
        operating_point: `OperatingPoint.to_dict()`, or None.
        history: a row for each epoch, as in `history.csv`; may be empty.
        audit: `Audit.to_dict()`, or None.
        gallery: every wrong slice, and some right ones.
        robustness: from `robustness.robustness`, or None.
        subgroups: rows with the same keys, the group's name first; values are texts, numbers, None
            or figures (`estimate`, `low`, `high`, `n`). None where none were looked at.
        comparison: from `comparison.compare`, or None.
        compared: what the two models of the comparison are called.
        overlap: warnings that slices were trained on.
        warnings: what must not be missed, such as an option that allows leaks.
        not_tested: sentences on what the figures do not show.
        versions: of the package and of what it ran on.
    """

    title: str
    metrics: Mapping[str, Any]
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float
    names: Sequence[str] = ()
    groups: np.ndarray | None = None
    seed: int = 0
    model_rows: Sequence[tuple[str, str]] = ()
    data_rows: Sequence[tuple[str, str]] = ()
    operating_point: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    audit: Mapping[str, Any] | None = None
    gallery: Sequence[GalleryItem] = ()
    robustness: Sequence[Mapping[str, Any]] | None = None
    subgroups: Sequence[Mapping[str, Any]] | None = None
    comparison: Mapping[str, Any] | None = None
    compared: tuple[str, str] = ("this model", "the other model")
    overlap: Sequence[str] = ()
    warnings: Sequence[str] = ()
    not_tested: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for probabilities in np.atleast_2d(self.probabilities):
            check_predictions(self.labels, probabilities)
        if len(self.names) not in (0, len(self.labels)):
            raise DataError(f"{len(self.names)} names for {len(self.labels)} labels")


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Writes a report.

    Args:
        path: the HTML file; one that is there is replaced.
        content: what it shows.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written; nothing is left behind then.
        DataError: a picture of the gallery is no PNG or JPEG.
    """
    path = Path(path)
    write_atomically(path, render(content))
    return path


def write_audit(path: str | Path, title: str, audit: Mapping[str, Any]) -> Path:
    """Writes an audit as a page of its own.

    Args:
        path: the HTML file; one that is there is replaced.
        title: what was audited.
        audit: `Audit.to_dict()`.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written; nothing is left behind then.
    """
    path = Path(path)
    values = {"title": title, "counts": audit, "audit": _audit(audit, None), "shown": SHOWN}
    write_atomically(path, _environment().get_template("audit.html").render(values))
    return path


def render(content: ReportContent) -> str:
    """Makes the HTML of a report."""
    return _environment().get_template("report.html").render(_values(content))


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file beside the path and renames it, so that a file that exists is whole.

    Args:
        path: the file; one that is there is replaced. Missing folders are made.
        text: its content. What UTF-8 has no bytes for, as in file names of another encoding, is
            written as a question mark.

    Raises:
        OutputError: it cannot be written; nothing is left behind then.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(
            prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent
        )
        with open(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes a private file; this one gets what the user's own umask says.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
        beside = None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}). Nothing was left behind; make room or name "
            "another place."
        ) from None
    finally:
        if beside is not None:
            with suppress(OSError):
                os.unlink(beside)


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hemorrhage_tf.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=format_metric,
        share=format_share,
        number=format_number,
        change=format_change,
        p_value=format_p_value,
    )
    return environment


# What the page is made of.


_FIGURES = (
    ("accuracy", "Accuracy", "slices decided rightly", True),
    ("sensitivity", "Sensitivity", "hemorrhages found", True),
    ("specificity", "Specificity", "slices without hemorrhage left alone", True),
    ("ppv", "PPV", "alarms that were right, in this mix of slices", True),
    ("npv", "NPV", "slices called normal that were, in this mix of slices", True),
    ("roc_auc", "ROC AUC", "how often a hemorrhage scores above a normal slice", False),
    ("pr_auc", "PR AUC", "average precision over all thresholds", False),
    ("brier", "Brier score", "squared error of the probability; 0 is best", False),
)


_CALIBRATION = (
    ("slope", "Calibration slope", "1 is best; below 1 probabilities are too extreme"),
    ("intercept", "Calibration intercept", "0 is best; fitted together with the slope"),
    ("in_the_large", "Calibration in the large", "0 is best; above 0 probabilities are too low"),
)


_TILES = ("sensitivity", "specificity", "roc_auc", "accuracy")


_COMPARED = (
    ("roc_auc", "ROC AUC", False),
    ("accuracy", "Accuracy", True),
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
)


def _values(content: ReportContent) -> dict[str, Any]:
    """Computes what the template shows."""
    metrics = content.metrics
    labels = np.asarray(content.labels).astype(np.int64)
    repeats = np.atleast_2d(np.asarray(content.probabilities, np.float64))
    resamples = Resamples.make(len(labels), content.groups, BANDS, content.seed)
    figures = list(_figures(metrics))
    history = _trainings(content.history)
    return {
        "content": content,
        "summary": summary_sentence(metrics),
        "tiles": [row for name in _TILES for row in figures if row["key"] == name],
        "figures": figures,
        "figures_chart": interval_chart(
            "figures",
            "Figures with their 95% intervals",
            [
                (row["name"], row["figure"], row["percent"])
                for row in figures
                if row["key"] in {each[0] for each in _FIGURES} and row["figure"]
            ],
            span=(0.0, 1.0),
        ),
        "confusion": metrics["confusion"],
        "shares": _shares(metrics["confusion"]),
        "curves": _curves(metrics, labels, repeats, resamples),
        "reliability": reliability_chart(metrics["calibration"]["reliability"]),
        "bins": metrics["calibration"]["reliability"],
        "histogram": histogram_chart(labels, repeats, content.threshold),
        "history": [
            chart
            for column, title in (("loss", "Loss"), ("accuracy", "Accuracy"))
            if (chart := history_chart(column, title, history))
        ],
        "trainings": len(history),
        "audit": _audit(content.audit, metrics.get("roc_auc")),
        "comparison": _comparison(content.comparison),
        "gallery": _gallery(content.gallery),
        "has_overlays": any(item.overlay is not None for item in content.gallery),
        "robustness": _robustness(content.robustness),
        "subgroups": _subgroups(content.subgroups),
        "slices": _slices(content, labels, repeats),
        "flat": list(flatten(metrics)),
        "as_json": json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False),
        "repeats": len(repeats),
        "bands": BANDS,
        "shown": SHOWN,
        "listed": LISTED,
    }


def summary_sentence(metrics: Mapping[str, Any]) -> str:
    """Says in one sentence what was found, missed and raised for nothing.

    Args:
        metrics: from `metrics.binary_metrics`.
    """
    counts = metrics["confusion"]
    hit, missed = counts["true_positive"], counts["false_negative"]
    alarms, positives = counts["false_positive"], metrics["n_positive"]
    negatives, accuracy = metrics["n_negative"], metrics["accuracy"]
    parts = []
    if positives:
        parts.append(
            f"of {positives} slices with hemorrhage the model found {hit:g} and missed {missed:g}"
        )
    if negatives:
        parts.append(f"of {negatives} without hemorrhage it called {alarms:g} hemorrhage")
    told = "; ".join(parts)
    count = len(metrics["repeats"]["accuracy"])
    mean = f", in the mean of {count} repeats" if count > 1 else ""
    return (
        f"{told[0].upper()}{told[1:]}{mean}: at a threshold of {metrics['threshold']:.3g} it "
        f"decided {accuracy['estimate']:.1%} rightly (95% interval {accuracy['low']:.1%} to "
        f"{accuracy['high']:.1%})."
    )


def _figures(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, name, meaning, percent in _FIGURES:
        if key in metrics:
            yield _row(key, name, meaning, percent, metrics[key])
    for key, name, meaning in _CALIBRATION:
        yield _row(f"calibration {key}", name, meaning, False, metrics["calibration"].get(key))
    there = metrics.get("at_prevalence")
    if there is not None:
        for key in ("ppv", "npv"):
            name = f"{key.upper()} at {there['prevalence']:.3g}"
            meaning = f"where {there['prevalence']:.1%} of the slices show hemorrhage"
            yield _row(f"prevalence {key}", name, meaning, True, there[key])


def _row(key: str, name: str, meaning: str, percent: bool, figure: Any) -> dict[str, Any]:
    return {"key": key, "name": name, "meaning": meaning, "percent": percent, "figure": figure}


def _shares(counts: Mapping[str, float]) -> dict[str, float | None]:
    """Gives each outcome's share of its row of the confusion matrix."""
    found: dict[str, float | None] = {}
    for names in (("true_positive", "false_negative"), ("false_positive", "true_negative")):
        whole = sum(counts[name] for name in names)
        found.update({name: counts[name] / whole if whole else None for name in names})
    return found


def _curves(
    metrics: Mapping[str, Any], labels: np.ndarray, repeats: np.ndarray, resamples: Resamples
) -> list[Chart]:
    if labels.min() == labels.max():
        return []
    roc, pr = curves(labels, repeats, resamples)
    hit, alarm = metrics["sensitivity"]["estimate"], 1 - metrics["specificity"]["estimate"]
    ppv = metrics["ppv"] and metrics["ppv"]["estimate"]
    return [
        curve_chart(
            "roc",
            "ROC curve",
            f"Sensitivity against the share of false alarms. {_area_said(metrics['roc_auc'])}",
            ("1 - specificity (false alarms)", "sensitivity (found)"),
            roc,
            (alarm, hit),
            chance=((0.0, 1.0), (0.0, 1.0)),
        ),
        curve_chart(
            "pr",
            "Precision-recall curve",
            "Share of alarms that are right against the share of hemorrhages found. "
            + _area_said(metrics["pr_auc"]),
            ("recall (found)", "precision (alarms that are right)"),
            pr,
            None if ppv is None else (hit, ppv),
            chance=((0.0, 1.0), (labels.mean(), labels.mean())),
        ),
    ]


def _area_said(figure: Mapping[str, Any] | None) -> str:
    return "" if figure is None else f"Area {format_metric(figure)}."


def _audit(
    audit: Mapping[str, Any] | None, area: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    if audit is None:
        return None
    shortcuts = [each for each in audit["shortcuts"] if each["roc_auc"] is not None]
    rows = [("the model itself", area, False)] if area is not None else []
    rows += [(each["name"], each["roc_auc"], False) for each in shortcuts]
    best = max(shortcuts, key=lambda each: each["roc_auc"]["estimate"], default=None)
    # What an older audit may lack is left out of the page, no error.
    return {
        **{name: audit.get(name) or [] for name in ("conclusions", "problems", "pairs")},
        "differences": audit.get("differences") or [],
        "shortcuts": audit["shortcuts"],
        "best": best,
        "chart": interval_chart(
            "shortcuts",
            "ROC AUC of the model and of models that see only one property",
            rows,
            span=(0.0, 1.0),
            reference=(0.5, "chance"),
            strong=1 if area is not None else 0,
        )
        if shortcuts
        else None,
    }


def _comparison(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = [
        {"name": name, "percent": percent, **comparison[key]}
        for key, name, percent in _COMPARED
        if comparison.get(key) is not None
    ]
    ends = [abs(row["difference"][end]) for row in rows for end in ("low", "high")]
    reach = max([0.1, *ends]) * 1.05
    return {
        "rows": rows,
        "chart": interval_chart(
            "comparison",
            "Differences with their 95% intervals",
            [(row["name"], row["difference"], row["percent"]) for row in rows],
            span=(-reach, reach),
            reference=(0.0, "no difference"),
        ),
    }


def _robustness(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    return {
        "rows": rows,
        "chart": bar_chart(
            "robustness",
            "Share of decisions that a change of the slice turns",
            [
                (row["name"], row["changed_decisions"] / row["n"], f"{row['changed_decisions']}")
                for row in rows
                if row["n"]
            ],
        ),
    }


def _subgroups(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    known = {key: (name, percent) for key, name, _, percent in _FIGURES}
    charts, titles = [], []
    for column in columns:
        title, percent = known.get(column, (column.replace("_", " "), False))
        titles.append(title)
        figures = [
            (str(next(iter(row.values()))), row[column], percent)
            for row in rows
            if _is_figure(row.get(column))
        ]
        if figures:
            charts.append(interval_chart(f"subgroup-{len(charts)}", f"{title} by group", figures))
    percents = [known.get(column, ("", False))[1] for column in columns]
    return {
        "columns": titles,
        "rows": [
            [_cell(row.get(name), percent) for name, percent in zip(columns, percents, strict=True)]
            for row in rows
        ],
        "charts": charts,
    }


def _is_figure(value: Any) -> bool:
    return isinstance(value, Mapping) and {"estimate", "low", "high"} <= value.keys()


def _cell(value: Any, percent: bool) -> str:
    if value is None:
        return "-"
    if _is_figure(value):
        return format_metric(value, percent)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value)
    return str(value)


def _slices(
    content: ReportContent, labels: np.ndarray, repeats: np.ndarray
) -> list[tuple[str, int, float, bool]]:
    if not content.names or len(labels) > LISTED:
        return []
    means = repeats.mean(0)
    return [
        (str(name), int(label), float(mean), bool(mean >= content.threshold))
        for name, label, mean in zip(content.names, labels, means, strict=True)
    ]


# Pictures.


def _gallery(items: Sequence[GalleryItem]) -> list[dict[str, Any]]:
    pictures = [item.image for item in items]
    pictures += [item.overlay for item in items if item.overlay is not None]
    uris = iter(data_uris(pictures))
    images = [next(uris) for _ in items]
    overlays = [next(uris) if item.overlay is not None else None for item in items]
    found = []
    for kind, (title, meaning, nothing) in KINDS.items():
        chosen = [
            {"item": item, "image": image, "overlay": overlay}
            for item, image, overlay in zip(items, images, overlays, strict=True)
            if item.kind == kind
        ]
        lowest_first = kind in (FALSE_NEGATIVE, CERTAIN_NORMAL)
        chosen.sort(key=lambda each: each["item"].probability, reverse=not lowest_first)
        found.append(
            {
                "kind": kind,
                "title": title,
                "meaning": meaning,
                "nothing": nothing,
                "wrong": kind in (FALSE_NEGATIVE, FALSE_POSITIVE),
                "slices": chosen,
            }
        )
    return found
