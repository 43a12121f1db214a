"""Stop on Ctrl-C, and on SIGTERM as batch systems send it before they take a machine away.

The process exits within ten seconds of the first signal, even when the main thread is inside
TensorFlow; only native code that holds the interpreter's lock for longer can delay it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import socket

STOPPED = "Stopped."
SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Batch systems kill a process some time after SIGTERM, some as early as after ten seconds.
EXIT_SECONDS = 8.0

# In addition, so that a terminal or disk that hangs cannot keep the process alive.
_CALLBACK_SECONDS = 1.0


class Stop(KeyboardInterrupt):
    """The exception that a signal raises in the main thread.

    Attributes:
        signum: The signal.
        exit_code: The exit code that a shell reports for it: 130 for SIGINT, 143 for SIGTERM.
        message: The text to print, see `set_stop_message`.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum
        self.message = message


_stopping_signal: int | None = None
_message = STOPPED
_callbacks: list[Callable[[int], None]] = []
# Held by the thread that prints the message: the one that ends the process, or the main thread once
# it has left the block.
_message_lock = threading.Lock()


def set_stop_message(message: str) -> None:
    """Set what is printed when a signal ends the work, until the `handle_signals` block ends."""
    global _message
    _message = message


def stopping_signal() -> int | None:
    """Return the signal that is stopping the current block, or None."""
    return _stopping_signal


def raise_if_stopped() -> None:
    """Raise Stop again if a signal came and its first Stop was swallowed."""
    if _stopping_signal is not None:
        raise Stop(_stopping_signal, _message)


@contextmanager
def call_on_stop(callback: Callable[[int], None]) -> Iterator[None]:
    """Register a callback for the case that the process must exit without unwinding.

    Args:
        callback: Called with the signal, in a thread. It has one second.
    """
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Stop the block soon after Ctrl-C or SIGTERM.

    The first signal raises Stop in the main thread. TensorFlow swallows an exception inside its
    callbacks, so the signal is remembered: the next step of a progress bar raises Stop again, and
    an error that leaves the block is replaced by Stop. Python runs signal handlers only between its
    own instructions, not while the main thread is inside TensorFlow. Therefore a thread ends the
    process if the block is still running after `EXIT_SECONDS`, or on a second Ctrl-C. That is safe
    because all files are written atomically.

    Outside of the main thread this does nothing. Signals that the process was started to ignore
    stay ignored.

    Raises:
        Stop: A signal came.
    """
    import socket  # late, since `--help` needs none

    global _stopping_signal, _message
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {each: signal.getsignal(each) for each in SIGNALS}
    handled = [each for each in SIGNALS if previous[each] not in (signal.SIG_IGN, None)]
    if not handled:
        yield
        return
    wakeup, receiver = socket.socketpair()
    wakeup.setblocking(False)
    stderr = None
    with suppress(OSError):  # a process may have been started without standard error
        # A copy, since `silence_native_output` may redirect the descriptor itself.
        stderr = os.dup(2)
    has_ended = threading.Event()
    threading.Thread(
        target=_enforce_exit, args=(receiver, stderr, has_ended), name="exit deadline", daemon=True
    ).start()
    _stopping_signal, _message = None, STOPPED
    previous_wakeup = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    for each in handled:
        signal.signal(each, _raise_stop)
    try:
        yield
    except Exception as error:
        if _stopping_signal is None:
            raise
        raise Stop(_stopping_signal, _message) from error
    finally:
        for each in handled:
            signal.signal(each, previous[each])
        signal.set_wakeup_fd(previous_wakeup)
        wakeup.close()
        with _message_lock:
            has_ended.set()
        _stopping_signal, _message = None, STOPPED


def _raise_stop(signum: int, _frame: object) -> None:
    global _stopping_signal
    if _stopping_signal is None:
        _stopping_signal = signum
    elif signum == signal.SIGTERM:
        # Batch systems may send it twice; the second must not interrupt the cleanup.
        return
    raise Stop(_stopping_signal, _message)


def _enforce_exit(receiver: socket.socket, stderr: int | None, has_ended: threading.Event) -> None:
    """Wait for signals, and end the process if the block does not end in time.

    Args:
        receiver: Receives a byte for each signal, and is closed when the block ends.
        stderr: A copy of the standard error descriptor, or None.
        has_ended: Set when the block ends.
    """
    first: int | None = None
    deadline = 0.0
    with receiver:
        while True:
            receiver.settimeout(None if first is None else max(deadline - monotonic(), 0.001))
            try:
                numbers = receiver.recv(64)
            except TimeoutError:
                if first is not None:
                    _end_process(first, stderr, has_ended)
                break
            if not numbers:
                break
            for number in numbers:
                if number not in SIGNALS:
                    continue
                if first is None:
                    first, deadline = number, monotonic() + EXIT_SECONDS
                elif number == signal.SIGINT:
                    _end_process(first, stderr, has_ended)
    if stderr is not None:
        os.close(stderr)


def _end_process(signum: int, stderr: int | None, has_ended: threading.Event) -> None:
    """Print the message, run the callbacks and exit, unless the block has just ended."""

    def report() -> None:
        if stderr is not None:
            # A progress bar or spinner has hidden the cursor.
            show_cursor = "\n\x1b[?25h" if os.isatty(stderr) else ""
            with suppress(OSError):
                os.write(stderr, f"{show_cursor}{_message}\n".encode(errors="backslashreplace"))
        for callback in list(_callbacks):
            callback(signum)

    with _message_lock:
        if has_ended.is_set():
            return
        with suppress(RuntimeError):  # a process that is shutting down starts no thread
            thread = threading.Thread(target=report, daemon=True)
            thread.start()
            thread.join(_CALLBACK_SECONDS)
        os._exit(128 + signum)


def exit_now(exit_code: int) -> NoReturn:
    """Flush the standard streams and end the process without waiting for other threads.

    A normal exit would wait for the threads of TensorFlow and of pools, which may take long.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, full, or a pipe without a reader
            stream.flush()
    os._exit(exit_code)
