from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError, OutputError
from hemorrhage_tf.core.event_log import EventLog, failure

QUICK = {"backbone": "tiny", "image_size": 32, "epochs": 2, "audit": False, "quiet": True}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "logs" / "log.jsonl", "fit", {"folds": 5, "window": ("brain",)})
    yield log
    log.close()


class TestEventLog:
    def test_the_first_line_says_what_runs(self, log):
        (start,) = read(log.path)
        assert list(start)[:4] == ["time", "elapsed", "event", "verb"]
        assert (start["event"], start["verb"], start["process"]) == ("start", "fit", os.getpid())
        assert start["settings"] == {"folds": 5, "window": ["brain"]}
        assert start["hemorrhage_tf"] == htf.__version__
        assert start["python"] == ".".join(map(str, sys.version_info[:3]))
        assert start["tensorflow"].startswith("2.")
        assert os.uname().nodename not in start.values()

    def test_times_have_a_zone_and_elapsed_never_falls(self, log):
        for number in range(5):
            log.write("note", text=str(number))
        lines = read(log.path)
        assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)
        elapsed = [line["elapsed"] for line in lines]
        assert elapsed == sorted(elapsed) and elapsed[0] >= 0

    def test_every_line_is_in_the_file_at_once(self, log):
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
    def test_values_become_plain_json(self, log, value, written):
        log.write("odd", value=value)
        (_, line) = read(log.path)
        assert line["value"] == written

    def test_a_second_log_is_appended_on_a_line_of_its_own(self, log):
        with open(log.path, "a") as file:
            file.write('{"event": "to')  # as a process leaves it that is killed
        EventLog(log.path, "evaluate", {}).close()
        lines = log.path.read_text().splitlines()
        assert lines[1] == '{"event": "to'
        assert json.loads(lines[2])["verb"] == "evaluate"

    @pytest.mark.parametrize("place", ["a folder", "a file/below", "/dev/full"])
    def test_a_file_that_cannot_be_written_is_refused(self, tmp_path, place):
        (tmp_path / "a folder").mkdir()
        (tmp_path / "a file").touch()
        with pytest.raises(OutputError, match=r"--log-json .*: cannot be written \(.*Name a file"):
            EventLog(tmp_path / place, "fit", {})


_FILLS = """
import json, resource, sys
from hemorrhage_tf.core.event_log import EventLog
log = EventLog(sys.argv[1], "fit", {})
size = len(open(sys.argv[1]).read())
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, most))
said = [log.write("note", text="x" * 150), log.write("note", text="x" * 150)]
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
said.append(log.write("note", text="there is room again"))
print(json.dumps(said))
"""


def test_a_disk_that_fills_later_is_told_once_and_later_lines_stay_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", _FILLS, path], capture_output=True, text=True)
    first, *others = json.loads(done.stdout)
    assert "cannot be written (File too large); the work goes on" in first
    assert others == [None, None]
    start, torn, last = path.read_text().splitlines()
    assert json.loads(start)["event"] == "start" and len(torn) == 100
    assert json.loads(last)["text"] == "there is room again"


class TestFailure:
    def test_the_message_is_kept_unless_it_may_name_a_slice(self):
        assert failure(OptionError("--folds 1"))["message"] == "--folds 1"
        for error in (DataError("P07/a.dcm: empty"), OSError(2, "no such file", "P07/a.dcm")):
            said = failure(error)
            assert said["error"] == type(error).__name__
            assert "P07" not in json.dumps(said)

    def test_it_says_where_in_the_package(self):
        with pytest.raises(OptionError) as raised:
            htf.FitSettings(folds=1)
        assert failure(raised.value)["where"].startswith("training/settings.py:")
        assert failure(OptionError("never raised"))["where"] is None


class TestVerbs:
    def test_fit_and_evaluate_append_what_they_did(self, kaggle_folder, tmp_path):
        path = tmp_path / "log.jsonl"
        run = htf.fit(kaggle_folder, out=tmp_path / "run", log_json=path, folds=2, **QUICK)
        found = htf.evaluate(run, kaggle_folder, log_json=path, quiet=True)
        lines = read(path)
        assert str(kaggle_folder) not in path.read_text()
        first, second = (line for line in lines if line["event"] == "start")
        assert (first["verb"], first["settings"]["folds"]) == ("fit", 2)
        assert second["verb"] == "evaluate"
        of_fit, of_evaluate = (line for line in lines if line["event"] == "result")
        assert of_fit["path"] == str(tmp_path / "run") and of_fit["report"] == run.report
        assert of_fit["figures"]["roc_auc"] == run.metrics["roc_auc"]
        assert of_evaluate["figures"]["accuracy"] == found.metrics["accuracy"]
        assert any("were trained on" in line.get("text", "") for line in lines)
        begun = [line["stage"] for line in lines if line["event"] == "stage_begin"]
        assert {"Reading slices", "Computing tiny features", "Training"} <= set(begun)
        ended = {line["stage"]: line for line in lines if line["event"] == "stage_end"}
        assert set(begun) == set(ended)
        assert ended["Training"]["count"] == ended["Training"]["total"] == 6

    def test_an_error_is_the_last_line_and_names_no_slice(self, kaggle_folder, tmp_path):
        (kaggle_folder / "head_ct" / "head_ct" / "003.png").write_bytes(b"")
        with pytest.raises(DataError, match="003.png"):
            htf.fit(kaggle_folder, out=tmp_path / "run", log_json=tmp_path / "log", **QUICK)
        last = read(tmp_path / "log")[-1]
        assert (last["event"], last["error"], last["message"]) == ("error", "DataError", None)
        with pytest.raises(OptionError):
            htf.fit(kaggle_folder, log_json=tmp_path / "log", folds=1)
        assert "--folds 1" in read(tmp_path / "log")[-1]["message"]

    def test_names_in_a_warning_are_printed_and_not_logged(self, kaggle_folder, tmp_path, capsys):
        from PIL import Image

        Image.new("L", (90, 90), 40).save(kaggle_folder / "head_ct" / "head_ct" / "003.png")
        settings = QUICK | {"quiet": False}
        htf.fit(kaggle_folder, out=tmp_path / "run", log_json=tmp_path / "log", **settings)
        assert "003.png: no head was found in it" in capsys.readouterr().err
        warned = [line["text"] for line in read(tmp_path / "log") if line["event"] == "warning"]
        assert any(text.startswith("these look unlike axial slices") for text in warned)
        assert "003.png" not in (tmp_path / "log").read_text()

    def test_a_place_in_the_run_folder_is_refused(self, kaggle_folder, tmp_path):
        out = tmp_path / "run"
        with pytest.raises(OptionError, match="lies in the place of the run folder"):
            htf.fit(kaggle_folder, out=out, log_json=out / "log.jsonl", **QUICK)
        assert not out.exists()

    def test_is_refused_before_anything_long(self, tmp_path):
        with pytest.raises(OutputError, match="--log-json"):
            htf.evaluate(tmp_path / "nowhere", log_json=tmp_path)
