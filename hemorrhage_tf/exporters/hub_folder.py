"""A folder for the Hugging Face Hub: the Keras model, a TFLite and an ONNX file, and the card.

`keras.saving.load_model("hf://user/name")` loads the Keras files, and hemorrhage-tf takes the
folder, or its name on the Hub, as a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.atomic_files import atomic_folder, describe_os_error
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters.export import (
    Export,
    images_to_calibrate_on,
    write_card,
    write_form,
)
from hemorrhage_tf.exporters.onnx_file import require_onnx
from hemorrhage_tf.exporters.settings import ONNX_QUANTIZATIONS, ExportSettings
from hemorrhage_tf.exporters.stored_size import stored_size
from hemorrhage_tf.exporters.trained_model import TrainedModel
from hemorrhage_tf.exporters.verify import TOLERANCES, check
from hemorrhage_tf.inference.forms import HUB_FOLDER, ONNX, TFLITE, is_embedded
from hemorrhage_tf.inference.hub import KERAS_FILES
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.models.metadata import write_metadata
from hemorrhage_tf.models.pretrained_files import write_checksums
from hemorrhage_tf.models.run_files import SCAN_MODEL_FILE
from hemorrhage_tf.reports.model_card import JSON_FILE, MARKDOWN_FILE, OPEN

CARD_FILE = "README.md"
_TAGS = ["keras", "tflite", "onnx", "medical", "head-ct", "intracranial-hemorrhage"]
# Metrics of the card, by the name that the Hub uses.
_HUB_METRICS = {"ROC AUC": "roc_auc", "accuracy": "accuracy", "Brier score": "brier_score"}


def export_hub_folder(
    source: Path,
    target: Path,
    settings: ExportSettings,
    progress: Progress,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
) -> Export:
    """Write a folder for the Hugging Face Hub.

    The TFLite and the ONNX file have the class activation map and take batches of any size. The
    ONNX file is quantized only for int8.

    Args:
        source: A run folder, its `.keras` file, or "phantomnet".
        target: The folder to create.
        settings: The settings of the export.
        progress: Receives progress.
        verify: Labeled slices to compare on, see `export`. Defaults to None.
        representative: Labeled slices to calibrate int8 on, see `export`. Defaults to None.

    Raises:
        ModelError: The source is not a model, or a form differs too much from it.
        OptionError: A package is missing.
        DataError: The slices are missing, changed or too few.
        OutputError: The target exists or is not writable.
    """
    _require_packages()
    if target.exists():
        raise OutputError(f"{target}: already exists. Pass another target, or remove it first.")
    trained = TrainedModel.load(source, verify, progress)
    settings = replace(settings, cam=True, batch="dynamic")
    images = images_to_calibrate_on(source, trained, settings, representative, progress)
    verifications: dict[str, Any] = {}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as draft:
            for form in (TFLITE, ONNX):
                chosen = settings
                if form == ONNX and settings.quantize not in ONNX_QUANTIZATIONS:
                    chosen = replace(settings, quantize="none")
                file = draft / f"model.{form}"
                compared = write_form(form, file, trained, chosen, images, progress)
                verifications |= {f"{form}, {name}": one for name, one in compared.items()}
            _write_keras_files(draft, trained)
            write_checksums(draft, _model_files(draft))
            for name, one in trained.compare_all(load(draft), progress).items():
                check(one, f"Keras, {name}", TOLERANCES["none"])
                verifications[f"keras, {name}"] = one
            described = {
                "form": HUB_FOLDER,
                "quantize": settings.quantize,
                "input_type": settings.input_type,
                "verification": {name: one.to_dict() for name, one in verifications.items()},
            }
            write_card(source, draft, trained, described, is_default=verify is None)
            _write_readme(draft, target.name, "apache-2.0" if is_embedded(source) else "other")
            write_checksums(draft, _model_files(draft))
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({describe_os_error(error)}). Nothing was left behind. "
            "Pass another target."
        ) from None
    return Export(target, HUB_FOLDER, stored_size(target), verifications)


def _require_packages() -> None:
    require_onnx()
    if find_spec("huggingface_hub") is None:
        raise OptionError(
            "--format hub needs huggingface_hub. Install it with pip install 'hemorrhage_tf[hub]'."
        )


def _write_keras_files(draft: Path, trained: TrainedModel) -> None:
    import keras

    keras.saving.save_model(trained.classifier, draft / "keras", zipped=False)
    for name in KERAS_FILES:
        (draft / "keras" / name).rename(draft / name)
    for rest in (draft / "keras").iterdir():  # assets, of which these models have none
        rest.rmdir()
    (draft / "keras").rmdir()
    if trained.scan_model is not None:
        trained.scan_model.save(draft / SCAN_MODEL_FILE)
    write_metadata(draft, trained.metadata)


def _model_files(draft: Path) -> tuple[str, ...]:
    return tuple(path.name for path in draft.iterdir() if not path.name.startswith((".", "SHA")))


def _write_readme(draft: Path, name: str, license_name: str) -> None:
    """Turn the model card into the `README.md` that the Hub shows, with its front matter."""
    from huggingface_hub import ModelCardData

    markdown = f"# {name}\n\nThis model has no card yet: {OPEN}.\n"
    card: dict[str, Any] = {"metrics": []}
    if (draft / JSON_FILE).is_file():
        card = json.loads((draft / JSON_FILE).read_text(encoding="utf-8"))
        markdown = (draft / MARKDOWN_FILE).read_text(encoding="utf-8")
        (draft / MARKDOWN_FILE).unlink()
    data = ModelCardData(
        license=license_name,
        library_name="keras",
        pipeline_tag="image-classification",
        tags=_TAGS,
        model_name=name,
        eval_results=list(_results(card)) or None,
    )
    usage = (
        "Research software, not a medical device. Predict with the Python package hemorrhage_tf: "
        "`hemorrhage-tf predict slice.dcm --model FOLDER`, where FOLDER is this folder or its "
        "`hf://USER/NAME`. `model.tflite` and `model.onnx` take RGB pixels in [0, 255].\n"
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{usage}\n{markdown}"
    (draft / CARD_FILE).write_text(text, encoding="utf-8")


def _results(card: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the metrics of a card in the form of the Hub, with the interval in the name."""
    from huggingface_hub import EvalResult

    for row in card["metrics"]:
        if row["value"] is None or row["value"].get("estimate") is None:
            continue
        yield EvalResult(
            task_type="image-classification",
            dataset_type="head-ct",
            dataset_name=card["evaluated_on"] or card["data"]["split"],
            metric_type=_HUB_METRICS.get(row["name"], row["name"].replace(" ", "_")),
            metric_value=round(row["value"]["estimate"], 4),
            metric_name=f"{row['name']}, estimate (95 % interval): {row['text']}",
        )
