"""What a fit and an evaluation say beside their figures: operating point, report, model card."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.models.metadata import read_metadata

QUICK = {"backbone": "tiny", "image_size": 32, "quiet": True}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_set(folder, names, patients=None, splits=None, size=None):
    """Writes phantoms, every second one with a hemorrhage, and a manifest with a column."""
    folder.mkdir(parents=True)
    lines = ["path,label,patient,split,scanner"]
    for index, name in enumerate(names):
        image = Image.fromarray(draw_phantom(0, index, index % 2))
        (image.resize((size, size)) if size else image).save(folder / name)
        patient = patients[index] if patients else ""
        split = splits[index] if splits else ""
        lines.append(f"{name},{index % 2},{patient},{split},{'AB'[index // 2 % 2]}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    names = [f"{index:02d}.png" for index in range(39)] + ["<script>alert(1)<"]
    names[-1] += ".png"
    return write_set(tmp_path_factory.mktemp("documents") / "set", names)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "first"
    return htf.fit(data, out=out, operating_point="sensitivity=0.9", prevalence=0.1, **QUICK)


class TestOperatingPoint:
    def test_is_chosen_out_of_fold_and_carried_by_the_model(self, run):
        point = run.metrics["operating_point"]
        assert point["criterion"] == "sensitivity=0.9"
        assert point["chosen_on"]["n_positive"] + point["chosen_on"]["n_negative"] == 32
        metadata = read_metadata(run.path / "model.keras")
        assert metadata.threshold == run.metrics["threshold"] == point["threshold"]
        assert metadata.operating_point == "sensitivity=0.9"
        assert metadata.temperature == run.metrics["temperature"]
        assert run.model().threshold == point["threshold"]

    def test_predictions_are_decided_by_it(self, run):
        for row in rows(run.path / "predictions.csv"):
            called = float(row["probability"]) >= run.metrics["threshold"]
            assert row["hemorrhage"] == str(int(called))

    def test_the_saved_model_answers_calibrated(self, run, data):
        written = {
            row["path"]: float(row["probability"]) for row in rows(run.path / "predictions.csv")
        }
        assert run.metrics["temperature"] != 1
        found = run.model().predict([data / name for name in written])
        np.testing.assert_allclose(
            [one.probability for one in found], list(written.values()), atol=1e-5
        )

    def test_without_calibration_the_temperature_is_one(self, data, tmp_path):
        plain = htf.fit(data, out=tmp_path / "run", calibration="none", audit=False, **QUICK)
        assert plain.metrics["temperature"] == 1
        assert not (plain.path / "audit.json").exists()
        assert "best_shortcut" not in plain.metrics

    def test_folds_choose_it_for_each_other(self, data, tmp_path):
        run = htf.fit(data, out=tmp_path / "run", folds=3, operating_point="youden", **QUICK)
        assert run.metrics["operating_point"]["chosen_on"]["n_positive"] == 20
        counts = run.metrics["confusion"]
        called = sum(int(row["hemorrhage"]) for row in rows(run.path / "predictions.csv"))
        assert counts["true_positive"] + counts["false_positive"] == called

    def test_needs_out_of_fold_predictions(self, data, tmp_path):
        tuning = {"fine_tune_from": "block1_convolution", "fine_tune_epochs": 1}
        with pytest.raises(OptionError, match="--operating-point youden: .*--folds 5"):
            htf.fit(data, out=tmp_path / "run", operating_point="youden", **tuning, **QUICK)

    def test_a_criterion_that_is_none_is_told_before_the_data_are_looked_at(self, tmp_path):
        arguments = ["fit", str(tmp_path / "gone"), "--operating-point", "best"]
        told = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "run")])
        assert told.exit_code == 2 and "--operating-point" in told.output

    @pytest.mark.parametrize("prevalence", [0, 1, -0.1, 2])
    def test_prevalence_is_checked_first(self, data, tmp_path, prevalence):
        with pytest.raises(OptionError, match="--prevalence"):
            htf.fit(data, out=tmp_path / "run", prevalence=prevalence, **QUICK)
        assert not (tmp_path / "run").exists()


class TestLeaks:
    def test_a_patient_on_both_sides_is_refused_or_told(self, tmp_path):
        names = [f"{index}.png" for index in range(24)]
        patients = [f"p{index // 2}" for index in range(24)]
        splits = ["test" if index in (0, 2, 3, 4, 5) else "train" for index in range(24)]
        data = write_set(tmp_path / "set", names, patients, splits)
        with pytest.raises(
            DataError, match=r"(?s)1\.png: of the same patient.*--allow-leak"
        ) as caught:
            htf.fit(data, out=tmp_path / "run", **QUICK)
        assert "p0" not in str(caught.value)
        run = htf.fit(data, out=tmp_path / "run", allow_leak=True, **QUICK)
        assert len(run.metrics["leaks"]) == 1
        assert "both sides" in (run.path / "model_card.md").read_text()
        assert json.loads((run.path / "model_card.json").read_text())


class TestModelCard:
    def test_says_what_was_recorded_and_what_is_open(self, run):
        card = (run.path / "model_card.md").read_text()
        for text in ("CLAIM 2024", "TRIPOD+AI", "STARD-AI", "to be filled in by a person"):
            assert text in card
        assert "sensitivity=0.9" in card and "same set" in card

    def test_names_no_path_and_no_slice(self, run, data):
        for name in ("model_card.md", "model_card.json"):
            card = (run.path / name).read_text()
            assert str(data) not in card and "00.png" not in card

    def test_goes_with_an_export(self, run, tmp_path):
        export = htf.export(run, tmp_path / "edge.tflite", quiet=True)
        card = (tmp_path / "edge.model_card.md").read_text()
        assert card.startswith((run.path / "model_card.md").read_text().rstrip())
        assert "## Export" in card and "tflite" in card
        values = json.loads((tmp_path / "edge.model_card.json").read_text())
        found = values["export"]["verification"]["serving_default"]
        assert found["slices"] == export.verifications["serving_default"].slices


class TestEvaluate:
    def test_warns_of_slices_that_were_trained_on(self, run, data, capsys):
        evaluation = htf.evaluate(run, data)
        assert evaluation.seen_in_training == 32
        assert "32 of the 40 slices were trained on" in capsys.readouterr().err
        assert len(evaluation.metrics["warnings"]) == 1  # and they do not look foreign

    def test_warns_of_slices_that_look_foreign(self, run, tmp_path, capsys):
        foreign = write_set(tmp_path / "big", [f"{index}.png" for index in range(12)], size=400)
        evaluation = htf.evaluate(run, foreign)
        [warning] = evaluation.metrics["warnings"]
        assert "look unlike the training's" in warning
        assert "their width is 400, where training had 128 to 128" in warning
        assert warning in " ".join(capsys.readouterr().err.split())

    def test_two_models_on_the_same_slices(self, run, data):
        same = htf.evaluate(run, data, against=run, quiet=True).comparison
        assert same["roc_auc"]["difference"]["estimate"] == 0
        assert same["accuracy"]["only_first_right"] == 0

    def test_the_report_shows_every_wrong_slice_and_runs_nothing(self, run, data, tmp_path):
        evaluation = htf.evaluate(run, data, report=tmp_path / "r.html", quiet=True)
        page = (tmp_path / "r.html").read_text()
        wrong = [
            finding.path
            for finding, label in zip(evaluation.findings, evaluation.labels, strict=True)
            if finding.is_hemorrhage != bool(label)
        ]
        assert wrong and all(name.replace("<", "&lt;") in page for name in wrong)
        assert "&lt;script&gt;alert(1)&lt;.png" in page
        assert "<script" not in page and "http:" not in page and "https:" not in page
        assert "scanner: A" in page and "scanner: B" in page
        assert "were trained on" in page and "rotation" in page

    def test_the_command_line(self, run, data, tmp_path):
        call = CliRunner().invoke
        arguments = [str(run.path), str(run.path), str(data), "--prevalence", "0.2"]
        told = call(main, ["evaluate", *arguments, "--report", str(tmp_path / "r.html")])
        assert told.exit_code == 0, told.output
        for text in ("PPV at a prevalence of 0.2", "Compared on the same slices", "Report: "):
            assert text in told.output
        told = call(main, ["evaluate", *[str(run.path)] * 3, str(data)])
        assert told.exit_code == 2 and "give one model, or two" in told.output
        figures = json.loads(call(main, ["evaluate", *arguments, "--json"]).stdout)
        assert figures["comparison"]["accuracy"]["p_value"] == 1

    def test_the_audit_as_a_page(self, data, tmp_path):
        told = CliRunner().invoke(main, ["audit", str(data), "--html", str(tmp_path / "a.html")])
        assert told.exit_code == 0, told.output
        page = (tmp_path / "a.html").read_text()
        assert page.startswith("<!DOCTYPE html>") and "<script" not in page
        assert "size, mode and format" in page and "How the slices are stored" in page
