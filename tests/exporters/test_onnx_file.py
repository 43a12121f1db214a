"""Exports to ONNX: conversion, int8, what the files hold. `onnx_once` is of a run with scans."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError, OptionError, OutputError
from hemorrhage_tf.exporters.onnx_file import convert_classifier
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.inference.model_hash import model_hash

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3)).astype(np.float32)


def shapes(values) -> dict[str, tuple[int | str, ...]]:
    return {
        one.name: tuple(dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim)
        for one in values
    }


def run(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.slow
class TestFiles:
    def test_have_the_names_and_shapes_of_the_other_forms(self, onnx_once):
        slices = onnx.load(onnx_once / "a.onnx").graph
        assert shapes(slices.input) == {"image": ("batch", SIZE, SIZE, 3)}
        width = shapes(slices.output)["features"][1]
        assert shapes(slices.output) == {
            "probability": ("batch", 1),
            "features": ("batch", width),
            "cam": ("batch", 4, 4),
        }
        scans = onnx.load(onnx_once / "a.scan.onnx").graph
        assert shapes(scans.input) == {
            "features": ("batch", "slices", width),
            "geometry": ("batch", "slices", 3),
            "mask": ("batch", "slices"),
        }
        assert shapes(scans.output) == {
            "probability": ("batch", 1),
            "slice_probability": ("batch", "slices"),
        }

    @pytest.mark.parametrize("name", ["a.onnx", "a.scan.onnx"])
    def test_pass_the_checker_and_carry_the_metadata(self, onnx_once, scan_run, name):
        model = onnx.load(onnx_once / name)
        onnx.checker.check_model(model, full_check=True)
        (entry,) = model.metadata_props
        assert entry.key == "hemorrhage_tf.json"
        assert json.loads(entry.value)["threshold"] == htf.load(scan_run).threshold

    def test_carry_the_verification(self, onnx_once):
        export = htf.load(onnx_once / "a.onnx").metadata.export
        assert (export["form"], export["quantize"]) == ("onnx", "none")
        assert set(export["verification"]) == {
            "serving_default",
            "serve_scan, scans",
            "serve_scan, slices",
        }
        assert max(one["largest_difference"] for one in export["verification"].values()) < 1e-5

    def test_stand_beside_their_card(self, onnx_once):
        names = {path.name for path in onnx_once.iterdir()}
        assert names == {"a.onnx", "a.scan.onnx", "a.model_card.md", "a.model_card.json"}


class TestTarget:
    @pytest.mark.parametrize("quantize", ["float16", "dynamic"])
    def test_rejects_a_quantization_of_tflite(self, tmp_path, quantize):
        with pytest.raises(OptionError, match=f"{quantize}: not supported in an .onnx file"):
            htf.export("phantomnet", tmp_path / "a.onnx", quantize=quantize, quiet=True)

    def test_an_existing_scan_model_is_left_unchanged(self, tmp_path):
        (tmp_path / "a.scan.onnx").write_text("precious")
        with pytest.raises(OutputError, match="a.scan.onnx: already exists"):
            htf.export("phantomnet", tmp_path / "a.onnx", quiet=True)

    def test_names_the_packages_that_are_missing(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hemorrhage_tf.exporters.onnx_file.find_spec", lambda name: None)
        with pytest.raises(OptionError, match=r"onnx, onnxruntime, tf2onnx.*\[onnx\]"):
            htf.export("phantomnet", tmp_path / "a.onnx", quiet=True)


@pytest.mark.slow
class TestModel:
    def test_predicts_slices_and_scans_like_the_run(
        self, onnx_once, scan_run, write_series, head, tmp_path
    ):
        folder = write_series(tmp_path / "series", [head(index) for index in range(6)])[0].parent
        run, exported = (
            htf.predict(folder, model=one, quiet=True) for one in (scan_run, onnx_once / "a.onnx")
        )
        assert exported.scans[0].probability == pytest.approx(run.scans[0].probability, abs=1e-5)
        for before, after in zip(run, exported, strict=True):
            assert after.probability == pytest.approx(before.probability, abs=1e-5)
            assert after.probability_in_scan == pytest.approx(before.probability_in_scan, abs=1e-5)

    def test_runs_batches_of_any_size_with_maps(self, onnx_once, scan_run):
        model, original = htf.load(onnx_once / "a.onnx"), htf.load(scan_run)
        for count in (1, 5):
            both = (one.run_with_cam(IMAGES[:count]) for one in (model, original))
            for after, before in zip(*both, strict=True):
                np.testing.assert_allclose(after, before, atol=1e-4)

    @pytest.mark.parametrize("share", [0.3, 0.95])
    def test_rejects_a_truncated_file(self, onnx_once, tmp_path, share):
        content = (onnx_once / "a.onnx").read_bytes()
        (tmp_path / "a.onnx").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match="the file is damaged and cannot be loaded"):
            htf.load(tmp_path / "a.onnx")

    def test_rejects_a_file_of_another_program(self, onnx_once, tmp_path):
        model = onnx.load(onnx_once / "a.onnx")
        del model.metadata_props[:]
        onnx.save(model, tmp_path / "a.onnx")
        with pytest.raises(ModelError, match="not written by hemorrhage-tf"):
            htf.load(tmp_path / "a.onnx")

    def test_names_a_missing_scan_model(self, onnx_once, tmp_path):
        shutil.copy(onnx_once / "a.onnx", tmp_path)
        with pytest.raises(ModelError, match="a.scan.onnx.*Copy it there"):
            htf.load(tmp_path / "a.onnx")

    @pytest.mark.parametrize("name", ["a.onnx", "a.scan.onnx"])
    def test_its_hash_changes_with_each_file(self, onnx_once, tmp_path, name):
        for one in ("a.onnx", "a.scan.onnx"):
            shutil.copy(onnx_once / one, tmp_path)
        model = htf.load(tmp_path / "a.onnx")
        before = model_hash(model)
        with open(tmp_path / name, "ab") as file:
            file.write(b"x")
        assert model_hash(model) != before

    def test_names_a_missing_runtime(self, onnx_once, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ModelError, match=r"needs onnxruntime.*hemorrhage_tf\[onnx\]"):
            htf.load(onnx_once / "a.onnx")

    def test_needs_no_tensorflow(self, onnx_once):
        code = (
            "import sys, hemorrhage_tf as htf; htf.load(sys.argv[1]);"
            "print(*{'tensorflow', 'keras', 'onnx', 'tf2onnx'} & set(sys.modules))"
        )
        command = [sys.executable, "-c", code, onnx_once / "a.onnx"]
        assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b""

    def test_is_benchmarked(self, onnx_once):
        (one,) = htf.benchmark(onnx_once / "a.onnx", rounds=2, quiet=True)
        assert one.format == "onnx"
        assert one.size_bytes == (onnx_once / "a.onnx").stat().st_size


class TestInt8:
    @pytest.mark.slow
    @pytest.mark.parametrize("pooling", ["avg", "max", "avg_max"])
    def test_quantizes_the_backbone_alone(self, trained_classifier, pooling):
        classifier = trained_classifier(pooling)
        settings = ExportSettings(quantize="int8", input_type="uint8")
        model = convert_classifier(classifier, SIZE, settings, list(IMAGES))
        outputs = run(model, IMAGES.astype(np.uint8))
        expected = classifier(IMAGES, training=False).numpy()
        # The features of noise hardly vary, and standardization enlarges the rounding.
        assert np.corrcoef(outputs["probability"][:, 0], expected[:, 0])[0, 1] > 0.7
        kernels = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8]
        assert len([one for one in kernels if len(one.dims) == 4]) == 3
        dense = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
        floats = {one.name for one in model.graph.initializer if one.data_type == 1}
        assert dense and all(set(node.input) & floats for node in dense)

    def test_needs_images_to_calibrate_on(self, trained_classifier):
        with pytest.raises(OptionError, match="no slices to calibrate on"):
            convert_classifier(trained_classifier("avg"), SIZE, ExportSettings(quantize="int8"))

    @pytest.mark.slow
    def test_phantomnet_keeps_its_decisions(self, tmp_path):
        export = htf.export(
            "phantomnet", tmp_path / "a.onnx", quantize="int8", calibration_slices=300, quiet=True
        )
        assert export.verifications["serving_default"].changed <= 1
        kernels = [
            one.name
            for one in onnx.load(export.path).graph.initializer
            if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4
        ]
        assert 10 <= len(kernels) <= 20  # of 26; first layers and decoder stay in float32


@pytest.mark.slow
def test_phantomnet_is_exact_on_200_slices(tmp_path):
    htf.phantoms(tmp_path / "slices", count=200, quiet=True)
    export = htf.export("phantomnet", tmp_path / "a.onnx", verify=tmp_path / "slices", quiet=True)
    for one in export.verifications.values():
        assert one.largest_difference < 1e-5
        assert one.changed == 0
    assert export.verifications["serving_default"].slices == 200


@pytest.mark.slow
def test_subtypes_are_an_output(trained_classifier):
    from hemorrhage_tf.models.backbones import backbone_spec
    from hemorrhage_tf.models.classifier import Branch, build_classifier, head_weights, set_head

    rng = np.random.default_rng(1)
    backbone = next(one for one in trained_classifier("avg").layers if hasattr(one, "layers"))
    classifier = build_classifier([Branch(backbone_spec("tiny"), backbone)], "avg", subtypes=2)
    shape = head_weights(classifier)[0].shape
    kernel, bias = rng.normal(size=shape).astype(np.float32), np.zeros(3, np.float32)
    set_head(classifier, np.zeros(shape[0]), np.ones(shape[0]), kernel, bias)
    outputs = run(convert_classifier(classifier, SIZE, ExportSettings()), IMAGES)
    expected = classifier(IMAGES, training=False)
    assert outputs.keys() == {"probability", "subtypes"}
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
