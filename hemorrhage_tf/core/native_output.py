"""Keep what native libraries print off the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def silence_native_output(*descriptors: int) -> Iterator[None]:
    """Keeps off the terminal what native code writes past Python; shows it where the block fails.

    Args:
        *descriptors: the file descriptors, 1 for standard output and 2 for standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved: dict[int, int] = {}
    with tempfile.TemporaryFile() as log:
        try:
            for descriptor in descriptors:
                # A process may have been started without one; then there is nothing to keep clean.
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
    """Imports TensorFlow without the log lines that it writes before it can be configured.

    They say on every start that there is no CUDA driver.
    """
    with silence_native_output(2):
        import tensorflow  # noqa: F401
