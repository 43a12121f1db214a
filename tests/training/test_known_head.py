from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from made_up_scans import MadeUpFeatures
from scipy.special import logit

from hemorrhage_tf.models.backbones import backbone_spec
from hemorrhage_tf.models.classifier import deviation
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.training.distributed.single_process import SINGLE, SingleProcess
from hemorrhage_tf.training.features.table import FeatureChunks
from hemorrhage_tf.training.head_groups import HeadGroups
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.known_head import Anchors, KnownHead, Phantoms, embedded_head
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.weight_choice import PHANTOM_WEIGHTS

COUNT, WIDTH = 60, 6
LABELS = np.arange(COUNT) % 2
ALL = np.arange(COUNT)


def source(name: str, width: int) -> SimpleNamespace:
    return SimpleNamespace(spec=backbone_spec(name), width=width)


def make_context(**settings):
    return SimpleNamespace(
        slices=SimpleNamespace(labels=LABELS, groups=ALL),
        settings=FitSettings(backbone="tiny", phantoms=20, **settings),
        targets=LABELS[:, np.newaxis],
        cluster=SINGLE,
    )


@pytest.fixture(scope="module")
def features() -> MadeUpFeatures:
    return MadeUpFeatures(LABELS, views=1, width=WIDTH)


@pytest.fixture(scope="module")
def phantoms() -> Phantoms:
    labels = np.arange(40) % 2
    return Phantoms(MadeUpFeatures(labels, views=1, width=WIDTH, strength=3.0), labels)


KNOWN = KnownHead(np.array([0.0, 1.0, 0.0, -2.0, 0.0, 0.0]), 0.5)


def solved(context, features, anchors) -> HeadWeights:
    head = HeadGroups(context, features, anchors).solve(ALL)
    solution = head.solution
    return HeadWeights(
        head.mean, head.variance, solution.kernel, solution.bias, head.phantom_weight
    )


class OneOfTwo(SingleProcess):
    """One of two workers, each of which is a thread."""

    count = 2
    barrier_of_both = threading.Barrier(2, timeout=60)
    sent: ClassVar[dict[int, np.ndarray]] = {}

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        self.sent[self.index] = np.array(array)
        self.barrier_of_both.wait()
        total = self.sent[0] + self.sent[1]
        self.barrier_of_both.wait()
        return total


class TestEmbeddedHead:
    def test_has_the_probabilities_of_the_packaged_head(self):
        head = read_embedded().head
        width = len(head["mean"])
        rng = np.random.default_rng(0)
        rows = head["mean"] + deviation(head["variance"]) * rng.normal(size=(9, width))
        expected = HeadWeights(**head).probabilities(rows.astype(np.float32))
        known = embedded_head([source("phantomnet", width)])
        found = known.probabilities([rows.astype(np.float32)])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        # Beside another backbone, whose features it leaves out.
        both = embedded_head([source("tiny", 5), source("phantomnet", width)])
        wide = np.hstack([rng.normal(size=(9, 5)), rows]).astype(np.float32)
        np.testing.assert_allclose(both.probabilities([wide]), expected, rtol=1e-4, atol=1e-6)


class TestAnchors:
    def test_a_strong_penalty_leaves_the_recalibrated_known_head(self, features):
        context = make_context(l2=1e6)
        head = solved(context, features, Anchors(context, features, KNOWN))
        rows = FeatureChunks(features, ALL)
        before = logit(KNOWN.probabilities(rows))
        after = logit(head.probabilities(features.take(ALL)).astype(np.float64))
        assert np.corrcoef(before, after)[0, 1] > 0.9999
        assert not np.allclose(before, after, atol=0.1)  # temperature and offset differ

    def test_a_weak_penalty_leaves_the_solution_without_a_prior(self, features):
        context = make_context(l2=1e-6)
        free = solved(context, features, Anchors(context, features))
        held = solved(context, features, Anchors(context, features, KNOWN))
        rows = features.take(ALL)
        np.testing.assert_allclose(held.probabilities(rows), free.probabilities(rows), atol=1e-3)
        assert held.phantom_weight == 0

    def test_heavy_phantoms_keep_the_answers_of_the_known_head(self, features, phantoms):
        context = make_context(phantom_weight=1e4)
        head = solved(context, features, Anchors(context, features, KNOWN, phantoms))
        rows = np.arange(40)
        recalibrated = KNOWN.recalibrated(
            KNOWN.probabilities(FeatureChunks(features, ALL)), LABELS, np.ones(COUNT)
        )
        wanted = recalibrated.probabilities(FeatureChunks(phantoms.features, rows))
        found = head.probabilities(phantoms.features.take(rows))
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        assert head.phantom_weight == 1e4

    def test_without_a_known_head_phantoms_have_their_labels(self, features, phantoms):
        from sklearn.linear_model import LogisticRegression

        context = make_context(phantom_weight=2.0, l2=0.5)
        head = solved(context, features, Anchors(context, features, None, phantoms))
        rows = np.concatenate([features.take(ALL), phantoms.features.take(np.arange(40))])
        inputs = (rows - head.mean) / deviation(head.variance)
        weights = np.concatenate([np.ones(COUNT) / COUNT, np.full(40, 2.0 / 40)])
        labels = np.concatenate([LABELS, phantoms.labels])
        oracle = LogisticRegression(C=1 / 0.5, tol=1e-10, max_iter=1000)
        oracle.fit(inputs, labels, sample_weight=weights)
        np.testing.assert_allclose(
            head.probabilities(rows), oracle.predict_proba(inputs)[:, 1], atol=1e-4
        )

    def test_loss_and_accuracy_leave_phantoms_out(self, features, phantoms):
        context = make_context(phantom_weight=4.0)
        anchors = Anchors(context, features, KNOWN, phantoms)
        found = HeadGroups(context, features, anchors).solve(ALL)
        kernel = found.solution.kernel[:, 0].astype(np.float64)
        inputs = (features.take(ALL) - found.mean) / deviation(found.variance)
        logits = inputs @ kernel + float(found.solution.bias[0])
        expected = np.mean(np.logaddexp(0, logits) - LABELS * logits)
        assert found.solution.loss == pytest.approx(expected, abs=1e-5)
        assert found.solution.accuracy == np.mean((logits > 0) == LABELS)

    def test_two_workers_find_the_same_head(self, features, phantoms):
        def solve(cluster):
            context = make_context()
            context.cluster = cluster
            return solved(context, features, Anchors(context, features, KNOWN, phantoms))

        workers = [OneOfTwo(0), OneOfTwo(1)]
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(solve, workers)
        alone = solve(SINGLE)
        np.testing.assert_array_equal(first.kernel, second.kernel)
        assert first.phantom_weight == second.phantom_weight == alone.phantom_weight
        rows = features.take(ALL)
        np.testing.assert_allclose(first.probabilities(rows), alone.probabilities(rows), atol=1e-5)


class TestChosenWeight:
    def test_phantoms_that_agree_with_the_slices_get_the_largest_weight(self, features, phantoms):
        context = make_context()
        truth = KnownHead(np.array([1.5, 0, 0, 0, 0, 0]), -1.1)
        head = solved(context, features, Anchors(context, features, truth, phantoms))
        assert head.phantom_weight == PHANTOM_WEIGHTS[-1]

    def test_phantoms_that_contradict_the_slices_get_the_least(self, features, phantoms):
        context = make_context()
        wrong = Phantoms(phantoms.features, 1 - phantoms.labels)
        head = solved(context, features, Anchors(context, features, None, wrong))
        assert head.phantom_weight == PHANTOM_WEIGHTS[0]

    def test_too_few_slices_get_a_weight_of_one_and_a_note(self, features, phantoms):
        notes: list[str] = []
        context = make_context()
        context.progress = SimpleNamespace(note=notes.append)
        groups = HeadGroups(context, features, Anchors(context, features, KNOWN, phantoms))
        assert groups.solve(ALL[:8]).phantom_weight == groups.solve(ALL[:6]).phantom_weight == 1
        assert len(notes) == 1 and "The weight of phantoms is 1, not chosen" in notes[0]
