from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from hemorrhage_tf.stopping import Stop, interruptible, on_stop, raise_if_stopped, stopped_by

# A call of seconds to minutes in which Python runs none of its own steps.
STUCK = """
import hashlib, sys
from hemorrhage_tf.stopping import interruptible, on_stop
with interruptible():
    on_stop("Stopped. Go on with: again")
    print("ready", flush=True)
    while True:
        try:
            hashlib.pbkdf2_hmac("sha512", b"a", b"b", 2_000_000_000)
        except KeyboardInterrupt:
            pass  # where the signal came before the call
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_leaves_within_ten_seconds_though_it_is_stuck(how):
    # A shell that runs the tests in the background may have told them to ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + STUCK
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.send_signal(how)
    _, noted = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode == 128 + how
    assert "Stopped. Go on with: again" in noted


def test_one_more_ctrl_c_leaves_at_once():
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + STUCK
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 60:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    process.stdout.close()
    assert process.returncode == 130 and time.monotonic() - begin < 7


class TestInterruptible:
    def test_raises_stop_with_the_message(self):
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Stop) as stop, interruptible():
            on_stop("Go on")
            signal.raise_signal(signal.SIGTERM)
        assert stop.value.exit_code == 143 and stop.value.message == "Go on"
        assert signal.getsignal(signal.SIGTERM) is before and stopped_by() is None

    def test_what_was_swallowed_is_raised_again(self):
        with pytest.raises(Stop), interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                pass  # as happens in a callback of TensorFlow's
            raise_if_stopped()

    def test_another_error_is_that_of_the_block(self):
        with pytest.raises(ValueError), interruptible():
            raise ValueError
        raise_if_stopped()
