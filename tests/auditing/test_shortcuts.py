from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hemorrhage_tf.auditing import shortcuts as module
from hemorrhage_tf.auditing.shortcuts import Shortcut, sample_slices, shortcut_baselines
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.image_statistics import ImageStatistics

QUIET = Progress(quiet=True)


def draw_statistics(rng, **known):
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


def draw_set(count=40, leak=lambda label, rng: {}, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return [draw_statistics(rng, **leak(label, rng)) for label in labels], labels


def baselines(statistics, labels, groups=None, seed=0):
    groups = np.arange(len(labels)) if groups is None else groups
    return {each.name: each for each in shortcut_baselines(statistics, labels, groups, QUIET, seed)}


def levels_around(level, rng):
    return np.bincount(rng.normal(level, 5, 500).astype(int).clip(0, 255), minlength=256) / 500


class TestShortcuts:
    def test_intervals_contain_one_half_without_a_shortcut(self):
        results = baselines(*draw_set(60, seed=1))
        assert [each.model for each in results.values()] == ["random forest"] * 4 + [
            "nearest neighbors"
        ]
        for each in results.values():
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
    def test_each_shortcut_is_detected_by_its_own_model(self, leak, names):
        results = baselines(*draw_set(leak=leak))
        single = {"size, mode and format", "border", "gray levels", "16 x 16 thumbnail"}
        assert {name for name in single if results[name].above_chance} == names
        assert results["size, format, border and gray levels"].above_chance

    def test_a_thumbnail_that_predicts_the_label(self):
        def leak(label, rng):
            return {"thumbnail": (rng.uniform(0, 1, 256) + 0.3 * label).astype(np.float32)}

        results = baselines(*draw_set(leak=leak))
        assert {name for name, each in results.items() if each.above_chance} == {
            "16 x 16 thumbnail"
        }

    def test_duplicates_do_not_help_because_they_stay_in_one_fold(self):
        statistics, labels = draw_set(40)
        groups = np.tile(np.arange(40), 3)
        results = baselines(statistics * 3, np.tile(labels, 3), groups)
        assert not results["16 x 16 thumbnail"].above_chance
        apart = baselines(statistics * 3, np.tile(labels, 3))
        assert apart["16 x 16 thumbnail"].roc_auc.estimate == pytest.approx(1)

    def test_depends_only_on_the_seed(self):
        statistics, labels = draw_set(30)
        assert baselines(statistics, labels) == baselines(statistics, labels)
        assert baselines(statistics, labels) != baselines(statistics, labels, seed=1)

    def test_properties_that_do_not_vary_have_no_area(self):
        fixed = {"width": 9, "height": 9, "mode": "L"}
        results = baselines(*draw_set(leak=lambda label, rng: fixed))
        each = results["size, mode and format"]
        assert (each.roc_auc, each.features) == (None, 0)
        assert each.reason == "the same in all slices" and not each.above_chance
        assert results["border"].roc_auc is not None

    def test_too_few_groups_have_no_area(self):
        statistics, labels = draw_set(20)
        groups = np.where(labels == 1, np.arange(20) % 3, 3 + np.arange(20))
        for each in baselines(statistics, labels, groups).values():
            assert "at least 5 groups of each class" in each.reason
            assert "3 with hemorrhage and 10 without" in each.reason

    def test_one_class(self):
        statistics, labels = draw_set(20)
        assert all(
            each.roc_auc is None for each in baselines(statistics, np.ones_like(labels)).values()
        )

    def test_groups_that_cannot_be_split_into_folds(self):
        statistics, _ = draw_set(40)
        # Every slice without hemorrhage is in a group that also has most of the others.
        labels = np.array([1] * 36 + [0] * 4)
        groups = np.array([*range(36), 0, 1, 2, 3])
        reasons = {each.reason for each in baselines(statistics, labels, groups).values()}
        assert len(reasons) == 1 and "groups of each class" in reasons.pop()

    def test_no_slices(self):
        empty = np.array([], int)
        assert shortcut_baselines([], empty, empty, QUIET, 0) == ()

    def test_a_missing_area_is_not_above_chance(self):
        assert not Shortcut("x", "y", 1, False, None, "why").above_chance


class TestSample:
    def test_a_set_of_usual_size_is_used_whole(self):
        np.testing.assert_array_equal(sample_slices(200, 0), np.arange(200))

    def test_a_large_set_is_sampled(self, monkeypatch):
        monkeypatch.setattr(module, "MOST_SLICES", 50)
        chosen = sample_slices(120, 0)
        assert len(np.unique(chosen)) == 50 and chosen.max() < 120
        assert np.all(np.diff(chosen) > 0)
        np.testing.assert_array_equal(chosen, sample_slices(120, 0))
