"""Time fits in this checkout and in another one, in alternation.

The fits: DATA in 5 x 5 folds with all features cached, and without DATA first and again. Other work
on the machine slows both checkouts down alike, so ratios of processor time can be compared best.

    git worktree add ../before COMMIT
    python benchmarks/fit_side_by_side.py --against ../before [DATA [OPTIONS ...]]

OPTIONS are those of `hemorrhage-tf fit`, such as --backbone phantomnet. The last line of the output
is one JSON object: for each fit wall seconds, processor seconds and peak memory, and the ratios of
the other checkout to this one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from processes import HERE, Measured, measure, ratios


def main() -> None:
    """Time each fit in both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="data for `fit`; None for phantoms only")
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cache", help="folder of a feature cache that is kept")
    options, further = parser.parse_known_args()
    checkouts = {"this": HERE, "other": options.against.resolve()}
    results: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def run(fit: str, name: str, number: int, cache: str, *arguments: str) -> None:
            out = str(Path(folder, f"{name} {fit} {number}"))
            command = ["-m", "hemorrhage_tf", "fit", *arguments, "--out", out, "--cache", cache]
            measured = measure(command, checkouts[name])
            print(f"{fit}, {name}: {measured}", flush=True)
            results.setdefault(fit, {}).setdefault(name, []).append(measured)

        for number in range(options.rounds):
            for name in checkouts:
                cache = str(Path(folder, f"cache {name} {number}"))
                run("phantoms, first", name, number, cache)
                run("phantoms, again", name, number, cache)
        if options.data is not None:
            arguments = [str(Path(options.data).resolve()), "--folds", "5", "--repeats", "5"]
            arguments += further
            for number in range(-1, options.rounds):
                for name in checkouts:
                    cache = options.cache or str(Path(folder, f"cache {name}"))
                    # The first round fills the cache.
                    run("5 x 5" if number >= 0 else "5 x 5, first", name, number, cache, *arguments)
    units = ("wall", "processor", "memory")
    of_fits = {
        fit: ratios(measured["other"], measured["this"], units) for fit, measured in results.items()
    }
    print(json.dumps({"fits": results, "ratios": of_fits}))


if __name__ == "__main__":
    main()
