"""The model card: intended use, measured performance, and what a person still has to fill in.

It names no slice, no file and no patient. The Markdown is rendered from the JSON, so that both hold
the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.atomic_files import write_text_atomically
from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.reports.card_levels import (
    SCANS_ONLY,
    SLICES_ONLY,
    card_levels,
    describe_counts,
    detail_rows,
    has_scan_model,
    level_rows,
)
from hemorrhage_tf.reports.checklists import CHECKLIST_ITEMS, REFERENCES
from hemorrhage_tf.reports.number_formats import (
    NOT_AVAILABLE,
    format_count,
    format_metric,
    format_number,
)
from hemorrhage_tf.reports.set_rows import set_rows
from hemorrhage_tf.reports.subtype_section import subtype_rows, weighted_log_loss_text

if TYPE_CHECKING:
    from jinja2 import Environment

MARKDOWN_FILE, JSON_FILE = "model_card.md", "model_card.json"
OPEN = "to be completed by a person"

INDEPENDENCE = {
    "same set": (
        "Evaluated on held-out slices of the same data set. If patients are unknown, slices of one "
        "patient may be on both sides of the split. The metrics say nothing about other patients, "
        "scanners or hospitals."
    ),
    "other patients": (
        "Evaluated on patients that the model was not trained on, from the same source. The "
        "metrics say nothing about other scanners or hospitals."
    ),
    "other site": (
        "Evaluated on slices from a different site than the training data. Performance at other "
        "sites, on other scanners and at other times may still differ."
    ),
}

INTENDED_USE = (
    "Research on detecting intracranial hemorrhage in single axial head CT slices: comparing "
    "methods, teaching, reproducing a published recipe."
)
INTENDED_USE_SCANS = (
    "Research on detecting intracranial hemorrhage in axial head CT slices and scans: comparing "
    "methods, teaching, reproducing a published recipe."
)
TYPE_OUT_OF_SCOPE = (
    "Type, location, size and age of a hemorrhage. The model only predicts whether there is one."
)
TYPE_IN_SCOPE = (
    "Location, size and age of a hemorrhage. The model only predicts whether there is one, and "
    "which subtypes."
)
OUT_OF_SCOPE = (
    "Diagnosis, triage or any decision about a patient. This is research software, not a medical "
    "device.",
    SLICES_ONLY,
    TYPE_OUT_OF_SCOPE,
    "Other modalities, other body parts, contrast-enhanced CT and postoperative CT.",
    "Scanners, windows or hospitals other than those evaluated, unless tested first.",
)

_PERCENTAGES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
_METRIC_NAMES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "brier": "Brier score",
}


@dataclass(frozen=True)
class CardContent:
    """The content of a model card.

    Attributes:
        name: Of the model.
        metrics: From `metrics.binary_metrics`.
        independence: Of the evaluation from the training: "same set", "other patients" or
            "other site".
        split: How slices were divided, in one sentence without its period.
        counts: Numbers of slices, patients and so on, by name.
        sources: Origin of the data, without paths and names of patients.
        model_rows: Name and value of each property of the model.
        training_rows: Name and value of each property of the training.
        preprocessing: How a file becomes model input, or None if unknown.
        weights: Origin of the backbone's initial weights, or None if unknown.
        operating_point: `OperatingPoint.to_dict()`, or None.
        calibration: Temperature and offset of the logits, or None.
        audit: `Audit.to_dict()`, or None.
        robustness: From `robustness.robustness`, or None.
        subgroups: Rows as in the report, or None.
        report: Name of the HTML report next to the card, or None.
        limits: Sentences on what the metrics do not show.
        warnings: What a reader must not miss, such as slices that the model was trained on.
        versions: Of the package and its main dependencies.
        answers: Answers of a person to open items, by the item's key.
    """

    name: str
    metrics: Mapping[str, Any]
    independence: str
    split: str
    counts: Mapping[str, int] = field(default_factory=dict)
    sources: Sequence[str] = ()
    model_rows: Sequence[tuple[str, str]] = ()
    training_rows: Sequence[tuple[str, str]] = ()
    preprocessing: str | None = None
    weights: str | None = None
    operating_point: Mapping[str, Any] | None = None
    calibration: LogitCalibration | None = None
    audit: Mapping[str, Any] | None = None
    robustness: Sequence[Mapping[str, Any]] | None = None
    subgroups: Sequence[Mapping[str, Any]] | None = None
    report: str | None = None
    limits: Sequence[str] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.independence not in INDEPENDENCE:
            raise DataError(
                f"independence {self.independence!r}: must be one of "
                f"{', '.join(map(repr, INDEPENDENCE))}. Pass one of these."
            )
        keys = {item.key for item in CHECKLIST_ITEMS}
        unknown = sorted(self.answers.keys() - keys)
        if unknown:
            raise DataError(
                f"answers to {', '.join(unknown)}: the model card has no such item. "
                f"Use these keys: {', '.join(sorted(keys))}."
            )


def model_card(content: CardContent) -> tuple[str, dict[str, Any]]:
    """Render a model card.

    Args:
        content: Of the card.

    Returns:
        The Markdown, and the same as plain values for JSON.

    Reference:
        M. Mitchell et al., Model cards for model reporting, FAT* (2019), 220-229; and the
        checklists in `checklists.REFERENCES`.
    """
    card = _card_values(content)
    return _environment().get_template("model_card.md").render(card=card), card


def write_model_card(folder: str | Path, content: CardContent) -> tuple[Path, Path]:
    """Write `model_card.md` and `model_card.json`.

    Args:
        folder: Where the files are written. Existing files are replaced.
        content: Of the card.

    Returns:
        Both paths.

    Raises:
        OutputError: If a file cannot be written.
    """
    markdown, card = model_card(content)
    paths = Path(folder) / MARKDOWN_FILE, Path(folder) / JSON_FILE
    write_text_atomically(paths[0], markdown)
    write_text_atomically(paths[1], json.dumps(card, indent=2, allow_nan=False) + "\n")
    return paths


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hemorrhage_tf.reports", "templates"),
        autoescape=False,
        finalize=escape_markdown,  # every value is escaped where it is printed
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = format_count
    return environment


def escape_markdown(value: Any) -> str:
    """Return a value as Markdown that displays it literally, also within a table."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    # An underscore within a word is literal already.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def _card_values(content: CardContent) -> dict[str, Any]:
    """Return the card as plain values for JSON."""
    recorded = {**_recorded(content), **content.answers}
    checklists = _checklists(recorded)
    metrics = content.metrics
    levels = card_levels(metrics)
    shortcuts = (content.audit or {}).get("shortcuts", ())
    return {
        "name": content.name,
        "intended_use": recorded["intended_use"],
        "out_of_scope": _out_of_scope(metrics),
        "warnings": list(content.warnings),
        "model": [list(map(str, row)) for row in content.model_rows],
        "training": [list(map(str, row)) for row in content.training_rows],
        "data": {
            "counts": dict(content.counts),
            "sources": list(content.sources),
            "split": content.split,
            "independence": content.independence,
            "meaning": INDEPENDENCE[content.independence],
        },
        "evaluated_on": metrics.get("evaluated_on"),
        "metrics": [
            _metric_row(name, metrics.get(key), key) for key, name in _METRIC_NAMES.items()
        ],
        "confusion": dict(metrics["confusion"]),
        "levels": levels,
        "level_rows": level_rows(levels, _METRIC_NAMES),
        "scan_details": detail_rows(metrics),
        "n": metrics["n"],
        "intervals_of": metrics["intervals_of"],
        "at_prevalence": metrics.get("at_prevalence"),
        "operating_point": recorded["operating_point"],
        "calibration": recorded["calibration"],
        "shortcuts": [
            {**_metric_row(each["name"], each["roc_auc"], "roc_auc"), "model": each["model"]}
            for each in shortcuts
        ],
        "audited": content.audit is not None,
        "subtypes": subtype_rows(metrics),
        "sets": set_rows(metrics),
        "weighted_log_loss": weighted_log_loss_text(metrics),
        "robustness": [dict(row) for row in content.robustness or ()],
        "limits": [
            INDEPENDENCE[content.independence],
            *map(_as_sentence, _all_notes(metrics)),
            *content.limits,
        ],
        "versions": dict(content.versions),
        "report": content.report,
        "checklists": checklists,
        "open_items": list(
            dict.fromkeys(item["key"] for item in checklists if item["recorded"] is None)
        ),
        "references": dict(REFERENCES),
        "open": OPEN,
    }


def _checklists(recorded: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return every item of the checklists with its recorded answer."""
    return [
        {
            "checklist": item.checklist,
            "item": item.number,
            "section": item.section,
            "topic": item.topic,
            "key": item.key,
            "recorded": recorded.get(item.key),
        }
        for item in CHECKLIST_ITEMS
    ]


def _out_of_scope(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the model is not for, according to what it was evaluated on."""
    changed = {}
    if metrics.get("subtypes"):
        changed[TYPE_OUT_OF_SCOPE] = TYPE_IN_SCOPE
    if has_scan_model(metrics):
        changed[SLICES_ONLY] = SCANS_ONLY
    return [changed.get(text, text) for text in OUT_OF_SCOPE]


def _all_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return the notes of every level, each once."""
    details = metrics.get("scan_details") or {"notes": []}
    notes = [*metrics["notes"], *details["notes"]]
    notes += [note for level in card_levels(metrics) for note in level["metrics"]["notes"]]
    return list(dict.fromkeys(notes))


def _as_sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:].rstrip('.')}."


def _metric_row(name: str, metric: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    return {"name": name, "text": _format(metric, key), "value": metric}


def _format(metric: Mapping[str, Any] | None, key: str) -> str:
    return NOT_AVAILABLE if metric is None else format_metric(metric, key in _PERCENTAGES)


def _join_rows(rows: Sequence[tuple[str, str]]) -> str | None:
    return "; ".join(f"{name}: {value}" for name, value in rows) or None


def _recorded(content: CardContent) -> dict[str, str | None]:
    """Return the recorded answers by key; None and missing keys are left to a person."""
    metrics = content.metrics
    counts = ", ".join(f"{name}: {count}" for name, count in content.counts.items())
    table = metrics["confusion"]
    sees_scans = has_scan_model(metrics)
    return {
        "kind": "a deep-learning classifier of intracranial hemorrhage in head CT slices"
        + (" and scans" if sees_scans else ""),
        "intended_use": INTENDED_USE_SCANS if sees_scans else INTENDED_USE,
        "data": "; ".join([*content.sources, counts]).strip("; ") or None,
        "counts": counts or None,
        "excluded": _describe_exclusions(content.audit),
        "preprocessing": content.preprocessing,
        "predictors": "the pixels of the slices of one scan, and their positions in it"
        if sees_scans
        else "the pixels of one slice, nothing else",
        "split": content.split,
        "independence": f"{content.independence}; see Data, above",
        "model": _join_rows(content.model_rows),
        "versions": _join_rows(list(content.versions.items())),
        "weights": content.weights,
        "training": _join_rows(content.training_rows),
        "metrics": "accuracy, sensitivity, specificity, predictive values, ROC AUC, PR AUC, Brier "
        "score, calibration",
        "uncertainty": f"95% confidence intervals over {metrics['n_groups']} "
        f"{metrics['intervals_of']}",
        "robustness": _describe_robustness(content.robustness),
        "confusion": f"{format_count(table['true_positive'])} detected, "
        f"{format_count(table['false_negative'])} missed, "
        f"{format_count(table['false_positive'])} false alarms, "
        f"{format_count(table['true_negative'])} correctly normal",
        "performance": "see Performance, above: "
        + "; ".join(
            f"{_METRIC_NAMES[key]} {_format(metrics.get(key), key)}"
            for key in ("accuracy", "sensitivity", "specificity", "roc_auc")
        ),
        "operating_point": _describe_operating_point(content),
        "calibration": _describe_calibration(content),
        "limits": "see Limitations, above",
        **_recorded_in_report(content),
        **_recorded_by_site(content),
    }


def _recorded_in_report(content: CardContent) -> dict[str, str | None]:
    report = content.report
    subgroups = "not tested"
    if content.subgroups:
        subgroups = f"{len(content.subgroups)} subgroups, in {report or 'no report'}"
    return {
        "subgroups": subgroups,
        "explainability": f"class activation maps, in {report}" if report else None,
        "failures": f"every misclassified slice is in {report}" if report else None,
    }


def _recorded_by_site(content: CardContent) -> dict[str, str | None]:
    count, independence = describe_counts(content.metrics), content.independence
    if independence == "other site":
        return {"internal": None, "external": f"{count} from another site"}
    external = "none: the model was not tested on data from another site"
    if "external" in content.metrics:
        external = f"{content.metrics['external']['n']} slices of another set, see Performance"
    return {"internal": f"{count}, {independence}", "external": external}


def _describe_exclusions(audit: Mapping[str, Any] | None) -> str | None:
    if not audit:
        return None
    return (
        f"files or rows that could not be used: {len(audit['problems'])}; pairs of duplicates or "
        f"near-duplicates: {len(audit['pairs'])}"
    )


def _describe_robustness(rows: Sequence[Mapping[str, Any]] | None) -> str:
    tested = [row for row in rows or () if row["n"]]
    if not tested:
        return "not tested"
    worst = max(tested, key=lambda row: row["changed_decisions"] / row["n"])
    return (
        f"{len(tested)} alterations of the slice; {worst['name']} changed the most predictions, "
        f"{worst['changed_decisions']} of {worst['n']}"
    )


def _describe_operating_point(content: CardContent) -> str:
    point = content.operating_point
    threshold = (
        f"probabilities of {content.metrics['threshold']:.4g} or more are predicted hemorrhage"
    )
    if point is None:
        return threshold
    chosen = point["chosen_on"]
    note = f" ({point['note']})" if point["note"] else ""
    return (
        f"{threshold}; chosen by the criterion {point['criterion']} on {chosen['n_positive']} "
        f"slices with hemorrhage and {chosen['n_negative']} without{note}"
    )


def _describe_calibration(content: CardContent) -> str:
    calibration = content.metrics["calibration"]
    parts = [
        f"{name} {_format(calibration.get(key), key)}"
        for key, name in (
            ("slope", "slope"),
            ("intercept", "intercept"),
            ("in_the_large", "in the large"),
        )
    ]
    fitted = content.calibration
    parts.append(
        "logits not calibrated"
        if fitted is None or fitted.is_identity
        else f"logits divided by {format_number(fitted.temperature)}, offset "
        f"{format_number(fitted.offset)}"
    )
    return "; ".join(parts)
