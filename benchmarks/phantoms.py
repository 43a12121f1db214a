"""Measure phantoms per second in Hounsfield units, drawn by one process and by several.

python benchmarks/phantoms.py [PROCESSES]
"""

import os
import sys
import time

from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes

SECONDS = 10
SIZES = (128, 224, 512)


def draw_for(seconds: float, size: int, first: int) -> int:
    """Draw phantoms for some time and return how many were drawn."""
    draw_phantom(0, first, size=size)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        draw_phantom(1, first + count, size=size)
        count += 1
    return count


def main() -> None:
    """Print a line for each size and number of processes."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    print(f"{'size':>5} {'processes':>10} {'per second':>11}")
    for size in SIZES:
        for workers in sorted({1, most}):
            with drawing_processes(workers) as executor:
                # Start all processes before the measurement.
                list(executor.map(draw_for, [0.2] * workers, [64] * workers, range(workers)))
                firsts = [100_000 * number for number in range(workers)]
                counts = executor.map(draw_for, [SECONDS] * workers, [size] * workers, firsts)
                print(f"{size:>5} {workers:>10} {sum(counts) / SECONDS:>11.1f}", flush=True)


if __name__ == "__main__":
    main()
