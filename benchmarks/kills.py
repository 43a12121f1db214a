"""Kills a fit with folds at random moments, again and again, and resumes it each time.

Every fit is killed with SIGKILL at a random moment of its work until it has been killed so often
that it comes to its end; then the next one begins, with an empty cache, until there were as many
kills as were asked for. It checks after each kill that there is no torn run folder, that features
that were in the cache before are still there and are not computed again, and at each end that
metrics, predictions, split and history have the bytes of the fit that nobody disturbed, and the
model its weights.

    python benchmarks/kills.py --kills 200
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

COMPARED = ("metrics.json", "predictions.csv", "split.csv", "history.csv")
SETTINGS = {
    "backbone": "tiny",
    "weights": "none",
    "image_size": 32,
    "views": 4,
    "folds": 5,
    "repeats": 2,
    "solver": "adam",
    "epochs": 6,
    "audit": False,
}


def serve(requests) -> None:
    """Forks a process for each fit, so that TensorFlow's import is paid for only once.

    TensorFlow is imported, and not used, before a fork: its threads do not survive one.
    """
    from hemorrhage_tf.core.native_output import import_tensorflow

    import_tensorflow()
    import keras  # noqa: F401
    import keras_cv  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    requests.send("ready")
    while True:
        request = requests.recv()
        if request is None:
            return
        child = os.fork()
        if child == 0:
            work(*request)
        requests.send(child)
        _, status = os.waitpid(child, 0)
        requests.send(status)


def work(data: Path, out: Path, cache: Path, began: Path) -> None:
    """Fits, or goes on with a fit, in a process of its own; never returns."""
    from hemorrhage_tf.training import checkpoint
    from hemorrhage_tf.training.features.extraction import cache, extraction
    from hemorrhage_tf.verbs import fit

    # Many shards and many states, so that there is much to be torn.
    extraction._FLUSH_SECONDS = 0.02
    checkpoint.SAVE_SECONDS = 0.0
    append = cache.FeatureCache.append

    def logged(self, keys, rows):
        block = append(self, keys, rows)
        with open(began, "ab") as file:
            file.write(b"".join(keys))
        return block

    cache.FeatureCache.append = logged
    status = 1
    try:
        if checkpoint.read_checkpoint_header(out) is not None:
            fit.fit(resume=out, cache=cache, quiet=True)
        else:
            fit.fit(data, out=out, overwrite=True, cache=cache, quiet=True, **SETTINGS)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def contents(run: Path) -> dict[str, str]:
    """Gives hashes of what has to be the same, the model's weights among it."""
    import h5py

    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in COMPARED}
    with zipfile.ZipFile(run / "model.keras") as archive:
        digest = hashlib.sha256()
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            names: list[str] = []
            weights.visititems(
                lambda name, each: names.append(name) if isinstance(each, h5py.Dataset) else None
            )
            for name in sorted(names):
                digest.update(name.encode() + weights[name][()].tobytes())
        found["weights"] = digest.hexdigest()
    return found


def cached_keys(cache: Path) -> set[bytes]:
    """Gives the keys of all rows in whole shards."""
    import numpy as np

    keys: set[bytes] = set()
    for path in cache.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as shard:
            keys.update(row.tobytes() for row in shard["keys"])
    return keys


class Server:
    """A process that forks fits."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,))
        self.process.start()
        self.pipe.recv()

    def fit(self, *request, kill_after: float | None) -> bool:
        """Runs a fit; says whether it came to its end."""
        self.pipe.send(request)
        child = self.pipe.recv()
        if kill_after is not None and not self.pipe.poll(kill_after):
            os.kill(child, signal.SIGKILL)
        status = self.pipe.recv()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("a resumed fit failed; see above")
        return os.WIFEXITED(status)

    def close(self) -> None:
        """Ends the process."""
        self.pipe.send(None)
        self.process.join()


def main() -> None:
    """Kills fits, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)

    import hemorrhage_tf as htf

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data = htf.phantoms(place / "data", options.slices, 3, size=64, quiet=True)
        server = Server()
        began = place / "began"
        server.fit(data, place / "whole", place / "cache", began, kill_after=None)
        begin = time.monotonic()
        server.fit(data, place / "whole", place / "cache", began, kill_after=None)
        seconds = time.monotonic() - begin
        expected = contents(place / "whole")
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        kills = ends = twice = 0
        while kills < options.kills:
            out, cache = place / f"run-{ends}", place / f"cache-{ends}"
            began.unlink(missing_ok=True)
            known: set[bytes] = set()
            while True:
                before = began.stat().st_size if began.exists() else 0
                done = server.fit(
                    *(data, out, cache, began), kill_after=chance.uniform(0, 1.1 * seconds)
                )
                computed = began.read_bytes()[before:] if began.exists() else b""
                rows = [computed[i : i + 16] for i in range(0, len(computed), 16)]
                twice += sum(row in known for row in rows)
                now = cached_keys(cache)
                assert known <= now, "features that were in the cache are gone"
                known = now
                if done:
                    break
                kills += 1
                if out.exists():
                    assert contents(out) == expected, "a run folder that is not whole"
            assert contents(out) == expected, "another result than the undisturbed fit's"
            left = sorted(path.name for path in place.glob(f"*{out.name}*"))
            assert left == [out.name], f"leftovers: {left}"
            shutil.rmtree(cache)
            shutil.rmtree(out)
            ends += 1
            print(f"{kills} kills, {ends} fits ended, all with the same bytes", flush=True)
        server.close()
        print(f"features computed again though they were in the cache: {twice}")
        assert not twice


if __name__ == "__main__":
    main()
