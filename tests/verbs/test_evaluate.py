from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from sklearn.metrics import roc_auc_score
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError


@pytest.fixture(scope="module")
def run(fit_once):
    return fit_once()


@pytest.fixture(scope="module")
def evaluated(run, kaggle_once):
    return htf.evaluate(kaggle_once, model=run, against=run, prevalence=0.1, quiet=True)


class TestSlices:
    def test_predicts_as_predict_does(self, evaluated, run, kaggle_once):
        prediction = htf.predict(kaggle_once, model=run, quiet=True)
        by_name = {one.path.rsplit("/", 1)[1]: one for one in prediction}
        assert len(evaluated.predictions) == len(prediction) == 24
        for one in evaluated.predictions:
            other = by_name[one.path.rsplit("/", 1)[1]]
            assert one.probability == pytest.approx(other.probability, abs=1e-6)
            assert one.is_hemorrhage == other.is_hemorrhage

    def test_metrics_are_those_of_the_predictions(self, evaluated):
        metrics, labels = evaluated.metrics, evaluated.labels
        probabilities = [one.probability for one in evaluated.predictions]
        decisions = np.array([one.is_hemorrhage for one in evaluated.predictions])
        assert (evaluated.level, metrics["n"], metrics["evaluated_on"]) == (
            "slice",
            24,
            "24 slices",
        )
        assert metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, probabilities))
        assert metrics["accuracy"]["estimate"] == pytest.approx(np.mean(decisions == labels))
        assert metrics["at_prevalence"]["prevalence"] == 0.1
        assert "n = 24" in evaluated.summary

    def test_a_model_does_not_differ_from_itself(self, evaluated):
        assert evaluated.comparison["roc_auc"]["difference"]["estimate"] == 0
        assert evaluated.comparison["accuracy"]["only_first_right"] == 0

    def test_slices_of_one_class(self, run, kaggle_once, tmp_path):
        slice_file = kaggle_once / "head_ct" / "head_ct" / "000.png"
        (tmp_path / "one.csv").write_text(f"path,label\n{slice_file},0\n")
        metrics = htf.evaluate(tmp_path / "one.csv", model=run, quiet=True).metrics
        assert metrics["roc_auc"] is None and metrics["sensitivity"] is None
        assert metrics["specificity"]["n"] == 1

    def test_test_time_augmentation_is_named(self, run, kaggle_once, tmp_path):
        slice_file = kaggle_once / "head_ct" / "head_ct" / "001.png"
        (tmp_path / "one.csv").write_text(f"path,label\n{slice_file},1\n")
        evaluation = htf.evaluate(tmp_path / "one.csv", model=run, tta=True, quiet=True)
        assert evaluation.metrics["evaluated_on"] == "1 slices, with test-time augmentation"
        [expected] = htf.predict(slice_file, model=run, tta=True, quiet=True)
        [one] = evaluation.predictions
        assert one.probability == pytest.approx(expected.probability, abs=1e-6)


class TestWarnings:
    @pytest.fixture
    def larger_slices(self, tmp_path):
        folder = tmp_path / "larger"
        folder.mkdir()
        lines = ["path,label"]
        for index in range(12):
            image = Image.fromarray(draw_phantom(1, index, index % 2))
            image.resize((400, 400)).save(folder / f"{index}.png")
            lines.append(f"{index}.png,{index % 2}")
        (folder / "manifest.csv").write_text("\n".join(lines))
        return folder

    def test_slices_that_differ_from_the_training_slices(self, run, larger_slices, capsys):
        evaluation = htf.evaluate(larger_slices, model=run)
        [warning] = evaluation.metrics["warnings"]
        assert "look different from the training slices" in warning and "400" in warning
        assert warning in words(capsys.readouterr().err)
        assert evaluation.seen_in_training == 0

    def test_slices_that_the_model_was_trained_on(self, run, kaggle_once, capsys, read_rows):
        evaluation = htf.evaluate(kaggle_once, model=run)
        trained = sum(row["part"] == "train" for row in read_rows(run / "split.csv"))
        assert evaluation.seen_in_training == trained
        [warning] = evaluation.metrics["warnings"]
        assert warning.startswith(f"{trained} of the 24 slices were trained on")
        assert warning in words(capsys.readouterr().err)


@pytest.fixture(scope="module")
def scan_data(once, head, write_nifti):
    """Four scans of five slices; hemorrhage is in one slice of two of them."""

    def create(folder):
        for index in range(4):
            numbers = range(5 * index, 5 * index + 5)
            slices = [head(40 + k, int(index % 2 == 1 and k % 5 == 2)) for k in numbers]
            path = folder / ("normal", "ich")[index % 2] / f"{index}.nii"
            write_nifti(path, np.stack(slices))

    return once("four-scans", create)


@pytest.fixture(scope="module")
def volumes(scan_data):
    """The volumes, and the label of each."""
    names = ("normal/0.nii", "ich/1.nii", "normal/2.nii", "ich/3.nii")
    return {scan_data / name: int(name.startswith("ich")) for name in names}


@pytest.fixture(scope="module")
def scores(run, volumes):
    """The mean of the three highest probabilities of each volume, from `predict`."""
    prediction = htf.predict(list(volumes), model=run, quiet=True)
    return np.array([scan.mean_of_highest for scan in prediction.scans])


class TestScans:
    def test_metrics_count_scans(self, run, scan_data, volumes, scores):
        evaluation = htf.evaluate(scan_data, model=run, quiet=True)
        assert evaluation.level == "scan"
        assert len(evaluation.predictions) == len(evaluation.labels) == 20
        metrics, labels = evaluation.metrics, list(volumes.values())
        assert metrics["n"] == 4 and metrics["evaluated_on"] == "4 scans"
        decisions = scores >= htf.load(run).threshold
        assert metrics["accuracy"]["estimate"] == pytest.approx(np.mean(decisions == labels))
        assert metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, scores))
        assert [one.path for one in evaluation.predictions[:2]] == ["ich/1.nii#0", "ich/1.nii#1"]

    def test_the_threshold_for_scans_decides_on_scans(
        self, run, scan_data, volumes, scores, tmp_path
    ):
        threshold = float(np.median(scores))
        model = htf.load(run)
        model.metadata = replace(
            model.metadata, scan_threshold=threshold, scan_operating_point="specificity=0.95"
        )
        report = tmp_path / "report.html"
        metrics = htf.evaluate(scan_data, model=model, report=report, quiet=True).metrics
        assert metrics["threshold"] == threshold
        decisions = scores >= threshold
        assert metrics["accuracy"]["estimate"] == np.mean(decisions == list(volumes.values()))
        assert f"{threshold:.4g} (specificity=0.95)" in words(report.read_text("utf-8"))

    def test_warns_of_single_slices_among_scans(self, run, tmp_path, head, write_nifti):
        write_nifti(tmp_path / "ich" / "1.nii", np.stack([head(40 + k, 1) for k in range(3)]))
        alone = tmp_path / "normal" / "alone.png"
        alone.parent.mkdir()
        Image.fromarray(np.clip(head(90), 0, 80).astype(np.uint8)).save(alone)
        model = htf.load(run)
        model.metadata = replace(model.metadata, scan_threshold=0.75)
        evaluation = htf.evaluate(tmp_path, model=model, quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("scan", 2)
        [warning] = (one for one in evaluation.metrics["warnings"] if "single slices" in one)
        assert warning.startswith("1 of the 2 scans are single slices")
        assert "(0.75)" in warning and f"(their threshold is {model.threshold:.3g})" in warning

    def test_labels_of_single_slices_count_slices(self, run, volumes, tmp_path):
        lines = ["path,label,frame"]
        for path, label in volumes.items():
            lines += [f"{path},{int(label and k == 2)},{k}" for k in range(5)]
        (tmp_path / "slices.csv").write_text("\n".join(lines))
        evaluation = htf.evaluate(tmp_path / "slices.csv", model=run, quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("slice", 20)
        assert evaluation.metrics["evaluated_on"] == "20 slices"
        assert evaluation.labels.sum() == 2

    def test_folders_of_a_table_are_scans_in_every_format(self, run, tmp_path, head, write_series):
        write_series(tmp_path / "a", [head(60, 0), head(61, 0)], PatientID="A")
        write_series(tmp_path / "b", [head(62, 1), head(63, 1)], PatientID="B")
        for name, label in (("c", 0), ("d", 1)):
            (tmp_path / name).mkdir()
            for index in range(3):
                pixels = draw_phantom(0, 70 + 3 * label + index, label)
                Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
        (tmp_path / "scans.csv").write_text("path,label\na,0\nb,1\nc,0\nd,1\n")
        evaluation = htf.evaluate(tmp_path / "scans.csv", model=run, quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("scan", 4)
        assert len(evaluation.predictions) == 10


class TestOptions:
    def test_window_and_target_apply(self, run, tmp_path, head, write_series):
        write_series(tmp_path / "a", [head(60 + index) for index in range(4)])
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        lines = [f"a/{name},{index % 2},{index // 2}" for index, name in enumerate(names)]
        table = tmp_path / "a.csv"
        table.write_text("\n".join(["path,label,sah", *lines]))
        evaluation = htf.evaluate(table, model=run, quiet=True)
        assert evaluation.labels.tolist() == [0, 1, 0, 1]
        of_target = htf.evaluate(table, model=run, target="sah", quiet=True)
        assert of_target.labels.tolist() == [0, 0, 1, 1]
        bone = htf.evaluate(table, model=run, window="bone", quiet=True)
        assert [one.probability for one in bone.predictions] != [
            one.probability for one in evaluation.predictions
        ]
        with pytest.raises(OptionError, match="--target sdh: must be a column of a.csv"):
            htf.evaluate(table, model=run, target="sdh", quiet=True)

    def test_a_model_in_place_of_data_is_an_error(self, run, kaggle_once):
        with pytest.raises(OptionError, match="this is a model, not labeled data. Pass it as"):
            htf.evaluate(run, model=kaggle_once, quiet=True)

    @pytest.mark.parametrize("prevalence", [0, 1])
    def test_prevalence_is_checked_before_anything_is_read(self, prevalence):
        with pytest.raises(OptionError, match=f"--prevalence {prevalence}"):
            htf.evaluate("nowhere", prevalence=prevalence)
