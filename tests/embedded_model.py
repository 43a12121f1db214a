"""A stand-in for the files of the embedded model: the same net with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hemorrhage_tf.models.metadata import ModelMetadata, versions

IMAGE_SIZE = 64


def write_stand_in(folder: Path) -> Path:
    """Writes all files of an embedded model that was never trained; takes some seconds.

    Its head is of random numbers of such a size that probabilities differ from slice to slice and
    lie on both sides of the threshold.
    """
    from plain_phantoms import draw_phantom

    import hemorrhage_tf as htf
    from hemorrhage_tf.models import embedded_model, pretrained_files
    from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
    from hemorrhage_tf.models.classifier import build_feature_model
    from hemorrhage_tf.pipeline.model_input import ModelInput

    backbone = build_backbone(pretrained_files.EMBEDDED_MODEL, "none", IMAGE_SIZE, seed=7)
    rng = np.random.default_rng(7)
    for layer in backbone.layers:
        if layer.name.endswith("_normalization"):  # as if it had been trained
            count = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.1, count))
            layer.moving_variance.assign(rng.uniform(0.5, 2, count))
    features = build_feature_model(
        backbone, backbone_spec(pretrained_files.EMBEDDED_MODEL).normalization
    )
    images = np.stack([ModelInput(IMAGE_SIZE)(draw_phantom(5, k, k % 2)) for k in range(16)])
    found = features.predict(images, verbose=0)
    head = {
        "mean": found.mean(axis=0),
        "variance": found.var(axis=0) + 1e-3,
        "kernel": rng.normal(0, 0.1, (found.shape[1], 1)).astype(np.float32),
        "bias": np.zeros(1, np.float32),
    }
    metadata = ModelMetadata(
        image_size=IMAGE_SIZE,
        threshold=0.5,
        backbone=pretrained_files.EMBEDDED_MODEL,
        feature_layer=None,
        pooling="avg_max",
        weights_hash=weights_hash(backbone),
        data_hash="0" * 32,
        versions=versions(),
        window=("brain",),
        crop_head=True,
    )
    pretraining = {"settings": {"phantoms": 16, "seed": 5}, "figures": {"roc_auc": 0.5}}
    embedded_model.write_embedded(folder, backbone, head, metadata, pretraining)
    before, pretrained_files.FOLDER = pretrained_files.FOLDER, folder
    try:
        drawn = folder.parent / "drawn"
        for index in range(20):
            path = drawn / ("normal", "hemorrhage")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            from PIL import Image

            Image.fromarray(draw_phantom(6, index, index % 2)).save(path)
        exported = folder.parent / "exported" / pretrained_files.TFLITE_FILE
        htf.export(
            pretrained_files.EMBEDDED_MODEL,
            exported,
            quantize="float16",
            cam=True,
            batch="dynamic",
            verify=drawn,
            quiet=True,
        )
    finally:
        pretrained_files.FOLDER = before
    shutil.move(exported, folder / pretrained_files.TFLITE_FILE)
    pretrained_files.write_checksums(folder)
    return folder
