"""Leaving when told to: Ctrl-C, and SIGTERM as clusters send it before they take a machine away.

The process is gone within ten seconds of the first signal, also where the main thread is inside
TensorFlow; not where native code holds the interpreter's lock for longer.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import NoReturn

STOPPED = "Stopped."
SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A batch system kills what is still there some time after SIGTERM; ten seconds is a short time.
SECONDS_TO_LEAVE = 8.0
_SECONDS_TO_SPEAK = 1.0  # on top; a terminal or a disk that hangs must not keep the process


class Stop(KeyboardInterrupt):
    """What a signal that ends the work raises.

    Attributes:
        signum: the signal.
        exit_code: what a shell reports of a command that the signal ended: 130 for SIGINT, 143 for
            SIGTERM.
        message: what to tell the user, see `set_stop_message`.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum
        self.message = message


_stopped_by: int | None = None
_message = STOPPED
_last_words: list[Callable[[int], None]] = []
# Whoever holds it may say that the work was stopped: the thread that ends the process, or the main
# thread once it has left the block.
_speaker = threading.Lock()


def set_stop_message(message: str) -> None:
    """Sets what is printed where a signal ends the work, until the handle_signals block ends."""
    global _message
    _message = message


def stopped_by() -> int | None:
    """Gives the signal that is to end the block that runs, or None."""
    return _stopped_by


def raise_if_stopped() -> None:
    """Raises Stop again where a signal's first one was swallowed."""
    if _stopped_by is not None:
        raise Stop(_stopped_by, _message)


@contextmanager
def call_on_stop(speak: Callable[[int], None]) -> Iterator[None]:
    """Has something called, in a thread, where the process has to leave without unwinding.

    Args:
        speak: is given the signal. It has a second.
    """
    _last_words.append(speak)
    try:
        yield
    finally:
        _last_words.remove(speak)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Makes sure that Ctrl-C and SIGTERM stop the work in the block, and soon.

    The first raises Stop in the main thread. One that happens to be raised inside a callback of
    TensorFlow's is swallowed there; so it is remembered, and the next step of a progress bar raises
    it again, as does what the block raises instead. And Python runs a handler between two of its
    own steps only, so not while the main thread is inside TensorFlow: where the block has not been
    left after `SECONDS_TO_LEAVE`, or on another Ctrl-C, a thread ends the process. That is safe,
    since whatever is written is written beside and renamed.

    In another than the main thread it does nothing, and a signal that the process was started to
    ignore stays ignored.

    Raises:
        Stop: a signal came.
    """
    global _stopped_by, _message
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {each: signal.getsignal(each) for each in SIGNALS}
    heard = [each for each in SIGNALS if previous[each] not in (signal.SIG_IGN, None)]
    if not heard:
        yield
        return
    waker, wakened = socket.socketpair()
    waker.setblocking(False)
    errors = None
    with suppress(OSError):  # a process may have been started without standard error
        # The number itself may lead elsewhere while TensorFlow is kept from writing there.
        errors = os.dup(2)
    left = threading.Event()
    threading.Thread(
        target=_leave_in_time, args=(wakened, errors, left), name="leave in time", daemon=True
    ).start()
    _stopped_by, _message = None, STOPPED
    previous_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    for each in heard:
        signal.signal(each, _stop)
    try:
        yield
    except Exception as error:
        if _stopped_by is None:
            raise
        raise Stop(_stopped_by, _message) from error
    finally:
        for each in heard:
            signal.signal(each, previous[each])
        signal.set_wakeup_fd(previous_waker)
        waker.close()
        with _speaker:
            left.set()
        _stopped_by, _message = None, STOPPED


def _stop(signum: int, _frame: object) -> None:
    global _stopped_by
    if _stopped_by is None:
        _stopped_by = signum
    elif signum == signal.SIGTERM:
        # Batch systems may send it twice, which must not cut short what the first one began.
        return
    raise Stop(_stopped_by, _message)


def _leave_in_time(wakened: socket.socket, errors: int | None, left: threading.Event) -> None:
    """Waits for the numbers of signals, and ends the process where the block is not left in time.

    Args:
        wakened: gives a byte for each signal, and ends when the block is left.
        errors: a copy of standard error, or None.
        left: is set when the block is left.
    """
    first: int | None = None
    deadline = 0.0
    with wakened:
        while True:
            wakened.settimeout(None if first is None else max(deadline - monotonic(), 0.001))
            try:
                numbers = wakened.recv(64)
            except TimeoutError:
                _leave_now(first, errors, left)
                break
            if not numbers:
                break
            for number in numbers:
                if number not in SIGNALS:
                    continue
                if first is None:
                    first, deadline = number, monotonic() + SECONDS_TO_LEAVE
                elif number == signal.SIGINT:
                    _leave_now(first, errors, left)
    if errors is not None:
        os.close(errors)


def _leave_now(signum: int, errors: int | None, left: threading.Event) -> None:
    """Ends the process with its last words; not where the main thread is about to say its own."""

    def speak() -> None:
        if errors is not None:
            # A bar or spinner has hidden the cursor.
            shown = "\n\x1b[?25h" if os.isatty(errors) else ""
            with suppress(OSError):
                os.write(errors, f"{shown}{_message}\n".encode(errors="backslashreplace"))
        for each in list(_last_words):
            each(signum)

    with _speaker:
        if left.is_set():
            return
        with suppress(RuntimeError):  # a process that is ending starts no thread
            speaking = threading.Thread(target=speak, daemon=True)
            speaking.start()
            speaking.join(_SECONDS_TO_SPEAK)
        os._exit(128 + signum)


def leave(exit_code: int) -> NoReturn:
    """Ends the process at once, with what was printed but without waiting for threads.

    Threads that TensorFlow or a pool still runs would be waited for otherwise, however long.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, full or a pipe that nobody reads
            stream.flush()
    os._exit(exit_code)
