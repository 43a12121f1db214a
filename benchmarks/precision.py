"""Measure backbones unfolded, folded, and folded in bfloat16: milliseconds a slice, and the error.

The registry's `bfloat16_is_faster` comes from this table.

    python benchmarks/precision.py [BACKBONE...]
"""

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in commands

import numpy as np
import tensorflow as tf

from hemorrhage_tf.models.backbones import BACKBONES, build_backbone
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import build_feature_model

BATCH = 32
ROUNDS = 4


def measure(backbone: Any, normalization: str, images: Any) -> tuple[np.ndarray, float]:
    """Return the features of the images, and milliseconds a slice in the fastest round."""
    model = build_feature_model(backbone, normalization)
    forward = tf.function(lambda batch: model(batch, training=False))
    features = forward(images).numpy()
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        forward(images).numpy()
        seconds.append(time.perf_counter() - begin)
    return features, min(seconds) / BATCH * 1000


def main() -> None:
    """Measure the named backbones, or all; print a table, and one JSON object at the end."""
    print(f"{'backbone':<20} {'unfolded':>9} {'folded':>9} {'bfloat16':>9}   mean bfloat16 error")
    results = {}
    for name in sys.argv[1:] or BACKBONES:
        spec = BACKBONES[name]
        size = spec.image_size
        backbone = build_backbone(name, "none", size)
        images = tf.random.stateless_uniform((BATCH, size, size, 3), (0, 0)) * 255
        exact, unfolded = measure(backbone, spec.normalization, images)
        folded_backbone = fold_batch_normalization(backbone, "float32")
        _, folded = measure(folded_backbone, spec.normalization, images)
        mixed_backbone = fold_batch_normalization(backbone, "mixed_bfloat16")
        mixed, bfloat16 = measure(mixed_backbone, spec.normalization, images)
        error = np.abs(mixed - exact).mean() / np.abs(exact).mean()
        print(f"{name:<20} {unfolded:9.1f} {folded:9.1f} {bfloat16:9.1f}   {error:.1%}", flush=True)
        results[name] = {"unfolded": unfolded, "folded": folded, "bfloat16": bfloat16}
    print(json.dumps({"milliseconds": results}))


if __name__ == "__main__":
    main()
