from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from made_up_scans import MadeUpFeatures
from sklearn.linear_model import LogisticRegression

from hemorrhage_tf.models.classifier import deviation
from hemorrhage_tf.training import head_groups
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.head_groups import HeadGroups
from hemorrhage_tf.training.head_solver import class_weight
from hemorrhage_tf.training.known_head import Anchors, Phantoms
from hemorrhage_tf.training.settings import FitSettings

COUNT, WIDTH, L2 = 90, 6, 1 / 64
LABELS = np.random.default_rng(0).integers(0, 2, COUNT)
PATIENTS = np.arange(COUNT) // 3
TRAIN = np.arange(75)


def make_context(**settings):
    return SimpleNamespace(
        slices=SimpleNamespace(labels=LABELS, groups=PATIENTS),
        settings=FitSettings(backbone="tiny", l2=L2, **settings),
        targets=LABELS[:, np.newaxis],
        cluster=SINGLE,
    )


@pytest.fixture(scope="module")
def features() -> MadeUpFeatures:
    return MadeUpFeatures(LABELS, views=2, width=WIDTH)


@pytest.fixture(scope="module")
def phantoms() -> Phantoms:
    labels = np.arange(40) % 2
    return Phantoms(MadeUpFeatures(labels, views=1, width=WIDTH, strength=3.0), labels)


@pytest.fixture(scope="module")
def parts(features):
    context = make_context()
    return HeadGroups(context, features, Anchors(context, features)).solve_parts(TRAIN)


class TestPartHeads:
    def test_each_is_that_of_scikit_learn_without_its_patients(self, features, parts):
        rows, owners = features.view_rows(TRAIN)
        inputs = (features.take(rows) - parts.mean) / deviation(parts.variance)
        assert parts.kernels.shape == (WIDTH, 5)
        for part in range(5):
            others = parts.part_of[owners] != part
            labels = LABELS[owners[others]]
            reference = LogisticRegression(C=1 / (L2 * len(labels)), tol=1e-10, max_iter=1000)
            weights = class_weight(labels, "balanced")
            reference.fit(inputs[others], labels, sample_weight=weights)
            np.testing.assert_allclose(parts.kernels[:, part], reference.coef_[0], atol=1e-3)
            np.testing.assert_allclose(parts.biases[part], reference.intercept_[0], atol=1e-3)

    def test_all_slices_of_a_patient_belong_to_one_part(self, parts):
        for patient in np.unique(PATIENTS[TRAIN]):
            assert len(set(parts.part_of[PATIENTS == patient].tolist())) == 1
        assert set(parts.part_of[TRAIN].tolist()) == set(range(5))
        assert not parts.part_of[len(TRAIN) :].any()

    def test_other_standardizations_leave_the_logits_unchanged(self, features, parts):
        rows = features.take(np.arange(20))
        own = (rows - parts.mean) / deviation(parts.variance)
        mean, variance = np.full(WIDTH, 0.5, np.float32), np.full(WIDTH, 4.0, np.float32)
        kernels, biases = parts.standardized_by(mean, variance)
        others = (rows - mean) / deviation(variance)
        np.testing.assert_allclose(
            others @ kernels + biases, own @ parts.kernels + parts.biases, atol=1e-5
        )
        same, _ = parts.standardized_by(parts.mean, parts.variance)
        np.testing.assert_array_equal(same, parts.kernels)

    def test_those_of_the_choice_of_a_weight_serve_again(self, features, phantoms, monkeypatch):
        context = make_context(phantoms=40)
        groups = HeadGroups(context, features, Anchors(context, features, None, phantoms))
        weight = groups.solve(TRAIN).phantom_weight
        with monkeypatch.context() as patch:
            patch.setattr(
                head_groups, "solve_first_outputs", lambda *_: pytest.fail("solved twice")
            )
            found = groups.solve_parts(TRAIN)
        context = make_context(phantoms=40, phantom_weight=weight)
        anchors = Anchors(context, features, None, phantoms)
        given = HeadGroups(context, features, anchors).solve_parts(TRAIN)
        np.testing.assert_array_equal(found.part_of, given.part_of)
        np.testing.assert_allclose(found.kernels, given.kernels, atol=1e-3)

    def test_few_patients_have_fewer_parts(self, features):
        context = make_context()
        few = np.flatnonzero(PATIENTS < 6)
        counts = [len(np.unique(PATIENTS[few][LABELS[few] == label])) for label in (0, 1)]
        assert min(counts) >= 2
        parts = HeadGroups(context, features, Anchors(context, features)).solve_parts(few)
        assert 2 <= parts.kernels.shape[1] <= min(5, *counts)


def test_a_group_has_the_heads_of_trainings_solved_alone(features, phantoms):
    context = make_context(phantoms=40)
    anchors = Anchors(context, features, None, phantoms)
    trainings = [TRAIN, TRAIN[15:], TRAIN[:60]]
    planned = HeadGroups(context, features, anchors)
    planned.plan(trainings)
    for train in trainings:
        together = planned.solve(train)
        alone = HeadGroups(context, features, anchors).solve(train)
        assert together.phantom_weight == alone.phantom_weight
        np.testing.assert_allclose(together.solution.kernel, alone.solution.kernel, atol=1e-5)
        np.testing.assert_array_equal(together.mean, alone.mean)


def test_labels_outside_all_trainings_change_nothing(features):
    def solve(labels):
        context = make_context()
        context.slices = SimpleNamespace(labels=labels, groups=PATIENTS)
        context.targets = labels[:, np.newaxis]
        anchors = Anchors(context, features, trained_on=TRAIN)
        return HeadGroups(context, features, anchors).solve(TRAIN).solution.kernel

    changed = LABELS.copy()
    changed[len(TRAIN) :] = 1 - changed[len(TRAIN) :]
    np.testing.assert_array_equal(solve(LABELS), solve(changed))
