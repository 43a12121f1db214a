"""Small samples for tests of pretraining."""

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.pretraining.samples import Samples, draw_sample
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings

QUIET = Progress(quiet=True)
SMALL = PretrainingSettings(
    count=12,
    epochs=2,
    hard_from=1,
    head_scans=10,
    test_count=12,
    batch_size=4,
    warmup=1,
    specificity=0.5,
)


def noise_samples(count: int, side: int) -> Samples:
    """Return noise of any size, for tests that need no anatomy."""
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 256, (count, side // 8, side // 8, 7), np.uint8)
    return Samples(
        images=rng.integers(0, 256, (count, side, side), np.uint8),
        maps=np.where(rng.random(maps.shape) < 0.2, maps, 0).astype(np.uint8),
        labels=np.arange(count, dtype=np.uint8) % 2,
        blood=np.zeros(count, np.uint8),
        pointable=np.zeros((count, side, side // 8), np.uint8),
    )


def small_samples(count: int = 12) -> Samples:
    """Draw samples without files."""
    rows = [draw_sample(0, index) for index in range(count)]
    return Samples(**{name: np.stack([row[name] for row in rows]) for name in rows[0]})
