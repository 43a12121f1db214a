"""What each metric is, how it is computed, its source, and what it does not say.

This is the only place of these texts. `hemorrhage-tf explain` prints them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from hemorrhage_tf.core.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of one metric.

    Attributes:
        key: Its name in `metrics.json`, or one like these.
        title: Its name in tables and in the report.
        meaning: What it is.
        formula: How it is computed, and its interval if it has one.
        source: Where the method comes from; empty for plain counts.
        limits: What it does not say.
        aliases: Further names, as files and tables have them.
    """

    key: str
    title: str
    meaning: str
    formula: str
    source: str
    limits: str
    aliases: tuple[str, ...] = ()


_WILSON = (
    "Interval: Wilson; where slices share patients, at the number of independent slices that a "
    "bootstrap of whole patients gives."
)
_WILSON_SOURCE = "E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212."

EXPLANATIONS = (
    Explanation(
        key="sensitivity",
        title="Sensitivity",
        meaning="Of the slices (or scans) with hemorrhage, the share that is predicted hemorrhage.",
        formula=f"TP / (TP + FN), at the threshold. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="Not how many alarms are right, which is PPV. It changes with the threshold, and "
        "with the hemorrhages: large fresh ones are easier than thin or old ones.",
        aliases=("recall", "true positive rate", "tpr"),
    ),
    Explanation(
        key="specificity",
        title="Specificity",
        meaning="Of the slices (or scans) without hemorrhage, the share that is predicted normal.",
        formula=f"TN / (TN + FP), at the threshold. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="A scan has many slices: 95 % specificity of slices does not mean that 95 % of the "
        "normal scans stay without an alarm. It changes with the threshold and with what else the "
        "slices show.",
        aliases=("true negative rate", "tnr"),
    ),
    Explanation(
        key="accuracy",
        title="Accuracy",
        meaning="The share of right decisions.",
        formula=f"(TP + TN) / n, at the threshold. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="It depends on the prevalence: where one slice in a hundred has a hemorrhage, a "
        "model that never sees one reaches 99 %. Compare it with no other data set.",
    ),
    Explanation(
        key="ppv",
        title="PPV",
        meaning="Positive predictive value: of the slices predicted hemorrhage, the share that has "
        "one.",
        formula=f"TP / (TP + FP), at the threshold. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="It holds at the prevalence of this data set only. Pass --prevalence for the value "
        "where the model will be used.",
        aliases=("positive predictive value", "precision"),
    ),
    Explanation(
        key="npv",
        title="NPV",
        meaning="Negative predictive value: of the slices predicted normal, the share that has no "
        "hemorrhage.",
        formula=f"TN / (TN + FN), at the threshold. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="It holds at the prevalence of this data set only, and is high wherever hemorrhage "
        "is rare.",
        aliases=("negative predictive value",),
    ),
    Explanation(
        key="at_prevalence",
        title="PPV and NPV at a prevalence",
        meaning="The predictive values where a given share of slices has a hemorrhage, from the "
        "sensitivity and specificity here.",
        formula="With prevalence p: PPV = p sens / (p sens + (1 - p)(1 - spec)); NPV = (1 - p) "
        "spec / ((1 - p) spec + p (1 - sens)). Interval: MOVER-R.",
        source="R. G. Newcombe, Statistical Methods in Medical Research 25 (2016), 1774-1778.",
        limits="It assumes the same sensitivity and specificity there, which another scanner or "
        "other patients may not give.",
        aliases=("prevalence", "ppv at a prevalence", "npv at a prevalence"),
    ),
    Explanation(
        key="roc_auc",
        title="ROC AUC",
        meaning="The chance that a slice with hemorrhage gets a higher probability than one "
        "without, both drawn at random. 0.5 is guessing, 1 is a perfect order.",
        formula="Area under sensitivity against 1 - specificity over all thresholds; ties count "
        "half. Interval: DeLong on the logit scale; over patients with a bootstrap's variance.",
        source="E. R. DeLong et al., Biometrics 44 (1988), 837-845; G. Qin and L. Hotilovac, "
        "Statistical Methods in Medical Research 17 (2008), 207-221.",
        limits="Neither whether the probabilities are right nor how well the chosen threshold "
        "works. If hemorrhage is rare, a high area still goes with many false alarms.",
        aliases=("auc", "roc", "auroc", "roc curve"),
    ),
    Explanation(
        key="pr_auc",
        title="PR AUC",
        meaning="Average precision: the PPV, averaged over the sensitivities as the threshold "
        "falls. Guessing gives the prevalence.",
        formula="sum over thresholds of (recall_k - recall_(k-1)) precision_k. Interval: bootstrap "
        "variance on the logit scale.",
        source="J. Davis and M. Goadrich, ICML (2006); K. Boyd et al., ECML PKDD (2013).",
        limits="It depends on the prevalence, so two data sets cannot be compared by it.",
        aliases=("average precision", "auprc", "precision recall curve"),
    ),
    Explanation(
        key="brier",
        title="Brier score",
        meaning="How far the probabilities are from what was the case: 0 is best, and always "
        "saying 0.5 gives 0.25.",
        formula="Mean of (probability - label)^2. Interval: on the log scale.",
        source="G. W. Brier, Monthly Weather Review 78 (1950), 1-3.",
        limits="It mixes order and calibration, and is small wherever hemorrhage is rare.",
        aliases=("brier score",),
    ),
    Explanation(
        key="calibration_slope",
        title="Calibration slope",
        meaning="Whether probabilities are too extreme (below 1) or too timid (above 1).",
        formula="b of the logistic regression logit P(label) = a + b logit(probability). Interval: "
        "profile likelihood with Student's quantile.",
        source="D. R. Cox, Biometrika 45 (1958), 562-565; B. Van Calster et al., Journal of "
        "Clinical Epidemiology 74 (2016), 167-176.",
        limits="A slope of 1 does not mean a good model: always predicting the prevalence is "
        "calibrated, too.",
        aliases=("slope", "calibration"),
    ),
    Explanation(
        key="calibration_intercept",
        title="Calibration intercept",
        meaning="Whether probabilities are too low (above 0) or too high (below 0), next to the "
        "slope.",
        formula="a of the logistic regression logit P(label) = a + b logit(probability). Interval: "
        "profile likelihood with Student's quantile.",
        source="D. R. Cox, Biometrika 45 (1958), 562-565.",
        limits="It means little without the slope, and moves with the prevalence of the data set.",
        aliases=("intercept",),
    ),
    Explanation(
        key="in_the_large",
        title="Calibration in the large",
        meaning="Whether the probabilities are right on average: above 0 they are too low, below 0 "
        "too high.",
        formula="a of the logistic regression logit P(label) = a + logit(probability), with the "
        "slope held at 1. Interval: profile likelihood with Student's quantile.",
        source="B. Van Calster et al., Journal of Clinical Epidemiology 74 (2016), 167-176.",
        limits="Probabilities may be right on average and wrong everywhere.",
        aliases=("calibration in the large",),
    ),
    Explanation(
        key="reliability",
        title="Reliability curve",
        meaning="The observed share of hemorrhage against the predicted probability, in bins. On "
        "the diagonal the probabilities are right.",
        formula="By bin of probability: mean probability, and share of hemorrhage with its "
        "interval.",
        source="M. H. DeGroot and S. E. Fienberg, The Statistician 32 (1983), 12-22.",
        limits="With few slices in a bin the points scatter; look at the intervals.",
        aliases=("reliability curve", "calibration curve"),
    ),
    Explanation(
        key="confusion",
        title="Confusion matrix",
        meaning="The counts of the four outcomes: hemorrhages found (TP) and missed (FN), normal "
        "slices left alone (TN) and falsely flagged (FP). Means over the repeats, if there are "
        "several.",
        formula="Predicted hemorrhage: probability at or above the threshold.",
        source="",
        limits="Nothing about patients: several errors may come from one of them.",
        aliases=(
            "confusion matrix",
            "true positive",
            "false negative",
            "false positive",
            "true negative",
            "tp",
            "fn",
            "fp",
            "tn",
        ),
    ),
    Explanation(
        key="threshold",
        title="Threshold and operating point",
        meaning="The probability from which on a slice (or scan) is predicted hemorrhage, and the "
        "criterion by which it was chosen.",
        formula="balanced: the share of hemorrhage in training; youden: the highest sensitivity + "
        "specificity - 1; sensitivity=S, specificity=S: the threshold that reaches S; chosen on "
        "out-of-fold predictions.",
        source="W. J. Youden, Cancer 3 (1950), 32-35.",
        limits="A threshold chosen here may reach another sensitivity elsewhere; `recalibrate` "
        "fits it to local data.",
        aliases=("operating point", "youden", "balanced", "criterion", "chosen on"),
    ),
    Explanation(
        key="interval",
        title="95 % interval",
        meaning="The values that agree with the data: with 95 % of such intervals the true value "
        "lies inside. It is over patients where slices share one.",
        formula="By metric: Wilson, DeLong, profile likelihood; over patients with the variance of "
        "a bootstrap; see the metric. n is the number of slices or scans that it counts.",
        source="B. Efron and R. J. Tibshirani, An introduction to the bootstrap (1993).",
        limits="Only chance in the choice of slices or patients. Wrong labels, another hospital "
        "and a shortcut are not in it.",
        aliases=(
            "95 % interval",
            "confidence interval",
            "intervals of",
            "low",
            "high",
            "estimate",
            "n",
            "n groups",
            "n positive",
            "n negative",
        ),
    ),
    Explanation(
        key="repeats",
        title="Repeats and spread",
        meaning="The metrics of each repeat of the cross-validation, with mean, standard deviation "
        "and range; pooled: the areas with the predictions of all repeats ranked together.",
        formula="Other folds in each repeat; the metric shown is the mean.",
        source="M. Stone, Journal of the Royal Statistical Society B 36 (1974), 111-147.",
        limits="The spread is that of the folds, not of new patients: the interval is.",
        aliases=("spread", "pooled", "sd", "least", "most", "mean"),
    ),
    Explanation(
        key="slices",
        title="Slices alone",
        meaning="The level at which each slice counts by itself, with the probability that the "
        "model gives it without its neighbors.",
        formula="The head's probability, compared with the threshold for slices.",
        source="",
        limits="How many scans would be flagged: see the level of scans.",
        aliases=("slices alone", "slice", "slice alone", "level", "probability", "alone"),
    ),
    Explanation(
        key="slices_in_scans",
        title="Slices in their scans",
        meaning="The level at which each slice has the probability that the scan model gives it "
        "after seeing all slices of its scan.",
        formula="The scan model's probability of the slice, compared with its own threshold.",
        source="",
        limits="A slice of no scan has none.",
        aliases=("slices in their scans", "slice in scan", "in scan", "probability in scan"),
    ),
    Explanation(
        key="scans",
        title="Scans",
        meaning="The level at which each scan counts once. A scan with any slice that shows a "
        "hemorrhage has one.",
        formula="The scan model's probability of the scan, or without one the mean of the three "
        "highest slices; compared with the threshold for scans.",
        source="",
        limits="Which slice shows it, and what a reader would do with the result.",
        aliases=("scan", "scan probability", "mean of top 3", "highest"),
    ),
    Explanation(
        key="scans_flagged",
        title="Normal scans flagged",
        meaning="Of the scans without hemorrhage, the share that is predicted hemorrhage.",
        formula=f"1 - specificity of scans. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="How bad each false alarm is, and how many there are per day: multiply by the "
        "normal scans of a day.",
        aliases=(
            "normal scans flagged",
            "false alarms",
            "false positive rate",
            "n normal scans",
        ),
    ),
    Explanation(
        key="flagged_slices",
        title="Flagged slices per normal scan",
        meaning="How many slices of a scan without hemorrhage are predicted hemorrhage, on "
        "average.",
        formula="Mean over the normal scans. Interval: Student's on the log scale, or over "
        "patients.",
        source="",
        limits="A mean hides that a few scans may have most of them.",
        aliases=("flagged slices per scan", "flagged"),
    ),
    Explanation(
        key="at_sensitivity",
        title="Specificity at a sensitivity",
        meaning="The specificity of scans if the threshold were set to reach a sensitivity, such "
        "as 95 %.",
        formula="The highest threshold that reaches the sensitivity on these scans; the interval "
        "includes that it was chosen on them.",
        source="",
        limits="The threshold was chosen on the same scans, so it is no forecast for others.",
        aliases=("specificity at 90% sensitivity", "specificity at 95% sensitivity"),
    ),
    Explanation(
        key="by_subtype",
        title="Any hemorrhage, by subtype",
        meaning="Of the slices or scans with one subtype, the share that is predicted hemorrhage "
        "of any kind.",
        formula=f"Sensitivity over those with the subtype. {_WILSON}",
        source=_WILSON_SOURCE,
        limits="Whether the subtype was named: those metrics are under Subtypes. A scan with "
        "several subtypes counts for each.",
        aliases=(
            "sensitivity by subtype",
            "sensitivity by subtype of the probability of any hemorrhage",
        ),
    ),
    Explanation(
        key="by_size",
        title="By number of slices in the scan",
        meaning="Sensitivity and specificity of scans with few and with many slices.",
        formula="The scans in bins of 1, 20, 45, 90 and 180 slices and more.",
        source="",
        limits="Thin and thick slices may come from different scanners or patients.",
        aliases=("by number of slices", "size"),
    ),
    Explanation(
        key="subtypes",
        title="Subtypes",
        meaning="ROC AUC, PR AUC, sensitivity and specificity of the probability of each subtype, "
        "over the slices of which it is known.",
        formula="As for any hemorrhage, with the subtype as the class.",
        source="A. E. Flanders et al., Radiology: Artificial Intelligence 2 (2020), e190211.",
        limits="Rare subtypes have wide intervals; epidural hemorrhage is the rarest.",
        aliases=("subtype", "likeliest subtype"),
    ),
    Explanation(
        key="weighted_log_loss",
        title="Weighted log loss of RSNA 2019",
        meaning="The score of the challenge: the log loss over any hemorrhage and the five "
        "subtypes. The lowest is best.",
        formula="Mean of sum_k w_k (-(y_k log p_k + (1 - y_k) log(1 - p_k))) / sum_k w_k, with "
        "weight 2 for any hemorrhage and 1 for a subtype.",
        source="RSNA Intracranial Hemorrhage Detection (2019); A. E. Flanders et al., Radiology: "
        "Artificial Intelligence 2 (2020), e190211.",
        limits="It depends on the prevalence: compare it on the same slices only.",
        aliases=("log loss",),
    ),
    Explanation(
        key="comparison",
        title="Difference of two models and its p",
        meaning="How a metric differs between two models on the same slices; p is the chance of a "
        "difference at least as large if there were none.",
        formula="Accuracy, sensitivity, specificity: McNemar test, interval of Agresti and Min; "
        "ROC AUC: paired DeLong; over patients with the variance of a bootstrap.",
        source="Q. McNemar, Psychometrika 12 (1947), 153-157; A. Agresti and Y. Min, Statistics "
        "in Medicine 24 (2005), 729-740.",
        limits="A large p does not show that the models are equal. Many comparisons find some "
        "small p by chance.",
        aliases=("difference", "p", "p value"),
    ),
    Explanation(
        key="net_benefit",
        title="Net benefit (decision curve)",
        meaning="The found hemorrhages less the false alarms, these weighted by what one found "
        "hemorrhage is worth. Higher is better; compare with flagging all and none.",
        formula="TP / n - FP / n * t / (1 - t), at each threshold t.",
        source="A. J. Vickers and E. B. Elkin, Medical Decision Making 26 (2006), 565-574.",
        limits="It assumes that the threshold is chosen by that worth, and probabilities that are "
        "calibrated.",
        aliases=("decision curve", "decision curve analysis", "net benefit"),
    ),
    Explanation(
        key="best_shortcut",
        title="ROC AUC of a shortcut alone",
        meaning="How well a property other than anatomy, such as the size of the image, predicts "
        "the label by itself. Near 0.5 it does not.",
        formula="ROC AUC of a classifier on that property, out of fold.",
        source="R. Geirhos et al., Nature Machine Intelligence 2 (2020), 665-673.",
        limits="A high area does not show that the model uses the shortcut, and 0.5 not that there "
        "is none: only these properties were tried.",
        aliases=("shortcut", "shortcuts", "shortcut baseline", "best shortcut"),
    ),
    Explanation(
        key="changed_decisions",
        title="Robustness",
        meaning="How many decisions change, and how the probability moves, when slices are "
        "shifted, rotated, blurred or otherwise altered.",
        formula="Count of other decisions at the threshold; mean and largest change of the "
        "probability; change of ROC AUC.",
        source="D. Hendrycks and T. Dietterich, ICLR (2019).",
        limits="Alterations by software are not another scanner.",
        aliases=(
            "robustness",
            "roc auc change",
            "to hemorrhage",
            "to normal",
            "mean change",
            "largest change",
        ),
    ),
    Explanation(
        key="dataset_shift",
        title="Dataset shift",
        meaning="How far the appearance of these slices lies from that of the training slices.",
        formula="Size, mean gray level, the head's share of the frame, and the distance of the "
        "features, against their 5 % to 95 % range in training.",
        source="J. Quinonero-Candela et al., Dataset shift in machine learning (2009).",
        limits="Slices that look alike may still have other labels or patients.",
        aliases=("feature distance",),
    ),
    Explanation(
        key="leaks",
        title="Leaks",
        meaning="Slices that share a patient or are an exact duplicate of one on the other side of "
        "the split.",
        formula="Counted; 0 unless a split column of the manifest and --allow-leak ask for it.",
        source="S. Kapoor and A. Narayanan, Patterns 4 (2023), 100804.",
        limits="Duplicates that were altered beyond recognition are not found.",
        aliases=("seen in training", "duplicates"),
    ),
    Explanation(
        key="temperature",
        title="Temperature and offset",
        meaning="The calibration: the logits are divided by the temperature, and the offset is "
        "added. Both are part of the weights.",
        formula="Platt's regression with Firth's penalty on out-of-fold predictions.",
        source="J. Platt, Advances in large margin classifiers (1999), 61-74; C. Guo et al., ICML "
        "(2017).",
        limits="It holds for data like those that it was fitted on.",
        aliases=("offset", "recalibration"),
    ),
    Explanation(
        key="needed_for_half",
        title="Patients needed for half the interval",
        meaning="How many patients would make the interval of a metric half as wide.",
        formula="Four times as many as there are: the width falls with the square root.",
        source="",
        limits="It assumes that further patients are like those at hand.",
        aliases=("needed for half", "needed"),
    ),
    Explanation(
        key="loss",
        title="Training loss",
        meaning="What training minimizes: the mean log loss of the training slices, with the "
        "class weights.",
        formula="Mean of w (-(y log p + (1 - y) log(1 - p))).",
        source="",
        limits="How the model does on other slices: see the metrics.",
        aliases=("val loss", "validation loss"),
    ),
    Explanation(
        key="evidence",
        title="Evidence in overlays",
        meaning="Where the evidence lies by which a slice exceeds its threshold, in logits, on one "
        "scale for all slices. A slice below the threshold has none.",
        formula="The smoothed class activation map above the level at which the mean of the rest "
        "is logit(probability) - logit(threshold).",
        source="B. Zhou et al., Learning deep features for discriminative localization, CVPR "
        "(2016).",
        limits="It is a hint, not an outline of the blood: its grid is coarse, and a right "
        "decision may rest on the wrong place.",
        aliases=("cam", "overlay", "class activation map"),
    ),
)


def find_explanation(name: str) -> Explanation:
    """Return the explanation of a metric.

    Args:
        name: Its key, title or an alias; case, `_` and `-` do not matter.

    Raises:
        OptionError: There is none of that name; the message suggests similar ones.
    """
    names = {
        _plain(alias): one for one in EXPLANATIONS for alias in (one.key, one.title, *one.aliases)
    }
    found = names.get(_plain(name))
    if found is not None:
        return found
    close = difflib.get_close_matches(_plain(name), names, n=3)
    keys = list(dict.fromkeys(names[each].key for each in close))
    hint = f"Did you mean {' or '.join(keys)}? " if keys else ""
    raise OptionError(
        f"{name}: no metric of this name. {hint}Run hemorrhage-tf explain for the list."
    )


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())
