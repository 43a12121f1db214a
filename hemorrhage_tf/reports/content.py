"""The documents: what a report and a model card say of a model, gathered from run and slices."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.robustness import robustness
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.model import BATCH_SIZE, Model
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.models.backbone_options import cut_backbones, join_values, split_values
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.models.run_files import HISTORY_FILE, is_run_folder
from hemorrhage_tf.models.scan_score import TOP
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.reports import html_report
from hemorrhage_tf.reports.html_report import GalleryItem, ReportContent, write_report
from hemorrhage_tf.reports.model_card import CardContent, write_model_card

CERTAIN = 6  # of the most certain right slices of each class in the gallery
DISTURBED = 100  # slices, at most, that the robustness is measured on
MOST_SUBGROUPS = 12  # different values of a column that still make subgroups

NOT_TESTED = (
    "Other scanners, hospitals, windows and patients than those of these slices.",
    "Whole examinations as they are read: neighboring slices, earlier scans, the history.",
    "What kind of hemorrhage it is, how old and how large; small ones may be missed.",
    "Use by people: what a reader makes of the probability was not looked at.",
)


OF_PHANTOMS = (
    "Trained on synthetic phantoms alone. Figures on phantoms say how well it tells phantoms "
    "apart, and nothing of patients."
)


def write_evaluation_report(
    path: Path,
    title: str,
    model: Model,
    model_input: ModelInput,
    slices: SliceIndex,
    probabilities: np.ndarray,
    counted: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    metrics: dict[str, Any],
    comparison: dict[str, Any] | None,
    compared: tuple[str, str],
    audit: Audit,
    progress: Progress,
) -> None:
    """Writes the report of an evaluation.

    Args:
        path: the HTML file.
        title: the page's.
        model: what was evaluated.
        model_input: what the slices are brought to for it.
        slices: what it was evaluated on.
        probabilities: of each slice.
        counted: labels, figures and patients of what the metrics count: slices, or scans.
        metrics: of the evaluation.
        comparison: with a second model, or None.
        compared: what the two are called.
        audit: of the slices.
        progress: where progress goes.
    """
    labels, figures, patients = counted
    counts_slices = slices.manifest.level == "slice"
    metadata = model.metadata
    content = ReportContent(
        title=title,
        metrics=metrics,
        labels=labels,
        probabilities=figures,
        threshold=metrics["threshold"],  # of scans where these are counted
        names=slices.names if counts_slices else (),
        groups=patients,
        model_rows=_model_rows(metadata),
        data_rows=_data_rows(slices),
        history=_history(model.path),
        audit=audit.to_dict(),
        gallery=_gallery(model, model_input, slices, probabilities, progress)
        if counts_slices
        else (),
        robustness=_robustness(model, model_input, slices, progress),
        subgroups=_subgroups(slices, probabilities, model.threshold) or None,
        comparison=comparison,
        compared=compared,
        overlap=[warning for warning in metrics["warnings"] if "were trained on" in warning],
        warnings=[warning for warning in metrics["warnings"] if "were trained on" not in warning],
        not_tested=NOT_TESTED,
        versions=metadata.versions,
    )
    with progress.stage(f"Writing {path}"):
        write_report(path, content)


def write_run_card(
    folder: Path,
    name: str,
    metadata: ModelMetadata,
    config: dict[str, Any],
    metrics: dict[str, Any],
    audit: Audit | None,
) -> None:
    """Writes the model card of a run.

    Args:
        folder: the run folder.
        name: the model's.
        metadata: what the model carries.
        config: the run's.
        metrics: the run's.
        audit: of its slices, or None.
    """
    settings, data = config["settings"], config["data"]
    by_patient = data["patients"] > 0
    if settings["folds"]:
        split = (
            f"{settings['folds']} stratified folds, {settings['repeats']} times; the saved model "
            "is trained on all"
        )
    else:
        split = f"{metrics['n']} of {data['slices']} slices held out, stratified"
    kept = "Patients, duplicates" if by_patient else "Duplicates"
    names = ("slices", "hemorrhage", "groups", "patients", "scans", "skipped")
    content = CardContent(
        name=name,
        metrics=metrics,
        independence="other patients" if by_patient and not metrics["leaks"] else "same set",
        split=f"{split}. {kept} and near-duplicates stay on one side",
        counts={key: data[key] for key in names},
        sources=(f"{data['layout']} layout, content hash {data['hash']}",),
        model_rows=_model_rows(metadata),
        training_rows=[
            ("head", config["head_solver"]),
            ("augmentation", ", ".join(settings["augment"]) or "none"),
            ("views", str(settings["views"])),
            ("class weights", settings["class_weights"]),
            ("seed", str(settings["seed"])),
        ],
        preprocessing=_preprocessing(metadata.model_input),
        weights=_weights_names(settings),
        operating_point=metrics["operating_point"],
        temperature=metrics["temperature"],
        audit=audit.to_dict() if audit is not None else None,
        limits=NOT_TESTED,
        warnings=[f"{len(metrics['leaks'])} slices stand on both sides of the split"]
        if metrics["leaks"]
        else [],
        versions=metadata.versions,
    )
    write_model_card(folder, content)


def _weights_names(settings: dict[str, Any]) -> str:
    """Says where the backbones' first weights come from; of a file without its folder."""
    weights = split_values(settings["weights"], settings["backbone"])
    return join_values({name: Path(str(value)).name for name, value in weights.items()})


def write_embedded_card(
    folder: Path,
    metadata: ModelMetadata,
    labels: np.ndarray,
    probabilities: np.ndarray,
    verified_on: str,
) -> None:
    """Writes the model card of the embedded model, with the figures of an export's verification.

    Args:
        folder: where to.
        metadata: what the model carries.
        labels: `(n,)`, of the slices that the export was verified on.
        probabilities: `(n,)`, of the same, by the model before its export.
        verified_on: what these slices are.
    """
    pretraining = read_embedded().pretraining
    metrics = binary_metrics(labels, [probabilities], metadata.threshold)
    metrics["evaluated_on"] = f"{len(labels)} {verified_on}"
    content = CardContent(
        name=EMBEDDED_MODEL,
        metrics=metrics,
        independence="same set",
        split="none: trained on synthetic phantoms, and on no slice of a patient",
        sources=(f"synthetic phantoms that the package draws, content hash {metadata.data_hash}",),
        model_rows=_model_rows(metadata),
        training_rows=[
            (f"{kind}: {name}".replace("_", " "), _plain(value))
            for kind in ("settings", "figures")
            for name, value in pretraining.get(kind, {}).items()
        ],
        preprocessing=_preprocessing(metadata.model_input),
        weights="none: pretrained on synthetic phantoms from random weights",
        temperature=metadata.temperature,
        limits=(OF_PHANTOMS, *NOT_TESTED),
        warnings=[OF_PHANTOMS],
        versions=metadata.versions,
    )
    write_model_card(folder, content)


def _plain(value: Any) -> str:
    """Says a figure or a setting of any kind in a line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _model_rows(metadata: ModelMetadata) -> list[tuple[str, str]]:
    backbones = cut_backbones(metadata.backbone, metadata.feature_layer)
    scans = metadata.scan_threshold
    return [
        ("backbone", " + ".join(backbones.values())),
        ("pooling", metadata.pooling),
        ("input", _preprocessing(metadata.model_input)),
        ("threshold", f"{metadata.threshold:.4g} ({metadata.operating_point})"),
        *([] if scans is None else [("threshold of scans", _scan_threshold(metadata))]),
        ("temperature", f"{metadata.temperature:.3g}, part of the weights"),
        ("backbone weights", metadata.weights_hash),
        ("training data", metadata.data_hash),
    ]


def _scan_threshold(metadata: ModelMetadata) -> str:
    chosen = metadata.scan_operating_point
    how = "" if chosen is None else f" ({chosen})"
    return f"{metadata.scan_threshold:.4g}{how}, of the mean of the {TOP} highest slices"


def _preprocessing(model_input: ModelInput) -> str:
    window = ", ".join(model_input.window) if model_input.window else "none (pictures)"
    cut = "cut to the head and padded to a square, " if model_input.crop_head else ""
    size = model_input.image_size
    return f"{cut}{size} x {size} pixels in [0, 255], window {window}"


def _data_rows(slices: SliceIndex) -> list[tuple[str, str]]:
    records = slices.manifest.records
    return [
        ("slices", f"{len(slices)}, {int(slices.labels.sum())} with hemorrhage"),
        ("layout", slices.manifest.layout),
        ("groups", str(len(np.unique(slices.groups)))),
        ("patients", str(len({one.patient for one in records if one.patient}) or "not known")),
        ("in Hounsfield units", str(int(slices.is_hounsfield.sum()))),
        ("content hash", slices.data_hash),
    ]


def _history(path: Path) -> list[dict[str, str]]:
    if not is_run_folder(path):
        return []
    with open(path / HISTORY_FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _gallery(
    model: Model,
    model_input: ModelInput,
    slices: SliceIndex,
    probabilities: np.ndarray,
    progress: Progress,
) -> list[GalleryItem]:
    """Gathers every wrong slice, and the most certain right ones, with overlays where it can."""
    labels, called = slices.labels, probabilities >= model.threshold
    order = np.argsort(-probabilities, kind="stable")
    kinds: dict[int, str] = {}
    for index in order:
        if labels[index] and not called[index]:
            kinds[int(index)] = html_report.FALSE_NEGATIVE
        elif called[index] and not labels[index]:
            kinds[int(index)] = html_report.FALSE_POSITIVE
    right = [int(index) for index in order if labels[index] and called[index]]
    kinds |= dict.fromkeys(right[:CERTAIN], html_report.CERTAIN_HEMORRHAGE)
    right = [int(index) for index in order[::-1] if not labels[index] and not called[index]]
    kinds |= dict.fromkeys(right[:CERTAIN], html_report.CERTAIN_NORMAL)
    if not kinds:
        return []
    refs = [slices.refs[index] for index in kinds]
    maps: list[np.ndarray | None] = [None] * len(refs)
    if model.has_cam:
        maps = [cam for _, cam in model.explained(refs, progress, model_input)]
    names = slices.names
    items = []
    for (index, kind), ref, cam in zip(kinds.items(), refs, maps, strict=True):
        pixels = read_slice(ref)
        shown = np.rint(model_input.shown(pixels)).astype(np.uint8)
        items.append(
            GalleryItem(
                names[index],
                int(labels[index]),
                float(probabilities[index]),
                bool(called[index]),
                kind,
                _png(Image.fromarray(shown)),
                None if cam is None else _png(draw_overlay(pixels, cam, model_input)),
            )
        )
    return items


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _robustness(
    model: Model, model_input: ModelInput, slices: SliceIndex, progress: Progress
) -> list[dict[str, Any]]:
    chosen = np.linspace(0, len(slices) - 1, min(len(slices), DISTURBED)).astype(int)
    pixels = [read_slice(slices.refs[index]) for index in chosen]

    def predict(disturbed: Sequence[np.ndarray]) -> np.ndarray:
        found = []
        for begin in range(0, len(disturbed), BATCH_SIZE):
            batch = [model_input(one) for one in disturbed[begin : begin + BATCH_SIZE]]
            found.append(model.run(np.stack(batch)))
        return np.concatenate(found)

    with progress.stage("Disturbing slices"):
        return robustness(predict, pixels, slices.labels[chosen], model.threshold)


def _subgroups(
    slices: SliceIndex, probabilities: np.ndarray, threshold: float
) -> list[dict[str, Any]]:
    """Computes the figures of every value of every column of the manifest that has a few."""
    rows = []
    for place, column in enumerate(slices.manifest.columns):
        values = np.array([record.columns[place] for record in slices.manifest.records])
        kinds = np.unique(values)
        if not 2 <= len(kinds) <= MOST_SUBGROUPS:
            continue
        for kind in kinds:
            part = values == kind
            found = binary_metrics(slices.labels[part], [probabilities[part]], threshold)
            rows.append(
                {
                    "subgroup": f"{column}: {kind or 'blank'}",
                    "slices": int(part.sum()),
                    "sensitivity": found["sensitivity"],
                    "specificity": found["specificity"],
                    "ROC AUC": found["roc_auc"],
                }
            )
    return rows
