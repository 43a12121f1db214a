from __future__ import annotations

import errno
import json
import re
import signal

import pytest

from hemorrhage_tf.core.event_log import EventLog
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.core.signals import handle_signals


def test_notes_and_warnings_go_to_standard_error_unless_quiet(capsys):
    for quiet in (False, True):
        Progress(quiet).note("a [note]")
        Progress(quiet).warn("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["a [note]", "Warning: careful"]


class Clock:
    """A clock that the tests set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("hemorrhage_tf.core.progress.monotonic", clock)
    return clock


class TestWithoutATerminal:
    def test_short_work_shows_nothing(self, capsys, clock):
        progress = Progress()
        with progress.track("Short", 2) as advance, progress.stage("Stage"):
            clock.now = 29
            advance(1)
            advance(1)
        assert capsys.readouterr().err == ""

    def test_long_work_prints_a_line_every_half_minute(self, capsys, clock):
        with Progress().track("Computing resnet152 features", 68000) as advance:
            for second in range(1, 171):
                clock.now = float(second)
                advance(400)
        assert capsys.readouterr().err.splitlines() == [
            "Computing resnet152 features: 12,000 of 68,000, 400/s, 2 min left",
            "Computing resnet152 features: 24,000 of 68,000, 400/s, 2 min left",
            "Computing resnet152 features: 36,000 of 68,000, 400/s, 80 s left",
            "Computing resnet152 features: 48,000 of 68,000, 400/s, 50 s left",
            "Computing resnet152 features: 60,000 of 68,000, 400/s, 20 s left",
            "Computing resnet152 features: 68,000 of 68,000, took 3 min",
        ]

    def test_failed_work_prints_no_duration(self, capsys, clock):
        with pytest.raises(KeyError), Progress().track("Work", 2) as advance:
            clock.now = 59.0
            advance(1)
            raise KeyError
        assert capsys.readouterr().err == "Work: 1 of 2, 0.017/s, 59 s left\n"

    def test_a_long_stage_prints_its_duration(self, capsys, clock):
        with Progress().stage("Importing TensorFlow"):
            clock.now = 95.0
        assert capsys.readouterr().err == "Importing TensorFlow: took 2 min\n"

    def test_quiet_shows_nothing(self, capsys, clock):
        with Progress(quiet=True).track("Work", 2) as advance:
            clock.now = 60.0
            advance(1)
        assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_after_a_second(capsys, clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat any stream as a terminal
    monkeypatch.setenv("TERM", "xterm")
    for name, lasts in (("Short", 0.5), ("Long", 1.5)):
        clock.now = 0.0
        with Progress().track(name, 2) as advance:
            clock.now = lasts
            advance(2)
        shown = capsys.readouterr().err
        assert ("2/2" in shown) == (name == "Long")
    assert "1.3/s" in shown


def test_a_dumb_terminal_shows_lines_without_codes(capsys, clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    progress = Progress()
    progress.warn("careful")
    with progress.track("Work", 4) as advance, progress.stage("Stage"):
        clock.now = 40.0
        advance(2)
        clock.now = 50.0
        advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "Warning: careful",
        "Work: 2 of 4, 0.05/s, 40 s left",
        "Stage: took 50 s",
        "Work: 4 of 4, took 50 s",
    ]


def test_no_color_leaves_a_bar_without_colors(capsys, clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Progress()
    progress.warn("careful")
    with progress.track("Work", 2) as advance:
        clock.now = 2.0
        advance(2)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert not re.search(r"\x1b\[[0-9;]*m", shown)


class TestLog:
    @pytest.fixture
    def events(self, tmp_path):
        log = EventLog(tmp_path / "log.jsonl", "fit", {})
        yield lambda: [json.loads(line) for line in log.path.read_text().splitlines()[1:]], log
        log.close()

    def test_logs_stages_progress_notes_and_warnings(self, events, clock):
        read, log = events
        progress = Progress(quiet=True, log=log)
        with progress.track("Reading", 50) as advance:
            for second in range(1, 26):
                clock.now = float(second)
                advance(2)
        with progress.stage("Writing"):
            clock.now = 26.5
        progress.note("a note")
        progress.warn("careful", names=": P07")
        progress.event("features", cached=3, computed=4)
        keys = ("event", "stage", "count", "total", "seconds", "text", "cached", "computed")
        assert [[line[name] for name in keys if name in line] for line in read()] == [
            ["stage_begin", "Reading", 50],
            ["progress", "Reading", 20, 50, 10.0],
            ["progress", "Reading", 40, 50, 20.0],
            ["stage_end", "Reading", 50, 50, 25.0],
            ["stage_begin", "Writing"],
            ["stage_end", "Writing", 1.5],
            ["note", "a note"],
            ["warning", "careful"],
            ["features", 3, 4],
        ]
        assert progress.seconds == {"Reading": 25.0, "Writing": 1.5}

    def test_logs_the_end_of_a_stage_that_fails(self, events):
        read, log = events
        with pytest.raises(KeyError), Progress(quiet=True, log=log).track("Work", 2) as advance:
            advance(1)
            raise KeyError
        (_, end) = read()
        assert (end["event"], end["count"], end["total"]) == ("stage_end", 1, 2)

    def test_warns_once_if_the_log_cannot_be_written(self, events, capsys, monkeypatch):
        read, log = events

        def write(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        progress = Progress(log=log)
        monkeypatch.setattr("hemorrhage_tf.core.event_log.os.write", write)
        progress.note("first")
        progress.note("second")
        monkeypatch.undo()
        progress.note("third")
        lines = capsys.readouterr().err.splitlines()
        assert [lines[0], *lines[2:]] == ["first", "second", "third"]
        assert lines[1].startswith("Warning: --log-json") and "the disk is full" in lines[1]
        assert [line["text"] for line in read()] == ["third"]

    def test_logs_how_a_verb_ends(self, tmp_path):
        path = tmp_path / "log.jsonl"
        for error in (ValueError("P07"), KeyboardInterrupt()):
            with (
                pytest.raises(type(error)),
                verb_progress("fit", {}, path, quiet=True) as progress,
            ):
                progress.note("started")
                raise error
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        names = [line["event"] for line in lines]
        assert names == ["start", "note", "error", "start", "note", "stopped"]
        assert (lines[2]["error"], lines[2]["message"]) == ("ValueError", None)
        assert lines[5]["signal"] == "SIGINT"


@pytest.fixture
def ctrl_c_is_handled():
    """Undo the setting of a shell that runs the tests in the background and ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_handled")
def test_a_swallowed_ctrl_c_is_raised_again_at_the_next_step():
    progress = Progress(quiet=True)
    with pytest.raises(KeyboardInterrupt), handle_signals():
        with progress.track("Work", 2) as advance:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as in a callback of TensorFlow
                swallowed = True
            assert swallowed
            advance(1)
            raise AssertionError("the work continued")
    with progress.track("The next work", 1) as advance:
        advance(1)
