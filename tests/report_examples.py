"""Contents of reports and small images for the tests of reports."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics, compute_metrics
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.evaluation.scan_metrics import ScanSet, scan_details
from hemorrhage_tf.reports.gallery import (
    CONFIDENT_HEMORRHAGE,
    CONFIDENT_NORMAL,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
)
from hemorrhage_tf.reports.report_content import LevelContent, ReportContent

METRIC = {"estimate": 0.8, "low": 0.7, "high": 0.9, "n": 60}
EVIL_NAME = "<script>alert(1)</script>\"'&.png"

AUDIT = {
    "conclusions": ["The border alone predicts the label: AUC 0.80 (0.70 to 0.90)."],
    "problems": [{"path": "broken.png", "reason": "truncated"}],
    "pairs": [
        {
            "first": "a.png",
            "second": EVIL_NAME,
            "relation": "same pixels",
            "correlation": 1.0,
            "first_label": 0,
            "second_label": 1,
            "across_split": True,
            "contradicting": True,
        }
    ],
    "differences": [
        {
            "name": "width",
            "hemorrhage": "428 (320 to 503)",
            "normal": "262 (230 to 359)",
            "measure": "AUC",
            "effect": 0.81,
            "p": 1e-5,
            "p_adjusted": 2e-4,
            "significant": True,
        }
    ],
    "shortcuts": [
        {"name": "border", "model": "random forest", "roc_auc": METRIC, "reason": None},
        {"name": "size", "model": "random forest", "roc_auc": None, "reason": "one size only"},
    ],
}


def draw_predictions(n: int = 60, repeats: int = 1, seed: int = 0):
    """Draw labels `(n,)` and probabilities `(repeats, n)` of a fairly good model."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    base = 1.2 * (2 * labels - 1) + rng.normal(size=n)
    noise = 0.3 * rng.normal(size=(repeats, n))
    return labels, 1 / (1 + np.exp(-(base + noise)))


def noise_png(seed: int = 0, side: int = 256, mode: str = "L") -> bytes:
    """Return a PNG of noise, which JPEG compresses badly."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def phantom_png(index: int, label: int) -> bytes:
    """Return a PNG of a phantom."""
    file = io.BytesIO()
    Image.fromarray(draw_phantom(0, index, label)).save(file, "PNG")
    return file.getvalue()


def minimal_content(**values) -> ReportContent:
    """Return a report of 60 predictions with required fields only, and the given ones."""
    labels, repeats = draw_predictions()
    required = {
        "title": "Report",
        "metrics": binary_metrics(labels, list(repeats), 0.5),
        "labels": labels,
        "probabilities": repeats[0],
        "threshold": 0.5,
    }
    return ReportContent(**required | values)


SUBTYPE_NAMES = ("epidural", "intraparenchymal", "subdural")


def draw_levels(repeats: int = 1):
    """Draw 30 scans of 10 slices, and return their further levels and details.

    Returns:
        The `LevelContent` of slices in their scans and of scans, and the details as plain values.
    """
    rng = np.random.default_rng(1)
    labels = (rng.random((30, 10)) < 0.4) & (np.arange(30) < 12)[:, None]
    labels[:12, 4] = True
    patients = np.arange(30) // 2
    scores = 1 / (1 + np.exp(-(3 * labels - 1.5 + rng.normal(size=(repeats, 30, 10)))))
    slices = LabeledPredictions(
        labels=labels.ravel().astype(int),
        repeats=list(scores.reshape(repeats, -1)),
        groups=np.repeat(patients, 10),
    )
    scans = LabeledPredictions(
        labels=labels.any(1).astype(int),
        repeats=list(np.sort(scores, axis=2)[:, :, -3:].mean(2)),
        threshold=0.6,
        groups=patients,
        unit="scans",
    )
    decisions = np.stack(slices.repeats) >= 0.5
    scan_set = ScanSet(
        scans=scans,
        members=list(np.arange(300).reshape(30, 10)),
        decisions={"slices": decisions, "slices_in_scans": decisions},
        groups=slices.groups,
        subtypes={
            name: (slices.labels == 1) & (rng.random(300) < 0.5) & (name != "subdural")
            for name in SUBTYPE_NAMES
        },
    )
    levels = [
        LevelContent(name, compute_metrics(each, bootstrap=Bootstrap(100)).to_dict(), each)
        for name, each in (("slices_in_scans", slices), ("scans", scans))
    ]
    return levels, scan_details(scan_set, Bootstrap(100)).to_dict()


def draw_level_metrics(prevalence: float | None = None) -> dict:
    """Return metrics of all levels, as `metrics.json` holds them."""
    labels, repeats = draw_predictions()
    levels, details = draw_levels()
    return {
        **binary_metrics(labels, list(repeats), 0.5, prevalence=prevalence),
        "level": "slice",
        **{level.name: level.metrics for level in levels},
        "scan_details": details,
    }


def full_content() -> ReportContent:
    """Return a report with every field."""
    levels, details = draw_levels()
    labels, repeats = draw_predictions(n=60, repeats=3)
    means = repeats.mean(0)
    metrics = binary_metrics(labels, list(repeats), 0.5, prevalence=0.1)
    return ReportContent(
        title="Report of <b>tiny</b>",
        metrics={"evaluated_on": "all 60 slices, out of fold", **metrics},
        labels=labels,
        probabilities=repeats,
        threshold=0.5,
        names=[EVIL_NAME, *(f"{index:03d}.png" for index in range(1, 60))],
        levels=levels,
        scan_details=details,
        scan_rows=[(EVIL_NAME, 1, 0.4, False, 10, 0), ("series 2", 0, 0.2, False, 12, 1)],
        model_rows=(("backbone", "tiny"),),
        data_rows=(("slices", "60"),),
        operating_point=choose(labels, list(repeats), "sensitivity=0.95").to_dict(),
        history=_history(),
        audit=AUDIT,
        gallery=[_gallery_item(index, int(labels[index]), means[index]) for index in range(60)],
        robustness=[
            _robustness_row("horizontal flip", n=60),
            {"name": "JPEG of quality 50", "n": 0, "note": "these are Hounsfield units"},
        ],
        subgroups=[
            {"group": "small", "slices": 20, "roc_auc": METRIC, "note": None, "enough": True},
            {"group": "large", "slices": 40, "roc_auc": None, "share": 0.25, "enough": False},
        ],
        comparisons={
            "slices": compare(labels, repeats[0], repeats[1]),
            "scans": compare(labels, repeats[1], repeats[2]),
        },
        model_names=("float32", "int8"),
        warnings=("--allow-leak was used", "12 of the 60 slices were trained on."),
        not_tested=("Other scanners.",),
        versions={"hemorrhage_tf": "0.1.0"},
    )


def _history():
    return [
        {
            "repeat": 1,
            "fold": fold,
            "stage": "head" if epoch < 4 else "fine_tune",
            "epoch": epoch,
            "loss": 1 / epoch,
            "accuracy": 1 - 0.4 / epoch,
            "validation_loss": f"{1.2 / epoch:.3f}" if epoch != 2 else "",
        }
        for fold in (1, 2)
        for epoch in range(1, 7)
    ]


def _gallery_item(index: int, label: int, probability: float) -> GalleryItem:
    predicted = bool(probability >= 0.5)
    kinds = {
        (1, True): CONFIDENT_HEMORRHAGE,
        (1, False): FALSE_NEGATIVE,
        (0, True): FALSE_POSITIVE,
        (0, False): CONFIDENT_NORMAL,
    }
    return GalleryItem(
        name=EVIL_NAME if index == 0 else f"{index:03d}.png",
        label=label,
        probability=float(probability),
        predicted_hemorrhage=predicted,
        kind=kinds[label, predicted],
        image=phantom_png(index, label),
        overlay=phantom_png(index, 0) if index % 2 else None,
    )


def _robustness_row(name: str, n: int):
    return {
        "name": name,
        "n": n,
        "roc_auc": 0.9,
        "roc_auc_change": -0.01,
        "changed_decisions": 3,
        "to_hemorrhage": 1,
        "to_normal": 2,
        "mean_change": 0.02,
        "largest_change": 0.2,
        "note": None,
    }
