from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, ModelError, OptionError, OutputError
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.export import target_form


def probabilities(model, images) -> np.ndarray:
    return np.array([each.probability for each in htf.load(model).predict(images)])


@pytest.fixture(scope="module")
def run(fit_once) -> Path:
    return fit_once()


class TestTargetForm:
    @pytest.mark.parametrize(
        ("target", "form"),
        [
            ("a.tflite", "tflite"),
            ("A.TFLITE", "tflite"),
            (Path("folder.v2/a.tflite"), "tflite"),
            ("a.onnx", "onnx"),
            ("saved", "saved_model"),
            ("saved_models/hemorrhage/1", "saved_model"),
            (Path("saved_models/hemorrhage/1"), "saved_model"),
            ("saved.v2/", "saved_model"),
            ("x.foo/", "saved_model"),
        ],
    )
    def test_depends_on_the_ending(self, target, form):
        assert target_form(target) == form

    @pytest.mark.parametrize("target", ["x.foo", "models/x.pb", Path("saved.v2")])
    def test_rejects_an_unknown_ending(self, target):
        with pytest.raises(OptionError, match="is not supported. Pass a name that ends"):
            target_form(target)

    def test_an_unknown_ending_is_rejected_before_anything_is_loaded(self, tmp_path):
        with pytest.raises(OptionError, match="x.foo: the ending .foo"):
            htf.export("phantomnet", tmp_path / "x.foo", quiet=True)
        assert not list(tmp_path.iterdir())

    def test_a_version_folder_holds_a_saved_model(self, exports_once):
        assert (exports_once / "1" / "saved_model.pb").is_file()


class TestForms:
    @pytest.mark.parametrize("form", ["a.tflite", "1"])
    def test_predict_like_the_run(self, run, exports_once, kaggle_once, form):
        expected = probabilities(run, kaggle_once)
        np.testing.assert_allclose(
            probabilities(exports_once / form, kaggle_once), expected, atol=1e-5
        )

    def test_int8_predicts_like_the_run(self, run, kaggle_once, tmp_path):
        target = tmp_path / "int8.tflite"
        settings = {"quantize": "int8", "input_type": "uint8", "cam": True, "batch": "dynamic"}
        export = htf.export(run, target, quiet=True, **settings)
        assert (export.path, export.form) == (target, "tflite int8")
        assert export.size_bytes == target.stat().st_size
        assert {path.name for path in tmp_path.iterdir()} == {
            "int8.tflite",
            "int8.model_card.md",
            "int8.model_card.json",
        }
        np.testing.assert_allclose(
            probabilities(target, kaggle_once), probabilities(run, kaggle_once), atol=0.1
        )
        assert htf.load(target).has_cam

    @pytest.mark.slow
    def test_full_int8_predicts_like_the_run(self, run, kaggle_once, tmp_path):
        target = tmp_path / "integers.tflite"
        export = htf.export(run, target, quantize="full-int8", input_type="uint8", quiet=True)
        assert export.form == "tflite full-int8"
        assert export.verifications.keys() == {"serving_default"}
        np.testing.assert_allclose(
            probabilities(target, kaggle_once), probabilities(run, kaggle_once), atol=0.15
        )

    @pytest.mark.parametrize("form", ["web", "hub"])
    def test_full_int8_is_for_files_alone(self, run, tmp_path, form):
        with pytest.raises(OptionError, match=f"Pass --quantize int8 with --format {form}"):
            htf.export(run, tmp_path / "a", format=form, quantize="full-int8", quiet=True)

    def test_metrics_are_the_same_for_every_form(self, run, exports_once, kaggle_once):
        metrics = [
            htf.evaluate(kaggle_once, model=model, quiet=True).metrics
            for model in (run, exports_once / "a.tflite", exports_once / "1")
        ]
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc", "confusion"):
            assert metrics[0][name] == metrics[1][name] == metrics[2][name]
        for other in metrics[1:]:  # of probabilities, which differ in the last digits
            assert other["brier"]["estimate"] == pytest.approx(
                metrics[0]["brier"]["estimate"], abs=1e-5
            )
        # Only the run has a record of its training slices.
        assert [len(each["warnings"]) for each in metrics] == [1, 0, 0]

    def test_carry_the_metadata(self, run, exports_once):
        with zipfile.ZipFile(exports_once / "a.tflite") as archive:
            inside = json.loads(archive.read("hemorrhage_tf.json"))
            assert archive.read("labels.txt").decode().split() == ["normal", "hemorrhage"]
        saved = json.loads((exports_once / "1" / "hemorrhage_tf.json").read_text())
        model = json.loads((run / "config.json").read_text())["model"]
        for values in (inside, saved):
            for name in (
                "image_size",
                "threshold",
                "backbone",
                "weights_hash",
                "data_hash",
                "window",
                "crop_head",
                "upright",
                "format_version",
            ):
                assert values[name] == model[name]
        verified = inside["export"]["verification"]["serving_default"]
        assert verified["slices"] == json.loads((run / "metrics.json").read_text())["n"]
        assert verified["changed"] == 0
        assert set(saved["export"]["verification"]) == {"serving_default", "serve_bytes"}

    @pytest.mark.slow
    @pytest.mark.parametrize("pooling", ["max", "avg_max"])
    def test_every_pooling_and_quantization_predicts_like_the_run(
        self, fit_once, kaggle_once, tmp_path, pooling
    ):
        run = fit_once(pooling=pooling)
        expected = probabilities(run, kaggle_once)
        tolerances = {"none": 1e-5, "float16": 5e-3, "dynamic": 0.05, "int8": 0.1}
        for quantize, tolerance in tolerances.items():
            target = tmp_path / f"{quantize}.tflite"
            htf.export(run, target, quantize=quantize, quiet=True)
            np.testing.assert_allclose(probabilities(target, kaggle_once), expected, atol=tolerance)

    @pytest.mark.slow
    def test_every_form_of_several_backbones_predicts_like_the_run(
        self, fit_once, kaggle_once, tmp_path
    ):
        run = fit_once(backbone="tiny+phantomnet", weights="none", image_size=None, views=2)
        expected = probabilities(run, kaggle_once)
        htf.export(run, tmp_path / "saved", quiet=True)
        forms = {"saved": 1e-4}
        tolerances = {"none": 1e-4, "float16": 5e-3, "dynamic": 0.1, "int8": 0.1}
        for quantize, tolerance in tolerances.items():
            target = f"{quantize}.tflite"
            htf.export(run, tmp_path / target, quantize=quantize, cam=True, quiet=True)
            forms[target] = tolerance
        images = np.random.default_rng(0).uniform(0, 255, (2, 192, 192, 3)).astype(np.float32)
        for form, tolerance in forms.items():
            np.testing.assert_allclose(
                probabilities(tmp_path / form, kaggle_once), expected, atol=tolerance, err_msg=form
            )
            _, cams = htf.load(tmp_path / form).run_with_cam(images)
            assert cams.shape == (2, 24, 24)  # the finer of 8 x 8 and 24 x 24


class TestRuns:
    @pytest.mark.slow
    def test_a_run_in_mixed_precision_exports_in_float32(self, fit_once, tmp_path):
        run = fit_once(mixed_precision="bfloat16")
        export = htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert export.verifications["serving_default"].largest_difference < 1e-5

    @pytest.mark.slow
    def test_a_fine_tuned_and_cross_validated_run_exports(self, fit_once, tmp_path):
        run = fit_once(folds=2, fine_tune_from="block3_convolution", fine_tune_epochs=1)
        export = htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert export.verifications["serving_default"].slices == 24

    def test_a_keras_file_exports_with_slices_to_verify_on(self, run, kaggle_once, tmp_path):
        alone = tmp_path / "alone.keras"
        shutil.copy(run / "model.keras", alone)
        with pytest.raises(OptionError, match="--verify DATA"):
            htf.export(alone, tmp_path / "a.tflite", quiet=True)
        export = htf.export(alone, tmp_path / "a.tflite", verify=kaggle_once, quiet=True)
        assert export.verifications["serving_default"].slices == 24

    def test_rejects_an_exported_model(self, exports_once, tmp_path):
        with pytest.raises(ModelError, match="a.tflite"):
            htf.export(exports_once / "a.tflite", tmp_path / "b.tflite", quiet=True)

    def test_rejects_too_few_slices_to_calibrate_on(self, run, kaggle_once, tmp_path):
        manifest = tmp_path / "few.csv"
        folder = kaggle_once / "head_ct" / "head_ct"
        lines = [f"{folder / f'{index:03d}.png'},{index % 2}" for index in range(4)]
        manifest.write_text("\n".join(["path,label", *lines]))
        with pytest.raises(DataError, match="4 slices to calibrate on: int8 needs at least 8"):
            htf.export(
                run, tmp_path / "a.tflite", quantize="int8", representative=manifest, quiet=True
            )
        assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]


class TestVerification:
    def test_an_export_that_differs_too_much_is_rejected_and_leaves_nothing(
        self, run, tmp_path, monkeypatch
    ):
        convert = exporter.convert

        def convert_other_head(classifier, *arguments):
            kernel, bias = classifier.get_layer("logit").get_weights()
            classifier.get_layer("logit").set_weights([kernel * 3, bias - 1])
            return convert(classifier, *arguments)

        monkeypatch.setattr(exporter, "convert", convert_other_head)
        with pytest.raises(ModelError, match="differs too much from the trained one"):
            htf.export(run, tmp_path / "out" / "a.tflite", quiet=True)
        assert list((tmp_path / "out").iterdir()) == []

    def test_custom_operators_are_rejected(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(exporter, "operator_names", lambda model: {"ADD", "custom:FlexErf"})
        with pytest.raises(ModelError, match="custom:FlexErf"):
            htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert not list(tmp_path.iterdir())


class TestTarget:
    def test_an_existing_target_is_left_unchanged(self, run, tmp_path):
        (tmp_path / "a.tflite").write_text("precious")
        with pytest.raises(OutputError, match="already exists"):
            htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert (tmp_path / "a.tflite").read_text() == "precious"

    def test_a_folder_that_is_not_writable_is_reported(self, run, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="cannot be written"):
            htf.export(run, tmp_path / "file" / "a.tflite", quiet=True)

    def test_a_saved_model_is_not_quantized(self, run, tmp_path):
        with pytest.raises(OptionError, match="ends with .tflite"):
            htf.export(run, tmp_path / "saved", quantize="int8", quiet=True)

    def test_unknown_settings_are_rejected(self, run, tmp_path):
        with pytest.raises(OptionError, match="colour: no such setting"):
            htf.export(run, tmp_path / "a.tflite", colour=1, quiet=True)


class TestDamagedExports:
    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_a_truncated_tflite_file_is_rejected(self, exports_once, tmp_path, share):
        content = (exports_once / "a.tflite").read_bytes()
        (tmp_path / "b.tflite").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match="not a complete .tflite file"):
            htf.load(tmp_path / "b.tflite")

    def test_metadata_of_a_newer_version_is_rejected(self, exports_once, tmp_path):
        shutil.copytree(exports_once / "1", tmp_path / "saved")
        file = tmp_path / "saved" / "hemorrhage_tf.json"
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, "format_version": 99}))
        with pytest.raises(ModelError, match="newer hemorrhage_tf"):
            htf.load(tmp_path / "saved")


@pytest.fixture(scope="module")
def dicom_run(fit_once, dicom_once) -> Path:
    return fit_once(dicom_once, window="brain,subdural,bone", calibration="none")


class TestHounsfieldUnits:
    @pytest.mark.parametrize("name", ["a.tflite", pytest.param("saved", marks=pytest.mark.slow)])
    def test_every_form_predicts_like_the_run(self, dicom_run, dicom_once, tmp_path, name):
        export = htf.export(dicom_run, tmp_path / name, quiet=True)
        # The signature for encoded images cannot be verified with DICOM files.
        assert list(export.verifications) == ["serving_default"]
        np.testing.assert_allclose(
            probabilities(tmp_path / name, dicom_once),
            probabilities(dicom_run, dicom_once),
            atol=1e-5,
        )
        model = htf.load(tmp_path / name)
        assert model.metadata.window == ("brain", "subdural", "bone")
        with pytest.raises(OptionError, match="--window"):
            model.predict(dicom_once, window="brain")

    @pytest.mark.slow
    def test_int8_is_calibrated_on_the_runs_own_files(self, dicom_run, dicom_once, tmp_path):
        htf.export(dicom_run, tmp_path / "a.tflite", quantize="int8", quiet=True)
        np.testing.assert_allclose(
            probabilities(tmp_path / "a.tflite", dicom_once),
            probabilities(dicom_run, dicom_once),
            atol=0.1,
        )

    @pytest.mark.slow
    def test_frames_of_the_runs_volumes_are_read_again(self, fit_once, tmp_path, head, write_nifti):
        for index in range(6):
            name = f"{('normal', 'ich')[index % 2]}/{index}.nii.gz"
            heads = [head(3 * index + k, index % 2) for k in range(3)]
            write_nifti(tmp_path / "data" / name, np.stack(heads))
        run = fit_once(tmp_path / "data", folds=2)
        export = htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert export.verifications["serving_default"].slices == 18

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["name", "root"])
    def test_a_run_without_names_needs_slices_to_verify_on(
        self, fit_once, tmp_path, head, write_dicom, where
    ):
        root = tmp_path / ("Mustermann" if where == "root" else "data")
        for index in range(12):
            name = f"Mustermann-{index}.dcm" if where == "name" else f"{index}.dcm"
            path = root / ("normal", "ich")[index % 2] / name
            tags = {"PatientID": f"P{index}", "PatientName": "Mustermann^Erika"}
            write_dicom(path, head(index), **tags)
        run = fit_once(root)
        message = "does not record its name" if where == "name" else "path names a patient"
        with pytest.raises(DataError, match=f"{message}.*(?s:.*)Pass --verify DATA"):
            htf.export(run, tmp_path / "a.tflite", quiet=True)
        assert not (tmp_path / "a.tflite").exists()
        export = htf.export(run, tmp_path / "a.tflite", verify=root, quiet=True)
        assert export.verifications["serving_default"].slices == 12


class TestEmbeddedModel:
    @pytest.mark.slow
    def test_is_verified_on_the_slices_named(self, embedded_model, kaggle_once, tmp_path):
        target = tmp_path / "a.tflite"
        export = htf.export("phantomnet", target, verify=kaggle_once, quiet=True)
        assert export.verifications["serving_default"].slices == 24
        assert export.verifications["serving_default"].largest_difference < 1e-4
        card = json.loads((tmp_path / "a.model_card.json").read_text())
        assert card["evaluated_on"] == "24 slices" and card["name"] == "phantomnet"
        assert card["export"]["form"] == "tflite"

    @pytest.mark.slow
    def test_is_verified_on_phantoms_by_default(self, embedded_model, kaggle_once, tmp_path, cache):
        target = tmp_path / "a.tflite"
        export = htf.export("phantomnet", target, cam=True, quiet=True)
        verification = export.verifications["serving_default"]
        assert (verification.slices, verification.hemorrhage) == (100, 50)
        assert verification.largest_difference < 1e-4
        np.testing.assert_allclose(
            probabilities(target, kaggle_once), probabilities("phantomnet", kaggle_once), atol=5e-3
        )
        assert htf.load(target).has_cam
        card = json.loads((tmp_path / "a.model_card.json").read_text())
        assert card["n"] == 100
        assert card["evaluated_on"] == "100 phantoms that it was not trained on"
        assert "synthetic phantoms" in (tmp_path / "a.model_card.md").read_text()
        assert len(list((cache / "phantoms").iterdir())) == 1

    @pytest.mark.slow
    def test_a_saved_model_folder_contains_its_card(self, embedded_model, kaggle_once, tmp_path):
        export = htf.export("phantomnet", tmp_path / "saved", verify=kaggle_once, quiet=True)
        assert set(export.verifications) == {"serving_default", "serve_bytes"}
        card = json.loads((tmp_path / "saved" / "model_card.json").read_text())
        assert card["evaluated_on"] == "24 slices"
        inside = json.loads((tmp_path / "saved" / "hemorrhage_tf.json").read_text())
        assert inside["backbone"] == "phantomnet" and inside["export"]["form"] == "saved_model"
