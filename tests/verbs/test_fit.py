from __future__ import annotations

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from sklearn.metrics import accuracy_score, roc_auc_score
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.auditing import shortcuts
from hemorrhage_tf.core.errors import DataError, OptionError, OutputError, WeightsError
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.run_files import RUN_FILES
from hemorrhage_tf.verbs import fit as fit_verb

TABLES = ("metrics.json", "predictions.csv", "split.csv", "history.csv")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def audited(kaggle_once, tmp_path_factory, quick):
    """A run with a short audit."""
    folder = tmp_path_factory.mktemp("audited")
    settings = {**quick, "audit": True, "cache": folder / "cache"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "TREES", 20)
        patch.setattr(shortcuts, "REPEATS", 1)
        return htf.fit(kaggle_once, out=folder / "run", **settings).path


class TestRunFolder:
    def test_is_complete(self, audited):
        written = {*RUN_FILES, "audit.json", "model_card.md", "model_card.json"}
        assert set(os.listdir(audited)) == written
        assert not list(audited.parent.glob(f"{audited.name}.checkpoint"))
        assert not list(audited.parent.glob(f".{audited.name}.*.part"))

    def test_metrics_have_intervals(self, audited):
        metrics = read_json(audited / "metrics.json")
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            assert metrics[name]["low"] <= metrics[name]["estimate"] <= metrics[name]["high"]
        assert 0 <= metrics["best_shortcut"]["roc_auc"]["estimate"] <= 1

    def test_config_rebuilds_the_settings(self, audited):
        config = read_json(audited / "config.json")
        assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]
        assert config["model"]["versions"]["hemorrhage_tf"] == htf.__version__

    def test_config_names_the_solver_that_was_used(self, audited, fit_once, read_rows):
        for run, solver, epochs in ((audited, "lbfgs", 1), (fit_once(epochs=2), "adam", 2)):
            config = read_json(run / "config.json")
            assert config["head_solver"] == solver
            assert config["settings"]["solver"] == "auto"
            history = read_rows(run / "history.csv")
            assert len(history) == epochs
            assert {row["stage"] for row in history} == {"head"}

    def test_metrics_agree_with_scikit_learn_on_the_written_predictions(self, fit_once, read_rows):
        run = fit_once()
        metrics, rows = read_json(run / "metrics.json"), read_rows(run / "predictions.csv")
        labels = [int(row["label"]) for row in rows]
        decisions = [int(row["hemorrhage"]) for row in rows]
        probabilities = [float(row["probability"]) for row in rows]
        assert metrics["n"] == len(rows)
        assert metrics["accuracy"]["estimate"] == pytest.approx(accuracy_score(labels, decisions))
        assert metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, probabilities))


class TestSavedModel:
    def test_repeats_the_written_predictions(self, fit_once, kaggle_once, check_model_repeats):
        check_model_repeats(fit_once(), kaggle_once)

    def test_repeats_them_after_fine_tuning(
        self, fit_once, kaggle_once, read_rows, check_model_repeats
    ):
        run = fit_once(
            fine_tune_from="block3_convolution", fine_tune_epochs=1, fine_tune_learning_rate=1e-3
        )
        check_model_repeats(run, kaggle_once)
        history = read_rows(run / "history.csv")
        assert {row["stage"] for row in history} == {"head", "fine-tune"}

    def test_repeats_them_without_a_feature_cache_which_then_stays_empty(
        self, kaggle_once, tmp_path, cache, quick, read_rows, check_model_repeats
    ):
        settings = {**quick, "epochs": 1, "feature_cache": False}
        run = htf.fit(kaggle_once, out=tmp_path / "run", **settings)
        assert not (cache / "features").exists()
        assert len(read_rows(run.path / "history.csv")) == 1
        check_model_repeats(run.path, kaggle_once)


class TestSplit:
    def test_keeps_groups_together_and_predicts_the_test_part(self, fit_once, read_rows):
        run = fit_once()
        split = read_rows(run / "split.csv")
        assert len(split) == 24
        parts = {}
        for row in split:
            assert parts.setdefault(row["group"], row["part"]) == row["part"]
        tested = {row["path"] for row in split if row["part"] == "test"}
        assert tested == {row["path"] for row in read_rows(run / "predictions.csv")}
        assert 3 <= len(tested) <= 8

    def test_depends_on_the_seed(self, fit_once):
        splits = [(fit_once(**seed) / "split.csv").read_bytes() for seed in ({}, {"seed": 1})]
        assert splits[0] != splits[1]

    def test_more_folds_than_groups_is_an_error(self, kaggle_once, tmp_path, quick):
        with pytest.raises(DataError, match="13 folds need at least 13 groups"):
            htf.fit(kaggle_once, out=tmp_path / "run", folds=13, **quick)

    def test_a_patient_on_both_sides_is_an_error_unless_allowed(self, tmp_path, quick):
        folder = tmp_path / "set"
        folder.mkdir()
        lines = ["path,label,patient,split"]
        for index in range(24):
            Image.fromarray(draw_phantom(0, index, index % 2)).save(folder / f"{index}.png")
            split = "test" if index in (0, 2, 3, 4, 5) else "train"
            lines.append(f"{index}.png,{index % 2},p{index // 2},{split}")
        (folder / "manifest.csv").write_text("\n".join(lines))
        with pytest.raises(DataError, match=r"(?s)1\.png: .*same patient.*--allow-leak") as error:
            htf.fit(folder, out=tmp_path / "run", **quick)
        assert "p0" not in str(error.value)
        run = htf.fit(folder, out=tmp_path / "run", allow_leak=True, calibration="none", **quick)
        assert len(run.metrics["leaks"]) == 1
        assert "on both sides of the split" in (run.path / "model_card.md").read_text("utf-8")


FOLDS = {"folds": 2, "repeats": 2, "views": 2}


@pytest.fixture(scope="module")
def again(kaggle_once, tmp_path_factory, quick):
    """The fit of `fit_once(**FOLDS)` once more, and its feature cache."""
    folder = tmp_path_factory.mktemp("again")
    settings = {**quick, **FOLDS}
    run = htf.fit(kaggle_once, out=folder / "run", cache=folder / "cache", **settings)
    return run, folder / "cache"


class TestCrossValidation:
    def test_the_same_seed_writes_the_same_bytes(self, fit_once, again):
        run, _ = again
        first = fit_once(**FOLDS)
        for name in TABLES:
            assert (run.path / name).read_bytes() == (first / name).read_bytes()

    def test_returns_what_it_wrote(self, again):
        run, _ = again
        assert read_json(run.path / "metrics.json") == run.metrics
        assert read_json(run.path / "config.json") == json.loads(json.dumps(run.config))
        assert f"n = {run.metrics['n']}" in run.summary

    def test_each_repeat_tests_every_slice_and_the_saved_model_has_all(self, fit_once, read_rows):
        run = fit_once(**FOLDS)
        predictions = read_rows(run / "predictions.csv")
        for repeat in ("1", "2"):
            tested = [row["path"] for row in predictions if row["repeat"] == repeat]
            assert len(tested) == len(set(tested)) == 24
        metrics = read_json(run / "metrics.json")
        assert metrics["n"] == 24
        assert len(metrics["repeats"]["accuracy"]) == 2
        assert {row["part"] for row in read_rows(run / "split.csv")} == {"train"}
        history = read_rows(run / "history.csv")
        assert {row["fold"] for row in history} == {"1", "2", "all"}
        assert len(history) == 2 * 2 + 1

    def test_other_settings_of_the_head_do_not_run_the_backbone_again(
        self, kaggle_once, again, tmp_path, quick, monkeypatch
    ):
        _, cache = again

        def refuse(*arguments):
            raise AssertionError("the backbone ran again")

        monkeypatch.setattr("hemorrhage_tf.training.features.source.FeatureSource.forward", refuse)
        settings = {**quick, "epochs": 4, "pooling": "max", "calibration": "none"}
        htf.fit(kaggle_once, out=tmp_path / "run", cache=cache, **settings)


@pytest.mark.slow
def test_early_stopping_watches_a_validation_part(kaggle_once, tmp_path, quick, read_rows):
    settings = {**quick, "epochs": 40, "learning_rate": 1.0, "early_stopping": 2}
    run = htf.fit(kaggle_once, out=tmp_path / "run", calibration="none", **settings)
    history = read_rows(run.path / "history.csv")
    losses = [float(row["validation_loss"]) for row in history]
    assert len(history) < 40
    assert len(history) - 1 - int(np.argmin(losses)) == 2


def test_a_cache_that_cannot_be_written_is_a_warning_and_changes_nothing(
    kaggle_once, fit_once, tmp_path, capsys, quick
):
    # Not even root, as whom tests may run, can create a folder there.
    settings = {**quick, "cache": "/proc/features", "calibration": "none", "quiet": False}
    run = htf.fit(kaggle_once, out=tmp_path / "run", **settings)
    printed = words(capsys.readouterr().err)
    assert printed.count("the feature cache cannot be written") == 1
    usual = fit_once(calibration="none")
    for name in TABLES:
        assert (run.path / name).read_bytes() == (usual / name).read_bytes()


class TestWithoutData:
    @pytest.mark.parametrize(
        "count", [16, pytest.param(fit_verb.PHANTOM_COUNT, marks=pytest.mark.slow)]
    )
    def test_trains_on_phantoms_with_the_embedded_backbone(
        self, tmp_path, capsys, embedded_model, monkeypatch, count
    ):
        monkeypatch.setattr(fit_verb, "PHANTOM_COUNT", count)
        few = {"audit": False, "calibration": "none"} if count == 16 else {}
        run = htf.fit(out=tmp_path / "run", **few)
        printed = words(capsys.readouterr().err)
        note = f"No DATA given: training on {count} synthetic head-CT phantoms"
        assert printed.count(note) == 1
        if not few:  # few slices do not suffice with features of random weights
            assert run.metrics["roc_auc"]["estimate"] > 0.5
        settings = run.config["settings"]
        assert (settings["backbone"], settings["weights"]) == ("phantomnet", "embedded")
        assert settings["fine_tune_epochs"] == 0
        assert run.config["data"]["slices"] == count
        assert run.config["model"]["weights_hash"] == read_embedded().metadata.weights_hash


class TestInvalidFiles:
    def test_are_listed_in_one_error_and_can_be_skipped(
        self, kaggle_folder, tmp_path, capsys, quick
    ):
        images = kaggle_folder / "head_ct" / "head_ct"
        (images / "003.png").write_bytes((images / "003.png").read_bytes()[:200])
        (images / "004.png").write_text("no image")
        (images / "005.png").unlink()
        Image.new("L", (20, 20)).save(images / "999.png")
        with pytest.raises(DataError) as error:
            htf.fit(kaggle_folder, out=tmp_path / "run", **quick)
        for name in ("003.png", "004.png", "id 5", "999.png", "--skip-invalid"):
            assert name in str(error.value)
        assert not (tmp_path / "run").exists()
        settings = {**quick, "skip_invalid": True, "calibration": "none", "quiet": False}
        run = htf.fit(kaggle_folder, out=tmp_path / "run", **settings)
        assert (run.config["data"]["skipped"], run.config["data"]["slices"]) == (4, 21)
        assert "skipped 4 invalid files or rows" in words(capsys.readouterr().err)

    @pytest.mark.parametrize("feature_cache", [True, False])
    def test_a_slice_that_changes_during_the_fit_is_an_error(
        self, kaggle_folder, tmp_path, monkeypatch, quick, feature_cache
    ):
        changed = kaggle_folder / "head_ct" / "head_ct" / "003.png"
        make_folds = fit_verb.make_folds

        def make_folds_and_change(*arguments):
            Image.new("L", (50, 50), 90).save(changed)
            return make_folds(*arguments)

        monkeypatch.setattr(fit_verb, "make_folds", make_folds_and_change)
        with pytest.raises(DataError, match="003.png: was changed while the command ran"):
            htf.fit(kaggle_folder, out=tmp_path / "run", feature_cache=feature_cache, **quick)


class TestInvalidSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"backbone": "vgg"}, "--backbone vgg: no such backbone"),
            ({"folds": 1}, "--folds 1: out of range. Pass 2 or more"),
            ({"repeats": 3}, "Add --folds 5"),
            ({"colour": 1}, "colour: no such setting. Pass some of backbone"),
            ({"fine_tune_epochs": 3}, "must be given together"),
            ({"views": "4"}, "a setting has a value of the wrong type"),
            ({"augment": "flip"}, "--augment flip: no such augmentation"),
            ({"feature_layer": "block9"}, "--feature-layer block9: tiny has no such layer"),
            (
                {"fine_tune_from": "block9", "fine_tune_epochs": 1},
                "--fine-tune-from block9: the backbone has no such layer",
            ),
            (
                {
                    "operating_point": "youden",
                    "fine_tune_from": "block1_convolution",
                    "fine_tune_epochs": 1,
                },
                "--operating-point youden: .*--folds 5",
            ),
            ({"prevalence": 0}, "--prevalence 0"),
            ({"prevalence": 1}, "--prevalence 1"),
            ({"prevalence": -0.1}, "--prevalence -0.1"),
            ({"prevalence": 2}, "--prevalence 2"),
            ({"cache_limit": "much"}, "much"),
        ],
        ids=str,
    )
    def test_are_rejected(self, kaggle_once, tmp_path, quick, settings, message):
        with pytest.raises(OptionError, match=message):
            htf.fit(kaggle_once, out=tmp_path / "run", **{**quick, **settings})
        assert not list(tmp_path.iterdir())

    def test_a_missing_weights_file_is_reported_before_anything_is_read(self, tmp_path):
        with pytest.raises(WeightsError, match="no such file"):
            htf.fit("nowhere", out=tmp_path / "run", weights=str(tmp_path / "none.weights.h5"))

    def test_a_model_in_place_of_data_is_an_error(self, fit_once, tmp_path):
        run = fit_once()
        with pytest.raises(OptionError, match="this is a model, not labeled data"):
            htf.fit(run, out=tmp_path / "run", quiet=True)


class TestOutput:
    def test_an_existing_run_is_kept_unless_overwritten(
        self, kaggle_once, fit_once, tmp_path, quick, read_rows
    ):
        out = tmp_path / "run"
        shutil.copytree(fit_once(), out)
        with pytest.raises(OutputError, match="run: exists. .*--overwrite"):
            htf.fit(kaggle_once, out=out, **quick)
        settings = {**quick, "epochs": 3, "calibration": "none"}
        htf.fit(kaggle_once, out=out, overwrite=True, **settings)
        assert len(read_rows(out / "history.csv")) == 3
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_a_folder_that_is_not_a_run_is_never_replaced(self, kaggle_once, tmp_path, quick):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "thesis.tex").write_text("years")
        with pytest.raises(OutputError, match="exists and is not a run folder"):
            htf.fit(kaggle_once, out=precious, overwrite=True, **quick)
        assert (precious / "thesis.tex").read_text() == "years"


@pytest.fixture(scope="module")
def sensitive(fit_once):
    return fit_once(operating_point="sensitivity=0.9", prevalence=0.1)


class TestOperatingPoint:
    def test_is_chosen_out_of_fold_and_stored_in_the_model(self, sensitive):
        metrics = read_json(sensitive / "metrics.json")
        point = metrics["operating_point"]
        assert point["criterion"] == "sensitivity=0.9"
        training = 24 - metrics["n"]
        assert point["chosen_on"]["n_positive"] + point["chosen_on"]["n_negative"] == training
        metadata = read_metadata(sensitive / "model.keras")
        assert metadata.threshold == metrics["threshold"] == point["threshold"]
        assert metadata.operating_point == "sensitivity=0.9"
        assert metadata.temperature == metrics["temperature"] != 1
        assert metadata.offset == metrics["offset"] != 0
        assert metrics["at_prevalence"]["prevalence"] == 0.1
        assert "sensitivity=0.9" in (sensitive / "model_card.md").read_text("utf-8")

    def test_decides_the_written_predictions(self, sensitive, read_rows):
        threshold = read_json(sensitive / "metrics.json")["threshold"]
        for row in read_rows(sensitive / "predictions.csv"):
            assert row["hemorrhage"] == str(int(float(row["probability"]) >= threshold))

    def test_saved_model_predicts_calibrated_probabilities(
        self, sensitive, kaggle_once, check_model_repeats
    ):
        check_model_repeats(sensitive, kaggle_once)

    def test_without_calibration_nothing_is_added(self, fit_once):
        metrics = read_json(fit_once(calibration="none") / "metrics.json")
        assert (metrics["temperature"], metrics["offset"]) == (1, 0)
        assert metrics["threshold"] == 0.5 and "best_shortcut" not in metrics

    def test_by_default_it_is_the_share_in_training(self, fit_once, read_rows):
        run = fit_once()
        parts = [(row["part"], int(row["label"])) for row in read_rows(run / "split.csv")]
        share = np.mean([label for part, label in parts if part == "train"])
        metadata = read_metadata(run / "model.keras")
        assert metadata.operating_point == "balanced"
        assert metadata.threshold == pytest.approx(share)

    def test_each_fold_is_decided_by_the_threshold_of_the_others(self, fit_once, read_rows):
        run = fit_once(folds=2, operating_point="youden")
        metrics = read_json(run / "metrics.json")
        assert metrics["operating_point"]["chosen_on"]["n_positive"] == 12
        predicted = sum(int(row["hemorrhage"]) for row in read_rows(run / "predictions.csv"))
        counts = metrics["confusion"]
        assert counts["true_positive"] + counts["false_positive"] == predicted


def metadata_in_model_file(run):
    with zipfile.ZipFile(run / "model.keras") as archive:
        return json.loads(archive.read("hemorrhage_tf.json"))


WINDOWS = (None, "brain,subdural,bone")


@pytest.fixture(scope="module")
def run_with(fit_once, dicom_once):
    """Return a run on Hounsfield units with a window, or the default one."""

    def fit(window):
        settings = {} if window is None else {"window": window}
        return fit_once(dicom_once, calibration="none", **settings)

    return fit


class TestHounsfieldUnits:
    @pytest.mark.parametrize("window", WINDOWS)
    def test_the_window_is_stored(self, run_with, window):
        run = run_with(window)
        expected = ["brain"] if window is None else window.split(",")
        config, metadata = read_json(run / "config.json"), metadata_in_model_file(run)
        assert metadata == config["model"]
        assert metadata["window"] == expected
        assert (metadata["crop_head"], metadata["upright"]) == (True, False)
        assert htf.load(run).metadata.window == tuple(expected)
        assert config["settings"]["window"] == (expected if window else None)
        assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]

    @pytest.mark.parametrize("window", WINDOWS)
    def test_the_saved_model_repeats_the_written_predictions(
        self, run_with, dicom_once, check_model_repeats, window
    ):
        check_model_repeats(run_with(window), dicom_once)

    def test_the_data_are_described(self, run_with):
        data = read_json(run_with(None) / "config.json")["data"]
        assert (data["slices"], data["in_hounsfield_units"]) == (24, 24)
        # Single slices with labels of their own are no scans.
        assert (data["patients"], data["scans"], data["groups"]) == (24, 0, 24)
        assert (data["layout"], data["level"]) == ("class folders", "slice")

    def test_each_window_leads_to_another_model(self, run_with):
        written = {(run_with(window) / "predictions.csv").read_bytes() for window in WINDOWS}
        assert len(written) == len(WINDOWS)

    def test_display_images_have_no_window(self, fit_once):
        run = fit_once()
        assert metadata_in_model_file(run)["window"] is None
        assert read_json(run / "config.json")["data"]["in_hounsfield_units"] == 0

    def test_display_images_take_no_window(self, kaggle_once, dicom_folder, tmp_path, quick):
        out = tmp_path / "run"
        with pytest.raises(OptionError, match="--window bone: 24 of 24 slices are display images"):
            htf.fit(kaggle_once, out=out, window="bone", **quick)
        Image.fromarray(draw_phantom(0, 30, 0)).save(dicom_folder / "normal" / "x.png")
        with pytest.raises(OptionError, match="--window bone: 1 of 25 slices are display images"):
            htf.fit(dicom_folder, out=out, window="bone", **quick)
        assert not out.exists()
        # The default window applies to the slices in Hounsfield units alone.
        run = htf.fit(dicom_folder, out=out, calibration="none", **quick)
        assert metadata_in_model_file(run.path)["window"] == ["brain"]
        assert run.config["data"]["in_hounsfield_units"] == 24

    def test_volumes_are_trained_slice_by_slice_with_a_warning(
        self, tmp_path, head, write_nifti, capsys, quick, read_rows
    ):
        for index in range(8):
            name = f"{('normal', 'ich')[index % 2]}/{index}.nii.gz"
            heads = np.stack([head(3 * index + k, index % 2) for k in range(3)])
            write_nifti(tmp_path / "data" / name, heads)
        settings = {**quick, "quiet": False, "folds": 2, "calibration": "none"}
        run = htf.fit(tmp_path / "data", out=tmp_path / "run", **settings)
        assert "12 of 24 slices belong to whole scans" in words(capsys.readouterr().err)
        split = read_rows(run.path / "split.csv")
        assert [row["frame"] for row in split] == ["0", "1", "2"] * 8
        assert all("#" not in row["path"] for row in split)
        # Slices of a volume stay together, and so do those of a patient.
        sides = {(row["path"], row["repeat_1"], row["group"], row["patient"]) for row in split}
        assert len(sides) == len({row["path"] for row in split}) == 8
        assert len({row["patient"] for row in split}) == 8
        predictions = read_rows(run.path / "predictions.csv")
        assert {(row["path"], row["frame"]) for row in predictions} == {
            (row["path"], row["frame"]) for row in split
        }
        assert run.config["data"]["level"] == "scan" and run.config["data"]["scans"] == 8


@pytest.fixture(scope="module")
def crop_runs(fit_once):
    settings = {"default": {}, "off": {"crop_head": False}, "upright": {"upright": True}}
    return {name: fit_once(calibration="none", **chosen) for name, chosen in settings.items()}


class TestHeadCrop:
    def test_is_stored_as_the_settings_say(self, crop_runs):
        stored = {name: metadata_in_model_file(run) for name, run in crop_runs.items()}
        assert {name: (one["crop_head"], one["upright"]) for name, one in stored.items()} == {
            "default": (True, False),
            "off": (False, False),
            "upright": (True, True),
        }
        assert not htf.load(crop_runs["off"]).metadata.model_input.crop_head
        predictions = {
            name: (run / "predictions.csv").read_bytes() for name, run in crop_runs.items()
        }
        assert predictions["default"] != predictions["off"]

    def test_ignores_what_is_outside_of_the_head(self, crop_runs, tmp_path):
        couch = np.pad(draw_phantom(0, 1, 1), ((0, 40), (20, 20)))
        plain = tmp_path / "plain.png"
        Image.fromarray(couch).save(plain)
        couch[-12:-9] = 120
        couch[4:9, 2:14] = 255  # letters
        marked = tmp_path / "marked.png"
        Image.fromarray(couch).save(marked)
        for name, is_same in (("default", True), ("off", False)):
            first, second = htf.predict([plain, marked], model=crop_runs[name], quiet=True)
            assert (first.probability == second.probability) == is_same
