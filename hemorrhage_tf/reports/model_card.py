"""The model card: what a model is for, what was measured, and what a person has still to say.

It names no slice, no file and no patient. The Markdown is written from the JSON, so that both hold
the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.reports.html_report import write_atomically
from hemorrhage_tf.reports.number_formats import format_metric, format_number

MARKDOWN_FILE, JSON_FILE = "model_card.md", "model_card.json"
OPEN = "to be filled in by a person"

INDEPENDENCE = {
    "same set": (
        "Evaluated on slices of the same set that were held out; where no patients are named, "
        "slices of one patient may stand on both sides. The figures say nothing of other patients, "
        "scanners or hospitals."
    ),
    "other patients": (
        "Evaluated on patients that the model was not trained on, of the same source. The figures "
        "say nothing of other scanners or hospitals."
    ),
    "other site": (
        "Evaluated on slices of another site than the model was trained on. Further sites, "
        "scanners and times may still differ."
    ),
}

INTENDED = (
    "Research on finding intracranial hemorrhage in single axial head-CT slices: comparing "
    "methods, teaching, reproducing a published recipe."
)
OUT_OF_SCOPE = (
    "Diagnosis, triage or any decision on a patient: this is research software, not a medical "
    "device.",
    "Whole examinations: the model sees one slice, and a patient has many.",
    "Kinds, places, sizes and ages of hemorrhage: the model tells only whether there is one.",
    "Other modalities, other body parts, contrast-enhanced or postoperative CT.",
    "Slices of other scanners, windows or hospitals than those evaluated, without testing first.",
)

# Each item: checklist, number or None where only section and topic are cited, section, topic, and
# the key of what was recorded. Wording is ours; the checklists' own words hold.
_CLAIM, _TRIPOD, _STARD = "CLAIM 2024", "TRIPOD+AI 2024", "STARD-AI 2025"
REFERENCES = {
    _CLAIM: "A. S. Tejani et al., Checklist for artificial intelligence in medical imaging "
    "(CLAIM): 2024 update, Radiology: Artificial Intelligence (2024), doi 10.1148/ryai.240300",
    _TRIPOD: "G. S. Collins et al., TRIPOD+AI statement, BMJ 385 (2024), e078378, "
    "doi 10.1136/bmj-2023-078378",
    _STARD: "V. Sounderajah et al., The STARD-AI reporting guideline, Nature Medicine (2025), "
    "doi 10.1038/s41591-025-03953-8; cited by section and topic",
}
_ITEMS: tuple[tuple[str, str | None, str, str, str], ...] = (
    (_CLAIM, "1", "Title", "identified as a study of AI", "kind"),
    (_CLAIM, "2", "Abstract", "structured summary", "abstract"),
    (_CLAIM, "3", "Introduction", "background, intended use and role", "intended_use"),
    (_CLAIM, "4", "Introduction", "aims and hypotheses", "aims"),
    (_CLAIM, "5", "Study design", "prospective or retrospective", "study_design"),
    (_CLAIM, "6", "Study design", "goal of the study", "aims"),
    (_CLAIM, "7", "Data", "sources", "data"),
    (_CLAIM, "8", "Data", "inclusion and exclusion", "eligibility"),
    (_CLAIM, "9", "Data", "preprocessing", "preprocessing"),
    (_CLAIM, "10", "Data", "selection of subsets", "subsets"),
    (_CLAIM, "11", "Data", "de-identification", "deidentification"),
    (_CLAIM, "12", "Data", "missing data", "excluded"),
    (_CLAIM, "13", "Data", "image acquisition", "acquisition"),
    (_CLAIM, "14", "Reference standard", "how it was obtained", "reference_standard"),
    (_CLAIM, "15", "Reference standard", "why it was chosen", "reference_standard"),
    (_CLAIM, "16", "Reference standard", "who annotated", "annotators"),
    (_CLAIM, "17", "Reference standard", "annotation of the test set", "annotators"),
    (_CLAIM, "18", "Reference standard", "agreement of annotators", "annotators"),
    (_CLAIM, "19", "Data partitions", "how slices were assigned", "split"),
    (_CLAIM, "20", "Data partitions", "level at which parts are disjoint", "independence"),
    (_CLAIM, "21", "Testing data", "intended sample size", "sample_size"),
    (_CLAIM, "22", "Model", "detailed description", "model"),
    (_CLAIM, "23", "Model", "software and versions", "versions"),
    (_CLAIM, "24", "Model", "initialization of parameters", "weights"),
    (_CLAIM, "25", "Training", "approach and settings", "training"),
    (_CLAIM, "26", "Training", "how the final model was selected", "selection"),
    (_CLAIM, "27", "Training", "ensembling", "ensembling"),
    (_CLAIM, "28", "Evaluation", "metrics", "metrics"),
    (_CLAIM, "29", "Evaluation", "uncertainty", "uncertainty"),
    (_CLAIM, "30", "Evaluation", "robustness", "robustness"),
    (_CLAIM, "31", "Evaluation", "explainability", "explainability"),
    (_CLAIM, "32", "Evaluation", "internal data", "internal"),
    (_CLAIM, "33", "Evaluation", "external data", "external"),
    (_CLAIM, "34", "Evaluation", "trial registration", "registration"),
    (_CLAIM, "35", "Results", "numbers included and excluded", "excluded"),
    (_CLAIM, "36", "Results", "demographic and clinical characteristics", "demographics"),
    (_CLAIM, "37", "Results", "performance and uncertainty", "performance"),
    (_CLAIM, "38", "Results", "diagnostic performance and precision", "performance"),
    (_CLAIM, "39", "Results", "failure analysis", "failures"),
    (_CLAIM, "40", "Discussion", "limitations", "limits"),
    (_CLAIM, "41", "Discussion", "implications for practice", "implications"),
    (_CLAIM, "42", "Other", "protocol and technical details", "protocol"),
    (_CLAIM, "43", "Other", "availability of software, model and data", "availability"),
    (_CLAIM, "44", "Other", "funding", "funding"),
    (_TRIPOD, "1", "Title", "development or evaluation, population, outcome", "kind"),
    (_TRIPOD, "2", "Abstract", "TRIPOD+AI for abstracts", "abstract"),
    (_TRIPOD, "3a-3b", "Introduction", "context, target population, use", "intended_use"),
    (_TRIPOD, "3c", "Introduction", "known health inequalities", "inequalities"),
    (_TRIPOD, "4", "Introduction", "objectives", "aims"),
    (_TRIPOD, "5a", "Methods: data", "sources", "data"),
    (_TRIPOD, "5b", "Methods: data", "dates", "dates"),
    (_TRIPOD, "6a", "Methods: participants", "setting", "acquisition"),
    (_TRIPOD, "6b", "Methods: participants", "eligibility", "eligibility"),
    (_TRIPOD, "6c", "Methods: participants", "treatments", "treatments"),
    (_TRIPOD, "7", "Methods: data preparation", "preprocessing", "preprocessing"),
    (_TRIPOD, "8a-8c", "Methods: outcome", "definition and assessment", "reference_standard"),
    (_TRIPOD, "9a-9c", "Methods: predictors", "what the model sees", "predictors"),
    (_TRIPOD, "10", "Methods: sample size", "how it was arrived at", "sample_size"),
    (_TRIPOD, "11", "Methods: missing data", "how it was handled", "excluded"),
    (_TRIPOD, "12a", "Methods: analysis", "partition of the data", "split"),
    (_TRIPOD, "12b-12c", "Methods: analysis", "predictors, kind of model, building", "training"),
    (_TRIPOD, "12d", "Methods: analysis", "heterogeneity over clusters", "subgroups"),
    (_TRIPOD, "12e", "Methods: analysis", "measures of performance", "metrics"),
    (_TRIPOD, "12f", "Methods: analysis", "updating", "calibration"),
    (_TRIPOD, "12g", "Methods: analysis", "how predictions are computed", "model"),
    (_TRIPOD, "13", "Methods: class imbalance", "how it was handled", "imbalance"),
    (_TRIPOD, "14", "Methods: fairness", "approaches", "fairness"),
    (_TRIPOD, "15", "Methods: model output", "probability and threshold", "operating_point"),
    (_TRIPOD, "16", "Methods", "differences between training and evaluation", "independence"),
    (_TRIPOD, "17", "Methods: ethics", "approval and consent", "ethics"),
    (_TRIPOD, "18a", "Open science", "funding", "funding"),
    (_TRIPOD, "18b", "Open science", "conflicts of interest", "conflicts"),
    (_TRIPOD, "18c", "Open science", "protocol", "protocol"),
    (_TRIPOD, "18d", "Open science", "registration", "registration"),
    (_TRIPOD, "18e-18f", "Open science", "data and code", "availability"),
    (_TRIPOD, "19", "Patient and public involvement", "what there was", "involvement"),
    (_TRIPOD, "20a-20c", "Results: participants", "flow and characteristics", "demographics"),
    (_TRIPOD, "21", "Results: development", "numbers in each analysis", "counts"),
    (_TRIPOD, "22", "Results: specification", "the full model", "model"),
    (_TRIPOD, "23a", "Results: performance", "with intervals and subgroups", "performance"),
    (_TRIPOD, "23b", "Results: performance", "heterogeneity", "subgroups"),
    (_TRIPOD, "24", "Results: updating", "what it gave", "calibration"),
    (_TRIPOD, "25", "Discussion", "interpretation, fairness", "implications"),
    (_TRIPOD, "26", "Discussion", "limitations", "limits"),
    (_TRIPOD, "27a-27c", "Discussion", "usability, poor input, next steps", "usability"),
    (_STARD, None, "Title or abstract", "identified as AI diagnostic accuracy", "kind"),
    (_STARD, None, "Introduction", "intended use and clinical role", "intended_use"),
    (_STARD, None, "Introduction", "objectives and hypotheses", "aims"),
    (_STARD, None, "Methods: design", "before or after the tests were done", "study_design"),
    (_STARD, None, "Methods: ethics", "approval", "ethics"),
    (_STARD, None, "Methods: participants", "eligibility, setting, dates", "eligibility"),
    (_STARD, None, "Methods: data", "sources and collection", "data"),
    (_STARD, None, "Methods: data", "annotation", "annotators"),
    (_STARD, None, "Methods: data", "devices and acquisition", "acquisition"),
    (_STARD, None, "Methods: data", "preprocessing", "preprocessing"),
    (_STARD, None, "Methods: data", "partition of the data", "split"),
    (_STARD, None, "Methods: index test", "model, version, input", "model"),
    (_STARD, None, "Methods: index test", "development and training", "training"),
    (_STARD, None, "Methods: index test", "positivity cut-off", "operating_point"),
    (_STARD, None, "Methods: index test", "human use of the output", "usability"),
    (_STARD, None, "Methods: reference standard", "definition and rationale", "reference_standard"),
    (_STARD, None, "Methods: analysis", "measures of accuracy", "metrics"),
    (_STARD, None, "Methods: analysis", "indeterminate and missing results", "excluded"),
    (_STARD, None, "Methods: analysis", "bias and fairness", "fairness"),
    (_STARD, None, "Methods: analysis", "sample size", "sample_size"),
    (_STARD, None, "Results", "flow and characteristics of participants", "demographics"),
    (_STARD, None, "Results", "how evaluation data differ from training", "independence"),
    (_STARD, None, "Results", "cross tabulation with the reference", "confusion"),
    (_STARD, None, "Results", "accuracy and its precision", "performance"),
    (_STARD, None, "Results", "errors and failures", "failures"),
    (_STARD, None, "Discussion", "limitations, generalizability", "limits"),
    (_STARD, None, "Discussion", "implications for practice", "implications"),
    (_STARD, None, "Other", "registration", "registration"),
    (_STARD, None, "Other", "protocol", "protocol"),
    (_STARD, None, "Other", "funding", "funding"),
    (_STARD, None, "Other", "availability of data, code and model", "availability"),
)

_SHARES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
_NAMES = {
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
    """What a model card says.

    Attributes:
        name: the model's.
        metrics: from `metrics.binary_metrics`.
        independence: of the evaluation from the training: "same set", "other patients" or
            "other site".
        split: how slices were divided, in a sentence.
        counts: how many slices, patients and the like; values are numbers.
        sources: where the data come from; no paths and no names of patients.
        model_rows: what describes the model: pairs of a name and a value.
        training_rows: the same of its training.
        preprocessing: how a file becomes the model's input, in a sentence; None where not known.
        weights: where the backbone's first weights come from; None where not known.
        operating_point: `OperatingPoint.to_dict()`, or None.
        temperature: what the logits are divided by; None without one.
        audit: `Audit.to_dict()`, or None.
        robustness: from `robustness.robustness`, or None.
        subgroups: rows as of the report, or None.
        report: name of the report that lies beside the card; None without one.
        limits: sentences on what the figures do not show.
        warnings: what must not be missed, such as slices that were trained on.
        versions: of the package and of what it ran on.
        answers: what a person filled in, by the key that an open item names.
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
    temperature: float | None = None
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
                f"the level of independence must be one of {list(INDEPENDENCE)}. "
                f"Received: {self.independence}"
            )
        known = {item[-1] for item in _ITEMS}
        unknown = sorted(self.answers.keys() - known)
        if unknown:
            raise DataError(
                f"no item of the model card is called {', '.join(unknown)}. "
                f"Accepted: {', '.join(sorted(known))}"
            )


def model_card(values: CardContent) -> tuple[str, dict[str, Any]]:
    """Makes a model card.

    Args:
        values: what it says.

    Returns:
        Markdown, and the same as plain values for JSON.

    Reference:
        M. Mitchell et al., Model cards for model reporting, FAT* (2019), 220-229; and the
        checklists in `REFERENCES`.
    """
    card = _card(values)
    return _environment().get_template("model_card.md").render(card=card), card


def write_model_card(folder: str | Path, values: CardContent) -> tuple[Path, Path]:
    """Writes `model_card.md` and `model_card.json`.

    Args:
        folder: where to; files that are there are replaced.
        values: what the card says.

    Returns:
        Both paths.

    Raises:
        OutputError: one cannot be written.
    """
    markdown, card = model_card(values)
    paths = Path(folder) / MARKDOWN_FILE, Path(folder) / JSON_FILE
    write_atomically(paths[0], markdown)
    write_atomically(paths[1], json.dumps(card, indent=2, allow_nan=False) + "\n")
    return paths


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown, in which every value is escaped as it is written.
    environment = Environment(
        loader=PackageLoader("hemorrhage_tf.reports", "templates"),
        autoescape=False,
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment


def escape_markdown(value: Any) -> str:
    """Makes a value stand in Markdown, also in a table, as the text that it is."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    # Inside a word an underscore is one.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def _card(values: CardContent) -> dict[str, Any]:
    recorded = {**_recorded(values), **values.answers}
    checklists = [
        {
            "checklist": checklist,
            "item": number,
            "section": section,
            "topic": topic,
            "key": key,
            "recorded": recorded.get(key),
        }
        for checklist, number, section, topic, key in _ITEMS
    ]
    metrics = values.metrics
    return {
        "name": values.name,
        "intended_use": INTENDED,
        "out_of_scope": list(OUT_OF_SCOPE),
        "warnings": list(values.warnings),
        "model": [list(map(str, row)) for row in values.model_rows],
        "training": [list(map(str, row)) for row in values.training_rows],
        "data": {
            "counts": dict(values.counts),
            "sources": list(values.sources),
            "split": values.split,
            "independence": values.independence,
            "meaning": INDEPENDENCE[values.independence],
        },
        "evaluated_on": metrics.get("evaluated_on"),
        "figures": [
            {"name": name, "said": _said(metrics.get(key), key), "figure": metrics.get(key)}
            for key, name in _NAMES.items()
        ],
        "confusion": dict(metrics["confusion"]),
        "n": metrics["n"],
        "intervals_of": metrics["intervals_of"],
        "at_prevalence": metrics.get("at_prevalence"),
        "operating_point": recorded["operating_point"],
        "calibration": recorded["calibration"],
        "shortcuts": [
            {
                "name": each["name"],
                "model": each["model"],
                "said": _said(each["roc_auc"], "roc_auc"),
                "figure": each["roc_auc"],
            }
            for each in (values.audit or {}).get("shortcuts", ())
        ],
        "audited": values.audit is not None,
        "robustness": [dict(row) for row in values.robustness or ()],
        "limits": [INDEPENDENCE[values.independence], *metrics["notes"], *values.limits],
        "versions": dict(values.versions),
        "report": values.report,
        "checklists": checklists,
        "open_items": list(
            dict.fromkeys(item["key"] for item in checklists if item["recorded"] is None)
        ),
        "references": dict(REFERENCES),
        "open": OPEN,
    }


def _said(figure: Mapping[str, Any] | None, key: str) -> str:
    return "cannot be had" if figure is None else format_metric(figure, key in _SHARES)


def _rows_said(rows: Sequence[tuple[str, str]]) -> str | None:
    return "; ".join(f"{name}: {value}" for name, value in rows) or None


def _recorded(values: CardContent) -> dict[str, str | None]:
    """Says what software knows, by key; None and missing keys are for a person."""
    metrics = values.metrics
    audit = values.audit or {}
    counts = ", ".join(f"{name} {count}" for name, count in values.counts.items())
    report = values.report
    table = metrics["confusion"]
    rows = [row for row in values.robustness or () if row["n"]]
    worst = max(rows, key=lambda row: row["changed_decisions"] / row["n"], default=None)
    excluded = None
    if audit:
        excluded = (
            f"{len(audit['problems'])} files or rows could not be used; "
            f"{len(audit['pairs'])} pairs show the same picture"
        )
    return {
        "kind": "a deep-learning classifier of intracranial hemorrhage in head-CT slices",
        "intended_use": INTENDED,
        "data": "; ".join([*values.sources, counts]).strip("; ") or None,
        "counts": counts or None,
        "excluded": excluded,
        "preprocessing": values.preprocessing,
        "predictors": "the pixels of one slice, nothing else",
        "split": values.split,
        "independence": f"{values.independence}; see Data, above",
        "model": _rows_said(values.model_rows),
        "versions": _rows_said(list(values.versions.items())),
        "weights": values.weights,
        "training": _rows_said(values.training_rows),
        "metrics": "accuracy, sensitivity, specificity, predictive values, ROC AUC, PR AUC, Brier "
        "score, calibration",
        "uncertainty": f"95% intervals over {metrics['n_groups']} {metrics['intervals_of']}",
        "robustness": "not tested"
        if worst is None
        else f"{len(rows)} changes of the slice; {worst['name']} turned the most decisions, "
        f"{worst['changed_decisions']} of {worst['n']}",
        "subgroups": f"{len(values.subgroups)} groups, in {report or 'no report'}"
        if values.subgroups
        else "not tested",
        "explainability": f"class activation maps, in {report}" if report else None,
        "failures": f"every wrong slice is shown in {report}" if report else None,
        "internal": None
        if values.independence == "other site"
        else f"{metrics['n']} slices, {values.independence}",
        "external": f"{metrics['n']} slices of another site"
        if values.independence == "other site"
        else "none: the model was not tested on data of another site",
        "confusion": f"{table['true_positive']:g} found, {table['false_negative']:g} missed, "
        f"{table['false_positive']:g} false alarms, {table['true_negative']:g} left alone",
        "performance": "see Figures, above: "
        + "; ".join(
            f"{_NAMES[key]} {_said(metrics.get(key), key)}"
            for key in ("accuracy", "sensitivity", "specificity", "roc_auc")
        ),
        "operating_point": _operating_point(values),
        "calibration": _calibration(values),
        "limits": "see Limits, above",
    }


def _operating_point(values: CardContent) -> str:
    point = values.operating_point
    at = f"probabilities of {values.metrics['threshold']:.4g} and more count as hemorrhage"
    if point is None:
        return at
    chosen = point["chosen_on"]
    return (
        f"{at}; chosen by {point['criterion']} on {chosen['n_positive']} slices with hemorrhage "
        f"and {chosen['n_negative']} without" + (f" ({point['note']})" if point["note"] else "")
    )


def _calibration(values: CardContent) -> str:
    found = values.metrics["calibration"]
    said = [
        f"{name.replace('_', ' ')} {_said(found.get(name), name)}"
        for name in ("slope", "intercept", "in_the_large")
    ]
    temperature = values.temperature
    said.append(
        "no temperature" if temperature is None else f"temperature {format_number(temperature)}"
    )
    return "; ".join(said)
