from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from hemorrhage_tf.core.signals import (
    Stop,
    handle_signals,
    raise_if_stopped,
    set_stop_message,
    stopped_by,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# What a shell that runs the tests in the background may have told them is undone.
_BEGIN = """
import hashlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.verb_progress import verb_progress
from hemorrhage_tf.core.signals import set_stop_message
@main.command()
def work():
    set_stop_message("Stopped. Go on with this.")
    with verb_progress("work", {}, sys.argv[1] if len(sys.argv) > 1 else None):
        print("begun", flush=True)
        WORK
"""
# Minutes inside one call, in which no handler of Python's runs.
_STUCK = "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)"


def start(work, *arguments):
    """Starts a command, and waits until it has begun with its work."""
    code = _BEGIN.replace("WORK", work) + "main(['work'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n", process.stderr.read()
    return process


def insist(process):
    """Presses Ctrl-C until the process is gone; signals that wait together come in any order."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)


def last_event(path):
    line = json.loads(path.read_text().splitlines()[-1])
    return line["event"], line["signal"]


@pytest.fixture(autouse=True)
def signals_are_heard():
    before = [signal.signal(each, signal.default_int_handler) for each in SIGNALS]
    yield
    for each, handler in zip(SIGNALS, before, strict=True):
        signal.signal(each, handler)


class TestInterruptible:
    @pytest.mark.parametrize("signum", SIGNALS)
    def test_raises_what_tells_the_signals_apart(self, signum):
        with pytest.raises(Stop) as raised, handle_signals():
            set_stop_message("Stopped. Go on with this.")
            signal.raise_signal(signum)
        assert isinstance(raised.value, KeyboardInterrupt)
        assert raised.value.exit_code == 128 + signum
        assert raised.value.message == "Stopped. Go on with this."

    def test_what_it_set_is_as_before_afterward(self):
        handlers = [signal.getsignal(each) for each in SIGNALS]
        with pytest.raises(Stop), handle_signals():
            set_stop_message("of this block")
            signal.raise_signal(signal.SIGTERM)
        assert [signal.getsignal(each) for each in SIGNALS] == handlers
        assert signal.set_wakeup_fd(-1) == -1
        assert stopped_by() is None
        raise_if_stopped()
        with pytest.raises(Stop) as raised, handle_signals():
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.message == "Stopped."

    def test_leaves_no_thread_and_no_file_behind(self):
        def left():
            for thread in threading.enumerate():
                if thread.name == "leave in time":
                    thread.join(10)
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        before = left()
        for _ in range(5):
            with handle_signals():
                pass
        assert left() == before

    def test_a_second_sigterm_does_not_cut_short_what_the_first_began(self):
        ended = []
        with pytest.raises(Stop), handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                ended.append(True)
        assert ended

    def test_an_error_that_a_swallowed_signal_leads_to_is_a_stop(self):
        with pytest.raises(Stop) as raised, handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:  # as TensorFlow makes an error of its own of it
                raise RuntimeError("in a callback") from None
        assert isinstance(raised.value.__cause__, RuntimeError)

    def test_what_was_swallowed_is_raised_again(self):
        with pytest.raises(Stop), handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                pass  # as happens in a callback of TensorFlow's
            raise_if_stopped()

    def test_errors_pass_where_no_signal_came(self):
        with pytest.raises(ValueError), handle_signals():
            raise ValueError

    @pytest.mark.parametrize("signum", SIGNALS)
    def test_what_is_ignored_stays_ignored(self, signum):
        signal.signal(signum, signal.SIG_IGN)
        with handle_signals():
            signal.raise_signal(signum)
        assert signal.getsignal(signum) == signal.SIG_IGN

    def test_does_nothing_in_another_thread(self):
        found = []

        def work():
            with handle_signals():
                found.append([signal.getsignal(each) for each in SIGNALS])

        before = [signal.getsignal(each) for each in SIGNALS]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [before]


class TestCommand:
    @pytest.mark.parametrize("signum", SIGNALS)
    def test_leaves_with_the_signals_code_and_the_message(self, signum):
        process = start("signal.pause()")
        process.send_signal(signum)
        assert process.communicate(timeout=60) == ("", "Stopped. Go on with this.\n")
        assert process.returncode == 128 + signum

    def test_leaves_within_ten_seconds_from_inside_a_long_call(self, tmp_path):
        process = start(_STUCK, tmp_path / "log.jsonl")
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        noted = process.communicate(timeout=60)[1]
        assert time.monotonic() - begin < 10
        assert noted == "Stopped. Go on with this.\n"
        assert process.returncode == 143
        assert last_event(tmp_path / "log.jsonl") == ("stopped", "SIGTERM")

    def test_a_second_ctrl_c_leaves_at_once(self):
        process = start(_STUCK)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        insist(process)
        assert process.communicate(timeout=60)[1] == "Stopped. Go on with this.\n"
        assert time.monotonic() - begin < 5
        assert process.returncode in (130, 143)  # the two may be delivered in either order

    def test_waits_for_no_thread_that_is_stuck(self):
        work = f"import threading; threading.Thread(target=lambda: {_STUCK}).start()"
        process = start(f"{work}; signal.pause()")
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == "Stopped. Go on with this.\n"
        assert time.monotonic() - begin < 5
        assert process.returncode == 143

    def test_speaks_on_standard_error_though_it_is_led_elsewhere(self):
        work = "from hemorrhage_tf.verb_progress import silence_native_output"
        process = start(f"{work}\n        with silence_native_output(2): {_STUCK}")
        process.send_signal(signal.SIGTERM)
        insist(process)
        assert process.communicate(timeout=60)[1] == "Stopped. Go on with this.\n"

    def test_a_stop_is_the_logs_last_line(self, tmp_path):
        process = start("signal.pause()", tmp_path / "log.jsonl")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert last_event(tmp_path / "log.jsonl") == ("stopped", "SIGINT")
