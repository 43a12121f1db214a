"""Keep what converters and quantizers print off the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from hemorrhage_tf.core.native_output import silence_native_output


@contextlib.contextmanager
def silence_converter() -> Iterator[None]:
    """Hide log lines, warnings and prints of a converter or quantizer."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with silence_native_output(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(os.devnull, "w") as nowhere:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    yield
    finally:
        logging.disable(level)
