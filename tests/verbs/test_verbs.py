from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from sklearn.metrics import accuracy_score, roc_auc_score

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError, OutputError, WeightsError
from hemorrhage_tf.inference.loading import load_classifier
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.run_files import RUN_FILES
from hemorrhage_tf.training.trainer import Trainer

QUICK = {"backbone": "tiny", "image_size": 32, "epochs": 2, "audit": False, "quiet": True}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_fit_writes_a_whole_run_folder(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **{**QUICK, "audit": True})
    written = {*RUN_FILES, "audit.json", "model_card.md", "model_card.json"}
    assert set(os.listdir(run.path)) == written
    assert os.listdir(tmp_path / "run") and not list(tmp_path.glob(".run.*"))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics == run.metrics
    for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
        assert metrics[name]["low"] <= metrics[name]["estimate"] <= metrics[name]["high"]
    config = json.loads((run.path / "config.json").read_text())
    assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]
    assert config["model"]["versions"]["hemorrhage_tf"] == htf.__version__
    assert f"n = {metrics['n']}" in run.report


@pytest.mark.parametrize("given, used", [({}, "lbfgs"), ({"epochs": 2}, "adam")])
def test_config_says_how_the_head_was_solved(kaggle_folder, tmp_path, given, used):
    settings = {"backbone": "tiny", "image_size": 32, "quiet": True, **given}
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **settings)
    config = json.loads((run.path / "config.json").read_text())
    assert config["head_solver"] == used
    assert config["settings"]["solver"] == "auto"
    history = rows(run.path / "history.csv")
    assert len(history) == (1 if used == "lbfgs" else 2)
    assert {row["stage"] for row in history} == {"head"}


def test_metrics_agree_with_scikit_learn_on_the_written_predictions(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    found = rows(run.path / "predictions.csv")
    labels = [int(row["label"]) for row in found]
    probabilities = [float(row["probability"]) for row in found]
    assert run.metrics["n"] == len(found)
    assert run.metrics["accuracy"]["estimate"] == pytest.approx(
        accuracy_score(labels, [int(row["hemorrhage"]) for row in found])
    )
    assert run.metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, probabilities))


def test_saved_model_repeats_the_written_predictions(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    found = rows(run.path / "predictions.csv")
    findings = htf.predict(run, [kaggle_folder / row["path"] for row in found], quiet=True)
    written = [float(row["probability"]) for row in found]
    assert [finding.probability for finding in findings] == pytest.approx(written, abs=1e-5)


def test_split_keeps_groups_whole_and_predictions_are_of_the_test_part(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    split = rows(run.path / "split.csv")
    assert len(split) == 24
    parts = {}
    for row in split:
        assert parts.setdefault(row["group"], row["part"]) == row["part"]
    tested = {row["path"] for row in split if row["part"] == "test"}
    assert tested == {row["path"] for row in rows(run.path / "predictions.csv")}
    assert 3 <= len(tested) <= 8


def test_two_fits_with_one_seed_give_the_same_bytes(kaggle_folder, tmp_path, monkeypatch):
    contents = []
    for name in ("a", "b"):
        monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(tmp_path / f"cache-{name}"))
        run = htf.fit(kaggle_folder, out=tmp_path / name, folds=2, repeats=2, **QUICK)
        contents.append(
            [
                (run.path / file).read_bytes()
                for file in ("metrics.json", "predictions.csv", "split.csv", "history.csv")
            ]
        )
    assert contents[0] == contents[1]


def test_another_seed_gives_another_split(kaggle_folder, tmp_path):
    splits = [
        rows(
            htf.fit(kaggle_folder, out=tmp_path / str(seed), seed=seed, **QUICK).path / "split.csv"
        )
        for seed in (0, 1)
    ]
    assert splits[0] != splits[1]


def test_folds_test_every_slice_once_a_repeat_and_save_a_model_of_all(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", folds=3, repeats=2, **QUICK)
    found = rows(run.path / "predictions.csv")
    for repeat in ("1", "2"):
        tested = [row["path"] for row in found if row["repeat"] == repeat]
        assert len(tested) == len(set(tested)) == 24
    assert run.metrics["n"] == 24
    assert len(run.metrics["repeats"]["accuracy"]) == 2
    assert {row["part"] for row in rows(run.path / "split.csv")} == {"train"}
    history = rows(run.path / "history.csv")
    assert {row["fold"] for row in history} == {"1", "2", "3", "all"}
    assert len(history) == (3 * 2 + 1) * QUICK["epochs"]


def test_head_settings_cost_no_second_pass_of_the_backbone(kaggle_folder, tmp_path, monkeypatch):
    htf.fit(kaggle_folder, out=tmp_path / "first", folds=2, **QUICK)

    def refuse(*arguments):
        raise AssertionError("the backbone ran again")

    monkeypatch.setattr("hemorrhage_tf.training.features.extraction.FeatureSource.forward", refuse)
    htf.fit(
        *(kaggle_folder,),
        **{**QUICK, "epochs": 4, "pooling": "max", "folds": 3, "out": tmp_path / "second"},
    )


def test_early_stopping_watches_a_validation_part(kaggle_folder, tmp_path):
    settings = {**QUICK, "epochs": 40, "learning_rate": 1.0, "early_stopping": 2}
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **settings)
    history = rows(run.path / "history.csv")
    losses = [float(row["validation_loss"]) for row in history]
    assert len(history) < 40
    assert len(history) - 1 - int(np.argmin(losses)) == 2


def test_evaluate_gives_the_figures_and_warns_of_slices_trained_on(kaggle_folder, tmp_path, capsys):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    evaluation = htf.evaluate(run.path, kaggle_folder)
    trained = sum(row["part"] == "train" for row in rows(run.path / "split.csv"))
    assert evaluation.seen_in_training == trained
    assert f"{trained} of the 24 slices were trained on" in " ".join(
        capsys.readouterr().err.split()
    )
    probabilities = [finding.probability for finding in evaluation.findings]
    assert evaluation.metrics["roc_auc"]["estimate"] == pytest.approx(
        roc_auc_score(evaluation.labels, probabilities)
    )


def test_evaluate_takes_slices_of_one_class(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    (tmp_path / "one.csv").write_text("path,label\nkaggle/head_ct/head_ct/000.png,0\n")
    metrics = htf.evaluate(run, tmp_path / "one.csv", quiet=True).metrics
    assert metrics["roc_auc"] is None and metrics["sensitivity"] is None
    assert metrics["specificity"]["n"] == 1


def test_keras_file_alone_predicts_as_its_run(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    alone = tmp_path / "alone.keras"
    alone.write_bytes((run.path / "model.keras").read_bytes())
    assert htf.predict(alone, kaggle_folder, quiet=True) == htf.predict(
        run.model(), str(kaggle_folder), quiet=True
    )


def test_fit_without_data_learns_the_phantoms_offline(tmp_path, capsys, embedded_model):
    run = htf.fit(out=tmp_path / "run")
    noted = [line for line in capsys.readouterr().err.splitlines() if "No DATA" in line]
    assert len(noted) == 1 and "200 synthetic head-CT phantoms" in noted[0]
    assert run.metrics["roc_auc"]["estimate"] > 0.5  # on features of random weights
    settings = run.config["settings"]
    assert (settings["backbone"], settings["weights"]) == ("phantomnet", "embedded")
    assert settings["fine_tune_epochs"] == 0
    assert run.config["model"]["weights_hash"] == read_embedded().metadata.weights_hash


def test_no_feature_cache_streams_and_keeps_nothing(kaggle_folder, tmp_path, cache):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", feature_cache=False, **QUICK)
    assert not (cache / "features").exists()
    assert len(rows(run.path / "history.csv")) == QUICK["epochs"]


def test_fine_tuned_model_repeats_the_written_predictions(kaggle_folder, tmp_path):
    tuning = {"fine_tune_from": "block3_convolution", "fine_tune_epochs": 2}
    run = htf.fit(
        kaggle_folder, out=tmp_path / "run", fine_tune_learning_rate=1e-3, **tuning, **QUICK
    )
    found = rows(run.path / "predictions.csv")
    findings = htf.predict(run, [kaggle_folder / row["path"] for row in found], quiet=True)
    written = [float(row["probability"]) for row in found]
    assert [finding.probability for finding in findings] == pytest.approx(written, abs=1e-5)
    assert {row["stage"] for row in rows(run.path / "history.csv")} == {"head", "fine-tune"}


def test_bad_files_come_in_one_message_and_can_be_skipped(kaggle_folder, tmp_path, capsys):
    images = kaggle_folder / "head_ct" / "head_ct"
    (images / "003.png").write_bytes((images / "003.png").read_bytes()[:200])
    (images / "004.png").write_text("no image")
    (images / "005.png").unlink()
    Image.new("L", (20, 20)).save(images / "999.png")
    with pytest.raises(DataError) as error:
        htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    for name in ("003.png", "004.png", "id 5", "999.png", "--skip-invalid"):
        assert name in str(error.value)
    assert not (tmp_path / "run").exists()
    run = htf.fit(
        kaggle_folder, out=tmp_path / "run", skip_invalid=True, **{**QUICK, "quiet": False}
    )
    assert run.config["data"]["skipped"] == 4 and run.config["data"]["slices"] == 21
    assert "went on without 4 bad" in capsys.readouterr().err


@pytest.mark.parametrize("feature_cache", [True, False])
def test_a_slice_that_changes_meanwhile_is_noticed(
    kaggle_folder, tmp_path, monkeypatch, feature_cache
):

    changed = kaggle_folder / "head_ct" / "head_ct" / "003.png"

    def plan_and_change(*arguments):
        Image.new("L", (50, 50), 90).save(changed)
        return make_plan(*arguments)

    from hemorrhage_tf.verbs import fit as fit_verb

    make_plan = fit_verb.make_plan
    monkeypatch.setattr(fit_verb, "make_plan", plan_and_change)
    with pytest.raises(DataError, match="003.png: was changed while the command ran"):
        htf.fit(kaggle_folder, out=tmp_path / "run", feature_cache=feature_cache, **QUICK)


def test_patients_are_never_split_and_never_written(kaggle_folder, tmp_path):
    manifest = tmp_path / "manifest.csv"
    with open(manifest, "w") as file:
        file.write("path,label,patient\n")
        for index in range(24):
            name = f"kaggle/head_ct/head_ct/{index:03d}.png"
            file.write(f"{name},{index % 2},Erika Mustermann {index // 2}\n")
    run = htf.fit(manifest, out=tmp_path / "run", folds=3, **QUICK)
    split = rows(run.path / "split.csv")
    for index in range(0, 24, 2):
        assert split[index]["repeat_1"] == split[index + 1]["repeat_1"]
    for path in run.path.iterdir():
        assert b"Mustermann" not in path.read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vgg"}, "--backbone vgg: no such backbone"),
        ({"folds": 1}, "--folds 1: accepted is 2 or more"),
        ({"repeats": 3}, "add --folds"),
        ({"colour": 1}, "unknown setting"),
        ({"fine_tune_epochs": 3}, "go together"),
        ({"augment": "flip"}, "no augmentation is called flip"),
        ({"feature_layer": "block9"}, "has no such layer"),
        ({"fine_tune_from": "block9", "fine_tune_epochs": 1}, "has no such layer"),
    ],
)
def test_settings_that_cannot_be_used_are_option_errors(kaggle_folder, tmp_path, settings, message):
    with pytest.raises(OptionError, match=message):
        htf.fit(kaggle_folder, out=tmp_path / "run", **{**QUICK, **settings})
    assert not (tmp_path / "run").exists()


def test_more_folds_than_groups_is_explained(kaggle_folder, tmp_path):
    with pytest.raises(DataError, match="13 folds need at least 13 groups"):
        htf.fit(kaggle_folder, out=tmp_path / "run", folds=13, **QUICK)


def test_output_that_exists_is_kept_unless_overwritten(kaggle_folder, tmp_path):
    out = tmp_path / "run"
    htf.fit(kaggle_folder, out=out, **QUICK)
    with pytest.raises(OutputError, match="--overwrite"):
        htf.fit(kaggle_folder, out=out, **QUICK)
    htf.fit(kaggle_folder, out=out, overwrite=True, **{**QUICK, "epochs": 3})
    assert len(rows(out / "history.csv")) == 3
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match="is no run folder"):
        htf.fit(kaggle_folder, out=precious, overwrite=True, **QUICK)
    assert (precious / "thesis.tex").read_text() == "years"


def test_missing_weights_file_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        htf.fit("nowhere", out=tmp_path / "run", weights=str(tmp_path / "none.weights.h5"))


_LIMITED_FIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
import hemorrhage_tf as htf
try:
    htf.fit(sys.argv[1], out=sys.argv[2], backbone="tiny", image_size=32, epochs=2)
except htf.HemorrhageError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_leaves_no_run_and_says_so(kaggle_folder, tmp_path):
    out = tmp_path / "runs" / "limited"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED_FIT, str(kaggle_folder), str(out), "20000"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("OutputError"), done.stderr
    assert "cannot be written" in done.stdout
    assert "the feature cache cannot be written" in " ".join(done.stderr.split())
    assert [path.name for path in out.parent.iterdir()] == ["limited.checkpoint"]


def test_a_cache_that_cannot_be_written_is_warned_of_and_changes_nothing(
    kaggle_folder, tmp_path, capsys
):
    usual = htf.fit(kaggle_folder, out=tmp_path / "usual", **QUICK)
    capsys.readouterr()
    settings = QUICK | {"quiet": False}
    # Not even the administrator, as whom tests may run, makes a folder there.
    run = htf.fit(kaggle_folder, out=tmp_path / "run", cache="/proc/features", **settings)
    assert capsys.readouterr().err.count("the feature cache cannot be written") == 1
    for name in ("metrics.json", "predictions.csv"):
        assert (run.path / name).read_bytes() == (usual.path / name).read_bytes()


def test_two_fits_at_once_on_one_cache(kaggle_folder, tmp_path, cache):
    usual = htf.fit(kaggle_folder, out=tmp_path / "usual", cache=tmp_path / "own", **QUICK)
    command = [sys.executable, "-m", "hemorrhage_tf", "fit", str(kaggle_folder), "--no-audit"]
    command += ["--backbone", "tiny", "--image-size", "32", "--epochs", "2", "--out"]
    fits = [
        subprocess.Popen(
            [*command, str(tmp_path / name)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    noted = [fit.communicate(timeout=300)[1] for fit in fits]
    assert [fit.returncode for fit in fits] == [0, 0], noted
    assert "Warning" not in "".join(noted)
    for name in ("metrics.json", "predictions.csv"):
        for run in ("first", "second"):
            assert (tmp_path / run / name).read_bytes() == (usual.path / name).read_bytes()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_fit_leaves_no_run_and_keeps_its_features(kaggle_folder, tmp_path, cache, how):
    out = tmp_path / "runs" / "stopped"
    # A shell that runs the tests in the background may have told them to ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from hemorrhage_tf.cli.main import main; main()"
    command = [sys.executable, "-c", code, "fit", str(kaggle_folder), "--backbone"]
    command += ["tiny", "--image-size", "32", "--epochs", "100000", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(cache.glob("features/*/*.npz")) and time.monotonic() < deadline:
        select_wait(0.05)
    process.send_signal(how)
    printed, noted = process.communicate(timeout=120)
    assert not out.exists()
    assert printed == ""
    if how != signal.SIGKILL:
        assert process.returncode == 128 + how
        assert f"Go on with: hemorrhage-tf fit --resume {out}" in " ".join(noted.split())
    assert [path.name for path in out.parent.iterdir()] == ["stopped.checkpoint"]
    assert list(cache.glob("features/*/*.npz"))
    with pytest.raises(htf.HemorrhageError, match="--epochs: 100000 before, 2 now"):
        htf.fit(kaggle_folder, out=out, **QUICK)
    htf.fit(kaggle_folder, out=out, overwrite=True, **QUICK)
    assert [path.name for path in out.parent.iterdir()] == ["stopped"]


COMPARED = ("metrics.json", "predictions.csv", "split.csv", "history.csv")


class Stop(BaseException):
    """Ends a fit as a kill does: nothing below catches it."""


@pytest.mark.parametrize(("solver", "after"), [("lbfgs", 0), ("adam", 2), ("lbfgs", 5)])
def test_a_resumed_fit_ends_with_the_bytes_of_a_whole_one(
    kaggle_folder, tmp_path, cache, monkeypatch, solver, after
):
    settings = {**QUICK, "solver": solver, "folds": 3}
    whole = htf.fit(kaggle_folder, out=tmp_path / "whole", **settings)
    trainings = []
    original = Trainer.train

    def train(self, *arguments):
        trainings.append(1)
        if len(trainings) == after + 1:
            raise Stop
        return original(self, *arguments)

    def stop(self):
        raise Stop

    out = tmp_path / "resumed"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "train", train)
        patch.setattr(Trainer, "classifier", stop)  # when all trainings are done
        htf.fit(kaggle_folder, out=out, **settings)
    done = list((tmp_path / "resumed.checkpoint" / "trainings").iterdir())
    assert len(done) == min(after, 4) and not out.exists()
    resumed = htf.fit(resume=out)
    for name in COMPARED:
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    for one, other in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in tmp_path.glob("resumed*")) == ["resumed"]


def weights_of(run):
    import keras

    return keras.models.load_model(run.path / "model.keras").get_weights()


def test_what_cannot_be_resumed_is_refused(kaggle_folder, tmp_path, cache, monkeypatch):
    out = tmp_path / "run"
    with pytest.raises(htf.HemorrhageError, match="no .*run.checkpoint to go on with"):
        htf.fit(resume=out)

    def train(self, *arguments):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "train", train)
        htf.fit(kaggle_folder, out=out, **QUICK)
    with pytest.raises(htf.HemorrhageError, match="seed: .* before, 7 now"):
        htf.fit(resume=out, seed=7)
    slice_file = sorted(kaggle_folder.rglob("*.png"))[0]
    before = slice_file.read_bytes()
    try:
        with Image.open(slice_file) as image:
            changed = np.array(image.convert("L"))
        changed[:2, :2] ^= 255
        Image.fromarray(changed).save(slice_file)
        with pytest.raises(htf.HemorrhageError, match="slices: [0-9a-f]+ before"):
            htf.fit(resume=out)
    finally:
        slice_file.write_bytes(before)
    run = htf.fit(resume=tmp_path / "run.checkpoint")
    assert run.path == out
    assert htf.fit(resume=out).metrics == run.metrics  # finished, and nothing is done again


THREE = ("brain", "subdural", "bone")


def metadata_of(run):
    """What the .keras file itself carries."""
    with zipfile.ZipFile(run.path / "model.keras") as archive:
        return json.loads(archive.read("hemorrhage_tf.json"))


class TestHounsfield:
    @pytest.mark.parametrize("window", [None, "subdural", "brain,subdural,bone"])
    def test_fit_on_dicom_files_keeps_the_window(self, dicom_folder, tmp_path, window):
        settings = {} if window is None else {"window": window}
        run = htf.fit(dicom_folder, out=tmp_path / "run", **settings, **QUICK)
        expected = ["brain"] if window is None else window.split(",")
        metadata = metadata_of(run)
        assert metadata == json.loads(json.dumps(run.config["model"]))
        assert metadata["window"] == expected
        assert (metadata["crop_head"], metadata["upright"]) == (True, False)
        assert metadata["format_version"] == 3
        assert run.model().metadata.window == tuple(expected)
        config = json.loads((run.path / "config.json").read_text())
        assert config["settings"]["window"] == (expected if window else None)
        assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]
        data = config["data"]
        assert (data["slices"], data["in_hounsfield_units"]) == (24, 24)
        assert (data["patients"], data["scans"], data["groups"]) == (24, 24, 24)
        assert (data["layout"], data["level"]) == ("class folders", "slice")
        # The saved model repeats what was written.
        found = rows(run.path / "predictions.csv")
        findings = htf.predict(run, [dicom_folder / row["path"] for row in found], quiet=True)
        by_path = {finding.path: finding.probability for finding in findings}
        for row in found:
            probability = by_path[str(dicom_folder / row["path"])]
            assert probability == pytest.approx(float(row["probability"]), abs=1e-5)

    def test_another_window_gives_another_model(self, dicom_folder, tmp_path):
        written = [
            (htf.fit(dicom_folder, out=tmp_path / window, window=window, **QUICK).path)
            / "predictions.csv"
            for window in ("brain", "subdural", "brain,subdural,bone")
        ]
        assert len({path.read_bytes() for path in written}) == 3

    def test_pictures_have_no_window(self, kaggle_folder, tmp_path):
        run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
        assert metadata_of(run)["window"] is None
        assert run.config["data"]["in_hounsfield_units"] == 0

    def test_a_window_on_pictures_is_refused(self, kaggle_folder, dicom_folder, tmp_path):
        with pytest.raises(OptionError, match="--window bone: 24 of 24 slices are pictures"):
            htf.fit(kaggle_folder, out=tmp_path / "run", window="bone", **QUICK)
        Image.fromarray(draw_phantom(0, 30, 0)).save(dicom_folder / "normal" / "x.png")
        with pytest.raises(OptionError, match="--window bone: 1 of 25 slices are pictures"):
            htf.fit(dicom_folder, out=tmp_path / "run", window="bone", **QUICK)
        assert not (tmp_path / "run").exists()
        # Without one, both are shown as the pictures were.
        run = htf.fit(dicom_folder, out=tmp_path / "run", **QUICK)
        assert metadata_of(run)["window"] == ["brain"]
        assert run.config["data"]["in_hounsfield_units"] == 24

    def test_volumes_are_fitted_slice_by_slice_with_a_warning(
        self, tmp_path, head, write_nifti, capsys
    ):
        for index in range(8):
            name = f"{('normal', 'ich')[index % 2]}/{index}.nii.gz"
            heads = np.stack([head(3 * index + k, index % 2) for k in range(3)])
            write_nifti(tmp_path / "data" / name, heads)
        settings = {**QUICK, "quiet": False, "folds": 2}
        run = htf.fit(tmp_path / "data", out=tmp_path / "run", **settings)
        told = " ".join(capsys.readouterr().err.split())
        assert "the labels are of whole scans" in told
        split = rows(run.path / "split.csv")
        assert [row["frame"] for row in split] == ["0", "1", "2"] * 8
        assert all("#" not in row["path"] for row in split)
        # Slices of a volume stay together, and so do those of a patient.
        sides = {(row["path"], row["repeat_1"], row["group"], row["patient"]) for row in split}
        assert len(sides) == len({row["path"] for row in split}) == 8
        assert len({row["patient"] for row in split}) == 8
        found = rows(run.path / "predictions.csv")
        assert {(row["path"], row["frame"]) for row in found} == {
            (row["path"], row["frame"]) for row in split
        }
        assert run.config["data"]["level"] == "scan" and run.config["data"]["scans"] == 8


class TestCanonical:
    def test_is_what_the_settings_say(self, kaggle_folder, tmp_path):
        runs = {
            name: htf.fit(kaggle_folder, out=tmp_path / name, **settings, **QUICK)
            for name, settings in (
                ("default", {}),
                ("off", {"crop_head": False}),
                ("upright", {"upright": True}),
            )
        }
        assert {
            name: (metadata_of(run)["crop_head"], metadata_of(run)["upright"])
            for name, run in runs.items()
        } == {"default": (True, False), "off": (False, False), "upright": (True, True)}
        assert not runs["off"].model().metadata.model_input.crop_head
        written = [(run.path / "predictions.csv").read_bytes() for run in runs.values()]
        assert written[0] != written[1]

    def test_what_lies_outside_the_head_does_not_matter(self, kaggle_folder, tmp_path):
        couch = np.pad(draw_phantom(0, 1, 1), ((0, 40), (20, 20)))
        plain = tmp_path / "plain.png"
        Image.fromarray(couch).save(plain)
        couch[-12:-9] = 120
        couch[4:9, 2:14] = 255  # letters
        marked = tmp_path / "marked.png"
        Image.fromarray(couch).save(marked)
        for crop_head in (True, False):
            run = htf.fit(
                kaggle_folder, out=tmp_path / f"{crop_head}", crop_head=crop_head, **QUICK
            )
            one, other = htf.predict(run, [plain, marked], quiet=True)
            assert (one.probability == other.probability) == crop_head


class TestEvaluateScans:
    @pytest.fixture
    def run(self, kaggle_folder, tmp_path):
        return htf.fit(kaggle_folder, out=tmp_path / "run", **{**QUICK, "epochs": 30})

    def by_scan(self, run, volumes):
        """Label and mean of the three highest, from what predict says of each volume."""
        prediction = htf.predict(run, list(volumes), quiet=True)
        return list(volumes.values()), [scan.mean_of_highest for scan in prediction.scans]

    @pytest.fixture
    def volumes(self, tmp_path, head, write_nifti):
        """Four scans of five slices; hemorrhage is in one slice of two of them."""
        found = {}
        for index in range(4):
            slices = [head(40 + 5 * index + k, int(index % 2 == 1 and k == 2)) for k in range(5)]
            path = tmp_path / "other" / ("normal", "ich")[index % 2] / f"{index}.nii"
            found[write_nifti(path, np.stack(slices))] = index % 2
        return found

    def test_figures_count_scans(self, run, volumes, tmp_path):
        evaluation = htf.evaluate(run, tmp_path / "other", quiet=True)
        assert evaluation.level == "scan"
        assert len(evaluation.findings) == len(evaluation.labels) == 20
        metrics = evaluation.metrics
        assert metrics["n"] == 4 and metrics["evaluated_on"] == "4 scans"
        labels, figures = self.by_scan(run, volumes)
        decisions = np.array(figures) >= run.model().threshold
        assert metrics["accuracy"]["estimate"] == pytest.approx(np.mean(decisions == labels))
        assert metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, figures))
        assert [finding.path for finding in evaluation.findings[:2]] == [
            "ich/1.nii#0",
            "ich/1.nii#1",
        ]

    def test_a_threshold_of_scans_decides_on_scans(self, run, volumes, tmp_path):
        loaded = run.model()
        _, figures = self.by_scan(run, volumes)
        chosen = float(np.median(figures))
        metadata = replace(
            loaded.metadata, scan_threshold=chosen, scan_operating_point="specificity=0.95"
        )
        model = Model(loaded.path, metadata, loaded.run)
        report = tmp_path / "report.html"
        metrics = htf.evaluate(model, tmp_path / "other", report=report, quiet=True).metrics
        assert metrics["threshold"] == chosen
        decisions = np.array(figures) >= chosen
        assert metrics["accuracy"]["estimate"] == np.mean(decisions == list(volumes.values()))
        page = (tmp_path / "report.html").read_text()
        assert f"{chosen:.4g} (specificity=0.95), of the mean of the 3 highest slices" in page

    def test_single_slices_among_scans_are_told(self, run, volumes, tmp_path, head):
        alone = tmp_path / "other" / "normal" / "alone.png"
        Image.fromarray(np.clip(head(90), 0, 80).astype(np.uint8)).save(alone)
        loaded = run.model()
        metadata = replace(loaded.metadata, scan_threshold=0.75)
        model = Model(loaded.path, metadata, loaded.run)
        evaluation = htf.evaluate(model, tmp_path / "other", quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("scan", 5)
        (told,) = (each for each in evaluation.metrics["warnings"] if "single slices" in each)
        assert told.startswith("1 of the 5 scans are single slices")
        assert "(0.75)" in told and "that of slices: 0.5)" in told

    def test_labels_of_single_slices_count_slices(self, run, volumes, tmp_path):
        lines = ["path,label,frame"]
        for path, label in volumes.items():
            lines += [f"{path},{int(label and k == 2)},{k}" for k in range(5)]
        (tmp_path / "slices.csv").write_text("\n".join(lines))
        evaluation = htf.evaluate(run, tmp_path / "slices.csv", quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("slice", 20)
        assert evaluation.metrics["evaluated_on"] == "20 slices"
        assert evaluation.labels.sum() == 2

    def test_folders_of_a_csv_are_scans_in_every_format(
        self, run, tmp_path, head, write_dicom, write_series
    ):
        write_series(tmp_path / "a", [head(60, 0), head(61, 0)], PatientID="A")
        write_series(tmp_path / "b", [head(62, 1), head(63, 1)], PatientID="B")
        for name, label in (("c", 0), ("d", 1)):
            (tmp_path / name).mkdir()
            for index in range(3):
                pixels = draw_phantom(0, 70 + 3 * label + index, label)
                Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
        (tmp_path / "scans.csv").write_text("path,label\na,0\nb,1\nc,0\nd,1\n")
        evaluation = htf.evaluate(run, tmp_path / "scans.csv", quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("scan", 4)
        assert len(evaluation.findings) == 10

    def test_window_and_target_are_passed_on(self, run, tmp_path, head, write_series):
        write_series(tmp_path / "a", [head(60 + index) for index in range(4)])
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        lines = [f"a/{name},{index % 2},{index // 2}" for index, name in enumerate(names)]
        (tmp_path / "a.csv").write_text("\n".join(["path,label,sah", *lines]))
        assert htf.evaluate(run, tmp_path / "a.csv", quiet=True).labels.tolist() == [0, 1, 0, 1]
        found = htf.evaluate(run, tmp_path / "a.csv", target="sah", quiet=True)
        assert found.labels.tolist() == [0, 0, 1, 1]
        bone = htf.evaluate(run, tmp_path / "a.csv", window="bone", quiet=True)
        assert [one.probability for one in bone.findings] != [
            one.probability for one in found.findings
        ]
        with pytest.raises(OptionError, match="--target sdh: a.csv has no such column"):
            htf.evaluate(run, tmp_path / "a.csv", target="sdh", quiet=True)


IDENTIFYING = {
    "PatientName": "Mustermann^Erika",
    "PatientBirthDate": "19640812",
    "PatientAddress": "Heidestrasse 17",
    "OtherPatientIDs": "OLD-4711",
    "AccessionNumber": "ACC7788",
    "ReferringPhysicianName": "Doktor^Brinkmann",
    "InstitutionName": "Schwarzwaldklinik",
    "StudyInstanceUID": "1.2.826.99.1",
    "StudyDate": "20190417",
}
SECRETS = (
    *("Mustermann", "Erika", "19640812", "Heidestrasse", "OLD-4711", "ACC7788", "Brinkmann"),
    *("Schwarzwaldklinik", "1.2.826.99", "20190417", "PAT08"),
)


def contents(folder):
    """Every file of a folder, and every member of the archives among them."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        yield path.name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path.name}: {name}", archive.read(name)


def leaks(folder):
    return [
        (name, secret)
        for name, content in contents(folder)
        for secret in SECRETS
        if secret.lower().encode() in content.lower()
    ]


class TestPrivacy:
    @pytest.fixture
    def named(self, tmp_path, head, write_dicom):
        """DICOM files whose tags, folders and names all name the patients."""
        root = tmp_path / "data"
        for index in range(12):
            patient = f"PAT08{index:02d}"
            folder = root / ("hemorrhage" if index % 2 else "normal")
            for number in range(2):
                place = f"{patient} Mustermann, Erika {index}/1964-{patient}-{number}.dcm"
                write_dicom(
                    *(folder / place, head(2 * index + number, index % 2), 5 * number),
                    PatientID=patient,
                    SeriesInstanceUID=f"1.2.826.99.2.{index}",
                    SOPInstanceUID=f"1.2.826.99.3.{index}.{number}",
                    **IDENTIFYING,
                )
        return root

    @pytest.mark.parametrize("settings", [{}, {"folds": 2}], ids=["split", "folds"])
    def test_nothing_that_names_a_patient_is_in_the_run_folder(
        self, named, tmp_path, cache, settings
    ):
        run = htf.fit(named, out=tmp_path / "run", **settings, **QUICK)
        names = [name for name, _ in contents(run.path)]
        assert "model.keras: model.weights.h5" in names and "split.csv" in names
        assert leaks(run.path) == []
        assert leaks(cache) == []
        split = rows(run.path / "split.csv")
        assert len({row["path"] for row in split}) == 24
        assert all(re.fullmatch("[0-9a-f]{16}", row["patient"]) for row in split)
        # Which slices are of one patient is still told.
        assert sorted(Counter(row["patient"] for row in split).values()) == [2] * 12
        assert run.config["data"]["patients"] == 12
        assert run.config["data"]["root"] == str(named.resolve())

    def test_an_export_holds_nothing_of_it_either(self, named, tmp_path):
        run = htf.fit(named, out=tmp_path / "run", **QUICK)
        for name in ("a.tflite", "saved"):
            htf.export(run, tmp_path / "exports" / name, verify=named, quiet=True)
        assert leaks(tmp_path / "exports") == []

    def test_evaluation_shows_the_numbered_names(self, named, tmp_path):
        run = htf.fit(named, out=tmp_path / "run", **QUICK)
        evaluation = htf.evaluate(run, named, quiet=True)
        assert not any(
            secret in finding.path for finding in evaluation.findings for secret in SECRETS
        )

    def test_a_folder_that_names_a_patient_is_not_written(self, named, tmp_path):
        moved = tmp_path / "Mustermann"
        named.rename(moved)
        run = htf.fit(moved, out=tmp_path / "run", **QUICK)
        assert leaks(run.path) == []
        assert run.config["data"]["root"] is None

    def test_all_is_shown_where_asked(self, named, tmp_path):
        run = htf.fit(named, out=tmp_path / "run", anonymize=False, **QUICK)
        split = rows(run.path / "split.csv")
        assert {row["patient"] for row in split} == {f"PAT08{index:02d}" for index in range(12)}
        assert all((named / row["path"]).is_file() for row in split)
        # And what no table is for stays out all the same.
        text = "".join(path.read_text() for path in run.path.glob("*.[cj]s*"))
        for secret in ("Heidestrasse", "Brinkmann", "Schwarzwaldklinik", "1.2.826", "20190417"):
            assert secret not in text

    def test_the_patients_hashes_do_not_follow_from_what_is_written(self, named, tmp_path):
        run = htf.fit(named, out=tmp_path / "run", **QUICK)
        written = {row["patient"] for row in rows(run.path / "split.csv")}
        data_hash = run.config["data"]["hash"]
        keys = [b"", data_hash.encode(), bytes.fromhex(data_hash)]
        for index in range(12):
            for key in keys:
                guess = hashlib.blake2b(f"PAT08{index:02d}".encode(), digest_size=8, key=key)
                assert guess.hexdigest() not in written
        again = htf.fit(named, out=tmp_path / "again", **QUICK)
        assert {row["patient"] for row in rows(again.path / "split.csv")} == written

    def test_patients_of_two_runs_on_other_slices_cannot_be_matched(self, named, tmp_path):
        first = htf.fit(named, out=tmp_path / "first", **QUICK)
        next(named.rglob("*-0.dcm")).unlink()
        second = htf.fit(named, out=tmp_path / "second", **QUICK)
        hashes = [
            {row["patient"] for row in rows(run.path / "split.csv")} for run in (first, second)
        ]
        assert not hashes[0] & hashes[1]


def select_wait(seconds: float) -> None:
    """Waits for another process without a fixed sleep being what a test rests on."""
    import select

    select.select([], [], [], seconds)


# Two sizes: tiny sees the pictures resized from 192 to 64 pixels.
BESIDE = {"backbone": "tiny+phantomnet", "weights": "none", "views": 2, "quiet": True}


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "avg_max"},
        {"pooling": "max", "image_size": 32, "feature_layer": "tiny=block2_out"},
        {"pooling": "avg", "image_size": 32, "feature_cache": False, "epochs": 1},
    ],
)
def test_backbones_side_by_side_repeat_the_written_predictions(kaggle_folder, tmp_path, settings):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **BESIDE, **settings)
    found = rows(run.path / "predictions.csv")
    findings = htf.predict(run, [kaggle_folder / row["path"] for row in found], quiet=True)
    written = [float(row["probability"]) for row in found]
    assert [finding.probability for finding in findings] == pytest.approx(written, abs=1e-5)
    assert np.ptp(written) > 1e-3
    model = run.config["model"]
    assert (model["backbone"], model["image_size"]) == (
        "tiny+phantomnet",
        settings.get("image_size", 192),
    )
    config = json.loads((run.path / "config.json").read_text())
    assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]


def test_backbones_side_by_side_share_features_with_each_alone(
    kaggle_folder, tmp_path, monkeypatch
):
    settings = {**BESIDE, "image_size": 32, "folds": 2}
    for name in ("tiny", "phantomnet"):
        htf.fit(kaggle_folder, out=tmp_path / name, **{**settings, "backbone": name})

    def refuse(*arguments):
        raise AssertionError("a backbone ran again")

    monkeypatch.setattr("hemorrhage_tf.training.features.extraction.FeatureSource.forward", refuse)
    run = htf.fit(kaggle_folder, out=tmp_path / "both", **settings)
    assert run.config["model"]["weights_hash"] not in {
        json.loads((tmp_path / name / "config.json").read_text())["model"]["weights_hash"]
        for name in ("tiny", "phantomnet")
    }


def test_one_of_two_backbones_is_fine_tuned(kaggle_folder, tmp_path):
    tuning = {"fine_tune_from": "tiny=block3_convolution", "fine_tune_epochs": 1}
    settings = {**BESIDE, "image_size": 32, "fine_tune_learning_rate": 1e-3, **tuning}
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **settings)
    plain = htf.fit(kaggle_folder, out=tmp_path / "plain", **BESIDE, image_size=32)
    changed = set()
    tuned, frozen = (load_classifier(each.path)[1] for each in (run, plain))
    for name in ("tiny", "phantomnet"):
        pairs = zip(tuned.get_layer(name).weights, frozen.get_layer(name).weights, strict=True)
        changed |= {a.path for a, b in pairs if not np.array_equal(a.numpy(), b.numpy())}
    assert changed == {"block3_convolution/kernel"}
    found = rows(run.path / "predictions.csv")
    findings = htf.predict(run, [kaggle_folder / row["path"] for row in found], quiet=True)
    written = [float(row["probability"]) for row in found]
    assert [finding.probability for finding in findings] == pytest.approx(written, abs=1e-5)
