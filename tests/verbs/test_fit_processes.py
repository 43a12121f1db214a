"""Fits that are stopped, that run side by side, and that find the disk full."""

from __future__ import annotations

import resource
import select
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.training.trainer import Trainer

TABLES = ("metrics.json", "predictions.csv", "split.csv", "history.csv")


def assert_same_tables(run, other):
    for name in TABLES:
        assert (run / name).read_bytes() == (other / name).read_bytes()


class TestStop:
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_names_the_command_that_resumes(self, kaggle_once, tmp_path, monkeypatch, signum):
        def train(self, task):
            signal.raise_signal(signum)

        # The tests may have been started in the background, where Ctrl-C is ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        monkeypatch.setattr(Trainer, "train", train)
        out = tmp_path / "run"
        command = ["fit", str(kaggle_once), "--no-audit", "--backbone", "tiny"]
        try:
            result = CliRunner().invoke(main, [*command, "--image-size", "32", "--out", str(out)])
        finally:
            signal.signal(signal.SIGINT, before)
        assert result.exit_code == 128 + signum
        assert result.stdout == ""
        assert f"Resume with: hemorrhage-tf fit --resume {out}" in words(result.stderr)
        assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]

    def test_keeps_features_and_refuses_other_settings_unless_overwritten(
        self, kaggle_once, tmp_path, cache, quick, stop_after
    ):
        out = tmp_path / "run"
        stop_after(0, kaggle_once, out=out, **{**quick, "epochs": 1000})
        assert [path.name for path in tmp_path.iterdir()] == ["run.checkpoint"]
        features = {path: path.stat().st_mtime_ns for path in cache.glob("features/*/*.npz")}
        assert features
        with pytest.raises(OptionError, match="--epochs: 1000 before, 10 now"):
            htf.fit(kaggle_once, out=out, **quick)
        htf.fit(kaggle_once, out=out, overwrite=True, calibration="none", **quick)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert features == {
            path: path.stat().st_mtime_ns for path in cache.glob("features/*/*.npz")
        }

    @pytest.mark.slow
    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_a_stopped_process_leaves_a_checkpoint_and_its_features(
        self, kaggle_once, tmp_path, cache, quick, signum
    ):
        out = tmp_path / "runs" / "stopped"
        # A shell that runs the tests in the background may have told them to ignore Ctrl-C.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        code += "from hemorrhage_tf.cli.main import main; main()"
        command = [sys.executable, "-c", code, "fit", str(kaggle_once), "--backbone"]
        command += ["tiny", "--image-size", "32", "--views", "1", "--epochs", "100000"]
        command += ["--out", str(out)]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while not list(cache.glob("features/*/*.npz")) and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
        process.send_signal(signum)
        printed, noted = process.communicate(timeout=120)
        assert not out.exists()
        assert printed == ""
        if signum != signal.SIGKILL:
            assert process.returncode == 128 + signum
            assert f"Resume with: hemorrhage-tf fit --resume {out}" in words(noted)
        assert [path.name for path in out.parent.iterdir()] == ["stopped.checkpoint"]
        assert list(cache.glob("features/*/*.npz"))
        with pytest.raises(OptionError, match="--epochs: 100000 before, 10 now"):
            htf.fit(kaggle_once, out=out, **{**quick, "audit": True})
        htf.fit(kaggle_once, out=out, overwrite=True, **quick)
        assert [path.name for path in out.parent.iterdir()] == ["stopped"]


class TestTwoFits:
    def test_share_a_cache_but_not_a_run_folder(
        self, kaggle_once, fit_once, tmp_path, cache, quick, monkeypatch
    ):
        settings = {**quick, "calibration": "none"}
        original, calls = Trainer.train, []

        def train_while_others_fit(self, task):
            calls.append(task)
            if len(calls) == 1:  # the first fit has locked its cache and its run folder
                htf.fit(kaggle_once, out=tmp_path / "second", **settings)
                with pytest.raises(OutputError, match="another process is working on this run"):
                    htf.fit(kaggle_once, out=tmp_path / "first", **settings)
            return original(self, task)

        monkeypatch.setattr(Trainer, "train", train_while_others_fit)
        htf.fit(kaggle_once, out=tmp_path / "first", **settings)
        assert len(calls) == 2
        for name in ("first", "second"):
            assert_same_tables(tmp_path / name, fit_once(calibration="none"))

    @pytest.mark.slow
    def test_of_two_processes_have_the_result_of_one(self, kaggle_once, fit_once, tmp_path, cache):
        command = [sys.executable, "-m", "hemorrhage_tf", "fit", str(kaggle_once), "--no-audit"]
        command += ["--backbone", "tiny", "--image-size", "32", "--views", "1", "--out"]
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
        for name in ("first", "second"):
            assert_same_tables(tmp_path / name, fit_once())


def test_a_full_disk_leaves_no_run_and_is_an_error(kaggle_once, tmp_path, capsys, quick):
    out = tmp_path / "runs" / "limited"
    settings = {**quick, "views": 4, "quiet": False}  # whose features need more than the limit
    # Python ignores the signal that would end the process, so that writing fails as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match="limited: cannot be written") as error:
            htf.fit(kaggle_once, out=out, calibration="none", **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"--resume {out}" in str(error.value)
    assert "the feature cache cannot be written" in words(capsys.readouterr().err)
    assert [path.name for path in out.parent.iterdir()] == ["limited.checkpoint"]
