"""The embedded model: PhantomNet with its head, whose files come with the package.

SlicePrediction and checking the files, and reading what they say of the model, imports no TensorFlow.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.pretrained_files import (
    _NEXT_STEP,
    DESCRIPTION_FILE,
    EMBEDDED_MODEL,
    WEIGHTS_FILE,
    embedded_file,
    write_sums,
)


@dataclass(frozen=True)
class EmbeddedModel:
    """What the embedded model's description says.

    Attributes:
        metadata: what every form of it carries.
        head: `mean`, `variance`, `kernel` and `bias`, float32, as `set_head` takes them.
        pretraining: plain values: what it was trained on and how, and what it reached there.
    """

    metadata: ModelMetadata
    head: dict[str, np.ndarray]
    pretraining: dict[str, Any]


def read_embedded() -> EmbeddedModel:
    """Reads what the embedded model's description says; imports no TensorFlow.

    Raises:
        ModelError: a file is missing or damaged, or of a newer version of the package.
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
        raise ModelError(f"{path}: damaged ({error!r}). {_NEXT_STEP}") from None


def build_embedded_classifier():
    """Builds the embedded model as a Keras classifier.

    Returns:
        What it carries, and a `keras.Model` as of `classifier.build_classifier`.

    Raises:
        ModelError: a file is missing or damaged.
    """
    # Imported here, since the registry of backbones finds the embedded weights by `embedded_file`.
    from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
    from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head

    model = read_embedded()
    backbone = build_backbone(EMBEDDED_MODEL, "embedded", model.metadata.image_size)
    branch = Branch(backbone_spec(EMBEDDED_MODEL), backbone)
    classifier = build_classifier([branch], model.metadata.pooling)
    set_head(classifier, **model.head)
    return model.metadata, classifier


def write_embedded(
    folder: Path,
    backbone,
    head: Mapping[str, np.ndarray],
    metadata: ModelMetadata,
    pretraining: Mapping[str, Any],
) -> ModelMetadata:
    """Writes weights and description of a newly trained embedded model, and their sums.

    A TFLite file that is there is of the model before, so it is no longer in the sums: export the
    new one, put it there, and call `write_sums`.

    Args:
        folder: where to; `FOLDER` for the package's own.
        backbone: the `keras.Model`. Its kernels are written as float16.
        head: `mean`, `variance`, `kernel` and `bias`, as `set_head` takes them.
        metadata: what the model carries. Its hash of the weights is replaced by that of the weights
            as they will be loaded.
        pretraining: plain values: what it was trained on and how, and what it reached there.

    Returns:
        The metadata as written.
    """
    import keras

    from hemorrhage_tf.models.backbones import weights_hash

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as beside:
        whole, rounded = Path(beside) / "whole.weights.h5", Path(beside) / WEIGHTS_FILE
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
        written = Path(beside) / DESCRIPTION_FILE
        text = json.dumps(description, indent=1, sort_keys=True, allow_nan=False)
        written.write_text(text + "\n", encoding="utf-8")
        for path in (rounded, written):
            os.replace(path, folder / path.name)
    write_sums(folder, (WEIGHTS_FILE, DESCRIPTION_FILE))
    return metadata


def _round_kernels(source: Path, target: Path) -> None:
    """Copies a weights file with its kernels as float16, which is half the bytes.

    What has one dimension stays float32: it is little, and a batch normalization's variance may be
    larger than float16 holds, or so small that dividing by it needs every digit.
    """
    import h5py

    largest = np.finfo(np.float16).max

    def copy(before, after) -> None:
        after.attrs.update(before.attrs)
        for name, item in before.items():
            if isinstance(item, h5py.Group):
                copy(item, after.create_group(name))
                continue
            values = item[()]
            if np.ndim(values) > 1 and np.abs(values).max(initial=0) <= largest:
                values = values.astype(np.float16)
            kept = after.create_dataset(name, data=values)
            kept.attrs.update(item.attrs)

    with h5py.File(source) as before, h5py.File(target, "w") as after:
        copy(before, after)
