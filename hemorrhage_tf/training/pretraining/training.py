"""The training loop of pretraining, which continues from its checkpoint on either backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.phantomnet import EVIDENCE_OFFSET, IMAGE_SIZE
from hemorrhage_tf.training.pretraining.samples import Samples
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings
from hemorrhage_tf.training.pretraining.step import batch_of, build_step

CHECKPOINT_FILE = "checkpoint.npz"
HISTORY_FILE = "history.csv"
HISTORY_COLUMNS = "step,label_loss,map_loss,accuracy,window_difference"
CHECKPOINT_SECONDS = 120.0
REPORT_STEPS = 50


def learning_rate(settings: PretrainingSettings) -> Any:
    """Build the learning rate schedule: a linear warm-up and a cosine down to 0."""
    import keras

    falling = max(settings.steps - settings.warmup, 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, falling, 0.0, "cosine", settings.learning_rate, settings.warmup
    )


def build_trainee() -> tuple[Any, Any]:
    """Build the backbone, and the model that trains it.

    Returns:
        The backbone, and a `keras.Model` from gray levels `(n, 192, 192, 1)` in [0, 255] to a
        dictionary: `label`, logits `(n, 1)`, and `maps`, logits `(n, 24, 24, 7)`.
    """
    import keras

    from hemorrhage_tf.models.classifier import pool
    from hemorrhage_tf.models.phantomnet import PhantomNet

    backbone = PhantomNet(False, None, (IMAGE_SIZE, IMAGE_SIZE, 3))
    both = keras.Model(backbone.input, [backbone.output, backbone.get_layer("evidence").output])
    gray = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(keras.ops.repeat(gray, 3, axis=-1))
    features, evidence = both(scaled)
    pooled = keras.layers.Dropout(0.1)(pool({"": features}, "avg_max"))
    label = keras.layers.Dense(1, name="label")(pooled)
    maps = keras.layers.Rescaling(1.0, -EVIDENCE_OFFSET, name="maps")(evidence)
    return backbone, keras.Model(gray, {"label": label, "maps": maps}, name="trainee")


def order_of_pass(
    settings: PretrainingSettings, epoch: int, losses: np.ndarray, kinds: np.ndarray
) -> np.ndarray:
    """Return the order of the samples in a pass.

    In the first passes each sample comes once. From `hard_from` on every second one is from the
    quarter of its kind with the largest losses, each of these about twice. The others are a random
    half of all: most samples have little left to teach by then. Each kind keeps its share.

    Args:
        settings: The settings.
        epoch: Number of the pass, from 0.
        losses: float32 `(count,)`, the label's loss of each sample when it was last trained on.
        kinds: int `(count,)`, see `Samples.kinds`.

    Returns:
        int64 `(count,)`, indices of the samples.

    Reference:
        A. Katharopoulos and F. Fleuret, Not all samples are created equal: deep learning with
        importance sampling, ICML 2018.
    """
    rng = np.random.default_rng([settings.seed, epoch])
    order = rng.permutation(settings.count)
    if epoch < settings.hard_from:
        return order
    half = (settings.count + 1) // 2
    hardest = np.flatnonzero(_ranks_in_kind(losses, kinds) < 0.25)
    again = np.concatenate([rng.permutation(hardest) for _ in range(-(-half // len(hardest)))])
    return np.stack((order[:half], again[:half]), axis=1).ravel()[: settings.count]


def _ranks_in_kind(losses: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return the share of samples of the same kind that have a larger loss."""
    ranks = np.empty(len(losses))
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        order = members[np.argsort(-losses[members], kind="stable")]
        ranks[order] = np.arange(len(order)) / len(order)
    return ranks


def train(
    draw: Callable[[], Samples],
    settings: PretrainingSettings,
    folder: Path,
    progress: Progress,
    start: Path | None = None,
) -> Any:
    """Train the backbone; continue from the checkpoint in the folder, of either backend.

    Args:
        draw: Returns the training samples; not called if the training is complete.
        settings: The settings.
        folder: An existing folder for the checkpoint and the history.
        progress: Reports progress.
        start: Weights file that the backbone starts from; None for random weights. Defaults to
            None.

    Returns:
        The trained backbone.
    """
    import keras

    keras.utils.set_random_seed(settings.seed)
    backbone, model = build_trainee()
    if start is not None:
        backbone.load_weights(start)
    optimizer = keras.optimizers.AdamW(
        learning_rate(settings), settings.weight_decay, global_clipnorm=2.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    state = _TrainingState(settings, [*model.variables, *optimizer.variables], folder)
    if state.restore():
        progress.note(f"Resuming from step {state.step} of {settings.steps}.")
    state.trim_history()
    if state.step < settings.steps:
        _run_steps(state, draw(), build_step(model, optimizer), progress)
    return backbone


class _TrainingState:
    """What a training needs to continue: the variables, the step, and the order of the pass.

    Attributes:
        settings: The settings.
        step: Number of steps done.
        losses: float32 `(count,)`, see `order_of_pass`.
        order: int64 `(count,)`, order of the present pass.
    """

    def __init__(self, settings: PretrainingSettings, variables: list[Any], folder: Path) -> None:
        self.settings = settings
        self.step = 0
        self.losses = np.zeros(settings.count, np.float32)
        self.order = np.arange(settings.count)
        self.history = folder / HISTORY_FILE
        self._variables = variables
        self._checkpoint = folder / CHECKPOINT_FILE

    def restore(self) -> bool:
        """Load the checkpoint; return whether there was one."""
        if not self._checkpoint.is_file():
            return False
        with np.load(self._checkpoint, allow_pickle=False) as arrays:
            for number, variable in enumerate(self._variables):
                variable.assign(arrays[f"{number:04d}"])
            self.step = int(arrays["step"])
            self.losses, self.order = arrays["losses"], arrays["order"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        arrays: dict[str, Any] = {
            f"{number:04d}": np.asarray(variable) for number, variable in enumerate(self._variables)
        }
        arrays |= {"step": self.step, "losses": self.losses, "order": self.order}
        write_atomically(self._checkpoint, lambda file: np.savez(file, **arrays))

    def trim_history(self) -> None:
        """Remove the steps after the checkpoint from the history; they are trained again."""
        path = self.history
        rows = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
        done = [row for row in rows if int(row.split(",")[0]) <= self.step]
        text = "\n".join([HISTORY_COLUMNS, *done, ""])
        write_atomically(path, lambda file: file.write(text.encode()))

    def choose_batch(self, kinds: np.ndarray) -> np.ndarray:
        """Return the sorted indices of the samples in the next batch.

        Args:
            kinds: int `(count,)`, see `Samples.kinds`.
        """
        epoch, position = divmod(self.step, self.settings.steps_of_epoch)
        if not position:
            self.order = order_of_pass(self.settings, epoch, self.losses, kinds)
        size = self.settings.batch_size
        return np.sort(self.order[position * size :][:size])


def _run_steps(state: _TrainingState, samples: Samples, step: Any, progress: Progress) -> None:
    settings, kinds = state.settings, samples.kinds[: state.settings.count]
    saved_at = time.monotonic()
    # Indices, metrics and losses of recent steps. The latter two are arrays of the backend, since
    # converting them at once would wait for each step.
    recent: list[tuple[np.ndarray, Any, Any]] = []
    with (
        progress.track("Pretraining", settings.steps) as advance,
        open(state.history, "a", encoding="utf-8") as history,
    ):
        advance(state.step)
        while state.step < settings.steps:
            chosen = state.choose_batch(kinds)
            metrics, losses = step(batch_of(samples, settings, state.step, chosen))
            recent.append((chosen, metrics, losses))
            state.step += 1
            is_last = state.step == settings.steps
            save = is_last or time.monotonic() - saved_at > CHECKPOINT_SECONDS
            ends_pass = not state.step % settings.steps_of_epoch
            if save or ends_pass or len(recent) == REPORT_STEPS:
                for indices, _, batch_losses in recent:
                    state.losses[indices] = np.asarray(batch_losses)
                means = np.stack([np.asarray(metrics) for _, metrics, _ in recent]).mean(axis=0)
                history.write(",".join(map(str, (state.step, *means.round(5)))) + "\n")
                history.flush()
                advance(len(recent))
                recent = []
            if save:
                step.synchronize()
                state.save()
                saved_at = time.monotonic()
