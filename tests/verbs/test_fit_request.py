"""Resuming a fit: the stored options, what must be the same, and the result."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.checkpoint import FitCheckpoint, checkpoint_folder
from hemorrhage_tf.verbs.fit_request import FitRequest, read_finished_run, restore_request

TABLES = ("metrics.json", "predictions.csv", "split.csv", "history.csv")


def read_weights(run):
    return keras.models.load_model(run / "model.keras").get_weights()


class TestFitRequest:
    def test_phantoms_come_with_the_embedded_backbone(self):
        assert FitRequest().fit_settings().backbone == "phantomnet"
        assert FitRequest(settings={"backbone": "tiny"}).fit_settings().backbone == "tiny"

    def test_rejects_an_unknown_setting(self):
        with pytest.raises(OptionError, match="colour: no such setting. Pass some of backbone, "):
            FitRequest(settings={"colour": 1}).fit_settings()

    def test_the_log_does_not_name_the_data(self):
        request = FitRequest(data="Mustermann", settings={"folds": 2})
        logged = request.to_log(is_resumed=True)
        assert "Mustermann" not in json.dumps(logged)
        assert logged["folds"] == 2 and logged["resumed"] is True


class TestRestoreRequest:
    @pytest.fixture
    def store(self, tmp_path):
        """Store a request in the checkpoint of a fit, as one that is then stopped does."""

        def store(request, path_names_patient=False):
            run = tmp_path / "run"
            with FitCheckpoint(run, Progress(quiet=True)) as checkpoint:
                checkpoint.open(options=request.to_dict(path_names_patient), identity={})
            return run

        return store

    def test_returns_the_original_options(self, store, tmp_path):
        original = FitRequest(
            data=tmp_path, prevalence=0.1, audit=False, settings={"backbone": "tiny", "folds": 2}
        )
        run = store(original)
        restored = restore_request(run, FitRequest(), None)
        assert restored.data == str(tmp_path)
        assert vars(restored) | {"data": None} == vars(original) | {"data": None}

    def test_accepts_the_same_options_and_defaults_again(self, store, tmp_path):
        run = store(FitRequest(data=tmp_path, settings={"folds": 2}))
        given = FitRequest(data=str(tmp_path), settings={"folds": 2, "seed": 0})
        assert restore_request(run, given, run).settings == {"folds": 2}

    def test_lists_all_options_that_differ(self, store, tmp_path):
        run = store(FitRequest(data=tmp_path, settings={"folds": 2}))
        given = FitRequest(data=tmp_path / "other", audit=False, settings={"folds": 3, "seed": 7})
        with pytest.raises(OptionError) as error:
            restore_request(run, given, tmp_path / "elsewhere")
        message = str(error.value)
        for line in (
            "folds: 2 before, 3 now",
            "seed: the default before, 7 now",
            f"data: {tmp_path} before, {tmp_path / 'other'} now",
            "audit: True before, False now",
            f"out: {run} before, {tmp_path / 'elsewhere'} now",
        ):
            assert f"\n  {line}\n" in message
        assert "Leave these options out, or start a new fit with another --out" in message

    def test_data_that_were_not_stored_must_be_passed_again(self, store, tmp_path):
        run = store(FitRequest(data=tmp_path / "Mustermann"), path_names_patient=True)
        assert "Mustermann" not in (checkpoint_folder(run) / "fit.json").read_text()
        with pytest.raises(OptionError, match="was not stored. Pass DATA again"):
            restore_request(run, FitRequest(), None)
        given = FitRequest(data=tmp_path / "Mustermann")
        assert restore_request(run, given, None).data == str(tmp_path / "Mustermann")

    def test_a_manifest_must_be_passed_again(self, store, kaggle_once):
        manifest = htf.read_manifest(kaggle_once)
        run = store(FitRequest(data=manifest))
        with pytest.raises(OptionError, match="Pass DATA again"):
            restore_request(run, FitRequest(), None)
        assert restore_request(run, FitRequest(data=manifest), None).data is manifest

    def test_a_fit_on_phantoms_needs_no_data(self, store):
        assert restore_request(store(FitRequest()), FitRequest(), None).uses_phantoms

    def test_no_checkpoint_is_an_error(self, tmp_path):
        with pytest.raises(OptionError, match="there is no checkpoint .*run.checkpoint"):
            htf.fit(resume=tmp_path / "run")


class TestReadFinishedRun:
    def test_returns_a_complete_run_and_removes_what_is_left_of_its_checkpoint(
        self, fit_once, tmp_path
    ):
        run = shutil.copytree(fit_once(), tmp_path / "run")
        config = json.loads((run / "config.json").read_text())
        leftover = checkpoint_folder(run)
        leftover.mkdir()
        header = {"id": config["id"], "options": {}, "identity": {}}
        (leftover / "fit.json").write_text(json.dumps(header))
        finished = read_finished_run(run)
        assert finished.path == run and finished.config == config
        assert not leftover.exists()

    def test_a_fit_that_was_going_to_replace_the_run_is_not_finished(self, fit_once, tmp_path):
        run = shutil.copytree(fit_once(), tmp_path / "run")
        with FitCheckpoint(run, Progress(quiet=True)) as checkpoint:
            checkpoint.open(options={}, identity={})
        assert read_finished_run(run) is None
        assert checkpoint_folder(run).is_dir()

    def test_no_run(self, tmp_path):
        assert read_finished_run(tmp_path / "run") is None


class TestResume:
    @pytest.mark.parametrize(
        ("settings", "trainings"),
        [({"solver": "adam", "epochs": 2}, 1), ({}, 3)],
        ids=["adam, after a training", "lbfgs, after all trainings"],
    )
    def test_ends_with_the_bytes_of_an_uninterrupted_fit(
        self, kaggle_once, fit_once, tmp_path, quick, stop_after, settings, trainings
    ):
        whole = fit_once(folds=2, **settings)
        out = tmp_path / "resumed"
        stop_after(trainings, kaggle_once, out=out, folds=2, **quick, **settings)
        assert len(list((tmp_path / "resumed.checkpoint" / "trainings").iterdir())) == trainings
        assert not out.exists()
        resumed = htf.fit(resume=out, quiet=True)
        for name in TABLES:
            assert (resumed.path / name).read_bytes() == (whole / name).read_bytes()
        for one, other in zip(read_weights(out), read_weights(whole), strict=True):
            np.testing.assert_array_equal(one, other)
        assert [path.name for path in tmp_path.glob("resumed*")] == ["resumed"]

    def test_rejects_other_options_and_other_slices(
        self, kaggle_folder, fit_once, tmp_path, quick, stop_after
    ):
        out = tmp_path / "run"
        stop_after(0, kaggle_folder, out=out, calibration="none", **quick)
        with pytest.raises(OptionError, match="seed: the default before, 7 now"):
            htf.fit(resume=out, seed=7)
        slice_file = kaggle_folder / "head_ct" / "head_ct" / "000.png"
        before = slice_file.read_bytes()
        with Image.open(slice_file) as image:
            pixels = np.array(image.convert("L"))
        pixels[:2, :2] ^= 255
        Image.fromarray(pixels).save(slice_file)
        with pytest.raises(OptionError, match="slices: [0-9a-f]+ before"):
            htf.fit(resume=out, quiet=True)
        slice_file.write_bytes(before)
        # The checkpoint folder may be named, too.
        run = htf.fit(resume=tmp_path / "run.checkpoint", quiet=True)
        assert run.path == out
        whole = fit_once(calibration="none")
        for name in TABLES:
            assert (out / name).read_bytes() == (whole / name).read_bytes()

    def test_a_finished_fit_is_not_repeated(self, fit_once, capsys):
        folder = fit_once()
        run = htf.fit(resume=folder)
        assert run.path == folder
        assert run.metrics == json.loads((folder / "metrics.json").read_text())
        assert "is already complete" in capsys.readouterr().err
