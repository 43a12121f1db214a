import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.splits import check_classes, folds, holdout

few = settings(max_examples=25, deadline=None)


@st.composite
def grouped_labels(draw, groups=(6, 25)):
    """Groups of one to four slices; a group may hold both labels."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=groups[0], max_size=groups[1]))
    members = np.repeat(np.arange(len(sizes)), sizes)
    bits = draw(st.lists(st.integers(0, 1), min_size=len(members), max_size=len(members)))
    order = np.random.default_rng(draw(st.integers(0, 100))).permutation(len(members))
    return np.array(bits)[order], members[order]


def split_or_discard(split, *arguments):
    try:
        return split(*arguments)
    except DataError:
        assume(False)


@few
@given(data=grouped_labels(), count=st.integers(2, 5), seed=st.integers(0, 2**31))
def test_folds_are_disjoint_complete_and_keep_groups_whole(data, count, seed):
    labels, groups = data
    made = split_or_discard(folds, labels, groups, count, seed)
    assert len(made) == count
    tests = np.concatenate([test for _, test in made])
    assert sorted(tests) == list(range(len(labels)))
    for train, test in made:
        assert sorted([*train, *test]) == list(range(len(labels)))
        assert not set(groups[train]) & set(groups[test])
        for part in (train, test):
            assert set(labels[part]) == {0, 1}


@few
@given(
    data=grouped_labels((10, 30)),
    fraction=st.sampled_from([0.1, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 0.75]),
    seed=st.integers(0, 1000),
)
def test_holdout_is_disjoint_complete_sorted_and_keeps_groups_whole(data, fraction, seed):
    labels, groups = data
    train, test = split_or_discard(holdout, labels, groups, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[test])
    assert list(train) == sorted(train)
    assert list(test) == sorted(test)


@few
@given(
    positives=st.integers(10, 60),
    negatives=st.integers(10, 60),
    count=st.integers(2, 10),
    seed=st.integers(0, 1000),
)
def test_single_slices_are_stratified_to_within_one(positives, negatives, count, seed):
    labels = np.repeat([1, 0], [positives, negatives])
    for _, test in folds(labels, np.arange(len(labels)), count, seed):
        assert abs(labels[test].sum() - positives / count) <= 1
        assert abs((1 - labels[test]).sum() - negatives / count) <= 1


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9])
def test_holdout_takes_the_fraction_of_each_class(fraction):
    labels = np.repeat([0, 1], [120, 60])
    _, test = holdout(labels, np.arange(180), fraction, 0)
    assert labels[test].sum() == pytest.approx(60 * fraction, abs=3)
    assert (1 - labels[test]).sum() == pytest.approx(120 * fraction, abs=3)


@pytest.mark.parametrize(("fraction", "expected"), [(0.001, 0.05), (0.999, 0.95)])
def test_fractions_are_limited_to_a_twentieth_at_each_end(fraction, expected):
    labels = np.arange(200) % 2
    train, test = holdout(labels, np.arange(200), fraction, 0)
    assert len(test) == pytest.approx(200 * expected, abs=2)
    assert len(train) + len(test) == 200


@pytest.mark.parametrize(
    "split",
    [
        lambda labels, groups, seed: [test for _, test in folds(labels, groups, 4, seed)],
        lambda labels, groups, seed: holdout(labels, groups, 0.25, seed),
    ],
    ids=["folds", "holdout"],
)
def test_same_seed_same_split_and_another_seed_another(split):
    labels, groups = np.arange(80) % 2, np.arange(80) // 2
    first, again, other = (
        [part.tolist() for part in split(labels, groups, seed)] for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("split", [lambda *a: folds(*a, 2, 0), lambda *a: holdout(*a, 0.5, 0)])
def test_rejects_one_class_only(split, label):
    with pytest.raises(DataError, match=f"both classes. Received: {10 * label} with hemorrhage"):
        split(np.full(10, label), np.arange(10))


def test_rejects_no_slices():
    with pytest.raises(DataError, match="Received: 0 with hemorrhage, 0 without"):
        check_classes(np.array([], int))


def test_rejects_fewer_groups_than_folds():
    labels = np.array([1] * 6 + [0] * 20)
    groups = np.array([0, 0, 1, 1, 2, 2, *range(3, 23)])
    with pytest.raises(
        DataError,
        match="5 folds need at least 5 groups of slices with hemorrhage .* Received: 3. "
        "Use at most 3 folds",
    ):
        folds(labels, groups, 5, 0)
    assert len(folds(labels, groups, 3, 0)) == 3


def test_rejects_fewer_groups_without_hemorrhage_than_folds():
    labels = np.array([0] * 4 + [1] * 20)
    with pytest.raises(DataError, match="slices without hemorrhage .* Received: 4"):
        folds(labels, np.arange(24), 5, 0)


def test_rejects_parts_with_one_class_only():
    labels = np.array([1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0])
    groups = np.array([0, 0, 0, 0, 1, 2, 3, 3, 4, 4, 4])
    with pytest.raises(DataError, match="3 folds .* leave a part with one class only, .* fewer"):
        folds(labels, groups, 3, 0)


@st.composite
def any_groups(draw):
    """Many equal groups, which cause ties, and some of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    total, largest = draw(st.integers(4, 200)), draw(st.sampled_from([1, 2, 3, 40]))
    groups = np.repeat(rng.permutation(3 * total)[:total], rng.integers(1, largest + 1, total))
    rng.shuffle(groups)
    return (rng.random(len(groups)) < rng.uniform(0.05, 0.95)).astype(np.int64), groups


@settings(max_examples=40, deadline=None)
@given(data=any_groups(), count=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_folds_are_those_of_scikit_learn(data, count, seed):
    labels, groups = data
    made = split_or_discard(folds, labels, groups, count, seed)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for (train, test), (other_train, other_test) in zip(
        made, splitter.split(labels, labels, groups), strict=True
    ):
        assert train.tolist() == other_train.tolist()
        assert test.tolist() == other_test.tolist()


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5, float("nan"), float("inf")])
def test_rejects_a_fraction_out_of_range(fraction):
    with pytest.raises(OptionError, match=f"{fraction}: out of range"):
        holdout(np.arange(10) % 2, np.arange(10), fraction, 0)
