"""A worker for the tests of `cluster`: `cluster_worker.py FOLDER TASKS...`.

It writes its results to `FOLDER/INDEX.json`, and the trained weights to `FOLDER/INDEX.npz`.
Importing this file does not import TensorFlow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import HemorrhageError

EPOCHS, BATCH_SIZE, COUNT, SIDE, WIDTH = 5, 8, 37, 16, 6


def samples(kind: str):
    """Return inputs, labels and weights of 37 samples: four batches of 8, and one of 5."""
    rng = np.random.default_rng(0)
    shape = (COUNT, WIDTH) if kind == "head" else (COUNT, SIDE, SIDE, 3)
    inputs = rng.normal(size=shape).astype(np.float32)
    if kind != "head":
        inputs = np.clip(inputs * 60 + 128, 0, 255)
    labels = (inputs.reshape(COUNT, -1).mean(axis=1) > inputs.mean()).astype(np.float32)
    return inputs, labels, rng.uniform(0.5, 2, COUNT).astype(np.float32)


def build(kind: str):
    """Build a dense head, or a tiny backbone with a head, in the current strategy's scope."""
    import keras

    from hemorrhage_tf.models.backbones import build_backbone
    from hemorrhage_tf.models.classifier import build_head

    if kind == "head":
        return build_head(WIDTH, 0.0)
    backbone = build_backbone("tiny", "none", SIDE, None, 0)
    backbone.trainable = True
    for layer in backbone.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = backbone(keras.layers.Rescaling(1 / 128, -1)(inputs))
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros")(pooled))


def train(kind: str, cluster):
    """Train with the project's loop on the shards of the cluster.

    Returns:
        The trainable weights and the loss of each epoch.
    """
    import tensorflow as tf

    from hemorrhage_tf.training.loop import Loop, Samples, Stage, batches

    strategy = cluster.strategy
    with strategy.scope():
        model = build(kind)
    inputs, labels, weights = samples(kind)

    loop = Loop(model, 0.01, strategy)

    def epoch_of(epoch: int) -> Samples:
        order = np.random.default_rng([3, epoch]).permutation(COUNT)

        def inputs_of(chosen: np.ndarray):
            return tf.data.Dataset.from_tensor_slices(inputs[order[chosen]])

        return batches(inputs_of, labels[order], weights[order], BATCH_SIZE, cluster)

    history = loop.train(Stage(kind, EPOCHS, epoch_of))
    return [v.numpy() for v in model.trainable_variables], [row["loss"] for row in history]


def talk(cluster, folder: Path) -> dict:
    """Call every method by which workers communicate, and return the results."""
    numbers = np.random.default_rng(cluster.index).normal(0, 1000, (5, 7))
    sums = {
        dtype: cluster.all_sum(numbers.astype(dtype)).tobytes().hex()
        for dtype in ("float32", "float64", "int64")
    }
    results = {"sums": sums, "texts": cluster.gather_texts("äx" * 5 * cluster.index)}
    cluster.barrier()
    cluster.require_agreement({"version": "1", "data": "abc"})
    cluster.check_shared(folder / "shared" / "new")
    cluster.barrier()
    results["leftovers"] = [path.name for path in (folder / "shared" / "new").iterdir()]
    own = folder / f"own {cluster.index}"
    own.mkdir()
    file = folder / "a file"
    file.write_text("")
    for name, ask in {
        "differ": lambda: cluster.require_agreement(
            {"version": "1", "data": "0123456789" * 3 * cluster.index}
        ),
        "not shared": lambda: cluster.check_shared(own / "cache"),
        "not writable": lambda: cluster.check_shared(file / "cache"),
    }.items():
        try:
            ask()
        except HemorrhageError as error:
            results[name] = f"{type(error).__name__}: {error}"
    return results


def main() -> None:
    folder, tasks = Path(sys.argv[1]), sys.argv[2:]
    from hemorrhage_tf.training.distributed import cluster as cluster_module
    from hemorrhage_tf.training.distributed.cluster_spec import read_cluster

    cluster_module.SHARED_FILE_SECONDS = 0.5
    cluster = cluster_module.join_cluster(read_cluster(), wait_seconds=200)
    results: dict = {"replicas": cluster.strategy.num_replicas_in_sync}
    assert cluster_module.join_cluster(read_cluster()) is cluster
    if "talk" in tasks:
        results |= talk(cluster, folder)
    weights = {}
    for kind in ("head", "tiny"):
        if kind in tasks:
            trained, results[f"{kind} losses"] = train(kind, cluster)
            weights |= {f"{kind} {index}": each for index, each in enumerate(trained)}
            # Work of this worker only, next to the strategy over all workers.
            local = cluster.local_strategy()
            with local.scope():
                model = build(kind)
            for _ in cluster.part(COUNT):
                model(samples(kind)[0][:1])
            results["local replicas"] = local.num_replicas_in_sync
    np.savez(folder / f"{cluster.index}.npz", **weights)
    if "die" in tasks:
        import time

        cluster.barrier()
        if cluster.index == cluster.count - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        begin = time.monotonic()
        try:
            with cluster.explain_worker_loss():
                cluster.barrier()
        except HemorrhageError as error:
            results["lost"] = str(error)
            results["seconds"] = time.monotonic() - begin
    else:
        cluster.barrier()
    (folder / f"{cluster.index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
