from __future__ import annotations

from dataclasses import replace

from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.reports.content import describe_model_input, model_rows


def test_describes_the_model_input():
    assert describe_model_input(ModelInput(image_size=192, window=("brain",))) == (
        "cropped to the head and padded to a square, 192 x 192 pixels in [0, 255], window: brain"
    )
    assert describe_model_input(ModelInput(image_size=32, crop_head=False)) == (
        "32 x 32 pixels in [0, 255], window: none (display images)"
    )


def test_model_rows_have_a_scan_threshold_only_if_the_model_has_one(fit_once):
    metadata = read_metadata(fit_once() / "model.keras")
    rows = dict(model_rows(metadata))
    assert rows["backbone"] == "tiny" and "scan threshold" not in rows
    assert dict(model_rows(replace(metadata, scan_threshold=0.25)))["scan threshold"] == (
        "0.25, applied to the mean of the 3 highest slice probabilities"
    )
