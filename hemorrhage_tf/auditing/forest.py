"""Random forests of small training sets, the same as scikit-learn's and several times as fast.

With 160 slices scikit-learn spends most of the time of a fit on validating each tree's arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_LEAF = 3  # slices at least, so that a forest does not memorize single slices

# From a tree's seed, features, labels and sample weights to its scores of test features.
_TreeScores = Callable[[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def forest_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int, trees: int
) -> np.ndarray:
    """Fit a random forest and apply it.

    Args:
        train: `(n, k)`, finite.
        labels: `(n,)`, 0 or 1; both must occur.
        test: `(m, k)`.
        seed: Random seed.
        trees: Number of trees.

    Returns:
        float64 `(m,)`, the probability of label 1: the bytes of scikit-learn's
        `RandomForestClassifier(trees, min_samples_leaf=3, random_state=seed)`.
    """
    count = len(train)
    scores_of_tree = _tree_scores()
    train32, test32 = (np.ascontiguousarray(each, np.float32) for each in (train, test))
    targets = np.ascontiguousarray(labels, np.float64)[:, np.newaxis]
    seeds = np.random.RandomState(seed)
    total = np.zeros((len(test), 2))
    for _ in range(trees):
        tree_seed = seeds.randint(np.iinfo(np.int32).max)
        drawn = np.random.RandomState(tree_seed).randint(0, count, count, dtype=np.int32)
        weights = np.bincount(drawn, minlength=count).astype(np.float64)
        total += scores_of_tree(tree_seed, train32, targets, weights, test32)
    return (total / trees)[:, 1]


def _tree_scores() -> _TreeScores:
    """Return the fast function, or where scikit-learn's parts are others its public class."""
    try:
        from sklearn.tree._criterion import Gini
        from sklearn.tree._splitter import BestSplitter
        from sklearn.tree._tree import DepthFirstTreeBuilder, Tree
    except ImportError:
        return _public_tree_scores
    classes = np.array([2], np.intp)
    any_depth = np.iinfo(np.int32).max

    def build(seed: int, train: np.ndarray) -> tuple[Any, Any]:
        width = train.shape[1]
        splitter = BestSplitter(
            Gini(1, classes),
            max(1, int(np.sqrt(width))),
            _LEAF,
            0.0,
            np.random.RandomState(seed),
            None,
        )
        return (
            DepthFirstTreeBuilder(splitter, 2 * _LEAF, _LEAF, 0.0, any_depth, 0.0),
            Tree(width, classes, 1),
        )

    try:
        build(0, np.zeros((1, 1)))
    except TypeError:
        return _public_tree_scores

    def scores(
        seed: int, train: np.ndarray, targets: np.ndarray, weights: np.ndarray, test: np.ndarray
    ) -> np.ndarray:
        builder, tree = build(seed, train)
        builder.build(tree, train, targets, weights, None)
        return tree.predict(test)

    return scores


def _public_tree_scores(
    seed: int, train: np.ndarray, targets: np.ndarray, weights: np.ndarray, test: np.ndarray
) -> np.ndarray:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(min_samples_leaf=_LEAF, max_features="sqrt", random_state=seed)
    tree.fit(train, targets, sample_weight=weights, check_input=False)
    return tree.predict_proba(test, check_input=False)
