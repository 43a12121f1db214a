"""The report: one HTML file for someone who would rather look than read, from plain values alone.

It needs nothing beside it: no script, no style sheet, no picture from elsewhere. Charts are shapes
computed here from numbers, which `templates/charts.html` writes as SVG; texts stand in
`templates/report.html`.
"""

from __future__ import annotations

import base64
import errno
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.errors import DataError, OutputError
from hemorrhage_tf.evaluation.calibration import check_predictions
from hemorrhage_tf.evaluation.intervals import Resamples

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
PICTURE_BYTES = 4_200_000  # of all pictures as they stand in the page
# Longest side and JPEG quality of the pictures, the first that stays under PICTURE_BYTES.
_PICTURES = ((192, 75), (160, 65), (128, 55), (96, 45), (64, 40))

_GRID = np.linspace(0.0, 1.0, 201)


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
    write_whole(path, render(content))
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
    write_whole(path, _environment().get_template("audit.html").render(values))
    return path


def render(content: ReportContent) -> str:
    """Makes the HTML of a report."""
    return _environment().get_template("report.html").render(_values(content))


def write_whole(path: Path, text: str) -> None:
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
        loader=PackageLoader("hemorrhage_tf.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure_said,
        share=share_said,
        number=number_said,
        change=change_said,
        p_value=p_said,
    )
    return environment


# How numbers are said.


def number_said(value: float | None) -> str:
    """Says a number with three decimals."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def share_said(value: float | None) -> str:
    """Says a share of 1 in percent, with one decimal."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.1%}"


def change_said(value: float | None) -> str:
    """Says a change, with its sign unless it rounds to none."""
    if value is None:
        return "-"
    return "0.000" if round(value, 3) == 0 else f"{value:+.3f}"


def p_said(value: float | None) -> str:
    """Says a p-value."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def figure_said(figure: Mapping[str, Any] | None, percent: bool = False) -> str:
    """Says a figure with its interval."""
    if figure is None:
        return "-"
    say = share_said if percent else number_said
    return f"{say(figure['estimate'])} ({say(figure['low'])} to {say(figure['high'])})"


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Lists every leaf of nested plain values, numbers as JSON writes them.

    Args:
        value: dictionaries, lists, texts, numbers, booleans or None.
        path: what stands before the names. Default nothing.

    Yields:
        A path such as `calibration.reliability[0].n`, and the value as text.
    """
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from flatten(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for index, each in enumerate(value):
            yield from flatten(each, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)


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
    return "" if figure is None else f"Area {figure_said(figure)}."


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
        return figure_said(value, percent)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_said(value)
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


def data_uris(pictures: Sequence[bytes]) -> list[str]:
    """Makes small JPEGs that stand in the page itself.

    They are at most 192 pixels high and wide, and smaller where they would be many megabytes
    together.

    Args:
        pictures: PNG or JPEG files.

    Returns:
        A `data:` URI of each.

    Raises:
        DataError: bytes that are no PNG or JPEG.
    """
    loaded = [_loaded(picture, index) for index, picture in enumerate(pictures)]
    found: list[str] = []
    for side, quality in _PICTURES:
        found = [_data_uri(image, side, quality) for image in loaded]
        if sum(map(len, found)) <= PICTURE_BYTES:
            break
    return found


def _loaded(picture: bytes, index: int) -> Image.Image:
    most = _PICTURES[0][0]
    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
            grey = image.mode in ("1", "L")
            if not grey:
                # Alpha is composited on black, as the readers do.
                layer = image.convert("RGBA")
                black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, layer)
            image = image.convert("L" if grey else "RGB")
            image.thumbnail((most, most), Image.Resampling.LANCZOS)
            return image
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"picture {index} of the gallery is no PNG or JPEG ({error})") from None


def _data_uri(image: Image.Image, side: int, quality: int) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


# Curves.


@dataclass(frozen=True)
class Curve:
    """A curve with its band, on the grid of x.

    Attributes:
        x: `(k,)`, rising from 0 to 1.
        y: `(k,)`.
        low: `(k,)`, the band's lower edge, pointwise.
        high: `(k,)`, its upper edge.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(labels: np.ndarray, repeats: np.ndarray, resamples: Resamples) -> tuple[Curve, Curve]:
    """Computes the ROC and the precision-recall curve with pointwise 95 % bootstrap bands.

    With several repeats each point is the mean over them, so that the area below the ROC curve is
    the mean area.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        repeats: `(repeats, n)`, scores.
        resamples: of patients or of slices.

    Returns:
        Sensitivity over 1 - specificity, and precision over recall.
    """
    functions = [_on_grid(labels, scores) for scores in repeats]

    def both(weights: np.ndarray) -> np.ndarray:
        return np.mean([function(weights) for function in functions], axis=0)

    estimate = both(np.ones((1, len(labels))))[0]
    drawn = np.concatenate([both(weights) for weights in resamples.weights(3 * len(repeats))])
    there = np.isfinite(drawn).all(axis=(1, 2))
    drawn = drawn[there] if there.any() else estimate[None]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # A curve of few slices may leave its own percentile band by a step.
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    roc, pr = (np.stack([estimate[k], low[k], high[k]]) for k in range(2))
    # At no false alarms the ROC curve rises from 0 to what is found without any.
    roc = np.concatenate([np.zeros((3, 1)), roc], axis=1)
    return Curve(np.append(0.0, _GRID), *roc), Curve(_GRID, *pr)


def _on_grid(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function of weights `(b, n)` that gives both curves, `(b, 2, k)`."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positive = (labels[order] == 1).astype(np.float64)

    def both(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        called = np.cumsum(drawn, axis=1)[:, ends]
        hits = np.cumsum(drawn * positive, axis=1)[:, ends]
        found = np.full((len(weights), 2, len(_GRID)), math.nan)
        for row, (one_called, one_hits) in enumerate(zip(called, hits, strict=True)):
            positives, negatives = one_hits[-1], one_called[-1] - one_hits[-1]
            if positives == 0 or negatives == 0:
                continue
            recall = one_hits / positives
            alarms = (one_called - one_hits) / negatives
            found[row, 0] = np.interp(_GRID, np.append(0.0, alarms), np.append(0.0, recall))
            # The precision where the recall is first reached; points are not joined by lines.
            at = np.searchsorted(recall, np.maximum(_GRID, 1e-9) - 1e-9)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[row, 1] = (one_hits / one_called)[at]
        return found

    return both


# Charts: shapes computed from numbers.


@dataclass(frozen=True)
class Mark:
    """One shape or text of a chart.

    Attributes:
        element: of SVG: "path", "rect", "circle" or "text".
        style: its class in the style sheet.
        attributes: its attributes.
        text: what a text says.
    """

    element: str
    style: str
    attributes: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be written as SVG.

    Attributes:
        key: its id in the page.
        title: what it shows.
        description: the same as its shapes say, for those who do not see them.
        width: of its own coordinates.
        height: of its own coordinates.
        marks: its shapes, from back to front.
    """

    key: str
    title: str
    description: str
    width: int
    height: int
    marks: tuple[Mark, ...]


def _path(points: Iterable[tuple[float, float]], style: str, close: bool = False) -> Mark:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Mark("path", style, {"d": f"M{steps}{'Z' if close else ''}"})


def _text(x: float, y: float, text: str, style: str = "tick", turned: bool = False) -> Mark:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    if turned:
        place["transform"] = f"rotate(-90 {x:.1f} {y:.1f})"
    return Mark("text", style, place, text)


def _rect(x: float, y: float, width: float, height: float, style: str) -> Mark:
    place = {"x": x, "y": y, "width": max(width, 0.0), "height": max(height, 0.0)}
    return Mark("rect", style, {name: f"{value:.1f}" for name, value in place.items()})


def _circle(x: float, y: float, radius: float, style: str) -> Mark:
    return Mark("circle", style, {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"})


@dataclass(frozen=True)
class _Frame:
    """Where the values of a chart with two axes lie."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 420
    height: int = 330
    left: int = 56
    right: int = 16
    top: int = 16
    bottom: int = 50

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner_width = self.width - self.left - self.right
        inner_height = self.height - self.top - self.bottom
        return self.left + across * inner_width, self.top + (1 - up) * inner_height

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> Mark:
        return _path((self.at(x, y) for x, y in zip(xs, ys, strict=True)), style)

    def axes(
        self,
        labels: tuple[str, str],
        x_ticks: Mapping[float, str],
        y_ticks: Mapping[float, str],
    ) -> list[Mark]:
        """Draws grid lines, what stands at them, and what the axes are."""
        marks = []
        for value, text in x_ticks.items():
            x, y = self.at(value, self.y[0])
            marks.append(_path([(x, self.top), (x, y)], "grid"))
            marks.append(_text(x, y + 18, text, "tick middle"))
        for value, text in y_ticks.items():
            x, y = self.at(self.x[0], value)
            marks.append(_path([(x, y), (self.width - self.right, y)], "grid"))
            marks.append(_text(x - 8, y + 4.5, text, "tick end"))
        middle_x = (self.left + self.width - self.right) / 2
        middle_y = (self.top + self.height - self.bottom) / 2
        marks.append(_text(middle_x, self.height - 8, labels[0], "axis middle"))
        marks.append(_text(15, middle_y, labels[1], "axis middle", turned=True))
        return marks


_SHARES = {value / 5: f"{value / 5:g}" for value in range(6)}


def _ticks(low: float, high: float, count: int = 5) -> dict[float, str]:
    """Chooses round numbers from low to high, about so many."""
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(each * magnitude for each in (1, 2, 5, 10) if each * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return {index * step: f"{index * step:.6g}" for index in range(first, last + 1)}


def curve_chart(
    key: str,
    title: str,
    description: str,
    axes: tuple[str, str],
    curve: Curve,
    point: tuple[float, float] | None,
    chance: tuple[tuple[float, float], tuple[float, float]],
) -> Chart:
    """Draws a curve with its band, the operating point, and what chance gives.

    Args:
        key: the chart's id.
        title: what it shows.
        description: in words.
        axes: what x and y are.
        curve: with its band.
        point: x and y of the operating point; None without one.
        chance: the line of chance: the x of its ends, and the y.
    """
    frame = _Frame()
    edge = list(zip(curve.x, curve.high, strict=True))
    edge += list(zip(curve.x[::-1], curve.low[::-1], strict=True))
    marks = frame.axes(axes, _SHARES, _SHARES)
    marks.append(_path((frame.at(x, y) for x, y in edge), "band", close=True))
    marks.append(frame.line(*chance, "chance"))
    x, y = frame.at(chance[0][1], chance[1][1])
    above_ground = frame.at(0, chance[1][1])[1] < frame.height - frame.bottom - 12
    if chance[1][0] == chance[1][1]:
        marks.append(_text(x - 4, y + (14 if above_ground else -6), "chance", "tick end"))
    else:
        middle_x, middle_y = frame.at(0.72, 0.66)
        marks.append(_text(middle_x, middle_y, "chance", "tick"))
    marks.append(frame.line(curve.x, curve.y, "curve"))
    if point is not None:
        x, y = frame.at(*point)
        marks.append(_path([(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], "point", close=True))
        side = -1 if point[0] > 0.55 else 1
        marks.append(
            _text(x + side * 12, y + 20, "operating point", "value end" if side < 0 else "value")
        )
        description += (
            f" At the operating point {axes[0]} is {point[0]:.3f} and {axes[1]} is {point[1]:.3f}."
        )
    return Chart(key, title, description, frame.width, frame.height, tuple(marks))


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> Chart:
    """Draws predicted probabilities against what came true, with the counts below.

    Args:
        bins: from `calibration.reliability_curve`.
    """
    frame = _Frame(height=380, bottom=112)
    marks = frame.axes(("", "observed share with hemorrhage"), _SHARES, _SHARES)
    marks.append(frame.line((0.0, 1.0), (0.0, 1.0), "chance"))
    y, right = frame.at(0.0, 0.05)[1], frame.width - frame.right - 8
    marks.append(_path([(right - 172, y - 4), (right - 142, y - 4)], "chance"))
    marks.append(_text(right, y, "perfectly calibrated", "tick halo end"))
    most = max(each["n"] for each in bins)
    ground, reach = frame.height - 34, 38.0
    said = []
    for each in bins:
        observed = each["observed"]
        x, y = frame.at(each["predicted"], observed["estimate"])
        low, high = frame.at(0, observed["low"])[1], frame.at(0, observed["high"])[1]
        marks.append(_path([(x, low), (x, high)], "interval"))
        marks.append(_circle(x, y, 5, "dot"))
        left, right = frame.at(each["from"], 0)[0], frame.at(each["to"], 0)[0]
        tall = reach * each["n"] / most
        marks.append(_rect(left + 1.5, ground - tall, right - left - 3, tall, "count"))
        marks.append(_text((left + right) / 2, ground + 13, f"{each['n']:.4g}", "small middle"))
        said.append(
            f"{each['predicted']:.2f} predicted, {observed['estimate']:.2f} observed, "
            f"n = {each['n']:.4g}"
        )
    middle = (frame.left + frame.width - frame.right) / 2
    marks.append(_text(frame.left - 8, ground + 13, "slices", "small end"))
    marks.append(_text(middle, frame.height - 5, "predicted probability", "axis middle"))
    return Chart(
        "reliability",
        "Reliability curve",
        "Observed share with hemorrhage against predicted probability: " + "; ".join(said) + ".",
        frame.width,
        frame.height,
        tuple(marks),
    )


def histogram_chart(labels: np.ndarray, repeats: np.ndarray, threshold: float) -> Chart:
    """Draws how the probabilities of both classes are spread, one upward and one downward.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: `(repeats, n)` probabilities; counts are means over them.
        threshold: where the decision changes.
    """
    edges = np.linspace(0.0, 1.0, 21)
    counts = {
        label: np.histogram(repeats[:, labels == label], edges)[0] / len(repeats)
        for label in (1, 0)
    }
    most = max(1.0, *(each.max() for each in counts.values())) * 1.15
    frame = _Frame(y=(-most, most))
    marks = frame.axes(
        ("predicted probability", "slices"),
        _SHARES,
        {value: text.lstrip("-") for value, text in _ticks(-most, most, 6).items()},
    )
    for label, style in ((1, "hemorrhage"), (0, "normal")):
        for begin, end, count in zip(edges[:-1], edges[1:], counts[label], strict=True):
            left, right = frame.at(begin, 0)[0] + 1, frame.at(end, 0)[0] - 1
            top, bottom = frame.at(0, count)[1], frame.at(0, 0)[1]
            if label:
                marks.append(_rect(left, top, right - left, bottom - top, style))
            else:
                marks.append(_rect(left, bottom, right - left, bottom - top, style))
    marks.append(frame.line((0.0, 1.0), (0.0, 0.0), "ground"))
    marks.append(frame.line((threshold, threshold), (-most, most), "threshold"))
    x = frame.at(threshold, 0)[0]
    side = -1 if threshold > 0.6 else 1
    anchor = " end" if side < 0 else ""
    y = frame.at(0, most)[1]
    marks.append(_text(x + side * 6, y + 12, f"threshold {threshold:.3g}", f"value{anchor}"))
    # Each class is named in the half that its bars point to, beside the threshold.
    for name, at in (("with hemorrhage", y + 30), ("without", frame.height - frame.bottom - 8)):
        marks.append(_text(x + side * 6, at, name, f"tick halo{anchor}"))
    below = {
        label: int((repeats[:, labels == label] < threshold).mean(0).sum()) for label in (1, 0)
    }
    return Chart(
        "histogram",
        "Predicted probabilities by class",
        "Slices with hemorrhage upward, without downward, in steps of 0.05. Below the threshold "
        f"of {threshold:.3g} lie {below[1]} slices with hemorrhage and {below[0]} without.",
        frame.width,
        frame.height,
        tuple(marks),
    )


def _trainings(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Groups epochs by the training that they belong to, in their order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((str(row.get("repeat")), str(row.get("fold"))), []).append(row)
    return list(found.values())


def history_chart(
    column: str, title: str, trainings: Sequence[Sequence[Mapping[str, Any]]]
) -> Chart | None:
    """Draws how a figure went over the epochs, a line for each training.

    Args:
        column: its name, such as "loss"; the validation part's begins with "validation_".
        title: what it is.
        trainings: for each training its epochs.

    Returns:
        The chart, or None where no training has two values of it.
    """
    lines = []
    for training in trainings:
        for name, style in ((column, "training"), (f"validation_{column}", "validation")):
            values = [_number(row.get(name)) for row in training]
            points = [(x, y) for x, y in enumerate(values, 1) if y is not None]
            if len(points) > 1:
                lines.append((style, points))
    if not lines:
        return None
    everything = [y for _, points in lines for _, y in points]
    low = 0.0 if column == "loss" else max(0.0, min(everything) - 0.05)
    high = max(everything) * 1.05 if column == "loss" else 1.0
    epochs = max(points[-1][0] for _, points in lines)
    frame = _Frame(x=(1, epochs), y=(low, max(high, low + 1e-3)), top=34)
    ticks = {value: text for value, text in _ticks(1, epochs).items() if value == int(value)}
    marks = frame.axes(("epoch", column), ticks, _ticks(*frame.y))
    faint = " faint" if len(lines) > 6 else ""
    for style, points in lines:
        marks.append(frame.line(*zip(*points, strict=True), style + faint))
    for index, row in enumerate(trainings[0][1:], 2):
        if row.get("stage") != trainings[0][index - 2].get("stage"):
            marks.append(frame.line((index - 0.5,) * 2, frame.y, "threshold"))
            x, y = frame.at(index - 0.5, frame.y[1])
            marks.append(_text(x + 5, y + 13, str(row.get("stage")).replace("_", "-"), "tick halo"))
    styles = list(dict.fromkeys(style for style, _ in lines))
    for index, style in enumerate(styles):
        left = frame.left + 150 * index
        marks.append(_path([(left, 16), (left + 30, 16)], style))
        marks.append(_text(left + 36, 20.5, style, "tick"))
    ended = [f"{style} {points[-1][1]:.3f}" for style, points in lines[:2]]
    return Chart(
        f"history-{column}",
        title,
        f"{title} over {epochs} epochs of {len(trainings)} "
        f"{'training' if len(trainings) == 1 else 'trainings'}; the first ends at "
        f"{' and '.join(ended)}.",
        frame.width,
        frame.height,
        tuple(marks),
    )


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


_ROW, _LINE, _WIDE, _SIDE = 44, 18, 420, 8
_BESIDE, _MOST = 26, 44  # letters of a name beside its value, and on a line of its own


def _shortened(text: str, most: int = _MOST) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def interval_chart(
    key: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, Any], bool]],
    span: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
    strong: int = 0,
) -> Chart:
    """Draws figures as dots with their intervals, one below the other.

    Args:
        key: the chart's id.
        title: what it shows.
        rows: name, figure, and whether it is said in percent.
        span: of the axis; None for 0 to 1, or what the figures need.
        reference: a value to compare with, and its name.
        strong: how many rows from the top are set off. Default 0.
    """
    if span is None:
        ends = [each[1][end] for each in rows for end in ("low", "high")]
        span = min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)
    # A long name gets a line of its own, the value the next.
    tops, y = [], 22 if reference else 6
    top = y
    for name, _, _ in rows:
        tops.append(y)
        y += _ROW + (_LINE if len(name) > _BESIDE else 0)
    height = y + 26
    width = _WIDE - 2 * _SIDE

    def at(value: float) -> float:
        return _SIDE + width * (min(max(value, span[0]), span[1]) - span[0]) / (span[1] - span[0])

    marks, said = [], []
    for value, text in _ticks(*span).items():
        marks.append(_path([(at(value), top), (at(value), height - 24)], "grid"))
        anchor = "start" if value == span[0] else "end" if value == span[1] else "middle"
        marks.append(_text(at(value), height - 6, text, f"tick {anchor}"))
    if reference:
        x = at(reference[0])
        marks.append(_path([(x, top), (x, height - 24)], "threshold"))
        marks.append(_text(x, 14, reference[1], "tick middle"))
    for index, ((name, figure, percent), y) in enumerate(zip(rows, tops, strict=True)):
        style = " strong" if index < strong else ""
        value = figure_said(figure, percent)
        marks.append(_text(_SIDE, y + 17, _shortened(name), "value halo"))
        y += _LINE if len(name) > _BESIDE else 0
        marks.append(_text(_WIDE - _SIDE, y + 17, value, "tick halo end"))
        low, high = at(figure["low"]), at(figure["high"])
        marks.append(_path([(low, y + 31), (high, y + 31)], f"interval{style}"))
        for end in (low, high):
            marks.append(_path([(end, y + 26), (end, y + 36)], f"interval{style}"))
        marks.append(_circle(at(figure["estimate"]), y + 31, 6, f"dot{style}"))
        said.append(f"{name} {value}")
    description = "; ".join(said) + "." if said else "There is nothing to show."
    return Chart(key, title, description, _WIDE, height, tuple(marks))


def bar_chart(key: str, title: str, rows: Sequence[tuple[str, float, str]]) -> Chart:
    """Draws shares as bars, one below the other.

    Args:
        key: the chart's id.
        title: what it shows.
        rows: name, share, and the count behind it.
    """
    most = max([0.1, *(share for _, share, _ in rows)])
    width = _WIDE - 2 * _SIDE
    height = 40 * len(rows) + 8
    marks, said = [], []
    for index, (name, share, count) in enumerate(rows):
        y = 40 * index
        value = f"{count} ({share:.1%})"
        marks.append(_text(_SIDE, y + 17, _shortened(name, _BESIDE + 4), "value"))
        marks.append(_text(_WIDE - _SIDE, y + 17, value, "tick end"))
        marks.append(_rect(_SIDE, y + 24, width, 10, "track"))
        marks.append(_rect(_SIDE, y + 24, width * share / most, 10, "bar"))
        said.append(f"{name} {value}")
    description = "; ".join(said) + "." if said else "There is nothing to show."
    return Chart(key, title, description, _WIDE, height, tuple(marks))
