"""Times a backbone as it is, folded, and folded in bfloat16: milliseconds a slice, and the error.

The registry's `bfloat16_is_faster` rests on what this prints.

    python benchmarks/precision.py [BACKBONE...]
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from hemorrhage_tf.models.backbones import BACKBONES, build_backbone
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import build_feature_model

BATCH = 32
ROUNDS = 4


def measure(backbone, normalization: str, images) -> tuple[np.ndarray, float]:
    """Gives the features of the images, and milliseconds a slice, the best of some rounds."""
    model = build_feature_model(backbone, normalization)
    forward = tf.function(lambda batch: model(batch, training=False))
    features = forward(images).numpy()
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        forward(images).numpy()
        seconds.append(time.perf_counter() - begin)
    return features, min(seconds) / BATCH * 1000


print(f"{'backbone':<20} {'as it is':>9} {'folded':>9} {'bfloat16':>9}   mean error of bfloat16")
for name in sys.argv[1:] or BACKBONES:
    spec = BACKBONES[name]
    size = spec.image_size
    backbone = build_backbone(name, "none", size)
    images = tf.random.stateless_uniform((BATCH, size, size, 3), (0, 0)) * 255
    exact, plain = measure(backbone, spec.normalization, images)
    _, folded = measure(fold_batch_normalization(backbone, "float32"), spec.normalization, images)
    mixed, bfloat16 = measure(
        fold_batch_normalization(backbone, "mixed_bfloat16"), spec.normalization, images
    )
    error = np.abs(mixed - exact).mean() / np.abs(exact).mean()
    print(f"{name:<20} {plain:9.1f} {folded:9.1f} {bfloat16:9.1f}   {error:.1%}", flush=True)
