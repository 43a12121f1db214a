"""The worker process: read each input, and report the outcome with its time and memory."""

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from fuzzing.mutator import Mutator

# Address space of a worker, in bytes; well above the limit under test.
ADDRESS_SPACE = 12 << 30


def run_worker(corpus: Path, scratch: Path, seed: int) -> None:
    """Read the inputs whose numbers arrive on standard input, and write outcomes as JSON lines."""
    from hemorrhage_tf.core.errors import HemorrhageError
    from hemorrhage_tf.imaging import nifti, readers
    from hemorrhage_tf.imaging.head_crop import crop_head

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # native code must not write between the results
    mutator = Mutator(corpus, seed)
    for file in (corpus / name for name in _smallest_of_each(corpus)):  # triggers late imports
        try:
            readers.read_slice(readers.SliceRef(file))
        except HemorrhageError:
            pass
    base = _memory("VmRSS")
    print(json.dumps({"ready": base}), file=results)
    for line in sys.stdin:
        number = int(line)
        kind, suffix, data = mutator.make(number)
        path = scratch / f"input{suffix}"
        path.write_bytes(data)
        del data
        print(json.dumps({"number": number, "format": kind, "name": path.name}), file=results)
        nifti.decompressed_volumes.clear()  # memory of earlier inputs
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        begin, step, error = time.process_time(), "header", None
        peaks = {}
        try:
            ref = readers.SliceRef(path)
            try:
                header = readers.read_header(path)
                if len(header) > 1:
                    ref = readers.SliceRef(path, 0)
            except HemorrhageError:
                pass
            peaks[step], step = _memory("VmHWM") - base, "slice"
            pixels = readers.read_slice(ref)
            _check_pixels(pixels)
            peaks[step], step = _memory("VmHWM") - base, "crop_head"
            _check_pixels(crop_head(pixels, upright=number % 2 == 0))
            outcome = "read"
            del pixels
        except HemorrhageError:
            outcome = "refused"
        except Exception as raised:
            outcome, error = "other error", "".join(traceback.format_exception(raised))
        peaks[step] = _memory("VmHWM") - base
        done = {"done": outcome, "seconds": time.process_time() - begin, "peaks": peaks}
        print(json.dumps(done | {"error": error}), file=results)
        path.unlink()


def _smallest_of_each(corpus: Path) -> list[str]:
    smallest: dict[str, tuple[int, str]] = {}
    for path in corpus.iterdir():
        entry = (path.stat().st_size, path.name)
        kind = path.name.split(".")[0]
        smallest[kind] = min(smallest.get(kind, entry), entry)
    return [name for kind, (_, name) in smallest.items() if not kind.startswith("bomb")]


def _check_pixels(pixels: np.ndarray) -> None:
    """Assert that a slice has the dtype, shape and finite values that a reader promises."""
    if pixels.dtype == np.float32:
        assert pixels.ndim == 2, pixels.shape
        # The sum is not finite if any value is not, and takes no memory.
        assert np.isfinite(pixels.sum(dtype=np.float64)), "not finite"
    else:
        assert pixels.dtype == np.uint8, pixels.dtype
        assert pixels.ndim == 2 or pixels.shape[2:] == (3,), pixels.shape
    assert pixels.size > 0, pixels.shape


def _memory(field: str) -> float:
    """Return a field of the memory of this process, in MiB."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) / 1024
