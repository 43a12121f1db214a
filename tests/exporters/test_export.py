from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, ModelError, OptionError, OutputError
from hemorrhage_tf.exporters import export as exporter

FIT = {"backbone": "tiny", "image_size": 32, "epochs": 3, "quiet": True}


@pytest.fixture(params=["avg", "max", "avg_max"])
def pooled_run(request, kaggle_folder, tmp_path):
    return htf.fit(kaggle_folder, out=tmp_path / "run", pooling=request.param, **FIT)


@pytest.fixture
def run(kaggle_folder, tmp_path):
    return htf.fit(kaggle_folder, out=tmp_path / "run", **FIT)


def probabilities(model, folder):
    return np.array([finding.probability for finding in htf.predict(model, folder, quiet=True)])


def test_every_form_answers_as_the_run_for_every_pooling(pooled_run, kaggle_folder, tmp_path):
    expected = probabilities(pooled_run, kaggle_folder)
    forms = {"none": 1e-5, "float16": 5e-3, "dynamic": 0.05, "int8": 0.1}
    for quantize, tolerance in forms.items():
        target = tmp_path / f"{quantize}.tflite"
        export = htf.export(pooled_run, target, quantize=quantize, quiet=True)
        assert export.form == f"tflite {quantize}"
        np.testing.assert_allclose(probabilities(target, kaggle_folder), expected, atol=tolerance)
    htf.export(pooled_run, tmp_path / "saved", quiet=True)
    np.testing.assert_allclose(
        probabilities(tmp_path / "saved", kaggle_folder), expected, atol=1e-5
    )
    assert not list(tmp_path.glob(".*"))


def test_evaluate_gives_the_same_figures_for_every_form(run, kaggle_folder, tmp_path):
    htf.export(run, tmp_path / "a.tflite", quiet=True)
    htf.export(run, tmp_path / "saved", quiet=True)
    metrics = [
        htf.evaluate(model, kaggle_folder, quiet=True).metrics
        for model in (run, tmp_path / "a.tflite", tmp_path / "saved")
    ]
    for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv", "roc_auc", "confusion"):
        assert metrics[0][name] == metrics[1][name] == metrics[2][name]
    for other in metrics[1:]:  # these are of the probabilities, which differ in the last digits
        assert other["brier"]["estimate"] == pytest.approx(
            metrics[0]["brier"]["estimate"], abs=1e-5
        )
    # Only the run knows what it was trained on.
    assert [len(found["warnings"]) for found in metrics] == [1, 0, 0]


def test_metadata_travels_with_every_form(run, tmp_path):
    htf.export(run, tmp_path / "a.tflite", quiet=True)
    htf.export(run, tmp_path / "saved", quiet=True)
    with zipfile.ZipFile(tmp_path / "a.tflite") as archive:
        inside = json.loads(archive.read("hemorrhage_tf.json"))
        assert archive.read("labels.txt").decode().split() == ["normal", "hemorrhage"]
    beside = json.loads((tmp_path / "saved" / "hemorrhage_tf.json").read_text())
    for values in (inside, beside):
        for name in (
            *("image_size", "threshold", "backbone", "weights_hash", "data_hash"),
            *("window", "crop_head", "upright", "format_version"),
        ):
            assert values[name] == run.config["model"][name]
    verified = inside["export"]["verification"]["serving_default"]
    assert verified["slices"] == run.metrics["n"] and verified["changed"] == 0
    assert set(beside["export"]["verification"]) == {"serving_default", "serve_bytes"}


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_cam_uint8_and_dynamic_batches(run, kaggle_folder, tmp_path, quantize):
    from ai_edge_litert.interpreter import Interpreter

    target = tmp_path / "a.tflite"
    settings = {"cam": True, "input_type": "uint8", "batch": "dynamic", "quantize": quantize}
    htf.export(run, target, quiet=True, **settings)
    runner = Interpreter(str(target)).get_signature_runner()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    answers = runner(image=images)
    assert answers["probability"].shape == (5, 1)
    assert answers["cam"].shape == (5, 4, 4)
    logits = np.log(answers["probability"] / (1 - answers["probability"]))[:, 0]
    if quantize == "none":
        np.testing.assert_allclose(answers["cam"].mean(axis=(1, 2)), logits, atol=1e-3)
    assert htf.load(target).run(images.astype(np.float32)) == pytest.approx(
        answers["probability"][:, 0], abs=1e-6
    )


def test_a_run_of_mixed_precision_exports_in_float32(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", mixed_precision="bfloat16", **FIT)
    export = htf.export(run, tmp_path / "a.tflite", quiet=True)
    assert export.verifications["serving_default"].largest_difference < 1e-5


def test_a_fine_tuned_and_a_cross_validated_run_export(kaggle_folder, tmp_path):
    tuning = {"fine_tune_from": "block3_convolution", "fine_tune_epochs": 1}
    run = htf.fit(kaggle_folder, out=tmp_path / "run", folds=2, **tuning, **FIT)
    export = htf.export(run, tmp_path / "a.tflite", quiet=True)
    assert export.verifications["serving_default"].slices == 24


def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch):
    def converted_otherwise(classifier, *arguments):
        kernel, bias = classifier.get_layer("logit").get_weights()
        classifier.get_layer("logit").set_weights([kernel * 3, bias - 1])
        return convert(classifier, *arguments)

    convert = exporter.convert
    monkeypatch.setattr(exporter, "convert", converted_otherwise)
    with pytest.raises(ModelError, match="does not answer as the trained one"):
        htf.export(run, tmp_path / "out" / "a.tflite", quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_operators_that_no_device_has_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "operator_names", lambda model: {"ADD", "custom:FlexErf"})
    with pytest.raises(ModelError, match="custom:FlexErf"):
        htf.export(run, tmp_path / "a.tflite", quiet=True)
    assert not (tmp_path / "a.tflite").exists()


def test_a_target_that_exists_is_kept(run, tmp_path):
    (tmp_path / "a.tflite").write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        htf.export(run, tmp_path / "a.tflite", quiet=True)
    assert (tmp_path / "a.tflite").read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        htf.export(run, tmp_path / "file" / "a.tflite", quiet=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantize": "int4"}, "--quantize int4: accepted are none, float16"),
        ({"input_type": "int8"}, "--input-type int8"),
        ({"batch": "8"}, "--batch 8"),
        ({"calibration_slices": 2}, "--calibration-slices 2: accepted is 8 or more"),
        ({"colour": 1}, "unknown setting"),
    ],
)
def test_options_that_cannot_be_used(run, tmp_path, settings, message):
    with pytest.raises(OptionError, match=message):
        htf.export(run, tmp_path / "a.tflite", quiet=True, **settings)


def test_a_saved_model_is_not_quantized(run, tmp_path):
    with pytest.raises(OptionError, match="ends in .tflite"):
        htf.export(run, tmp_path / "saved", quantize="int8", quiet=True)


def test_a_keras_file_alone_needs_slices_to_verify_on(run, kaggle_folder, tmp_path):
    alone = tmp_path / "alone.keras"
    alone.write_bytes((run.path / "model.keras").read_bytes())
    with pytest.raises(OptionError, match="--verify DATA"):
        htf.export(alone, tmp_path / "a.tflite", quiet=True)
    export = htf.export(alone, tmp_path / "a.tflite", verify=kaggle_folder, quiet=True)
    assert export.verifications["serving_default"].slices == 24


def test_an_exported_model_is_not_exported_again(run, tmp_path):
    htf.export(run, tmp_path / "a.tflite", quiet=True)
    with pytest.raises(ModelError, match="not a known model format"):
        htf.export(tmp_path / "a.tflite", tmp_path / "b.tflite", quiet=True)


def test_slices_of_the_run_that_changed_are_told(run, kaggle_folder, tmp_path):
    for path in (kaggle_folder / "head_ct" / "head_ct").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="is gone, was changed, .* Name slices with --verify DATA"):
        htf.export(run, tmp_path / "a.tflite", quiet=True)


def test_too_few_slices_to_calibrate_on_are_told(run, kaggle_folder, tmp_path):
    manifest = tmp_path / "few.csv"
    lines = [f"kaggle/head_ct/head_ct/{index:03d}.png,{index % 2}" for index in range(4)]
    manifest.write_text("\n".join(["path,label", *lines]))
    with pytest.raises(DataError, match="at least 8 slices to calibrate on. Received: 4"):
        htf.export(run, tmp_path / "a.tflite", quantize="int8", representative=manifest, quiet=True)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_tflite_file_is_told(run, kaggle_folder, tmp_path, keep):
    htf.export(run, tmp_path / "a.tflite", quiet=True)
    content = (tmp_path / "a.tflite").read_bytes()
    (tmp_path / "b.tflite").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match="not a whole .tflite file"):
        htf.load(tmp_path / "b.tflite")


def test_metadata_of_a_newer_version_is_told(run, tmp_path):
    htf.export(run, tmp_path / "saved", quiet=True)
    file = tmp_path / "saved" / "hemorrhage_tf.json"
    file.write_text(file.read_text().replace('"format_version": 3', '"format_version": 99'))
    with pytest.raises(ModelError, match="newer hemorrhage_tf"):
        htf.load(tmp_path / "saved")


class TestHounsfield:
    @pytest.fixture
    def of_units(self, dicom_folder, tmp_path):
        return htf.fit(dicom_folder, out=tmp_path / "run", window="brain,subdural,bone", **FIT)

    def test_every_form_answers_as_the_run(self, of_units, dicom_folder, tmp_path):
        expected = probabilities(of_units, dicom_folder)
        for name, tolerance in (("a.tflite", 1e-5), ("saved", 1e-5)):
            export = htf.export(of_units, tmp_path / name, quiet=True)
            # The signature that takes encoded pictures cannot be tried out on DICOM files.
            assert list(export.verifications) == ["serving_default"]
            assert export.verifications["serving_default"].slices == of_units.metrics["n"]
            found = probabilities(tmp_path / name, dicom_folder)
            np.testing.assert_allclose(found, expected, atol=tolerance)
            loaded = htf.load(tmp_path / name)
            assert loaded.metadata.window == ("brain", "subdural", "bone")
            with pytest.raises(OptionError, match="knows no other"):
                loaded.predict(dicom_folder, window="brain")

    def test_int8_is_calibrated_on_the_runs_own_files(self, of_units, dicom_folder, tmp_path):
        htf.export(of_units, tmp_path / "a.tflite", quantize="int8", quiet=True)
        np.testing.assert_allclose(
            probabilities(tmp_path / "a.tflite", dicom_folder),
            probabilities(of_units, dicom_folder),
            atol=0.1,
        )

    def test_frames_of_the_runs_volumes_are_found_again(self, tmp_path, head, write_nifti):
        for index in range(6):
            name = f"{('normal', 'ich')[index % 2]}/{index}.nii.gz"
            heads = [head(3 * index + k, index % 2) for k in range(3)]
            write_nifti(tmp_path / "data" / name, np.stack(heads))
        run = htf.fit(tmp_path / "data", out=tmp_path / "run", folds=2, **FIT)
        export = htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert export.verifications["serving_default"].slices == 18

    @pytest.mark.parametrize("where", ["name", "root"])
    def test_a_run_that_keeps_names_out_needs_slices_to_verify_on(
        self, tmp_path, head, write_dicom, where
    ):
        root = tmp_path / ("Mustermann" if where == "root" else "data")
        for index in range(12):
            name = f"Mustermann-{index}.dcm" if where == "name" else f"{index}.dcm"
            path = root / ("normal", "ich")[index % 2] / name
            tags = {"PatientID": f"P{index}", "PatientName": "Mustermann^Erika"}
            write_dicom(path, head(index), **tags)
        run = htf.fit(root, out=tmp_path / "run", **FIT)
        message = "its name was kept out" if where == "name" else "folder names a patient"
        with pytest.raises(DataError, match=f"{message}.*(?s:.*)with --verify DATA"):
            htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert not (tmp_path / "a.tflite").exists()
        export = htf.export(run, tmp_path / "a.tflite", verify=root, quiet=True)
        assert export.verifications["serving_default"].slices == 12


def test_every_form_of_backbones_side_by_side_answers_as_the_run(kaggle_folder, tmp_path):
    settings = {**FIT, "backbone": "tiny+phantomnet", "weights": "none", "image_size": None}
    run = htf.fit(kaggle_folder, out=tmp_path / "run", views=2, **settings)
    expected = probabilities(run, kaggle_folder)
    htf.export(run, tmp_path / "saved", quiet=True)
    forms = {"saved": 1e-4}
    for quantize, tolerance in {"none": 1e-4, "float16": 5e-3, "dynamic": 0.1, "int8": 0.1}.items():
        target = f"{quantize}.tflite"
        htf.export(run, tmp_path / target, quantize=quantize, cam=True, quiet=True)
        forms[target] = tolerance
    images = np.random.default_rng(0).uniform(0, 255, (2, 192, 192, 3)).astype(np.float32)
    for form, tolerance in forms.items():
        model = htf.load(tmp_path / form)
        np.testing.assert_allclose(
            probabilities(model, kaggle_folder), expected, atol=tolerance, err_msg=form
        )
        _, cam = model._explain()(images)
        assert cam.shape == (2, 24, 24)  # of 8 x 8 and 24 x 24


class TestEmbedded:
    def test_is_verified_and_calibrated_on_phantoms_that_are_drawn(
        self, embedded_model, kaggle_folder, tmp_path, cache
    ):
        target = tmp_path / "a.tflite"
        export = htf.export("phantomnet", target, cam=True, quiet=True)
        verified = export.verifications["serving_default"]
        assert (verified.slices, verified.hemorrhage) == (100, 50)
        assert verified.largest_difference < 1e-4
        expected = probabilities("phantomnet", kaggle_folder)
        np.testing.assert_allclose(probabilities(target, kaggle_folder), expected, atol=5e-3)
        assert htf.load(target).has_cam
        card = json.loads((tmp_path / "a.model_card.json").read_text())
        assert card["n"] == 100 and card["export"]["form"] == "tflite"
        assert card["evaluated_on"] == "100 phantoms that it was not trained on"
        text = (tmp_path / "a.model_card.md").read_text()
        assert "Trained on synthetic phantoms alone" in text and "settings: phantoms" in text
        assert len(list((cache / "phantoms").iterdir())) == 1

    def test_of_a_saved_model_the_card_lies_inside(self, embedded_model, kaggle_folder, tmp_path):
        export = htf.export("phantomnet", tmp_path / "saved", verify=kaggle_folder, quiet=True)
        assert set(export.verifications) == {"serving_default", "serve_bytes"}
        card = json.loads((tmp_path / "saved" / "model_card.json").read_text())
        assert card["evaluated_on"] == "24 slices" and card["name"] == "phantomnet"
        inside = json.loads((tmp_path / "saved" / "hemorrhage_tf.json").read_text())
        assert inside["backbone"] == "phantomnet" and inside["export"]["form"] == "saved_model"

    def test_int8_is_calibrated_on_other_phantoms_than_it_is_verified_on(
        self, embedded_model, tmp_path, monkeypatch
    ):
        seen = {}

        def keep(classifier, size, quantize, input_type, cam, batch, calibration):
            seen["calibration"] = calibration
            raise OptionError("enough")

        monkeypatch.setattr(exporter, "convert", keep)
        with pytest.raises(OptionError, match="enough"):
            htf.export(
                *("phantomnet", tmp_path / "a.tflite"),
                quantize="int8",
                calibration_slices=10,
                quiet=True,
            )
        assert len(seen["calibration"]) == 10
        assert not list(tmp_path.glob("*.tflite"))
