from types import SimpleNamespace

import numpy as np
import pytest
from made_up_scans import MadeUpFeatures, make_scan_context
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.models.classifier import standardize
from hemorrhage_tf.models.scan_model import scan_geometry
from hemorrhage_tf.training import scan_loop
from hemorrhage_tf.training.distributed.single_process import SINGLE, SingleProcess
from hemorrhage_tf.training.features.table import FeatureChunks
from hemorrhage_tf.training.head_groups import HeadGroups, PartHeads
from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    class_weight,
    feature_statistics,
    solve_head,
)
from hemorrhage_tf.training.known_head import Anchors
from hemorrhage_tf.training.scan_trainer import ScanTrainer, SliceHeads, principal_axes

LENGTHS = np.random.default_rng(0).integers(12, 24, 40)
WIDTH = 10
TRAIN, TEST = np.arange(28), np.arange(28, 40)


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_loop, "STEPS", 30)
        yield


def fit_head(context, features, slices) -> HeadWeights:
    rows, owners = features.view_rows(slices)
    chunks = FeatureChunks(features, rows)
    mean, variance = feature_statistics(chunks)
    targets = context.slices.labels[owners]
    inputs = standardize(features.take(rows), mean, variance)
    solution = solve_head(inputs, targets, class_weight(targets, "balanced"), 1 / 64)
    return HeadWeights(mean, variance, solution.kernel, solution.bias)


def solve_parts(context, features, slices) -> PartHeads:
    alone = SimpleNamespace(**{**vars(context), "cluster": SINGLE})
    return HeadGroups(alone, features, Anchors(alone, features)).solve_parts(slices)


def train(kind: str = "pooling", is_weak: bool = False, cluster=None):
    """Train on 28 scans, and return context, features, trainer, training and heads."""
    further = {} if cluster is None else {"cluster": cluster}
    context = make_scan_context(LENGTHS, is_weak=is_weak, **further)
    # Labels of scans alone teach less.
    strength = 4.0 if is_weak else 1.5
    features = MadeUpFeatures(context.true_labels, views=2, width=WIDTH, strength=strength)
    trainer = ScanTrainer(context, features, kind)
    slices = np.sort(np.concatenate([context.slices.scans.members[scan] for scan in TRAIN]))
    head = fit_head(context, features, slices)
    heads = SliceHeads(slices, head, solve_parts(context, features, slices))
    return context, features, trainer, trainer.train(heads, TRAIN, TEST), heads


@pytest.fixture(scope="module")
def pooled(few_steps):
    """Context, features, trainer, training and heads of a model with pooling."""
    return train()


def test_slices_are_classified_better_in_their_scan_than_alone(pooled):
    context, features, _, training, heads = pooled
    members = np.concatenate([context.slices.scans.members[scan] for scan in TEST])
    labels = context.true_labels[members]
    alone = heads.head.probabilities(features.take(features.first_rows(members)))
    in_scan = roc_auc_score(labels, training.slice_probabilities)
    assert in_scan > roc_auc_score(labels, alone) + 0.01
    assert roc_auc_score(context.slices.scans.labels[TEST], training.scan_probabilities) > 0.8


def test_labels_of_scans_alone_train_slices_in_their_scans_too():
    context, _, _, training, _ = train(is_weak=True)
    members = np.concatenate([context.slices.scans.members[scan] for scan in TEST])
    labels = context.true_labels[members]
    assert roc_auc_score(labels, training.slice_probabilities) > 0.9
    assert roc_auc_score(context.slices.scans.labels[TEST], training.scan_probabilities) > 0.9


@pytest.mark.parametrize("kind", ["pooling", pytest.param("attention", marks=pytest.mark.slow)])
def test_the_built_model_repeats_the_predictions_of_the_training(pooled, kind):
    context, features, trainer, training, heads = pooled if kind == "pooling" else train(kind)
    model = trainer.build(training)
    begin = 0
    for number, scan in enumerate(TEST[:3]):
        members = context.slices.scans.members[scan]
        standardized = standardize(
            features.take(features.first_rows(members)), heads.head.mean, heads.head.variance
        )
        outputs = model(
            {
                "features": standardized[np.newaxis],
                "geometry": scan_geometry(np.full(len(members), np.nan))[np.newaxis],
                "mask": np.ones((1, len(members)), np.float32),
            }
        )
        expected = logit(training.slice_probabilities[begin : begin + len(members)])
        begin += len(members)
        assert logit(np.asarray(outputs["slice_probability"], np.float64)[0]) == pytest.approx(
            expected, abs=1e-3
        )
        assert float(outputs["probability"][0, 0]) == pytest.approx(
            training.scan_probabilities[number], abs=1e-4
        )


def test_the_test_scans_do_not_change_the_training(pooled):
    _, _, trainer, training, heads = pooled
    again = trainer.train(heads, TRAIN, np.array([], np.int64))
    assert len(again.scan_probabilities) == len(again.slice_probabilities) == 0
    for one, other in zip(training.weights, again.weights, strict=True):
        assert one.tobytes() == other.tobytes()


class Worker(SingleProcess):
    """One of two workers, which talk through a list: the chief first, then the other."""

    count = 2

    def __init__(self, index: int, sent: list[np.ndarray]) -> None:
        super().__init__()
        self.index, self.is_chief, self._sent = index, index == 0, sent

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        if self.is_chief:
            self._sent.append(array)
            return np.array(array)
        return np.array(array) + self._sent.pop(0)


@pytest.mark.slow
def test_a_second_worker_gets_the_weights_of_the_chief(monkeypatch):
    sent: list[np.ndarray] = []
    *_, alone, _ = train("attention")
    *_, of_chief, _ = train("attention", cluster=Worker(0, sent))
    monkeypatch.setattr(scan_loop.ScanLoop, "train", lambda *_: pytest.fail("trained twice"))
    *_, of_other, _ = train("attention", cluster=Worker(1, sent))
    for name in ("axes", "scan_probabilities", "slice_probabilities"):
        expected = getattr(alone, name).tobytes()
        assert getattr(of_chief, name).tobytes() == getattr(of_other, name).tobytes() == expected
    assert [each.tobytes() for each in of_other.weights] == [w.tobytes() for w in alone.weights]


def test_patients_of_one_class_only_are_an_error():
    context = make_scan_context(np.array([12, 12, 12, 12]))
    features = MadeUpFeatures(context.true_labels, views=1, width=WIDTH)
    slices = np.sort(np.concatenate([context.slices.scans.members[scan] for scan in (0, 1, 2)]))
    with pytest.raises(DataError, match="2 folds need at least 2 groups of slices with hemorrhage"):
        solve_parts(context, features, slices)


def test_principal_axes_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 20)) @ np.diag(np.geomspace(100, 1e-4, 20))
    axes = principal_axes(features, 4)
    _, values, expected = np.linalg.svd(features, full_matrices=False)
    assert np.square(features @ axes).mean(axis=0) == pytest.approx(np.ones(4), rel=1e-5)
    for axis, value, direction in zip(axes.T, values, expected, strict=False):
        scaled = direction / value * np.sqrt(300)
        assert axis[np.abs(axis).argmax()] > 0
        assert axis == pytest.approx(scaled * np.sign(scaled @ axis), abs=1e-4)


def test_features_with_few_dimensions_have_fewer_axes():
    features = np.random.default_rng(0).normal(size=(50, 1)) * np.ones((1, 3))
    axes = principal_axes(features, 8)
    assert axes.shape == (3, 8) and (axes[:, 1:] == 0).all() and (axes[:, 0] > 0).all()
