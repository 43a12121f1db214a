"""Compare the speed of `hemorrhage-tf fit` with that of a plain Keras script of the same task.

Full ResNet152 without weights, an 80/20 split, 10 epochs; `fit` with 4 views and with one, and with
4 once more when all features are cached. Each runs in a process of its own, imports included.

    python benchmarks/fit_speed.py DATA [--slices 40] [--epochs 10]

The last line of the output is one JSON object: wall and processor seconds, peak memory, and the
ratios of the plain script to each fit.
"""

import argparse
import csv
import json
import shutil
import tempfile
from pathlib import Path

from processes import HERE, Measured, measure, ratios

PLAIN_SCRIPT = HERE / "examples" / "plain_keras.py"
OPTIONS = ("--weights", "none", "--solver", "adam", "--no-audit", "--calibration", "none")


def take_slices(data: Path, folder: Path, count: int) -> Path:
    """Copy the first slices of each class, the same number of both."""
    with open(data / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    of_class = {
        label: [row["id"] for row in rows if row["hemorrhage"].strip() == label] for label in "01"
    }
    (folder / "head_ct").mkdir(parents=True)
    lines = ["id,hemorrhage"]
    for number in range(count):
        label = "01"[number % 2]
        name = int(of_class[label][number // 2])
        shutil.copy(data / "head_ct" / f"{name:03d}.png", folder / "head_ct")
        lines.append(f"{name},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def main() -> None:
    """Run the fits with an empty and a filled cache, and the plain script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with labels.csv and head_ct/*.png")
    parser.add_argument("--slices", type=int, help="number of slices; all by default")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    results: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = options.data.resolve()
        if options.slices:
            data = take_slices(data, Path(folder, "data"), options.slices)
        epochs = ["--epochs", str(options.epochs)]
        fit = ["-m", "hemorrhage_tf", "fit", str(data), *OPTIONS, *epochs]
        for name, cache, views in (
            ("fit, nothing cached", "four", "4"),
            ("fit, all cached", "four", "4"),
            ("fit with one view, nothing cached", "one", "1"),
        ):
            out = ["--out", str(Path(folder, name)), "--cache", str(Path(folder, cache))]
            results[name] = measure([*fit, "--views", views, *out])
            print(f"{name}: {results[name]}", flush=True)
        plain = measure([str(PLAIN_SCRIPT), str(data), "--weights", "none", *epochs])
        print(f"plain Keras script: {plain}", flush=True)
    units = ("wall", "processor", "memory")
    found = {name: ratios([plain], [each], units) for name, each in results.items()}
    print(json.dumps({"results": {**results, "plain script": plain}, "ratios": found}))


if __name__ == "__main__":
    main()
