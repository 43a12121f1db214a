import functools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.models.scan_core import DIRECTIONS
from hemorrhage_tf.training import scan_loop
from hemorrhage_tf.training.scan_loop import ScanLoop
from hemorrhage_tf.training.scan_samples import ScanSamples


def draw_scans(count: int, seed: int, is_weak: bool = False) -> ScanSamples:
    """Draw scans; a hemorrhage raises the noisy logits of five neighbors, and one direction."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 40, count)
    scan_labels = np.arange(count) % 2
    inputs, labels = [], []
    for length, label in zip(lengths, scan_labels, strict=True):
        blood = np.zeros(length, np.int64)
        if label:
            begin = rng.integers(0, length - 5)
            blood[begin : begin + 5] = 1
        seen = rng.normal(size=(length, 1 + DIRECTIONS))
        seen[:, 0] += 2.0 * blood - 1
        seen[:, 1] += 2.0 * blood
        inputs.append(seen)
        labels.append(blood)
    return ScanSamples(
        inputs=np.concatenate(inputs)[:, np.newaxis].astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        positions=np.full(lengths.sum(), np.nan),
        labels=np.concatenate(labels),
        is_known=np.repeat(scan_labels == 0, lengths) if is_weak else np.ones(sum(lengths), bool),
        scan_labels=scan_labels,
    )


NEW = draw_scans(60, seed=1)
ALONE = roc_auc_score(NEW.labels, NEW.inputs[:, 0, 0])
HIGHEST = roc_auc_score(
    NEW.scan_labels, [NEW.inputs[NEW.rows(scan), 0, 0].max() for scan in range(60)]
)


@pytest.fixture(scope="module")
def loops():
    """Loops of each kind, made when they are needed."""
    return functools.cache(ScanLoop)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(scan_loop, "STEPS", 40)


@pytest.mark.parametrize(
    "kind",
    ["pooling", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("attention", "gru"))],
)
@pytest.mark.parametrize("is_weak", [False, True])
def test_a_trained_model_is_better_than_the_highest_slice_alone(loops, kind, is_weak):
    loops(kind).train(draw_scans(60, seed=0, is_weak=is_weak))
    scans, slices = loops(kind).predict(NEW)
    assert roc_auc_score(NEW.labels, slices) > ALONE + 0.03
    assert roc_auc_score(NEW.scan_labels, scans) > HIGHEST + 0.03


@pytest.mark.slow
def test_a_training_does_not_depend_on_those_before_it(loops):
    loop, samples = loops("attention"), draw_scans(20, seed=2)
    first = loop.train(samples)
    loop.train(draw_scans(12, seed=3))
    again = loop.train(samples)
    fresh = ScanLoop("attention").train(samples)
    for one, two, three in zip(first, again, fresh, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()
    other = ScanLoop("attention", seed=1).train(samples)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_a_prediction_does_not_depend_on_the_other_scans(loops):
    loop = loops("pooling")
    loop.train(draw_scans(20, seed=2))
    scans, slices = loop.predict(NEW)
    rows = NEW.rows(7)
    alone = ScanSamples(
        inputs=NEW.inputs[rows],
        offsets=np.array([0, len(rows)]),
        positions=NEW.positions[rows],
        labels=NEW.labels[rows],
        is_known=NEW.is_known[rows],
        scan_labels=NEW.scan_labels[7:8],
    )
    scan, own = loop.predict(alone)
    assert scan == pytest.approx(scans[7:8], abs=1e-5)
    assert own == pytest.approx(slices[rows], abs=1e-5)


def test_few_scans_stay_closer_to_the_start(loops):
    loop = loops("pooling")
    start = ScanLoop("pooling").core.get_weights()
    distances = []
    for count in (4, 200):
        weights = loop.train(draw_scans(count, seed=4))
        distances.append(sum(np.square(a - b).sum() for a, b in zip(weights, start, strict=True)))
    assert distances[0] < distances[1]
