"""Time commands that read slices, in this checkout and in another one, in alternation.

The commands: `--version`, `--help`, `predict` of one file, `predict` of many, and the slice index
of labeled slices, read anew and, in a checkout that keeps it, again. Other work on the machine
slows both checkouts down alike, so ratios of processor time (user and system) can be compared best.

    git worktree add ../before COMMIT
    python benchmarks/reading_speed.py --slices 2500 --against ../before

The slices are JPEGs of 650 x 650 pixels: phantoms, each shifted, turned and noisy in its own way.
The last line of the output is one JSON object with the seconds of each round, and the milliseconds
of processor time of each further slice in `predict`, and of each slice in the index.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from processes import HERE, Measured, measure, ratios

from hemorrhage_tf.synthesis.draw import draw_phantom

SIDE = 650  # pixels
DRAWN = 100  # phantoms that the slices are variations of

INDEX = """
import inspect, sys
from pathlib import Path
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
can_keep = "keep_in" in inspect.signature(build_slice_index).parameters
kept = {"keep_in": Path(sys.argv[2])} if can_keep and sys.argv[2] else {}
build_slice_index(read_manifest(sys.argv[1]), Progress(quiet=True), skip_invalid=True, **kept)
"""


def write_slices(folder: Path, count: int) -> Path:
    """Write labeled JPEGs; return their manifest."""
    rng = np.random.default_rng(0)
    drawn = [draw_phantom(0, index, size=224).hounsfield for index in range(min(count, DRAWN))]
    lines = ["path,label"]
    for index in range(count):
        gray = (drawn[index % DRAWN].clip(0, 80) * (255 / 80)).astype(np.uint8)
        image = Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        angle, shift = rng.uniform(-30, 30), rng.uniform(-20, 20, 2)
        pixels = np.asarray(image.rotate(angle, translate=tuple(shift.tolist())), np.float32)
        noisy = (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(noisy).save(path, quality=92)
        lines.append(f"{path.name},{index % 2}")
    manifest = folder / "slices.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def commands(manifest: Path, kept: str) -> dict[str, list[str]]:
    """Return the arguments of Python for each command."""
    program = ["-m", "hemorrhage_tf"]
    images = manifest.parent
    return {
        "--version": [*program, "--version"],
        "--help": [*program, "--help"],
        "predict one": [*program, "predict", str(images / "00000.jpg")],
        "predict all": [*program, "predict", str(images / "*.jpg"), "--json"],
        "index": ["-c", INDEX, str(manifest), ""],
        "index, first kept": ["-c", INDEX, str(manifest), kept],
        "index, kept": ["-c", INDEX, str(manifest), kept],
    }


def main() -> None:
    """Time each command in both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=2500, help="number of slices")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    checkouts = {"this": HERE}
    if options.against is not None:
        checkouts["other"] = options.against.resolve()
    results: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_slices(Path(folder), options.slices)
        for number in range(options.rounds):
            for name, checkout in checkouts.items():
                kept = str(Path(folder, f"kept {name} {number}"))
                for command, arguments in commands(manifest, kept).items():
                    measured = measure(arguments, checkout)
                    results.setdefault(command, {}).setdefault(name, []).append(measured)
                    print(f"{command}, {name}: {measured}", flush=True)
    found = {}
    for command, of_command in results.items():
        if "other" in of_command:
            found[command] = ratios(of_command["other"], of_command["this"])

    def least(command: str) -> float:
        return min(each["processor"] for each in results[command]["this"])

    further = 1000 * (least("predict all") - least("predict one")) / max(options.slices - 1, 1)
    per_slice = {"predict": round(further, 2)}
    per_slice["index"] = round(1000 * least("index") / options.slices, 2)
    print(json.dumps({"results": results, "ratios": found, "milliseconds per slice": per_slice}))


if __name__ == "__main__":
    main()
