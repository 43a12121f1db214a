import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from pretraining_samples import QUIET
from scan_features import made_up_scans

import hemorrhage_tf as htf
from hemorrhage_tf.models.backbones import build_backbone
from hemorrhage_tf.models.embedded_model import build_embedded_scan_model, read_embedded
from hemorrhage_tf.training import scan_loop
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.pretraining import scan_pretraining
from hemorrhage_tf.training.pretraining.metrics import feature_computer
from hemorrhage_tf.training.pretraining.scan_pretraining import (
    ScanPretrainingSettings,
    pretrain_scan_model,
)

SMALL = ScanPretrainingSettings(
    count=12, threshold_count=8, test_count=8, kind="pooling", folds=2, scan_specificity=0.75
)


@dataclass
class MadeUpStore:
    """A store that draws nothing."""

    progress = QUIET

    def scans(self, seed, count, name):
        return made_up_scans(count // 2, width=158, seed=seed)


@pytest.fixture
def folder(tmp_path, embedded_model, monkeypatch):
    """Return a copy of the embedded model's files, which is in their place."""
    monkeypatch.setattr(scan_loop, "STEPS", 4)
    shutil.copytree(embedded_model, tmp_path / "pretrained")
    return tmp_path / "pretrained"


@pytest.mark.slow
def test_adds_a_scan_model_to_the_embedded_model(folder, monkeypatch):
    model = read_embedded()
    description = pretrain_scan_model(SMALL, MadeUpStore(), model, folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = pretrain_scan_model(SMALL, MadeUpStore(), model, folder)
    assert again == description
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    monkeypatch.setattr("hemorrhage_tf.models.pretrained_files.FOLDER", folder)
    written = read_embedded()
    assert written.pretraining["scan_model"] == json.loads(json.dumps(description))
    assert written.pretraining["figures"] == model.pretraining["figures"]
    assert written.metadata.scan_model == "pooling"
    assert 0 < written.metadata.scan_threshold <= 1
    assert written.metadata.scan_operating_point == "specificity=0.75"
    assert 0 < written.metadata.slice_in_scan_threshold <= 1
    assert written.metadata.threshold == model.metadata.threshold
    kernel, _ = build_embedded_scan_model().get_layer("slice_head").get_weights()
    np.testing.assert_array_equal(kernel, model.head["kernel"])


@pytest.mark.slow
def test_features_are_those_that_the_head_sees(embedded_model):
    model = read_embedded()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    features = feature_computer(build_backbone("phantomnet", "embedded", 64))(images)
    assert features.shape == (3, 158) and features.dtype == np.float32

    expected = htf.load("phantomnet").run(np.repeat(images[..., np.newaxis], 3, -1) * np.float32(1))
    found = HeadWeights(**model.head).probabilities(features)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_rejects_counts_before_anything_is_drawn(tmp_path):
    arguments = ["--work", str(tmp_path / "work"), "--count", "0"]
    result = CliRunner().invoke(scan_pretraining.main, arguments)
    assert result.exit_code == 2 and "0 is not in the range x>=2" in result.output
    assert not (tmp_path / "work").exists()
