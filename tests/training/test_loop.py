from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.models.classifier import build_head
from hemorrhage_tf.training.head_solver import class_weight
from hemorrhage_tf.training.loop import Loop, batches


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def blobs(count: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gives two overlapping clouds, one three times the other."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=count) < 0.25).astype(np.int64)
    x = rng.normal(size=(count, 2)) + labels[:, np.newaxis] * [1.0, -0.6]
    return x.astype(np.float32), labels


def samples(x, labels, weights=None, batch_size: int = 32, repeats: int = 1):
    import tensorflow as tf

    weights = np.ones(len(x)) if weights is None else weights
    x, labels, weights = (np.concatenate([each] * repeats) for each in (x, labels, weights))

    def inputs_of(chosen):
        return tf.data.Dataset.from_tensor_slices(x[chosen])

    return batches(inputs_of, labels, weights, batch_size)


def make_loop(width: int = 2, rate: float = 0.05, dropout: float = 0.0):
    import tensorflow as tf

    head = build_head(width, dropout)
    return head, Loop(head, rate, tf.distribute.get_strategy())


def train(loop, training, epochs=3, validation=None, patience=0, advance=lambda steps: None):
    return loop.train("head", epochs, lambda epoch: training, validation, patience, advance)


def log_loss(head, x, labels) -> float:
    logits = head(x).numpy()[:, 0].astype(np.float64)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


class TestBatches:
    @pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 37])
    @pytest.mark.parametrize("batch_size", [1, 8, 36, 100])
    def test_shares_add_up_to_one_in_each_batch(self, count, batch_size):
        x = np.arange(count, dtype=np.float32)[:, np.newaxis]
        labels = np.arange(count) % 2
        weights = np.linspace(1, 2, count)
        made = samples(x, labels, weights, batch_size)
        assert made.count == count
        seen = [[np.asarray(a) for a in (inputs, *rest)] for inputs, rest in made.dataset]
        assert [len(batch[0]) for batch in seen[:-1]] == [batch_size] * (len(seen) - 1)
        for batch in seen:
            np.testing.assert_allclose(batch[3].sum(), 1, rtol=1e-5)
            assert np.ptp(batch[3]) == 0
        for position, expected in enumerate((x, labels, weights)):
            joined = np.concatenate([batch[position] for batch in seen])
            np.testing.assert_allclose(joined, expected, rtol=1e-6)


class TestOptimum:
    @pytest.mark.parametrize("kind", ["balanced", "none"])
    def test_is_that_of_scikit_learn(self, kind):
        from sklearn.linear_model import LogisticRegression

        x, labels = blobs()
        oracle = LogisticRegression(C=1e8, class_weight=None if kind == "none" else kind)
        expected = oracle.fit(x, labels).predict_proba(x)[:, 1]
        head, loop = make_loop(rate=0.03)
        # Ten passes an epoch, each one full batch.
        training = samples(x, labels, class_weight(labels, kind), len(x), repeats=10)
        train(loop, training, epochs=40)
        found = sigmoid(head(x).numpy()[:, 0])
        np.testing.assert_allclose(found, expected, atol=5e-3)

    def test_loss_and_accuracy_are_means_over_the_samples(self):
        x, labels = blobs(37)
        weights = np.random.default_rng(0).uniform(0.5, 2, 37)
        head, loop = make_loop(rate=1e-9)  # so that the weights stay where they are put
        kernel, bias = np.array([[0.7], [-0.2]], np.float32), np.array([0.1], np.float32)
        head.get_layer("logit").set_weights([kernel, bias])
        validation = samples(x, labels, weights, 8)
        row = train(loop, validation, 1, validation)[0]
        logits = (x @ kernel + bias)[:, 0].astype(np.float64)
        loss = np.mean(weights * (np.logaddexp(0, logits) - labels * logits))
        accuracy = np.mean((logits > 0) == (labels == 1))
        for prefix in ("", "validation_"):
            np.testing.assert_allclose(row[prefix + "loss"], loss, rtol=1e-5)
            np.testing.assert_allclose(row[prefix + "accuracy"], accuracy, rtol=1e-5)


class TestRewind:
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_gives_the_same_again(self, dropout):
        x, labels = blobs()
        head, loop = make_loop(dropout=dropout)
        training = samples(x, labels)
        first_history = train(loop, training)
        first = head.get_weights()
        loop.rewind()
        assert not any(weight.any() for weight in head.get_layer("logit").get_weights())
        assert train(loop, training) == first_history
        for left, right in zip(head.get_weights(), first, strict=True):
            np.testing.assert_array_equal(left, right)

    def test_without_it_training_goes_on(self):
        x, labels = blobs()
        head, loop = make_loop()
        first = train(loop, samples(x, labels))
        assert train(loop, samples(x, labels))[0]["loss"] < first[0]["loss"]


def noisy_validation(seed: int = 0):
    """Separable to train on and contradicting to validate on, so that too much training harms."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 2)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    contradicting = np.where(rng.uniform(size=64) < 0.25, 1 - labels, labels)
    return x, labels, contradicting


class TestValidation:
    def test_early_stopping_puts_the_best_weights_back_and_reports_the_rest(self):
        x, labels, contradicting = noisy_validation()
        head, loop = make_loop(rate=0.1)
        advanced: list[int] = []
        history = train(
            loop, samples(x, labels), 100, samples(x, contradicting), 3, advanced.append
        )
        losses = [row["validation_loss"] for row in history]
        best = int(np.argmin(losses))
        assert 0 < best < len(losses) - 1 < 99
        assert len(history) == best + 1 + 3
        assert sum(advanced) == 100
        np.testing.assert_allclose(log_loss(head, x, contradicting), losses[best], rtol=1e-5)

    def test_without_patience_all_epochs_are_done_and_the_best_kept(self):
        x, labels, contradicting = noisy_validation()
        head, loop = make_loop(rate=0.1)
        advanced: list[int] = []
        history = train(loop, samples(x, labels), 30, samples(x, contradicting), 0, advanced.append)
        assert len(history) == len(advanced) == sum(advanced) == 30
        losses = [row["validation_loss"] for row in history]
        assert np.argmin(losses) < 29
        np.testing.assert_allclose(log_loss(head, x, contradicting), min(losses), rtol=1e-5)

    def test_without_validation_the_last_weights_stay(self):
        x, labels = blobs()
        head, loop = make_loop()
        train(loop, samples(x, labels), 1)
        after_one = log_loss(head, x, labels)
        loop.rewind()
        train(loop, samples(x, labels), 4, patience=1)
        assert log_loss(head, x, labels) < after_one


class TestHistory:
    def test_rows(self):
        x, labels = blobs()
        _, loop = make_loop()
        history = train(loop, samples(x, labels), 2)
        assert [row["epoch"] for row in history] == [1, 2]
        assert all(set(row) == {"stage", "epoch", "loss", "accuracy"} for row in history)
        assert all(row["stage"] == "head" for row in history)
        assert all(0 <= row["accuracy"] <= 1 and type(row["loss"]) is float for row in history)

    def test_rows_with_validation(self):
        x, labels = blobs()
        _, loop = make_loop()
        row = train(loop, samples(x, labels), 1, samples(x, labels))[0]
        validation = {"validation_loss", "validation_accuracy"}
        assert set(row) == {"stage", "epoch", "loss", "accuracy"} | validation

    @pytest.mark.parametrize("validates", [False, True])
    def test_each_row_is_told_whole_before_the_next_epoch(self, validates):
        x, labels = blobs()
        _, loop = make_loop()
        validation = samples(x, labels) if validates else None
        told: list[tuple[int, dict]] = []
        asked: list[int] = []

        def training(epoch: int):
            asked.append(epoch)
            return samples(x, labels)

        history = loop.train(
            *("head", 3, training, validation, 0, lambda steps: None),
            on_epoch=lambda row: told.append((len(asked), dict(row))),
        )
        assert told == [(number + 1, row) for number, row in enumerate(history)]

    def test_each_epoch_asks_for_its_own_samples(self):
        x, labels = blobs()
        _, loop = make_loop()
        asked: list[int] = []

        def training(epoch: int):
            asked.append(epoch)
            return samples(x, labels)

        loop.train("head", 3, training, None, 0, lambda steps: None)
        assert asked == [0, 1, 2]
