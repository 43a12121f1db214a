from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from hemorrhage_tf.reporting import Reporter
from hemorrhage_tf.stopping import interruptible


def test_notes_and_warnings_go_to_standard_error_unless_quiet(capsys):
    for quiet in (False, True):
        Reporter(quiet).note("a [note]")
        Reporter(quiet).warn("careful")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["a [note]", "Warning: careful"]


def test_short_work_shows_no_bar_and_long_work_does(capsys, monkeypatch):
    reporter = Reporter()
    with reporter.progress("Short", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("hemorrhage_tf.reporting.SHOW_AFTER_SECONDS", -1.0)
    with reporter.progress("Long", 2) as advance:
        advance(2)
    assert "Long" in capsys.readouterr().err


@pytest.fixture
def ctrl_c_is_heard():
    """Undoes what a shell that runs the tests in the background may have told them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_a_swallowed_ctrl_c_is_raised_again_at_the_next_step():
    reporter = Reporter(quiet=True)
    with pytest.raises(KeyboardInterrupt), interruptible():
        with reporter.progress("Work", 2) as advance:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as a callback of TensorFlow's may do
                swallowed = True
            assert swallowed
            advance(1)
            raise AssertionError("the work went on")
    with reporter.progress("The next work", 1) as advance:
        advance(1)


def test_tensorflow_is_imported_without_its_log_lines():
    code = "from hemorrhage_tf.reporting import import_tensorflow; import_tensorflow()"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('ok')"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_what_a_failing_tensorflow_import_says_is_shown():
    code = """
import os, sys
from hemorrhage_tf.reporting import import_tensorflow
class Broken:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            os.write(2, b"the reason")
            raise ImportError("no tensorflow")
sys.meta_path.insert(0, Broken())
import_tensorflow()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the reason" in done.stderr and "no tensorflow" in done.stderr
