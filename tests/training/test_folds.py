from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.training.folds import make_folds
from hemorrhage_tf.training.settings import FitSettings


def make_slices(labels, groups=None, split=None, patients=None, exact=(), near=()):
    """Make a slice index without any file."""
    root = Path("/data")
    count = len(labels)
    records = tuple(
        Record(
            root / f"{index}.png",
            int(labels[index]),
            patients[index] if patients else None,
            split[index] if split else None,
        )
        for index in range(count)
    )
    groups = np.arange(count) if groups is None else np.asarray(groups)
    hashes = tuple(f"{index:032x}" for index in range(count))
    manifest = Manifest(records, root, "csv")
    is_hounsfield = np.zeros(len(labels), bool)
    return SliceIndex(manifest, hashes, is_hounsfield, groups, tuple(exact), tuple(near), (), b"")


def folds_of(slices, progress=None, **settings):
    return make_folds(slices, FitSettings(backbone="tiny", **settings), progress or Recorder())


def grouped(count: int = 60, seed: int = 0):
    """Make slices in groups of one to four; about half of the groups have a hemorrhage."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), rng.integers(1, 5, count))[:count]
    return make_slices(groups % 2, groups)


ALTERNATING = np.arange(12) % 2
SPLIT = ["train"] * 8 + ["test"] * 4


class TestSplitColumn:
    def test_is_used(self):
        progress = Recorder()
        [fold] = folds_of(make_slices(ALTERNATING, split=SPLIT), progress)
        np.testing.assert_array_equal(fold.train, np.arange(8))
        np.testing.assert_array_equal(fold.test, np.arange(8, 12))
        assert (fold.repeat, fold.number) == (1, 1)
        assert not progress.warnings

    def test_accepts_pairs_on_one_side(self):
        progress = Recorder()
        patients = ["a", "a", None, None, "c", "c", "d", "e", "f", "f", None, None]
        slices = make_slices(
            ALTERNATING, split=SPLIT, patients=patients, exact=[(0, 2)], near=[(8, 10, 0.97)]
        )
        folds_of(slices, progress)
        assert not progress.warnings

    def test_rejects_exact_duplicates_on_both_sides(self):
        slices = make_slices(ALTERNATING, split=SPLIT, exact=[(0, 2), (1, 9), (3, 11)])
        with pytest.raises(DataError, match="puts related slices on both sides") as caught:
            folds_of(slices)
        lines = str(caught.value).splitlines()
        assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["9.png", "11.png"]
        assert "the same picture as 1.png" in lines[1]
        assert "Move each to one side, or remove the split column" in lines[-1]

    def test_rejects_a_patient_on_both_sides(self):
        patients = ["a", "b", "a", None, None, "c", "d", "e", "f", "c", None, "c"]
        slices = make_slices(ALTERNATING, split=SPLIT, patients=patients)
        with pytest.raises(DataError, match="9.png: of the same patient as 5.png") as caught:
            folds_of(slices)
        assert "11.png: of the same patient as 5.png" in str(caught.value)
        assert "2.png" not in str(caught.value)

    def test_allow_leak_warns_and_keeps_the_leaks(self):
        progress = Recorder()
        slices = make_slices(ALTERNATING, split=SPLIT, exact=[(1, 9)])
        [fold] = folds_of(slices, progress, allow_leak=True)
        assert fold.leaks == ("9.png: the same picture as 1.png, which is on the other side",)
        [warning] = progress.warnings
        assert warning.startswith("1 slices are on one side of the split column")

    def test_warns_of_near_duplicates_on_both_sides(self):
        progress = Recorder()
        near = [(0, 8, 0.99), (1, 2, 0.98), (3, 10, 0.96)]
        folds_of(make_slices(ALTERNATING, split=SPLIT, near=near), progress)
        [warning] = progress.warnings
        assert warning.startswith("2 pairs of near-duplicates")
        assert "0.png and 8.png" in warning and "3.png and 10.png" in warning
        assert "1.png and 2.png" not in warning

    @pytest.mark.parametrize(
        "split, message",
        [
            (["train"] * 12, "0 slices for test, 0 of them"),
            (["test"] * 12, "0 slices for train, 0 of them"),
            (["test" if label else "train" for label in ALTERNATING], "6 slices for train, 0 of"),
            (["train"] * 11 + ["test"], "1 slices for test, 1 of them with hemorrhage"),
        ],
    )
    def test_rejects_a_part_with_one_class(self, split, message):
        with pytest.raises(DataError, match=message):
            folds_of(make_slices(ALTERNATING, split=split))

    def test_rejects_folds(self):
        slices = make_slices(ALTERNATING, split=SPLIT)
        with pytest.raises(OptionError, match="--folds 3: the manifest has a split column"):
            folds_of(slices, folds=3)


class TestHoldout:
    @pytest.mark.parametrize("seed", range(3))
    def test_groups_are_never_split(self, seed):
        slices = grouped(seed=seed)
        [fold] = folds_of(slices, seed=seed)
        both = np.sort(np.concatenate([fold.train, fold.test]))
        np.testing.assert_array_equal(both, np.arange(len(slices)))
        assert not set(slices.groups[fold.train]) & set(slices.groups[fold.test])
        assert 0.1 < len(fold.test) / len(slices) < 0.3

    def test_follows_from_the_seed(self):
        slices = grouped()
        tests = [folds_of(slices, seed=seed)[0].test.tolist() for seed in (0, 0, 1)]
        assert tests[0] == tests[1] != tests[2]


class TestFolds:
    @pytest.mark.parametrize("seed", range(3))
    def test_each_slice_is_tested_once_a_repeat_and_groups_stay_together(self, seed):
        slices = grouped(seed=seed)
        made = folds_of(slices, folds=4, repeats=3, seed=seed)
        numbers = [(fold.repeat, fold.number) for fold in made]
        assert numbers == [(repeat, number) for repeat in (1, 2, 3) for number in (1, 2, 3, 4)]
        for repeat in (1, 2, 3):
            tested = np.concatenate([fold.test for fold in made if fold.repeat == repeat])
            np.testing.assert_array_equal(np.sort(tested), np.arange(len(slices)))
        for fold in made:
            assert not set(slices.groups[fold.train]) & set(slices.groups[fold.test])
            assert not set(fold.train) & set(fold.test)
            assert set(slices.labels[fold.test]) == set(slices.labels[fold.train]) == {0, 1}

    def test_repeats_differ_from_each_other(self):
        made = folds_of(grouped(), folds=4, repeats=5)
        partitions = {
            frozenset(frozenset(fold.test.tolist()) for fold in made if fold.repeat == repeat)
            for repeat in range(1, 6)
        }
        assert len(partitions) == 5

    def test_more_repeats_do_not_change_the_first(self):
        slices = grouped()
        one, three = folds_of(slices, folds=4), folds_of(slices, folds=4, repeats=3)
        for left, right in zip(one, three, strict=False):
            np.testing.assert_array_equal(left.test, right.test)

    def test_rejects_too_few_groups(self):
        slices = make_slices(ALTERNATING, groups=[0, 1] * 3 + [2, 3] * 3)
        with pytest.raises(DataError, match="5 folds need at least 5 groups.*Received: 2"):
            folds_of(slices, folds=5)

    @pytest.mark.parametrize("label", [0, 1])
    def test_rejects_a_single_class(self, label):
        with pytest.raises(DataError, match="slices of both classes"):
            folds_of(make_slices([label] * 10), folds=3)
