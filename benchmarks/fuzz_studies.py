"""Predict mutated studies with DICOM results: each must be answered, and all that is written valid.

Studies of three slices get wrong values, in one file or in all: texts that are too long or of
another character set, UIDs, dates and numbers that are not, other orientations and modalities, and
flipped bytes. A study is answered if its results are written or a HemorrhageError says why not.
Objects must be read by pydicom, and pass `dciodvfy` where it is installed. The exit status is 1
otherwise.

    python benchmarks/fuzz_studies.py [--count 5000] [--seed 0] [--minutes 60]

A study depends only on the seed and its number: `--first 4711 --count 1` repeats one.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing.studies import ConstantModel, draw_slices, run_one


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000, help="number of studies")
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="start no study after so long")
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    failures = 0
    begin = time.process_time()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, slices = ConstantModel(folder / "model"), draw_slices()
        for number in range(arguments.first, arguments.first + arguments.count):
            if arguments.minutes and time.monotonic() - start > 60 * arguments.minutes:
                break
            outcome, problem = run_one(slices, arguments.seed, number, model, folder)
            outcomes[outcome] += 1
            if problem:
                failures += 1
                print(f"study {number}: {problem}", flush=True)
    for outcome, count in outcomes.most_common():
        print(f"{outcome:20} {count:6}")
    print(f"{failures} failures; {time.process_time() - begin:.0f} s of processor time")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
