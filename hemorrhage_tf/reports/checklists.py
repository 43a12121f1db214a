"""The items of the reporting checklists CLAIM 2024, TRIPOD+AI 2024 and STARD-AI 2025."""

from __future__ import annotations

from typing import NamedTuple

CLAIM, TRIPOD, STARD = "CLAIM 2024", "TRIPOD+AI 2024", "STARD-AI 2025"
REFERENCES = {
    CLAIM: "A. S. Tejani et al., Checklist for artificial intelligence in medical imaging "
    "(CLAIM): 2024 update, Radiology: Artificial Intelligence (2024), doi 10.1148/ryai.240300",
    TRIPOD: "G. S. Collins et al., TRIPOD+AI statement, BMJ 385 (2024), e078378, "
    "doi 10.1136/bmj-2023-078378",
    STARD: "V. Sounderajah et al., The STARD-AI reporting guideline, Nature Medicine (2025), "
    "doi 10.1038/s41591-025-03953-8; cited by section and topic",
}


class ChecklistItem(NamedTuple):
    """One item of a reporting checklist.

    Attributes:
        checklist: Key in `REFERENCES`.
        number: Of the item, or None if the checklist is cited by section and topic.
        section: Of the checklist.
        topic: In a few words of our own; the wording of the checklist takes precedence.
        key: Of the recorded answer in a model card.
    """

    checklist: str
    number: str | None
    section: str
    topic: str
    key: str


_ROWS: tuple[tuple[str, str | None, str, str, str], ...] = (
    (CLAIM, "1", "Title", "identified as a study of AI", "kind"),
    (CLAIM, "2", "Abstract", "structured summary", "abstract"),
    (CLAIM, "3", "Introduction", "background, intended use and role", "intended_use"),
    (CLAIM, "4", "Introduction", "aims and hypotheses", "aims"),
    (CLAIM, "5", "Study design", "prospective or retrospective", "study_design"),
    (CLAIM, "6", "Study design", "goal of the study", "aims"),
    (CLAIM, "7", "Data", "sources", "data"),
    (CLAIM, "8", "Data", "inclusion and exclusion", "eligibility"),
    (CLAIM, "9", "Data", "preprocessing", "preprocessing"),
    (CLAIM, "10", "Data", "selection of subsets", "subsets"),
    (CLAIM, "11", "Data", "de-identification", "deidentification"),
    (CLAIM, "12", "Data", "missing data", "excluded"),
    (CLAIM, "13", "Data", "image acquisition", "acquisition"),
    (CLAIM, "14", "Reference standard", "definition", "reference_standard"),
    (CLAIM, "15", "Reference standard", "rationale", "reference_standard"),
    (CLAIM, "16", "Reference standard", "annotators", "annotators"),
    (CLAIM, "17", "Reference standard", "annotation of the test set", "annotators"),
    (CLAIM, "18", "Reference standard", "agreement of annotators", "annotators"),
    (CLAIM, "19", "Data partitions", "assignment of slices", "split"),
    (CLAIM, "20", "Data partitions", "level of separation", "independence"),
    (CLAIM, "21", "Testing data", "intended sample size", "sample_size"),
    (CLAIM, "22", "Model", "detailed description", "model"),
    (CLAIM, "23", "Model", "software and versions", "versions"),
    (CLAIM, "24", "Model", "initialization of parameters", "weights"),
    (CLAIM, "25", "Training", "approach and settings", "training"),
    (CLAIM, "26", "Training", "selection of the final model", "selection"),
    (CLAIM, "27", "Training", "ensembling", "ensembling"),
    (CLAIM, "28", "Evaluation", "metrics", "metrics"),
    (CLAIM, "29", "Evaluation", "uncertainty", "uncertainty"),
    (CLAIM, "30", "Evaluation", "robustness", "robustness"),
    (CLAIM, "31", "Evaluation", "explainability", "explainability"),
    (CLAIM, "32", "Evaluation", "internal data", "internal"),
    (CLAIM, "33", "Evaluation", "external data", "external"),
    (CLAIM, "34", "Evaluation", "trial registration", "registration"),
    (CLAIM, "35", "Results", "numbers included and excluded", "excluded"),
    (CLAIM, "36", "Results", "demographic and clinical characteristics", "demographics"),
    (CLAIM, "37", "Results", "performance and uncertainty", "performance"),
    (CLAIM, "38", "Results", "diagnostic performance and precision", "performance"),
    (CLAIM, "39", "Results", "failure analysis", "failures"),
    (CLAIM, "40", "Discussion", "limitations", "limits"),
    (CLAIM, "41", "Discussion", "implications for practice", "implications"),
    (CLAIM, "42", "Other", "protocol and technical details", "protocol"),
    (CLAIM, "43", "Other", "availability of software, model and data", "availability"),
    (CLAIM, "44", "Other", "funding", "funding"),
    (TRIPOD, "1", "Title", "development or evaluation, population, outcome", "kind"),
    (TRIPOD, "2", "Abstract", "TRIPOD+AI for abstracts", "abstract"),
    (TRIPOD, "3a-3b", "Introduction", "context, target population, use", "intended_use"),
    (TRIPOD, "3c", "Introduction", "known health inequalities", "inequalities"),
    (TRIPOD, "4", "Introduction", "objectives", "aims"),
    (TRIPOD, "5a", "Methods: data", "sources", "data"),
    (TRIPOD, "5b", "Methods: data", "dates", "dates"),
    (TRIPOD, "6a", "Methods: participants", "setting", "acquisition"),
    (TRIPOD, "6b", "Methods: participants", "eligibility", "eligibility"),
    (TRIPOD, "6c", "Methods: participants", "treatments", "treatments"),
    (TRIPOD, "7", "Methods: data preparation", "preprocessing", "preprocessing"),
    (TRIPOD, "8a-8c", "Methods: outcome", "definition and assessment", "reference_standard"),
    (TRIPOD, "9a-9c", "Methods: predictors", "definition", "predictors"),
    (TRIPOD, "10", "Methods: sample size", "justification", "sample_size"),
    (TRIPOD, "11", "Methods: missing data", "handling", "excluded"),
    (TRIPOD, "12a", "Methods: analysis", "partition of the data", "split"),
    (
        TRIPOD,
        "12b-12c",
        "Methods: analysis",
        "predictors, type of model",
        "training",
    ),
    (TRIPOD, "12d", "Methods: analysis", "heterogeneity over clusters", "subgroups"),
    (TRIPOD, "12e", "Methods: analysis", "measures of performance", "metrics"),
    (TRIPOD, "12f", "Methods: analysis", "updating", "calibration"),
    (TRIPOD, "12g", "Methods: analysis", "computation of predictions", "model"),
    (TRIPOD, "13", "Methods: class imbalance", "handling", "imbalance"),
    (TRIPOD, "14", "Methods: fairness", "approaches", "fairness"),
    (TRIPOD, "15", "Methods: model output", "probability and threshold", "operating_point"),
    (TRIPOD, "16", "Methods", "differences between training and evaluation", "independence"),
    (TRIPOD, "17", "Methods: ethics", "approval and consent", "ethics"),
    (TRIPOD, "18a", "Open science", "funding", "funding"),
    (TRIPOD, "18b", "Open science", "conflicts of interest", "conflicts"),
    (TRIPOD, "18c", "Open science", "protocol", "protocol"),
    (TRIPOD, "18d", "Open science", "registration", "registration"),
    (TRIPOD, "18e-18f", "Open science", "data and code", "availability"),
    (TRIPOD, "19", "Patient and public involvement", "extent", "involvement"),
    (TRIPOD, "20a-20c", "Results: participants", "flow and characteristics", "demographics"),
    (TRIPOD, "21", "Results: development", "numbers in each analysis", "counts"),
    (TRIPOD, "22", "Results: specification", "the full model", "model"),
    (TRIPOD, "23a", "Results: performance", "with intervals and subgroups", "performance"),
    (TRIPOD, "23b", "Results: performance", "heterogeneity", "subgroups"),
    (TRIPOD, "24", "Results: updating", "results", "calibration"),
    (TRIPOD, "25", "Discussion", "interpretation, fairness", "implications"),
    (TRIPOD, "26", "Discussion", "limitations", "limits"),
    (TRIPOD, "27a-27c", "Discussion", "usability, poor input, next steps", "usability"),
    (STARD, None, "Title or abstract", "identified as AI diagnostic accuracy", "kind"),
    (STARD, None, "Introduction", "intended use and clinical role", "intended_use"),
    (STARD, None, "Introduction", "objectives and hypotheses", "aims"),
    (STARD, None, "Methods: design", "prospective or retrospective", "study_design"),
    (STARD, None, "Methods: ethics", "approval", "ethics"),
    (STARD, None, "Methods: participants", "eligibility, setting, dates", "eligibility"),
    (STARD, None, "Methods: data", "sources and collection", "data"),
    (STARD, None, "Methods: data", "annotation", "annotators"),
    (STARD, None, "Methods: data", "devices and acquisition", "acquisition"),
    (STARD, None, "Methods: data", "preprocessing", "preprocessing"),
    (STARD, None, "Methods: data", "partition of the data", "split"),
    (STARD, None, "Methods: index test", "model, version, input", "model"),
    (STARD, None, "Methods: index test", "development and training", "training"),
    (STARD, None, "Methods: index test", "positivity cut-off", "operating_point"),
    (STARD, None, "Methods: index test", "human use of the output", "usability"),
    (STARD, None, "Methods: reference standard", "definition and rationale", "reference_standard"),
    (STARD, None, "Methods: analysis", "measures of accuracy", "metrics"),
    (STARD, None, "Methods: analysis", "indeterminate and missing results", "excluded"),
    (STARD, None, "Methods: analysis", "bias and fairness", "fairness"),
    (STARD, None, "Methods: analysis", "sample size", "sample_size"),
    (STARD, None, "Results", "flow and characteristics of participants", "demographics"),
    (STARD, None, "Results", "differences from training data", "independence"),
    (STARD, None, "Results", "cross tabulation with the reference", "confusion"),
    (STARD, None, "Results", "accuracy and its precision", "performance"),
    (STARD, None, "Results", "errors and failures", "failures"),
    (STARD, None, "Discussion", "limitations, generalizability", "limits"),
    (STARD, None, "Discussion", "implications for practice", "implications"),
    (STARD, None, "Other", "registration", "registration"),
    (STARD, None, "Other", "protocol", "protocol"),
    (STARD, None, "Other", "funding", "funding"),
    (STARD, None, "Other", "availability of data, code and model", "availability"),
)

CHECKLIST_ITEMS = tuple(map(ChecklistItem._make, _ROWS))
