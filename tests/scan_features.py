"""Features of made-up scans, for tests of scan models without phantoms."""

import numpy as np

from hemorrhage_tf.training.pretraining.scan_samples import ScanFeatures


def made_up_scans(heads: int, width: int = 12, seed: int = 0) -> ScanFeatures:
    """Return scans of noise: of each head one without and one with a raised first feature."""
    rng = np.random.default_rng(seed)
    features, positions, labels, scans, display = [], [], [], [], []
    for head in range(heads):
        count = int(rng.integers(20, 30))
        own = rng.normal(size=(count, width)).astype(np.float32)
        blood = np.zeros(count, np.uint8)
        middle = int(rng.integers(2, count - 2))
        blood[middle - 1 : middle + 2] = 1
        for scan in (0, 1):
            features.append(own + scan * 4.0 * blood[:, np.newaxis] * (np.arange(width) == 0))
            positions.append(np.arange(count) * 5.0)
            labels.append(blood * np.uint8(scan))
            scans.append(np.full(count, 2 * head + scan))
            display.append(np.full(count, head % 2 == 1))
    return ScanFeatures(
        features=np.concatenate(features).astype(np.float32),
        positions=np.concatenate(positions),
        labels=np.concatenate(labels),
        scans=np.concatenate(scans),
        display=np.concatenate(display),
    )


def first_feature_head(width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of a slice head that looks at the first feature alone."""
    kernel = np.zeros((width, 1), np.float32)
    kernel[0] = 2.0
    return kernel, np.array([-4.0], np.float32)
