from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.auditing import shortcuts as module
from hemorrhage_tf.auditing.shortcuts import Shortcut, sample, shortcuts
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.image_statistics import ImageStatistics
from hemorrhage_tf.evaluation.intervals import delong_variance

QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(module, "TREES", 20)
    monkeypatch.setattr(module, "REPEATS", 2)


def some_facts(rng, **known):
    statistics = ImageStatistics(
        width=int(rng.integers(100, 300)),
        height=int(rng.integers(100, 300)),
        mode=str(rng.choice(["L", "RGB"])),
        file_format="PNG",
        bits=8,
        jpeg_quality=None,
        metadata=frozenset(),
        color=0.0,
        levels=rng.dirichlet(np.ones(256)),
        border=rng.uniform(0, 255, (4, 4)),
        marks=int(rng.integers(0, 3)),
        mark_share=0.0,
        thumbnail=rng.uniform(0, 1, 256).astype(np.float32),
    )
    return dataclasses.replace(statistics, **known)


def a_set(count=60, leak=lambda label, rng: {}, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return [some_facts(rng, **leak(label, rng)) for label in labels], labels


def found(statistics, labels, groups=None, seed=0):
    groups = np.arange(len(labels)) if groups is None else groups
    return {each.name: each for each in shortcuts(statistics, labels, groups, QUIET, seed)}


def levels_around(level, rng):
    return np.bincount(rng.normal(level, 5, 500).astype(int).clip(0, 255), minlength=256) / 500


class TestShortcuts:
    def test_no_leak_leaves_one_half_in_every_interval(self):
        made = found(*a_set(100))
        assert [each.model for each in made.values()] == ["random forest"] * 4 + [
            "nearest neighbors"
        ]
        for each in made.values():
            assert each.roc_auc.low < 0.5 < each.roc_auc.high
            assert not each.above_chance

    @pytest.mark.parametrize(
        ("leak", "names"),
        [
            (lambda label, rng: {"width": 100 + 90 * int(label)}, {"size, mode and format"}),
            (lambda label, rng: {"mode": ["L", "RGBA"][label]}, {"size, mode and format"}),
            (lambda label, rng: {"bits": [8, 16][label]}, {"size, mode and format"}),
            (
                lambda label, rng: {"file_format": "JPEG", "jpeg_quality": [75, 90][label]},
                {"size, mode and format"},
            ),
            (lambda label, rng: {"marks": int(label)}, {"border"}),
            (lambda label, rng: {"border": np.full((4, 4), 9.0 * label)}, {"border"}),
            (lambda label, rng: {"levels": levels_around(90 + 30 * label, rng)}, {"gray levels"}),
        ],
        ids=["width", "mode", "bits", "quality", "marks", "border", "levels"],
    )
    def test_each_leak_is_seen_by_its_own_model(self, leak, names):
        made = found(*a_set(leak=leak))
        single = {"size, mode and format", "border", "gray levels", "16 x 16 thumbnail"}
        assert {name for name in single if made[name].above_chance} == names
        assert made["size, format, border and gray levels"].above_chance

    def test_a_thumbnail_that_leaks(self):
        def leak(label, rng):
            return {"thumbnail": (rng.uniform(0, 1, 256) + 0.3 * label).astype(np.float32)}

        made = found(*a_set(leak=leak))
        assert {name for name, each in made.items() if each.above_chance} == {"16 x 16 thumbnail"}

    def test_duplicates_do_not_help_because_they_are_held_out_together(self):
        statistics, labels = a_set(40)
        groups = np.tile(np.arange(40), 3)
        made = found(statistics * 3, np.tile(labels, 3), groups)
        assert not made["16 x 16 thumbnail"].above_chance
        apart = found(statistics * 3, np.tile(labels, 3))
        assert apart["16 x 16 thumbnail"].roc_auc.estimate == pytest.approx(1)

    def test_the_seed_and_nothing_else_decides(self):
        statistics, labels = a_set()
        assert found(statistics, labels) == found(statistics, labels)
        assert found(statistics, labels) != found(statistics, labels, seed=1)

    def test_what_does_not_vary_has_no_figure(self):
        fixed = {"width": 9, "height": 9, "mode": "L"}
        made = found(*a_set(leak=lambda label, rng: fixed))
        each = made["size, mode and format"]
        assert (each.roc_auc, each.features) == (None, 0)
        assert each.reason == "the same in all slices" and not each.above_chance
        assert made["border"].roc_auc is not None

    def test_too_few_groups_are_counted(self):
        statistics, labels = a_set(20)
        groups = np.where(labels == 1, np.arange(20) % 3, 3 + np.arange(20))
        for each in found(statistics, labels, groups).values():
            assert "at least 5 groups of each class" in each.reason
            assert "3 with hemorrhage and 10 without" in each.reason

    def test_one_class(self):
        statistics, labels = a_set(20)
        assert all(
            each.roc_auc is None for each in found(statistics, np.ones_like(labels)).values()
        )

    def test_groups_that_cannot_be_dealt(self):
        statistics, _ = a_set(40)
        # Every slice without hemorrhage is in a group that also has most of the others.
        labels = np.array([1] * 36 + [0] * 4)
        groups = np.array([*range(36), 0, 1, 2, 3])
        reasons = {each.reason for each in found(statistics, labels, groups).values()}
        assert len(reasons) == 1 and "groups of each class" in reasons.pop()

    def test_no_slices(self):
        empty = np.array([], int)
        assert shortcuts([], empty, empty, QUIET, 0) == ()

    def test_a_chance_shortcut_is_not_above_chance(self):
        assert not Shortcut("x", "y", 1, False, None, "why").above_chance


class TestSample:
    def test_a_set_of_usual_size_is_taken_whole(self):
        np.testing.assert_array_equal(sample(200, 0), np.arange(200))

    def test_a_large_set_is_drawn_from(self, monkeypatch):
        monkeypatch.setattr(module, "MOST_SLICES", 50)
        chosen = sample(120, 0)
        assert len(np.unique(chosen)) == 50 and chosen.max() < 120
        assert np.all(np.diff(chosen) > 0)
        np.testing.assert_array_equal(chosen, sample(120, 0))


class TestClusteredVariance:
    def test_of_single_slices_is_delongs(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.integers(0, 2, 50), rng.normal(size=50).round(1)
        made = module._clustered_variance(labels, scores, np.arange(50))
        assert made == pytest.approx(delong_variance(labels, scores))

    def test_of_copied_slices_is_that_of_the_originals(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.integers(0, 2, 40), rng.normal(size=40)
        made = module._clustered_variance(
            np.tile(labels, 5), np.tile(scores, 5), np.tile(np.arange(40), 5)
        )
        assert made == pytest.approx(delong_variance(labels, scores))

    def test_against_a_bootstrap_of_groups_with_both_labels(self):
        rng = np.random.default_rng(1)
        groups = np.repeat(np.arange(80), 5)
        labels = rng.integers(0, 2, 400)
        scores = labels + 1.5 * rng.normal(size=80)[groups] + rng.normal(size=400)
        areas = []
        for _ in range(400):
            drawn = rng.integers(0, 80, 80)
            chosen = (5 * drawn[:, None] + np.arange(5)).ravel()
            areas.append(roc_auc_score(labels[chosen], scores[chosen]))
        area, variance = module._clustered_variance(labels, scores, groups)
        assert area == pytest.approx(roc_auc_score(labels, scores))
        assert variance == pytest.approx(np.var(areas), rel=0.25)
        assert variance != pytest.approx(delong_variance(labels, scores)[1], rel=0.05)
