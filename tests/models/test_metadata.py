from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.metadata import (
    FORMAT_VERSION,
    ModelMetadata,
    read_metadata,
    read_metadata_values,
    versions,
    write_metadata,
)
from hemorrhage_tf.pipeline.model_input import ModelInput

METADATA = ModelMetadata(
    image_size=64,
    threshold=0.25,
    backbone="tiny",
    feature_layer=None,
    pooling="avg",
    weights_hash="ab" * 16,
    data_hash="cd" * 16,
    versions={"hemorrhage_tf": "0", "keras": "3"},
    scan_threshold=0.75,
    scan_operating_point="specificity=0.95",
)
MEMBER = "hemorrhage_tf.json"


def archive(path, text: str | bytes | None):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        if text is not None:
            file.writestr(MEMBER, text)
    return path


@pytest.fixture
def keras_file(tmp_path):
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    path = tmp_path / "model.keras"
    model.save(path)
    return path, model


class TestRoundTrip:
    def test_leaves_a_file_that_keras_loads(self, keras_file):
        import keras

        path, model = keras_file
        write_metadata(path, METADATA)
        assert read_metadata(path) == METADATA
        loaded = keras.saving.load_model(path, safe_mode=True)
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(loaded(x), model(x))

    def test_preserves_every_field(self, tmp_path):
        metadata = replace(METADATA, feature_layer="block2_out", labels=("none", "blood"))
        path = archive(tmp_path / "m.keras", None)
        write_metadata(path, metadata)
        restored = read_metadata(path)
        assert restored == metadata
        assert isinstance(restored.labels, tuple) and isinstance(restored.input_range, tuple)

    def test_preserves_the_preprocessing(self, tmp_path):
        windows = ("brain", "subdural", "600/2800")
        metadata = replace(METADATA, window=windows, crop_head=True, upright=True)
        path = archive(tmp_path / "m.keras", None)
        write_metadata(path, metadata)
        restored = read_metadata(path)
        assert restored == metadata
        assert restored.model_input == ModelInput(64, windows, crop_head=True, upright=True)

    def test_version_1_means_whole_images_without_a_window(self, tmp_path):
        values = METADATA.to_dict()
        for name in ("window", "crop_head", "upright"):
            del values[name]
        path = archive(tmp_path / "m.keras", json.dumps({**values, "format_version": 1}))
        assert read_metadata(path).model_input == ModelInput(64, None, False, False)

    def test_version_2_means_one_threshold_for_slices_and_scans(self, tmp_path):
        values = METADATA.to_dict()
        del values["scan_threshold"], values["scan_operating_point"]
        path = archive(tmp_path / "m.keras", json.dumps({**values, "format_version": 2}))
        restored = read_metadata(path)
        assert restored.scan_threshold is None
        again = archive(tmp_path / "again.keras", None)
        write_metadata(again, restored)  # as `export` does, with fields that version 2 lacks
        assert read_metadata_values(again)["format_version"] == FORMAT_VERSION

    def test_version_4_has_no_scan_model_and_no_subtypes(self, tmp_path):
        values = METADATA.to_dict()
        for name in ("scan_model", "slice_in_scan_threshold", "offset", "subtypes"):
            del values[name]
        path = archive(tmp_path / "m.keras", json.dumps({**values, "format_version": 4}))
        restored = read_metadata(path)
        assert restored == METADATA
        assert restored.scan_model is None and restored.slice_in_scan_threshold is None
        assert restored.offset == 0 and restored.subtypes == ()

    def test_preserves_the_scan_model_and_the_subtypes(self, tmp_path):
        metadata = replace(
            METADATA,
            scan_model="gru",
            slice_in_scan_threshold=0.3,
            offset=-1.5,
            subtypes=("epidural", "subdural"),
        )
        path = archive(tmp_path / "m.keras", None)
        write_metadata(path, metadata)
        assert read_metadata(path) == metadata

    @pytest.mark.parametrize("value", [True, False])
    def test_version_3_names_the_head_crop_canonical(self, tmp_path, value):
        values = {**METADATA.to_dict(), "format_version": 3, "canonical": value}
        del values["crop_head"]
        path = archive(tmp_path / "m.keras", json.dumps(values))
        metadata = read_metadata(path)
        assert metadata.crop_head is value and metadata.model_input.crop_head is value
        assert metadata.format_version == FORMAT_VERSION
        assert "canonical" not in metadata.to_dict()

    def test_to_dict_is_plain_json(self):
        values = METADATA.to_dict()
        assert json.loads(json.dumps(values, allow_nan=False))["image_size"] == 64
        assert values["format_version"] == FORMAT_VERSION


class TestErrors:
    def test_rejects_a_file_that_is_no_zip(self, tmp_path):
        path = tmp_path / "m.keras"
        path.write_text("no model")
        with pytest.raises(ModelError, match=re.escape(f"{path}: not a complete .keras file")):
            read_metadata(path)

    def test_rejects_a_missing_file(self, tmp_path):
        with pytest.raises(ModelError, match="not a complete .keras file.*No such file"):
            read_metadata(tmp_path / "m.keras")

    def test_rejects_a_truncated_file(self, keras_file):
        path, _ = keras_file
        write_metadata(path, METADATA)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelError, match="not a complete .keras file"):
            read_metadata(path)

    def test_rejects_a_flipped_byte(self, tmp_path):
        path = archive(tmp_path / "m.keras", json.dumps(METADATA.to_dict()))
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"threshold": 0.25', b'"threshold": 0.75'))
        with pytest.raises(ModelError, match="not a complete .keras file.*CRC"):
            read_metadata(path)

    def test_rejects_a_model_of_another_program(self, keras_file):
        path, _ = keras_file
        with pytest.raises(ModelError, match="not written by hemorrhage-tf") as caught:
            read_metadata(path)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "",
            "[]",
            "null",
            '"text"',
            "{}",
            '{"format_version": 1}',
            '{"format_version": "x"}',
            b"\xff\xfe{",
        ],
    )
    def test_rejects_damaged_json(self, tmp_path, text):
        path = archive(tmp_path / "m.keras", text)
        with pytest.raises(ModelError, match=re.escape(f"{path}: its metadata is damaged")):
            read_metadata(path)

    @pytest.mark.parametrize(
        "change", [{"labels": None}, {"more": 1}, {"input_range": 3}, {"window": 3}]
    )
    def test_rejects_damaged_fields(self, tmp_path, change):
        path = archive(tmp_path / "m.keras", json.dumps({**METADATA.to_dict(), **change}))
        with pytest.raises(ModelError, match="its metadata is damaged"):
            read_metadata(path)

    def test_rejects_a_missing_field(self, tmp_path):
        values = METADATA.to_dict()
        del values["threshold"]
        path = archive(tmp_path / "m.keras", json.dumps(values))
        with pytest.raises(ModelError, match="its metadata is damaged.*threshold"):
            read_metadata(path)

    def test_rejects_a_newer_version(self, tmp_path):
        values = {"format_version": FORMAT_VERSION + 1, "labels": {"changed": "meaning"}}
        path = archive(tmp_path / "m.keras", json.dumps(values))
        message = rf"newer.*version {FORMAT_VERSION + 1}; .* up to {FORMAT_VERSION}\).*Upgrade"
        with pytest.raises(ModelError, match=message):
            read_metadata(path)


def test_versions_list_the_libraries_that_affect_a_result():
    import keras
    import tensorflow as tf

    installed = versions()
    assert installed["tensorflow"] == tf.__version__
    assert installed["keras"] == keras.__version__
    assert installed["numpy"] == np.__version__
    assert installed.keys() >= {"hemorrhage_tf", "python", "keras-cv", "pillow"}
