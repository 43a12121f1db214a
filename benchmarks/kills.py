"""Kill fits at random moments, resume them, and compare the results with an undisturbed fit.

Each fit is killed with SIGKILL at random moments and resumed until it ends. Then the next fit
starts with an empty cache, until the requested number of kills is reached. After each kill, the run
folder must be complete or absent, and cached features must still be there and must not be computed
again. At the end of each fit, metrics, predictions, split and history must have the bytes of the
undisturbed fit, and the model its weights.

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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from hemorrhage_tf.training.features.shards import Block

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


@dataclass(frozen=True)
class Request:
    """A fit to run or to resume.

    Attributes:
        data: The slices.
        out: The run folder.
        cache: The folder of the feature cache.
        computed: A file to which the keys of computed features are appended.
    """

    data: Path
    out: Path
    cache: Path
    computed: Path


def serve(requests: Connection) -> None:
    """Fork a process for each fit, so that TensorFlow is imported only once.

    TensorFlow must not compute before a fork, because its threads do not survive it.
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
            work(request)
        requests.send(child)
        _, status = os.waitpid(child, 0)
        requests.send(status)


def work(request: Request) -> NoReturn:
    """Fit or resume in a process of its own."""
    from hemorrhage_tf.training import checkpoint
    from hemorrhage_tf.training.features import extraction
    from hemorrhage_tf.training.features.cache import FeatureCache
    from hemorrhage_tf.verbs.fit import fit

    # Many shards and many checkpoints, so that a kill can damage many files.
    extraction.FLUSH_SECONDS = 0.02
    checkpoint.SAVE_SECONDS = 0.0
    append = FeatureCache.append

    def logged(self: FeatureCache, keys: np.ndarray, rows: np.ndarray) -> Block | None:
        block = append(self, keys, rows)
        with open(request.computed, "ab") as file:
            file.write(keys.tobytes())
        return block

    FeatureCache.append = logged  # type: ignore[method-assign]
    status = 1
    try:
        if checkpoint.read_checkpoint_header(request.out) is not None:
            fit(resume=request.out, cache=request.cache, quiet=True)
        else:
            settings: dict[str, Any] = {"overwrite": True, "quiet": True, **SETTINGS}
            fit(request.data, out=request.out, cache=request.cache, **settings)
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def contents(run: Path) -> dict[str, str]:
    """Return hashes of the files that must be equal, and of the model's weights."""
    import h5py

    hashes = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in COMPARED}
    with zipfile.ZipFile(run / "model.keras") as archive:
        digest = hashlib.sha256()
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            names: list[str] = []
            weights.visititems(
                lambda name, each: names.append(name) if isinstance(each, h5py.Dataset) else None
            )
            for name in sorted(names):
                digest.update(name.encode() + weights[name][()].tobytes())
        hashes["weights"] = digest.hexdigest()
    return hashes


def cached_keys(cache: Path) -> set[bytes]:
    """Return the keys of all rows in complete shards."""
    keys: set[bytes] = set()
    for path in cache.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as shard:
            keys.update(row.tobytes() for row in shard["keys"])
    return keys


class Server:
    """A process that forks a process for each fit."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=serve, args=(child_pipe,))
        self._process.start()
        self._pipe.recv()

    def fit(self, request: Request, kill_after: float | None = None) -> bool:
        """Run a fit, and return whether it ended before it was killed."""
        self._pipe.send(request)
        child = self._pipe.recv()
        if kill_after is not None and not self._pipe.poll(kill_after):
            os.kill(child, signal.SIGKILL)
        status = self._pipe.recv()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("a resumed fit failed; see above")
        return os.WIFEXITED(status)

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


class Killer:
    """Kills and resumes one fit after another, and checks every state on disk.

    Args:
        server: Runs the fits.
        data: The slices.
        seconds: The duration of an undisturbed fit.
        expected: Its hashes, see `contents`.
        rng: Chooses the moments of the kills.

    Attributes:
        kills: Number of kills so far.
        repeated: Number of features that were computed again although they were in the cache.
    """

    def __init__(
        self,
        server: Server,
        data: Path,
        seconds: float,
        expected: dict[str, str],
        rng: random.Random,
    ) -> None:
        self.kills = 0
        self.repeated = 0
        self._server = server
        self._data = data
        self._seconds = seconds
        self._expected = expected
        self._rng = rng

    def run(self, folder: Path, number: int) -> None:
        """Kill and resume one fit until it ends."""
        request = Request(
            data=self._data,
            out=folder / f"run-{number}",
            cache=folder / f"cache-{number}",
            computed=folder / f"computed-{number}",
        )
        cached: set[bytes] = set()
        log_size = 0
        while True:
            has_ended = self._server.fit(request, self._rng.uniform(0, 1.1 * self._seconds))
            log = request.computed.read_bytes() if request.computed.exists() else b""
            computed = [log[i : i + 16] for i in range(log_size, len(log), 16)]
            log_size = len(log)
            self.repeated += sum(key in cached for key in computed)
            now = cached_keys(request.cache)
            assert cached <= now, "features that were in the cache are gone"
            cached = now
            if has_ended:
                break
            self.kills += 1
            if request.out.exists():
                assert contents(request.out) == self._expected, "the run folder is incomplete"
        assert contents(request.out) == self._expected, "the result differs"
        names = sorted(path.name for path in folder.glob(f"*{request.out.name}*"))
        assert names == [request.out.name], f"leftovers: {names}"
        shutil.rmtree(request.cache)
        shutil.rmtree(request.out)


def main() -> None:
    """Kill fits, and compare the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import hemorrhage_tf as htf

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = htf.phantoms(folder / "data", options.slices, 3, size=64, quiet=True)
        server = Server()
        request = Request(data, folder / "whole", folder / "cache", folder / "computed")
        server.fit(request)
        start = time.monotonic()
        server.fit(request)
        seconds = time.monotonic() - start
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        rng = random.Random(options.seed)
        killer = Killer(server, data, seconds, contents(request.out), rng)
        number = 0
        while killer.kills < options.kills:
            killer.run(folder, number)
            number += 1
            print(f"{killer.kills} kills, {number} fits, all with the same bytes", flush=True)
        server.close()
        print(f"features that were computed again although cached: {killer.repeated}")
        assert not killer.repeated


if __name__ == "__main__":
    main()
