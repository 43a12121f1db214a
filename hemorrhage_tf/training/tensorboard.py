"""What a fit writes for TensorBoard: curves while it trains, figures and times at its end.

TensorFlow writes the files; to look at them takes `pip install tensorboard`, which the package does
not need.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.loop import Epoch

FIGURES = (
    *("accuracy", "sensitivity", "specificity", "ppv", "npv"),
    *("roc_auc", "pr_auc", "brier"),
)
_CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy")

# Epochs of a cached head take milliseconds; a slower one is on the disk as soon as it is over.
_FLUSH_MILLISECONDS = 2000
_QUEUE = 1000


class TrainingWatch:
    """Writes a fit's curves, figures and settings into a folder that TensorBoard shows.

    Each fit has a folder of its own below that of TensorBoard, so that fits can be compared, and
    each training in it one again, so that TensorBoard lays its curves over those of the others:
    `DIR/first/fold 1` has `head/loss`, `head/accuracy` and, of a validation part,
    `head/validation_loss` and `head/validation_accuracy`, by epoch; and the same of `fine-tune`.
    `DIR/first` itself has the settings as a table, and in the end `figures/...`, the ends of their
    intervals as `intervals/... low` and `high`, and `seconds/...` of each stage.

    A disk that takes no more is warned of once, and the fit goes on.

    Args:
        folder: TensorBoard's, which is made; None writes nothing at all.
        name: of the fit. Where its folder is there, "NAME 2" is taken, or the next that is free.
        progress: where the warning goes.
        resumed: go on in the folder that an earlier part of this fit has written to. Default False.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path | None, name: str, progress: Progress, resumed: bool = False
    ) -> None:
        self._progress = progress
        self._of_fit = None
        self._of_training = None
        self._training = ""
        self.folder = None
        if folder is None:
            return
        try:
            self.folder = _own_folder(Path(folder), name, resumed)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise OutputError(
                f"--tensorboard {folder}: cannot be written ({error.strerror or error}). Name a "
                "folder that can be written to, or leave --tensorboard out"
            ) from None

    def settings(self, values: Mapping[str, Any]) -> None:
        """Writes settings as a table; imports TensorFlow, as all that follows does."""
        lines = ["| setting | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in sorted(values.items())]
        self._write(self._fit_writer, 0, texts={"settings": "\n".join(lines)})

    def training(self, name: str) -> Callable[[Epoch], None]:
        """Begins a training, and ends the one before.

        Args:
            name: what TensorBoard is to call it, say "fold 1".

        Returns:
            A function to call with each epoch's row, see `training.loop.Loop.train`, as soon as it
            is over.
        """
        self._close(self._of_training)
        self._of_training, self._training = None, name
        return self._epoch

    def finish(self, metrics: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Writes a fit's figures and times, and ends it.

        Args:
            metrics: see `evaluation.metrics.binary_metrics`; a figure that is None is left out.
            seconds: how long each stage took, by its name.
        """
        known = {name: metrics[name] for name in FIGURES if metrics.get(name) is not None}
        scalars = {f"figures/{name}": figure["estimate"] for name, figure in known.items()}
        for name, figure in known.items():
            scalars |= {f"intervals/{name} {end}": figure[end] for end in ("low", "high")}
        scalars |= {f"seconds/{stage}": value for stage, value in seconds.items()}
        self._write(self._fit_writer, 0, scalars)
        self.close()

    def close(self) -> None:
        """Writes out what is still held back."""
        self._close(self._of_training)
        self._close(self._of_fit)
        self._of_training = self._of_fit = None

    def _epoch(self, row: Epoch) -> None:
        scalars = {f"{row['stage']}/{name}": row[name] for name in _CURVES if name in row}
        self._write(self._training_writer, row["epoch"], scalars)

    def _fit_writer(self):
        if self._of_fit is None:
            self._of_fit = _writer(self.folder)
        return self._of_fit

    def _training_writer(self):
        if self._of_training is None:
            self._of_training = _writer(self.folder / self._training)
        return self._of_training

    def _write(
        self,
        writer: Callable[[], Any],
        step: int,
        scalars: Mapping[str, float] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        if self.folder is None:
            return
        import tensorflow as tf

        def write(tag: str, value, plugin: str, kind: int) -> None:
            # tf.summary.scalar and text are TensorBoard's own, which may not be installed.
            metadata = tf.compat.v1.SummaryMetadata(data_class=kind)
            metadata.plugin_data.plugin_name = plugin
            tf.summary.write(tag, value, step, metadata)

        try:
            with writer().as_default():
                for tag, value in (scalars or {}).items():
                    write(tag, tf.constant(value, tf.float32), "scalars", _SCALAR)
                for tag, text in (texts or {}).items():
                    write(tag, tf.constant(text), "text", _TENSOR)
        except (tf.errors.OpError, OSError) as error:
            self._give_up(error)

    def _close(self, writer) -> None:
        if writer is None or self.folder is None:
            return
        import tensorflow as tf

        try:
            writer.flush()
            writer.close()
        except (tf.errors.OpError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        reason = (getattr(error, "message", None) or str(error)).splitlines()[0]
        self._progress.warn(
            f"--tensorboard {self.folder}: cannot be written ({reason}); the fit goes on, and "
            "nothing more is written there"
        )
        self.folder = None


# Of TensorFlow's `DataClass`: by it TensorBoard tells curves from the rest.
_SCALAR, _TENSOR = 1, 2


def _own_folder(folder: Path, name: str, resumed: bool) -> Path:
    """Makes the first folder that is free, or gives a resumed fit the last that is not."""
    number, last = 1, None
    while True:
        own = folder / (name if number == 1 else f"{name} {number}")
        if resumed and last is not None and not own.exists():
            return last
        try:
            own.mkdir(parents=True)
            return own
        except FileExistsError:
            if not own.is_dir():
                raise
            number, last = number + 1, own


def _writer(folder: Path):
    import tensorflow as tf

    return tf.summary.create_file_writer(
        str(folder), max_queue=_QUEUE, flush_millis=_FLUSH_MILLISECONDS
    )


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
