"""The embedded model: PhantomNet with its head, built from the files in the package.

Reading the files and their description imports no TensorFlow. Their names and checksums are in
`pretrained_files`.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.pretrained_files import (
    DESCRIPTION_FILE,
    EMBEDDED_MODEL,
    REINSTALL,
    SCAN_WEIGHTS_FILE,
    WEIGHTS_FILE,
    embedded_file,
    write_checksums,
)
from hemorrhage_tf.models.scan_model import build_scan_model


@dataclass(frozen=True)
class EmbeddedModel:
    """The description of the embedded model.

    Attributes:
        metadata: The metadata of every form of it.
        head: `mean`, `variance`, `kernel` and `bias`, float32, the arguments of `set_head`.
        pretraining: Plain values: its training data, settings and metrics.
    """

    metadata: ModelMetadata
    head: dict[str, np.ndarray]
    pretraining: dict[str, Any]


def read_embedded() -> EmbeddedModel:
    """Read the description of the embedded model. Imports no TensorFlow.

    Raises:
        ModelError: The description is missing or damaged.
    """
    path = embedded_file(DESCRIPTION_FILE)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        head = {
            name: np.array(values["head"][name], np.float32)
            for name in ("mean", "variance", "kernel", "bias")
        }
        head["kernel"] = head["kernel"].reshape(-1, 1)
        head["bias"] = head["bias"].reshape(1)
        metadata = ModelMetadata.from_dict(values["metadata"])
        return EmbeddedModel(metadata, head, values["pretraining"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: damaged ({error!r}). {REINSTALL}") from None


def build_embedded_classifier() -> tuple[ModelMetadata, Any]:
    """Build the embedded model as a Keras classifier.

    Returns:
        Its metadata, and a `keras.Model` like those of `classifier.build_classifier`.

    Raises:
        ModelError: A file is missing or damaged.
    """
    model = read_embedded()
    backbone = build_backbone(EMBEDDED_MODEL, "embedded", model.metadata.image_size)
    branch = Branch(backbone_spec(EMBEDDED_MODEL), backbone)
    classifier = build_classifier([branch], model.metadata.pooling)
    set_head(classifier, **model.head)
    return model.metadata, classifier


def build_embedded_scan_model() -> Any:
    """Build the scan model of the embedded model.

    Returns:
        A `keras.Model` like those of `scan_model.build_scan_model`.

    Raises:
        ModelError: The embedded model has no scan model, or a file is missing or damaged.
    """
    model = read_embedded()
    kind = model.metadata.scan_model
    if kind is None:
        raise ModelError(f"{EMBEDDED_MODEL}: this version has no scan model. {REINSTALL}")
    scan_model = build_scan_model(kind, len(model.head["mean"]))
    path = embedded_file(SCAN_WEIGHTS_FILE)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            scan_model.set_weights([arrays[name] for name in sorted(arrays.files)])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: weights of another scan model ({error}). {REINSTALL}") from None
    return scan_model


def write_embedded_scan_model(
    folder: Path, scan_model: Any, metadata: ModelMetadata, pretraining: Mapping[str, Any]
) -> None:
    """Add a scan model to the files of the embedded model, or replace it.

    A TFLite file in the folder holds the previous scan model, so the checksums no longer list it:
    export the new model, put the file there, and call `write_checksums`.

    Args:
        folder: The folder with the other files.
        scan_model: The `keras.Model` from `build_scan_model`.
        metadata: The metadata of the embedded model, with its scan model and its thresholds.
        pretraining: Plain values: training data, settings and metrics of the embedded model and of
            its scan model.
    """
    description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    description |= {"metadata": metadata.to_dict(), "pretraining": dict(pretraining)}
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as partial:
        weights, written = Path(partial) / SCAN_WEIGHTS_FILE, Path(partial) / DESCRIPTION_FILE
        arrays = {f"{number:03d}": each for number, each in enumerate(scan_model.get_weights())}
        np.savez(weights, **arrays)
        _write_description(written, description)
        for path in (weights, written):
            os.replace(path, folder / path.name)
    write_checksums(folder, (WEIGHTS_FILE, DESCRIPTION_FILE, SCAN_WEIGHTS_FILE))


def _write_description(path: Path, description: Mapping[str, Any]) -> None:
    text = json.dumps(description, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_embedded(
    folder: Path,
    backbone: Any,
    head: Mapping[str, np.ndarray],
    metadata: ModelMetadata,
    pretraining: Mapping[str, Any],
) -> ModelMetadata:
    """Write weights, description and checksums of a newly trained embedded model.

    A TFLite file and a scan model in the folder belong to the previous model, so the checksums no
    longer list them: train a new scan model, export the new model, put the file there, and call
    `write_checksums`.

    Args:
        folder: The target; `pretrained_files.FOLDER` for the package's own.
        backbone: The `keras.Model`. Its kernels are stored as float16.
        head: `mean`, `variance`, `kernel` and `bias`, the arguments of `set_head`.
        metadata: The model's metadata. Its hash of the weights is replaced by that of the weights
            as loaded from the file.
        pretraining: Plain values: training data, settings and metrics.

    Returns:
        The metadata as written.
    """
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as partial:
        whole, rounded = Path(partial) / "whole.weights.h5", Path(partial) / WEIGHTS_FILE
        backbone.save_weights(whole)
        _round_kernels(whole, rounded)
        loaded = keras.models.clone_model(backbone)
        loaded.load_weights(rounded)
        metadata = replace(metadata, weights_hash=weights_hash(loaded))
        description = {
            "metadata": metadata.to_dict(),
            "head": {
                name: np.asarray(values, np.float32).ravel().tolist()
                for name, values in head.items()
            },
            "pretraining": dict(pretraining),
        }
        written = Path(partial) / DESCRIPTION_FILE
        _write_description(written, description)
        for path in (rounded, written):
            os.replace(path, folder / path.name)
    write_checksums(folder, (WEIGHTS_FILE, DESCRIPTION_FILE))
    return metadata


def _round_kernels(source: Path, target: Path) -> None:
    """Copy a weights file with its kernels as float16, which halves its size.

    Vectors stay float32: they are small, and the variance of a batch normalization may exceed the
    range of float16 or need all digits as a divisor.
    """
    import h5py

    largest = np.finfo(np.float16).max

    def copy(before: Any, after: Any) -> None:
        after.attrs.update(before.attrs)
        for name, item in before.items():
            if isinstance(item, h5py.Group):
                copy(item, after.create_group(name))
                continue
            values = item[()]
            if np.ndim(values) > 1 and np.abs(values).max(initial=0) <= largest:
                values = values.astype(np.float16)
            after.create_dataset(name, data=values).attrs.update(item.attrs)

    with h5py.File(source) as before, h5py.File(target, "w") as after:
        copy(before, after)
