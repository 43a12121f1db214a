from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.models.classifier import build_head
from hemorrhage_tf.training.head_solver import class_weight
from hemorrhage_tf.training.loop import Loop, Samples, Stage, TrainingHooks, batches, whole_pass


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def make_blobs(count: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make two overlapping clouds, one three times as large as the other."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=count) < 0.25).astype(np.int64)
    x = rng.normal(size=(count, 2)) + labels[:, np.newaxis] * [1.0, -0.6]
    return x.astype(np.float32), labels


def make_samples(x, labels, weights=None, batch_size: int = 32, repeats: int = 1) -> Samples:
    import tensorflow as tf

    weights = np.ones(len(x)) if weights is None else weights
    x, labels, weights = (np.concatenate([each] * repeats) for each in (x, labels, weights))

    def dataset_of(positions):
        return tf.data.Dataset.from_tensor_slices(x[positions])

    return batches(dataset_of, labels, weights, batch_size)


@pytest.fixture(scope="module")
def shared_loops():
    """Loops by their arguments, so that each graph is traced once."""
    return {}


@pytest.fixture
def make_loop(shared_loops):
    """Return a rewound loop over a head, and the head."""

    def make(rate: float = 0.05, dropout: float = 0.0):
        import tensorflow as tf

        if (rate, dropout) not in shared_loops:
            head = build_head(2, dropout)
            shared_loops[rate, dropout] = Loop(head, rate, tf.distribute.get_strategy())
        loop = shared_loops[rate, dropout]
        loop.rewind()
        return loop.model, loop

    return make


def train(loop, training, epochs=3, validation=None, patience=0, **hooks):
    stage = Stage("head", epochs, lambda epoch: training, validation, patience)
    return loop.train(stage, TrainingHooks(**hooks))


def log_loss(head, x, labels) -> float:
    logits = head(x).numpy()[:, 0].astype(np.float64)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


class TestBatches:
    @pytest.mark.parametrize(
        "count, batch_size", [(1, 1), (1, 8), (7, 8), (8, 8), (9, 8), (37, 8), (37, 36), (37, 100)]
    )
    def test_shares_add_up_to_one_in_each_batch(self, count, batch_size):
        x = np.arange(count, dtype=np.float32)[:, np.newaxis]
        labels = np.arange(count) % 2
        weights = np.linspace(1, 2, count)
        samples = make_samples(x, labels, weights, batch_size)
        assert samples.count == count
        passed = [[np.asarray(a) for a in (inputs, *rest)] for inputs, rest in samples.dataset]
        assert [len(batch[0]) for batch in passed[:-1]] == [batch_size] * (len(passed) - 1)
        for batch in passed:
            np.testing.assert_allclose(batch[3].sum(), 1, rtol=1e-5)
            assert np.ptp(batch[3]) == 0
        for position, expected in enumerate((x, labels, weights)):
            joined = np.concatenate([batch[position] for batch in passed])
            np.testing.assert_allclose(joined, expected, rtol=1e-6)


@pytest.mark.parametrize("samples, expected", [(0, 0), (1, 1), (8, 2), (9, 3)])
def test_whole_pass_ends_with_the_last_batch(samples, expected):
    assert len(list(whole_pass(iter(range(100)), samples, batch_size=4))) == expected


class TestOptimum:
    def test_matches_scikit_learn(self, make_loop):
        from sklearn.linear_model import LogisticRegression

        x, labels = make_blobs()
        oracle = LogisticRegression(C=1e8, class_weight="balanced")
        expected = oracle.fit(x, labels).predict_proba(x)[:, 1]
        head, loop = make_loop(rate=0.05)
        # Twenty passes an epoch, each one full batch.
        training = make_samples(x, labels, class_weight(labels, "balanced"), len(x), repeats=20)
        train(loop, training, epochs=15)
        np.testing.assert_allclose(sigmoid(head(x).numpy()[:, 0]), expected, atol=5e-3)

    def test_loss_and_accuracy_are_means_over_the_samples(self, make_loop):
        x, labels = make_blobs(37)
        weights = np.random.default_rng(0).uniform(0.5, 2, 37)
        head, loop = make_loop(rate=1e-9)  # so that the weights do not change
        kernel, bias = np.array([[0.7], [-0.2]], np.float32), np.array([0.1], np.float32)
        head.get_layer("logit").set_weights([kernel, bias])
        validation = make_samples(x, labels, weights, 8)
        row = train(loop, validation, 1, validation)[0]
        logits = (x @ kernel + bias)[:, 0].astype(np.float64)
        loss = np.mean(weights * (np.logaddexp(0, logits) - labels * logits))
        accuracy = np.mean((logits > 0) == (labels == 1))
        for prefix in ("", "validation_"):
            np.testing.assert_allclose(row[prefix + "loss"], loss, rtol=1e-5)
            np.testing.assert_allclose(row[prefix + "accuracy"], accuracy, rtol=1e-5)


class TestRewind:
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_repeats_the_training_exactly(self, make_loop, dropout):
        x, labels = make_blobs()
        head, loop = make_loop(dropout=dropout)
        training = make_samples(x, labels)
        first_history = train(loop, training)
        first = head.get_weights()
        loop.rewind()
        assert not any(weight.any() for weight in head.get_layer("logit").get_weights())
        assert train(loop, training) == first_history
        for left, right in zip(head.get_weights(), first, strict=True):
            np.testing.assert_array_equal(left, right)

    def test_without_it_training_continues(self, make_loop):
        x, labels = make_blobs()
        _, loop = make_loop()
        first = train(loop, make_samples(x, labels))
        assert train(loop, make_samples(x, labels))[0]["loss"] < first[0]["loss"]


def make_noisy_validation(seed: int = 0):
    """Make separable training labels and contradicting ones, so that long training harms."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 2)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    contradicting = np.where(rng.uniform(size=64) < 0.25, 1 - labels, labels)
    return x, labels, contradicting


class TestValidation:
    def test_early_stopping_restores_the_best_weights_and_advances_to_the_end(self, make_loop):
        x, labels, contradicting = make_noisy_validation()
        head, loop = make_loop(rate=0.1)
        advanced: list[int] = []
        training, validation = make_samples(x, labels), make_samples(x, contradicting)
        history = train(loop, training, 100, validation, 3, advance=advanced.append)
        losses = [row["validation_loss"] for row in history]
        best = int(np.argmin(losses))
        assert 0 < best < len(losses) - 1 < 99
        assert len(history) == best + 1 + 3
        assert sum(advanced) == 100
        np.testing.assert_allclose(log_loss(head, x, contradicting), losses[best], rtol=1e-5)

    @pytest.mark.slow
    def test_without_patience_all_epochs_run_and_the_best_is_restored(self, make_loop):
        x, labels, contradicting = make_noisy_validation()
        head, loop = make_loop(rate=0.1)
        advanced: list[int] = []
        training, validation = make_samples(x, labels), make_samples(x, contradicting)
        history = train(loop, training, 30, validation, 0, advance=advanced.append)
        assert len(history) == len(advanced) == sum(advanced) == 30
        losses = [row["validation_loss"] for row in history]
        assert np.argmin(losses) < 29
        np.testing.assert_allclose(log_loss(head, x, contradicting), min(losses), rtol=1e-5)

    def test_without_validation_the_last_weights_stay(self, make_loop):
        x, labels = make_blobs()
        head, loop = make_loop()
        train(loop, make_samples(x, labels), 1)
        after_one = log_loss(head, x, labels)
        loop.rewind()
        train(loop, make_samples(x, labels), 4, patience=1)
        assert log_loss(head, x, labels) < after_one


class Store:
    """An epoch store in memory."""

    def __init__(self) -> None:
        self.saved: list[dict] = []
        self.last: list[bool] = []

    def restore(self):
        return self.saved[-1] if self.saved else None

    def save(self, state, last):
        state = state()
        state["history"] = list(state["history"])
        self.saved.append(state)
        self.last.append(last)


class TestResume:
    @pytest.mark.parametrize("patience", [0, 2])
    def test_any_epoch_ends_with_the_same_weights_and_history(self, make_loop, patience):
        x, labels, contradicting = make_noisy_validation()
        head, loop = make_loop(rate=0.1)
        samples = make_samples(x, labels), 6, make_samples(x, contradicting), patience
        whole = Store()
        history = train(loop, *samples, epoch_store=lambda stage: whole)
        expected = head.get_weights()
        assert whole.last == [False] * (len(history) - 1) + [True]
        for number in (0, len(history) - 2, len(history) - 1):
            loop.rewind()
            store = Store()
            store.saved = whole.saved[: number + 1]
            advanced: list[int] = []
            resumed = train(
                loop,
                *samples,
                epoch_store=lambda stage, store=store: store,
                advance=advanced.append,
            )
            assert resumed == history and sum(advanced) == 6
            for left, right in zip(head.get_weights(), expected, strict=True):
                np.testing.assert_array_equal(left, right)


class TestHistory:
    @pytest.mark.parametrize("validates", [False, True])
    def test_each_row_is_reported_before_the_next_epoch(self, make_loop, validates):
        x, labels = make_blobs()
        _, loop = make_loop()
        samples = make_samples(x, labels)
        epochs: list[int] = []
        reported: list[tuple[int, dict]] = []

        def training(epoch: int) -> Samples:
            epochs.append(epoch)
            return samples

        stage = Stage("head", 3, training, samples if validates else None)
        hooks = TrainingHooks(on_epoch=lambda row: reported.append((len(epochs), dict(row))))
        history = loop.train(stage, hooks)
        assert epochs == [0, 1, 2]
        assert reported == [(number + 1, row) for number, row in enumerate(history)]
        assert [row["epoch"] for row in history] == [1, 2, 3]
        columns = {"stage", "epoch", "loss", "accuracy"}
        if validates:
            columns |= {"validation_loss", "validation_accuracy"}
        for row in history:
            assert set(row) == columns and row["stage"] == "head"
            assert 0 <= row["accuracy"] <= 1 and type(row["loss"]) is float
