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

from hemorrhage_tf.core import signals
from hemorrhage_tf.core.signals import (
    Stop,
    handle_signals,
    raise_if_stopped,
    set_stop_message,
    stopping_signal,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A shell that runs the tests in the background may have told them to ignore signals.
_SCRIPT = """
import hashlib, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from hemorrhage_tf.core import signals
from hemorrhage_tf.core.native_output import silence_native_output
from hemorrhage_tf.core.progress import verb_progress
signals.EXIT_SECONDS = float(sys.argv[1])
def work():
    signals.set_stop_message("Stopped. Resume with this.")
    with verb_progress("work", {}, sys.argv[2] if len(sys.argv) > 2 else None):
        print("started", flush=True)
        WORK
try:
    with signals.handle_signals():
        work()
except signals.Stop as stop:
    print(stop.message, file=sys.stderr)
    signals.exit_now(stop.exit_code)
"""
# Minutes of native code, during which Python runs no signal handler.
_NATIVE_CODE = "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)"
_PRINTED = "Stopped. Resume with this.\n"


def start(work, *arguments, exit_seconds=30.0):
    """Start a process, and wait until its work has started."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _SCRIPT.replace("WORK", work),
            str(exit_seconds),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "started\n", process.stderr.read()
    return process


def press_ctrl_c(process):
    """Press Ctrl-C until the process has ended; pending signals arrive in any order."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)


def last_event(path):
    line = json.loads(path.read_text().splitlines()[-1])
    return line["event"], line["signal"]


@pytest.fixture(autouse=True)
def signals_are_handled():
    before = [signal.signal(each, signal.default_int_handler) for each in SIGNALS]
    yield
    for each, handler in zip(SIGNALS, before, strict=True):
        signal.signal(each, handler)


class TestHandleSignals:
    @pytest.mark.parametrize("signum", SIGNALS)
    def test_raises_stop_with_the_signal_and_the_message(self, signum):
        with pytest.raises(Stop) as raised, handle_signals():
            set_stop_message("Stopped. Resume with this.")
            signal.raise_signal(signum)
        assert isinstance(raised.value, KeyboardInterrupt)
        assert raised.value.exit_code == 128 + signum
        assert raised.value.message == "Stopped. Resume with this."

    def test_restores_everything_afterward(self):
        handlers = [signal.getsignal(each) for each in SIGNALS]
        with pytest.raises(Stop), handle_signals():
            set_stop_message("of this block")
            signal.raise_signal(signal.SIGTERM)
        assert [signal.getsignal(each) for each in SIGNALS] == handlers
        assert signal.set_wakeup_fd(-1) == -1
        assert stopping_signal() is None
        raise_if_stopped()
        with pytest.raises(Stop) as raised, handle_signals():
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.message == "Stopped."

    def test_leaves_no_thread_and_no_open_file(self):
        def count():
            for thread in threading.enumerate():
                if thread.name == "exit deadline":
                    thread.join(10)
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        before = count()
        for _ in range(5):
            with handle_signals():
                pass
        assert count() == before

    def test_a_second_sigterm_does_not_interrupt_the_cleanup(self):
        ended = []
        with pytest.raises(Stop), handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                ended.append(True)
        assert ended

    def test_an_error_after_a_swallowed_signal_becomes_stop(self):
        with pytest.raises(Stop) as raised, handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:  # TensorFlow replaces it by an error of its own
                raise RuntimeError("in a callback") from None
        assert isinstance(raised.value.__cause__, RuntimeError)

    def test_raises_a_swallowed_stop_again(self):
        with pytest.raises(Stop), handle_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                pass  # as in a callback of TensorFlow
            raise_if_stopped()

    def test_passes_errors_on_if_no_signal_came(self):
        with pytest.raises(ValueError), handle_signals():
            raise ValueError

    @pytest.mark.parametrize("signum", SIGNALS)
    def test_ignored_signals_stay_ignored(self, signum):
        signal.signal(signum, signal.SIG_IGN)
        with handle_signals():
            signal.raise_signal(signum)
        assert signal.getsignal(signum) == signal.SIG_IGN

    def test_does_nothing_in_another_thread(self):
        handlers = []

        def work():
            with handle_signals():
                handlers.append([signal.getsignal(each) for each in SIGNALS])

        before = [signal.getsignal(each) for each in SIGNALS]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert handlers == [before]


class TestProcess:
    @pytest.mark.parametrize("signum", SIGNALS)
    def test_exits_with_the_code_of_the_signal_and_logs_it(self, tmp_path, signum):
        process = start("signal.pause()", tmp_path / "log.jsonl")
        process.send_signal(signum)
        assert process.communicate(timeout=60) == ("", _PRINTED)
        assert process.returncode == 128 + signum
        assert last_event(tmp_path / "log.jsonl") == ("stopped", signal.Signals(signum).name)

    def check_exit_during_native_code(self, folder, exit_seconds):
        process = start(_NATIVE_CODE, folder / "log.jsonl", exit_seconds=exit_seconds)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=60)[1]
        assert time.monotonic() - begin < exit_seconds + 2
        assert printed == _PRINTED
        assert process.returncode == 143
        assert last_event(folder / "log.jsonl") == ("stopped", "SIGTERM")

    def test_exits_at_the_deadline_during_native_code(self, tmp_path):
        self.check_exit_during_native_code(tmp_path, 0.3)

    @pytest.mark.slow
    def test_exits_within_ten_seconds_during_native_code(self, tmp_path):
        assert signals.EXIT_SECONDS <= 8
        self.check_exit_during_native_code(tmp_path, signals.EXIT_SECONDS)

    def test_a_second_ctrl_c_exits_at_once(self):
        process = start(_NATIVE_CODE)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        press_ctrl_c(process)
        assert process.communicate(timeout=60)[1] == _PRINTED
        assert time.monotonic() - begin < 5
        assert process.returncode in (130, 143)  # the two may be delivered in either order

    def test_does_not_wait_for_a_thread_in_native_code(self):
        work = f"threading.Thread(target=lambda: {_NATIVE_CODE}).start()"
        process = start(f"{work}; signal.pause()")
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == _PRINTED
        assert time.monotonic() - begin < 5
        assert process.returncode == 143

    def test_prints_the_message_while_standard_error_is_silenced(self):
        process = start(f"with silence_native_output(2): {_NATIVE_CODE}")
        process.send_signal(signal.SIGTERM)
        press_ctrl_c(process)
        assert process.communicate(timeout=60)[1] == _PRINTED

    def test_the_command_line_exits_with_the_code_of_the_signal(self):
        code = """
import signal, sys
from hemorrhage_tf.cli.main import main
@main.command()
def work():
    print("started", flush=True)
    signal.pause()
main(["work"])
"""
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "started\n", process.stderr.read()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", "Stopped.\n")
        assert process.returncode == 143
