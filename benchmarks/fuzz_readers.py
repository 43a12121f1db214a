"""Feed damaged and hostile files to the readers: each must be read or rejected.

The files packaged with pydicom and small generated ones are mutated: flipped and missing bytes,
headers that declare huge sizes, swapped chunks, spliced files, decompression bombs. A worker
process reads header, slice and head crop of each. Crashes, hangs, exceptions other than
HemorrhageError and memory over the limit are counted; the exit status is 1 if there was any.
Seconds are processor time.

    python benchmarks/fuzz_readers.py [--count 20000] [--seed 0] [--memory-mib 1024] [--keep DIR]

An input depends only on the seed and its number: `--first 4711 --count 1` repeats one.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.runner import Fuzz
from fuzzing.worker import run_worker


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["--worker"]:
        run_worker(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20000, help="number of inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-mib", type=float, default=1024, help="limit over an idle worker")
    parser.add_argument("--keep", type=Path, help="folder for inputs that failed")
    arguments = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), arguments.keep, arguments.seed, arguments.memory_mib)
        files = len(list(fuzz.corpus.iterdir()))
        print(f"{files} files to mutate, created in {time.monotonic() - begin:.0f} s", flush=True)
        fuzz.run(range(arguments.first, arguments.first + arguments.count))
    print(fuzz.table())
    steps = ", ".join(f"{step} {peak:.0f}" for step, peak in fuzz.steps.items())
    print(f"highest peak by step, MiB: {steps}")
    load = os.getloadavg()[1]
    print(f"{time.monotonic() - begin:.0f} s in total, load average {load:.1f}")
    sys.exit(1 if fuzz.failures else 0)


if __name__ == "__main__":
    main()
