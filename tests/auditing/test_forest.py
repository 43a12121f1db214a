"""Random forests against those of scikit-learn."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from hemorrhage_tf.auditing import forest


def drawn(count: int = 60, width: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(count, width)).round(1)  # with ties
    labels = (features[:, 0] + rng.normal(size=count) > 0).astype(int)
    return features, labels, rng.normal(size=(20, width))


def expected(seed: int, trees: int) -> np.ndarray:
    features, labels, test = drawn()
    model = RandomForestClassifier(trees, min_samples_leaf=3, random_state=seed)
    return model.fit(features, labels).predict_proba(test)[:, 1]


class TestForestScores:
    @pytest.mark.parametrize("seed", [0, 7])
    def test_equal_those_of_scikit_learn_to_the_byte(self, seed):
        scores = forest.forest_scores(*drawn(), seed, 12)
        np.testing.assert_array_equal(scores, expected(seed, 12))

    def test_use_the_fast_trees_of_the_installed_release(self):
        assert forest._tree_scores() is not forest._public_tree_scores

    def test_are_the_same_without_the_fast_trees(self, monkeypatch):
        monkeypatch.setattr(forest, "_tree_scores", lambda: forest._public_tree_scores)
        np.testing.assert_array_equal(forest.forest_scores(*drawn(), 0, 6), expected(0, 6))
