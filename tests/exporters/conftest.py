"""Fixtures of the exporters: trained classifiers and exports of one run, created once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIZE = 32


@pytest.fixture(scope="session")
def trained_classifier() -> Callable[[str], Any]:
    """Return a classifier with the tiny backbone, 32 pixels, and a random head, by pooling."""
    from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
    from hemorrhage_tf.models.classifier import (
        Branch,
        build_classifier,
        build_feature_model,
        select_pooled,
        set_head,
    )

    def train(pooling: str) -> Any:
        rng = np.random.default_rng(0)
        backbone = build_backbone("tiny", "none", SIZE)
        classifier = build_classifier([Branch(backbone_spec("tiny"), backbone)], pooling)
        images = rng.uniform(0, 255, (16, SIZE, SIZE, 3)).astype(np.float32)
        features = build_feature_model(backbone, "symmetric")(images).numpy()
        features = select_pooled(features, pooling)
        kernel = rng.normal(0, 0.3, (features.shape[1], 1)).astype(np.float32)
        variance = features.var(axis=0) + 1e-6
        set_head(classifier, features.mean(axis=0), variance, kernel, np.array([0.2], np.float32))
        return classifier

    return train


@pytest.fixture(scope="session")
def exports_once(once, fit_once) -> Path:
    """A folder with exports of small runs, which tests must not change.

    `a.tflite` and the SavedModel folder `1` are of `fit_once()`; `b.tflite` is of a run with
    another random seed.
    """
    import hemorrhage_tf as htf

    def create(path: Path) -> None:
        path.mkdir()
        htf.export(fit_once(), path / "a.tflite", quiet=True)
        htf.export(fit_once(), path / "1", quiet=True)
        htf.export(fit_once(seed=1), path / "b.tflite", quiet=True)

    return once("exports", create)


@pytest.fixture(scope="session")
def onnx_once(once, scan_run) -> Path:
    """A folder with `a.onnx` and `a.scan.onnx` of `scan_run`, which tests must not change."""
    import hemorrhage_tf as htf

    def create(path: Path) -> None:
        path.mkdir()
        htf.export(scan_run, path / "a.onnx", cam=True, quiet=True)

    return once("onnx", create)
