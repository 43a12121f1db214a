import numpy as np
from phantom_heads import drawn_head


def midline(level: float) -> np.ndarray:
    """Return the mean HU along the midline, less that of the brain next to it, of 8 heads."""
    differences = []
    for seed in range(8):
        head = drawn_head(seed, level, size=192)
        front = (head.canvas.y < -0.5 * head.half_length) & (head.inside > 8)
        falx = front & (np.abs(head.canvas.x) < 0.7)
        near = front & (np.abs(head.canvas.x) > 10) & (np.abs(head.canvas.x) < 25)
        values = head.canvas.hounsfield
        differences.append(np.percentile(values[falx], 80) - np.median(values[near]))
    return np.array(differences)


def test_the_falx_is_denser_than_brain():
    assert np.mean(midline(0.7)) > 2


def test_the_sagittal_sinus_lies_behind():
    head = drawn_head(level=0.6, size=192)
    sinus = (
        (np.abs(head.canvas.x) < 2) & (head.canvas.y > 0) & (head.inside > 1) & (head.inside < 5)
    )
    assert np.median(head.canvas.hounsfield[sinus]) > 38
