from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError, OutputError
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.run_files import training_hashes

QUICK = {"quiet": True, "repeats": 2}


@pytest.fixture(scope="module")
def local(once):
    """48 slices that no run was trained on: 16 patients with one scan of three slices each.

    Every second patient has a hemorrhage, in one slice.
    """

    def create(folder):
        folder.mkdir()
        lines = ["path,label,patient,scan,position"]
        for index in range(48):
            patient, place = divmod(index, 3)
            label = int(patient % 2 == 1 and place == 1)
            image = Image.fromarray(draw_phantom(7, index, label))
            image.resize((64, 64)).save(folder / f"{index}.png")
            lines.append(f"{index}.png,{label},patient {patient},scan {patient},{5 * place}")
        (folder / "manifest.csv").write_text("\n".join(lines))

    return once("local-scans", create)


@pytest.fixture(scope="module")
def recalibrated(once, fit_once, local):
    """The small fit recalibrated on the local slices, by sensitivity for scans."""

    def create(folder):
        folder.mkdir()
        htf.recalibrate(
            local,
            model=fit_once(),
            out=folder / "run",
            scan_operating_point="sensitivity=0.9",
            **QUICK,
        )

    return once("recalibrated", create) / "run"


@pytest.fixture(scope="module")
def recalibrated_scans(once, scan_run, local):
    """The run with a scan model, recalibrated on the local slices and scans."""

    def create(folder):
        folder.mkdir()
        htf.recalibrate(local, model=scan_run, out=folder / "run", **QUICK)

    return once("recalibrated-scans", create) / "run"


@pytest.fixture(scope="module")
def exported(once, scan_run, local):
    """The same as a TFLite file."""

    def create(folder):
        folder.mkdir()
        htf.recalibrate(local, model=scan_run, out=folder / "here.tflite", **QUICK)

    return once("recalibrated-tflite", create) / "here.tflite"


def read_json(path):
    return json.loads(path.read_text())


def predict(model, data, name="probability"):
    slices = htf.predict(sorted(data.glob("*.png")), model=model, quiet=True).slices
    return np.array([getattr(one, name) for one in slices])


class TestProbabilities:
    def test_of_slices_are_calibrated_and_nothing_else(self, recalibrated, fit_once, local):
        fitted = read_json(recalibrated / "config.json")["recalibration"]["fitted"]["slices"]
        before, after = predict(fit_once(), local), predict(recalibrated, local)
        expected = expit(logit(before) / fitted["temperature"] + fitted["offset"])
        assert after == pytest.approx(expected, abs=1e-5)
        assert not np.allclose(before, after, atol=1e-3)

    def test_the_calibration_is_that_of_a_logistic_regression(
        self, recalibrated, fit_once, local, read_rows
    ):
        fitted = read_json(recalibrated / "config.json")["recalibration"]["fitted"]["slices"]
        labels = {row["path"]: int(row["label"]) for row in read_rows(local / "manifest.csv")}
        before = logit(predict(fit_once(), local).astype(np.float64))
        of_slices = [labels[path.name] for path in sorted(local.glob("*.png"))]
        oracle = LogisticRegression(C=np.inf).fit(before[:, None], of_slices)
        predicted = expit(before / fitted["temperature"] + fitted["offset"])
        # Firth's penalty is about as much as one of the 48 slices.
        assert predicted == pytest.approx(oracle.predict_proba(before[:, None])[:, 1], abs=0.05)

    def test_decisions_follow_the_new_threshold(self, recalibrated, local):
        metadata = read_metadata(recalibrated / "model.keras")
        fitted = read_json(recalibrated / "config.json")["recalibration"]["fitted"]["slices"]
        assert metadata.threshold == fitted["threshold"] == pytest.approx(8 / 48)
        decisions = predict(recalibrated, local, "is_hemorrhage")
        assert (decisions == (predict(recalibrated, local) >= metadata.threshold)).all()

    def test_of_scans_with_a_scan_model(self, recalibrated_scans, scan_run, local):
        before = htf.evaluate(local, model=scan_run, quiet=True)
        after = htf.evaluate(local, model=recalibrated_scans, quiet=True)
        fitted = read_json(recalibrated_scans / "config.json")["recalibration"]["fitted"]
        assert set(fitted) == {"slices", "slices_in_scans", "scans"}
        for level, units, name in (
            ("slices", "predictions", "probability"),
            ("slices_in_scans", "predictions", "probability_in_scan"),
            ("scans", "scans", "probability"),
        ):
            values = [
                np.array([getattr(one, name) for one in getattr(each, units)])
                for each in (before, after)
            ]
            one = fitted[level]
            expected = expit(logit(values[0]) / one["temperature"] + one["offset"])
            assert values[1] == pytest.approx(expected, abs=1e-5)
        model = htf.load(recalibrated_scans)
        assert model.slice_in_scan_threshold == fitted["slices_in_scans"]["threshold"]
        assert model.scan_threshold == fitted["scans"]["threshold"]

    @pytest.mark.slow
    def test_calibrations_add_up(self, recalibrated, fit_once, local, tmp_path):
        first = read_metadata(fit_once() / "model.keras")
        again = htf.recalibrate(local, model=recalibrated, out=tmp_path / "twice", **QUICK)
        second = read_metadata(again.path / "model.keras")
        assert second.weights_hash == first.weights_hash
        before, after = predict(fit_once(), local), predict(again.path, local)
        uncalibrated = (logit(before) - first.offset) * first.temperature
        expected = expit(uncalibrated / second.temperature + second.offset)
        assert after == pytest.approx(expected, abs=1e-5)


class TestRunFolder:
    def test_says_what_was_done_from_which_model_on_which_data(self, recalibrated, fit_once, local):
        config = read_json(recalibrated / "config.json")
        metrics = read_json(recalibrated / "metrics.json")
        original = read_metadata(fit_once() / "model.keras")
        done = config["recalibration"]
        assert done["original"]["weights_hash"] == original.weights_hash
        assert done["data_hash"] == config["data"]["hash"] == config["model"]["recalibrated_on"]
        assert config["model"]["data_hash"] == original.data_hash
        assert (done["folds"], done["repeats"], done["seed"]) == (5, 2, 0)
        assert metrics["before"]["threshold"] == original.threshold
        assert metrics["evaluated_on"] == "all 48 slices, out of fold (5 folds, 2 times)"
        assert metrics["intervals_of"] == "patients" and metrics["n_groups"] == 16
        card = (recalibrated / "model_card.md").read_text()
        assert "temperature, offset and thresholds alone" in card

    def test_the_metrics_before_are_those_of_evaluate(self, recalibrated, fit_once, local):
        metrics = read_json(recalibrated / "metrics.json")["before"]
        evaluated = htf.evaluate(local, model=fit_once(), quiet=True).metrics
        for name in ("sensitivity", "specificity", "roc_auc", "brier"):
            assert metrics[name] == pytest.approx(evaluated[name], abs=1e-6)
            assert metrics["scans"][name] == pytest.approx(evaluated["scans"][name], abs=1e-6)

    def test_tables_hold_the_predictions_out_of_fold(self, recalibrated, read_rows):
        metrics = read_json(recalibrated / "metrics.json")
        rows = read_rows(recalibrated / "predictions.csv")
        assert len(rows) == 2 * 48
        decided = np.array([int(row["hemorrhage"]) for row in rows])
        labels = np.array([int(row["label"]) for row in rows])
        assert metrics["sensitivity"]["estimate"] == pytest.approx(decided[labels == 1].mean())
        split = read_rows(recalibrated / "split.csv")
        folds = {(row["patient"], row["repeat_1"]) for row in split}
        assert len(folds) == 16

    def test_with_a_scan_model_scans_have_a_table(self, recalibrated_scans, read_rows):
        rows = read_rows(recalibrated_scans / "scans.csv")
        metrics = read_json(recalibrated_scans / "metrics.json")["scans"]
        decided = np.array([int(row["hemorrhage"]) for row in rows])
        labels = np.array([int(row["label"]) for row in rows])
        assert metrics["specificity"]["estimate"] == pytest.approx(1 - decided[labels == 0].mean())

    def test_evaluate_warns_of_slices_of_both_trainings(
        self, recalibrated, fit_once, local, kaggle_once
    ):
        before = training_hashes(fit_once())
        assert before < training_hashes(recalibrated)
        assert htf.evaluate(local, model=recalibrated, quiet=True).seen_in_training == 48
        of_origin = htf.evaluate(kaggle_once, model=recalibrated, quiet=True)
        assert of_origin.seen_in_training == len(before)

    @pytest.mark.slow
    def test_same_seed_same_bytes(self, recalibrated, fit_once, local, tmp_path):
        again = htf.recalibrate(
            local,
            model=fit_once(),
            out=tmp_path / "again",
            scan_operating_point="sensitivity=0.9",
            **QUICK,
        )
        for name in ("metrics.json", "predictions.csv", "split.csv", "trained_on.csv"):
            assert (again.path / name).read_bytes() == (recalibrated / name).read_bytes()

    def test_is_no_fit_that_can_be_resumed(self, recalibrated):
        with pytest.raises(OptionError, match="a recalibrated model, not a fit"):
            htf.fit(resume=recalibrated, quiet=True)


class TestScansWithoutScanModel:
    def test_get_a_threshold_for_the_mean_of_the_three_highest(self, recalibrated, local):
        config = read_json(recalibrated / "config.json")
        fitted = config["recalibration"]["fitted"]["scans"]
        assert (fitted["temperature"], fitted["offset"]) == (1, 0)
        assert fitted["criterion"] == "sensitivity=0.9"
        evaluation = htf.evaluate(local, model=recalibrated, quiet=True)
        scores = [one.probability for one in evaluation.scans]
        decisions = [one.is_hemorrhage for one in evaluation.scans]
        assert decisions == [score >= fitted["threshold"] for score in scores]
        # The highest threshold that reaches 0.9 of the eight scans with hemorrhage misses none.
        positive = np.array(scores)[evaluation.scan_labels == 1]
        assert (positive >= fitted["threshold"]).all()
        after = read_json(recalibrated / "metrics.json")["scans"]
        assert after["roc_auc"]["estimate"] == pytest.approx(
            evaluation.scan_metrics["roc_auc"]["estimate"]
        )

    def test_too_few_scans_of_a_class_keep_a_threshold_that_follows_the_slices(
        self, fit_once, local, tmp_path, capsys
    ):
        lines = (local / "manifest.csv").read_text().splitlines()
        rows = [f"{local}/{line}".split(",") for line in lines[1:]]
        for row in rows:  # three of the eight normal scans stay
            patient = int(row[2].split()[1])
            if patient % 2 == 0 and patient > 5:
                row[2], row[3] = (f"{name} {patient + 1}" for name in ("patient", "scan"))
                row[4] = str(50 + int(row[4]))
        table = "\n".join([lines[0], *(",".join(row) for row in rows)])
        (tmp_path / "few.csv").write_text(table)
        original = copy_with(fit_once(), tmp_path / "model", scan_threshold=0.6)
        result = htf.recalibrate(
            tmp_path / "few.csv", model=original, out=tmp_path / "out", repeats=1
        )
        expected_warning = "The threshold for scans follows the calibration of slices to"
        assert expected_warning in words(capsys.readouterr().err)
        assert "it takes at least 8 patients whose scans show hemorrhage" in result.warnings[0]
        one = result.config["recalibration"]["fitted"]["slices"]
        expected = expit(logit(0.6) / one["temperature"] + one["offset"])
        assert result.model().scan_threshold == pytest.approx(expected)
        assert result.after["scans"]["threshold"] == pytest.approx(expected)

    def test_data_without_scans_moves_the_threshold_of_scans_too(
        self, fit_once, dicom_once, tmp_path
    ):
        original = copy_with(fit_once(), tmp_path / "model", scan_threshold=0.6)
        result = htf.recalibrate(dicom_once, model=original, out=tmp_path / "out", **QUICK)
        one = result.config["recalibration"]["fitted"]["slices"]
        expected = expit(logit(0.6) / one["temperature"] + one["offset"])
        assert result.model().scan_threshold == pytest.approx(expected)
        assert result.warnings[0].endswith("the data has no scans")
        assert result.after["scans"] is None


def copy_with(run, path, **changes):
    """Copy a run folder, and change the metadata of its model."""
    from hemorrhage_tf.inference.keras_model import load_classifier
    from hemorrhage_tf.models.metadata import write_metadata

    shutil.copytree(run, path)
    metadata, classifier = load_classifier(run)
    classifier.save(path / "model.keras")
    write_metadata(path / "model.keras", replace(metadata, **changes))
    return path


@pytest.mark.slow
class TestScanLabelsOnly:
    def test_scans_alone_are_recalibrated(self, scan_run, once, head, write_nifti, tmp_path):
        def create(folder):
            for index in range(16):
                name = f"{('normal', 'ich')[index % 2]}/{index}.nii"
                slices = [head(2 * index + place, index % 2) for place in range(2)]
                write_nifti(folder / name, np.stack(slices))

        data = once("sixteen-scans", create)
        result = htf.recalibrate(data, model=scan_run, out=tmp_path / "out", **QUICK)
        assert set(result.config["recalibration"]["fitted"]) == {"scans"}
        assert result.after["level"] == "scan" and result.after["n"] == 16
        before, after = (read_metadata(run / "model.keras") for run in (scan_run, result.path))
        assert (after.threshold, after.temperature) == (before.threshold, before.temperature)
        assert after.slice_in_scan_threshold == before.threshold
        assert after.scan_threshold == 0.5


@pytest.mark.slow
class TestTFLite:
    def test_is_verified_and_predicts_as_the_run_folder(self, exported, recalibrated_scans, local):
        metadata = read_metadata(exported)
        assert metadata.export["verification"]["serving_default"]["slices"] == 48
        of_run = read_metadata(recalibrated_scans / "model.keras")
        assert replace(metadata, export=None) == of_run
        evaluations = [
            htf.evaluate(local, model=model, quiet=True) for model in (exported, recalibrated_scans)
        ]
        for name in ("probability", "probability_in_scan"):
            one, other = (
                [getattr(slice_, name) for slice_ in each.predictions] for each in evaluations
            )
            assert one == pytest.approx(other, abs=1e-4)

    def test_brings_its_card_and_leaves_nothing_else_behind(self, exported):
        names = sorted(path.name for path in exported.parent.iterdir())
        assert names == ["here.model_card.json", "here.model_card.md", "here.tflite"]


class TestBadInput:
    def test_too_few_patients_of_a_class(self, fit_once, local, tmp_path):
        lines = (local / "manifest.csv").read_text().splitlines()
        lines = [lines[0], *(f"{local}/{line}" for line in lines[1:43])]  # patients 0 to 13
        (tmp_path / "few.csv").write_text("\n".join(lines))
        model, out = fit_once(), tmp_path / "out"
        with pytest.raises(DataError) as error:
            htf.recalibrate(tmp_path / "few.csv", model=model, out=out, quiet=True)
        message = str(error.value)
        assert "at least 8 patients whose slices show hemorrhage" in message
        assert "Received: 7 and 14" in message
        assert "Add labeled patients, or use the model as it is." in message
        assert not out.exists()

    def test_slices_of_one_class(self, fit_once, local, tmp_path):
        lines = (local / "manifest.csv").read_text().splitlines()
        normal = [f"{local}/{line}" for line in lines[1:] if line.split(",")[1] == "0"]
        (tmp_path / "normal.csv").write_text("\n".join([lines[0], *normal]))
        with pytest.raises(DataError, match="Received: 0 and 16"):
            htf.recalibrate(
                tmp_path / "normal.csv", model=fit_once(), out=tmp_path / "out", quiet=True
            )

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"folds": 1}, OptionError, "--folds 1"),
            ({"operating_point": "best"}, OptionError, "--operating-point best"),
            ({"out": "x.keras"}, OptionError, r"--out x.keras: the ending .keras is not supported"),
        ],
    )
    def test_options_are_checked_before_anything_is_read(self, options, error, message):
        with pytest.raises(error, match=message):
            htf.recalibrate("nowhere", **({"out": "somewhere"} | options))

    def test_an_exported_model_is_refused(self, local, tmp_path):
        (tmp_path / "a.tflite").touch()
        with pytest.raises(OptionError, match=r"exported model cannot be recalibrated.*run folder"):
            htf.recalibrate(local, model=tmp_path / "a.tflite", out=tmp_path / "out", quiet=True)

    def test_replaces_a_file_only_on_request(self, fit_once, local, tmp_path):
        (tmp_path / "a.tflite").write_text("mine")
        with pytest.raises(OutputError, match="a.tflite: exists. Name another file, or replace"):
            htf.recalibrate(local, model=fit_once(), out=tmp_path / "a.tflite", quiet=True)
        assert (tmp_path / "a.tflite").read_text() == "mine"

    def test_test_time_augmentation_is_refused(self, fit_once, local, tmp_path):
        model = htf.load(fit_once()).with_tta()
        with pytest.raises(OptionError, match="Pass the model without it"):
            htf.recalibrate(local, model=model, out=tmp_path / "out", quiet=True)

    def test_the_model_itself_is_not_replaced(self, fit_once, local):
        with pytest.raises(OptionError, match="this is the model itself"):
            htf.recalibrate(local, model=fit_once(), out=fit_once(), overwrite=True, quiet=True)

    def test_slices_that_the_model_was_trained_on_are_a_warning(
        self, fit_once, kaggle_once, tmp_path, capsys
    ):
        result = htf.recalibrate(kaggle_once, model=fit_once(), out=tmp_path / "out", repeats=1)
        trained = len(training_hashes(fit_once()))
        assert f"{trained} of the 24 slices were trained on" in words(capsys.readouterr().err)
        assert result.warnings[0] in (tmp_path / "out" / "model_card.md").read_text()


@pytest.mark.slow
def test_the_embedded_model_becomes_a_run_folder(embedded_model, local, tmp_path):
    result = htf.recalibrate(local, out=tmp_path / "out", **QUICK)
    fitted = result.config["recalibration"]["fitted"]["slices"]
    before, after = predict("phantomnet", local), predict(result.path, local)
    expected = expit(logit(before) / fitted["temperature"] + fitted["offset"])
    assert after == pytest.approx(expected, abs=1e-3)  # the embedded file has half precision
    assert result.path.name == "out" and (result.path / "model.keras").is_file()
