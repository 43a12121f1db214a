from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, roc_auc_score

import hemorrhage_tf as htf
from hemorrhage_tf.errors import DataError, OptionError, OutputError, WeightsError
from hemorrhage_tf.training.run import RUN_FILES

QUICK = {"backbone": "tiny", "image_size": 32, "epochs": 2, "quiet": True}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_fit_writes_a_whole_run_folder(kaggle_folder, tmp_path):
    run = htf.fit(kaggle_folder, out=tmp_path / "run", **QUICK)
    assert sorted(os.listdir(run.path)) == sorted(RUN_FILES)
    assert os.listdir(tmp_path / "run") and not list(tmp_path.glob(".run.*"))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics == run.metrics
    for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
        assert metrics[name]["low"] <= metrics[name]["estimate"] <= metrics[name]["high"]
    config = json.loads((run.path / "config.json").read_text())
    assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]
    assert config["model"]["versions"]["hemorrhage_tf"] == htf.__version__
    assert f"n = {metrics['n']}" in run.report


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

    monkeypatch.setattr("hemorrhage_tf.training.features.FeatureSource.forward", refuse)
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


def test_fit_without_data_learns_the_phantoms_offline(tmp_path, capsys):
    run = htf.fit(out=tmp_path / "run")
    noted = [line for line in capsys.readouterr().err.splitlines() if "No DATA" in line]
    assert len(noted) == 1 and "200 synthetic head-CT phantoms" in noted[0]
    assert run.metrics["roc_auc"]["estimate"] > 0.8
    assert run.config["settings"]["backbone"] == "tiny"


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
    for name in ("003.png", "004.png", "id 5", "999.png", "--skip-bad"):
        assert name in str(error.value)
    assert not (tmp_path / "run").exists()
    run = htf.fit(kaggle_folder, out=tmp_path / "run", skip_bad=True, **{**QUICK, "quiet": False})
    assert run.config["data"]["skipped"] == 4 and run.config["data"]["slices"] == 21
    assert "went on without 4 bad" in capsys.readouterr().err


@pytest.mark.parametrize("feature_cache", [True, False])
def test_a_slice_that_changes_meanwhile_is_noticed(
    kaggle_folder, tmp_path, monkeypatch, feature_cache
):
    from hemorrhage_tf import api

    changed = kaggle_folder / "head_ct" / "head_ct" / "003.png"

    def plan_and_change(*arguments):
        Image.new("L", (50, 50), 90).save(changed)
        return make_plan(*arguments)

    make_plan = api.make_plan
    monkeypatch.setattr(api, "make_plan", plan_and_change)
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
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_fit_leaves_no_run_and_keeps_its_features(kaggle_folder, tmp_path, cache, how):
    out = tmp_path / "runs" / "stopped"
    # A shell that runs the tests in the background may have told them to ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from hemorrhage_tf.cli import main; main()"
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
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Stopped. No run was written" in noted
        assert list(out.parent.iterdir()) == []
    assert list(cache.glob("features/*/*.npz"))
    htf.fit(kaggle_folder, out=out, **QUICK)


def select_wait(seconds: float) -> None:
    """Waits for another process without a fixed sleep being what a test rests on."""
    import select

    select.select([], [], [], seconds)
