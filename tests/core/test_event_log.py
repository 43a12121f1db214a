from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError, OutputError
from hemorrhage_tf.core.event_log import EventLog, describe_failure

QUICK = {
    **{"backbone": "tiny", "image_size": 32, "views": 1, "epochs": 2},
    **{"audit": False, "quiet": True},
}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "logs" / "log.jsonl", "fit", {"folds": 5, "window": ("brain",)})
    yield log
    log.close()


class TestEventLog:
    def test_the_first_line_describes_the_verb(self, log):
        (start,) = read(log.path)
        assert list(start)[:4] == ["time", "elapsed", "event", "verb"]
        assert (start["event"], start["verb"], start["process"]) == ("start", "fit", os.getpid())
        assert start["settings"] == {"folds": 5, "window": ["brain"]}
        assert start["hemorrhage_tf"] == htf.__version__
        assert start["python"] == ".".join(map(str, sys.version_info[:3]))
        assert start["tensorflow"].startswith("2.")
        assert os.uname().nodename not in start.values()

    def test_times_have_a_zone_and_elapsed_never_decreases(self, log):
        for number in range(5):
            log.write("note", text=str(number))
        lines = read(log.path)
        assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)
        elapsed = [line["elapsed"] for line in lines]
        assert elapsed == sorted(elapsed) and elapsed[0] >= 0

    def test_every_line_is_written_immediately(self, log):
        log.write("note", text="first")
        assert read(log.path)[-1]["text"] == "first"

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (float("nan"), None),
            (np.float32(0.5), 0.5),
            (np.int64(3), 3),
            (np.array([1.0, np.inf]), [1.0, None]),
            (True, True),
            ({1: ("a", None)}, {"1": ["a", None]}),
            ("é\n\udcff\u2028", "é\n\udcff\u2028"),
            (signal.SIGTERM, 15),
        ],
    )
    def test_values_are_converted_to_json(self, log, value, written):
        log.write("odd", value=value)
        (_, line) = read(log.path)
        assert line["value"] == written

    def test_a_second_log_starts_on_a_new_line(self, log):
        with open(log.path, "a") as file:
            file.write('{"event": "to')  # left by a killed process
        EventLog(log.path, "evaluate", {}).close()
        lines = log.path.read_text().splitlines()
        assert lines[1] == '{"event": "to'
        assert json.loads(lines[2])["verb"] == "evaluate"

    @pytest.mark.parametrize("place", ["a folder", "a file/below", "/dev/full"])
    def test_rejects_a_file_that_cannot_be_written(self, tmp_path, place):
        (tmp_path / "a folder").mkdir()
        (tmp_path / "a file").touch()
        with pytest.raises(OutputError, match=r"--log-json .*: cannot be written \(.*Name a file"):
            EventLog(tmp_path / place, "fit", {})


_FILL_THE_DISK = """
import json, resource, sys
from hemorrhage_tf.core.event_log import EventLog
log = EventLog(sys.argv[1], "fit", {})
size = len(open(sys.argv[1]).read())
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, most))
warnings = [log.write("note", text="x" * 150), log.write("note", text="x" * 150)]
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
warnings.append(log.write("note", text="there is room again"))
print(json.dumps(warnings))
"""


def test_warns_once_when_the_disk_is_full_and_keeps_later_lines_intact(tmp_path):
    path = tmp_path / "log.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _FILL_THE_DISK, path], capture_output=True, text=True
    )
    first, *others = json.loads(done.stdout)
    assert "cannot be written (File too large). The work continues" in first
    assert others == [None, None]
    start, incomplete, last = path.read_text().splitlines()
    assert json.loads(start)["event"] == "start" and len(incomplete) == 100
    assert json.loads(last)["text"] == "there is room again"


class TestDescribeFailure:
    def test_includes_the_message_unless_it_may_name_a_slice(self):
        assert describe_failure(OptionError("--folds 1"))["message"] == "--folds 1"
        for error in (DataError("P07/a.dcm: empty"), OSError(2, "no such file", "P07/a.dcm")):
            values = describe_failure(error)
            assert values["error"] == type(error).__name__
            assert "P07" not in json.dumps(values)

    def test_includes_the_line_in_the_package(self):
        with pytest.raises(OptionError) as raised:
            htf.FitSettings(folds=1)
        assert describe_failure(raised.value)["where"].startswith("training/settings.py:")
        assert describe_failure(OptionError("never raised"))["where"] is None


@pytest.fixture(scope="module")
def logged_fit(kaggle_once, tmp_path_factory):
    """A fit and an evaluation of slices of which one is uniform, in one log."""
    folder = tmp_path_factory.mktemp("logged")
    data = shutil.copytree(kaggle_once, folder / "data")
    Image.new("L", (90, 90), 40).save(data / "head_ct" / "head_ct" / "003.png")
    settings = QUICK | {"epochs": 1, "log_json": folder / "log.jsonl", "cache": folder / "cache"}
    errors = io.StringIO()
    with redirect_stderr(errors):
        run = htf.fit(data, out=folder / "run", folds=2, **settings | {"quiet": False})
    evaluation = htf.evaluate(data, model=run, log_json=folder / "log.jsonl", quiet=True)
    return folder, run, evaluation, errors.getvalue()


class TestVerbs:
    def test_fit_and_evaluate_append_their_events(self, logged_fit):
        folder, run, evaluation, _ = logged_fit
        lines = read(folder / "log.jsonl")
        assert str(folder / "data") not in (folder / "log.jsonl").read_text()
        first, second = (line for line in lines if line["event"] == "start")
        assert (first["verb"], first["settings"]["folds"]) == ("fit", 2)
        assert second["verb"] == "evaluate"
        of_fit, of_evaluate = (line for line in lines if line["event"] == "result")
        assert of_fit["path"] == str(folder / "run") and of_fit["summary"] == run.summary
        assert of_fit["metrics"]["roc_auc"] == run.metrics["roc_auc"]
        assert of_evaluate["metrics"]["accuracy"] == evaluation.metrics["accuracy"]
        started = [line["stage"] for line in lines if line["event"] == "stage_begin"]
        assert {"Reading slices", "Computing tiny features", "Training"} <= set(started)
        ended = {line["stage"]: line for line in lines if line["event"] == "stage_end"}
        assert set(started) == set(ended)
        assert ended["Training"]["count"] == ended["Training"]["total"] == 3

    def test_names_in_a_warning_are_printed_and_not_logged(self, logged_fit):
        folder, _, _, printed = logged_fit
        texts = [line["text"] for line in read(folder / "log.jsonl") if line["event"] == "warning"]
        assert texts and "003.png" in printed
        assert "003.png" not in (folder / "log.jsonl").read_text()

    def test_an_error_is_the_last_line_and_names_no_slice(self, kaggle_folder, tmp_path):
        (kaggle_folder / "head_ct" / "head_ct" / "003.png").write_bytes(b"")
        with pytest.raises(DataError, match="003.png"):
            htf.fit(kaggle_folder, out=tmp_path / "run", log_json=tmp_path / "log", **QUICK)
        last = read(tmp_path / "log")[-1]
        assert (last["event"], last["error"], last["message"]) == ("error", "DataError", None)
        with pytest.raises(OptionError):
            htf.fit(kaggle_folder, log_json=tmp_path / "log", folds=1)
        assert "--folds 1" in read(tmp_path / "log")[-1]["message"]

    def test_rejects_a_log_in_the_run_folder(self, kaggle_once, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(OptionError, match="--log-json"):
            htf.fit(kaggle_once, out=out, log_json=out / "log.jsonl", **QUICK)
        assert not out.exists()

    def test_rejects_a_folder_before_the_work_starts(self, tmp_path):
        with pytest.raises(OutputError, match="--log-json"):
            htf.evaluate(tmp_path / "nowhere", log_json=tmp_path)
