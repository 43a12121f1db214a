"""Keep log lines of native libraries off the terminal."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_importing: list[threading.Thread] = []  # of `start_importing_tensorflow`


@contextmanager
def silence_native_output(*descriptors: int) -> Iterator[None]:
    """Hide what native code prints, and print it on standard error if the block fails.

    Args:
        *descriptors: The file descriptors to silence: 1 is standard output, 2 standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved: dict[int, int] = {}
    with tempfile.TemporaryFile() as log:
        try:
            for descriptor in descriptors:
                # A process may have been started without this descriptor.
                with suppress(OSError):
                    saved[descriptor] = os.dup(descriptor)
                    os.dup2(log.fileno(), descriptor)
            yield
        except BaseException:
            _restore(saved)
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            _restore(saved)


def _restore(saved: dict[int, int]) -> None:
    while saved:
        descriptor, original = saved.popitem()
        os.dup2(original, descriptor)
        os.close(original)


def import_tensorflow() -> None:
    """Import TensorFlow without its startup log lines, such as those about missing CUDA drivers.

    It computes with oneDNN on any CPU, unless `TF_ENABLE_ONEDNN_OPTS` is set already. By itself it
    does so only on CPUs with certain instructions. Where a script has imported TensorFlow before,
    that import has decided, and results may differ from a command's in the sixth digit.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with silence_native_output(2), _without_garbage_collection():
        import tensorflow  # noqa: F401
    # At exit Python searches all objects for garbage several times, which takes seconds here.
    atexit.register(gc.freeze)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the collector from searching the many new objects of an import, which all stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def start_importing_tensorflow() -> None:
    """Import TensorFlow in a thread, beside work that leaves cores idle.

    What this program prints meanwhile stays visible. Importing it again waits for the thread, and
    raises the error if there was one.
    """
    if "tensorflow" not in sys.modules:
        _importing.append(threading.Thread(target=_import_aside))
        _importing[-1].start()


def is_tensorflow_imported() -> bool:
    """Return whether TensorFlow can be used without waiting for its import."""
    return "tensorflow" in sys.modules and not any(thread.is_alive() for thread in _importing)


def _import_aside() -> None:
    original = sys.stderr
    if original is not sys.__stderr__:  # a notebook's, which is visible in any case
        with suppress(Exception):
            import_tensorflow()
        return
    # Kept open: a progress bar that began meanwhile writes to it later.
    visible = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    sys.stderr = visible
    try:
        with suppress(Exception):
            import_tensorflow()
    finally:
        if sys.stderr is visible:
            sys.stderr = original
