"""TensorBoard files of a fit: curves while it trains, metrics and times at its end.

TensorFlow writes the files. Viewing them needs `pip install tensorboard`, which is not a dependency
of the package.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.atomic_files import describe_os_error
from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.loop import Epoch

HEADLINE_METRICS = (
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "roc_auc",
    "pr_auc",
    "brier",
)

# Epochs of a cached head take milliseconds; slower ones reach the disk as soon as they are over.
FLUSH_MILLISECONDS = 2000

_CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy")
_QUEUE = 1000

# Values of TensorFlow's `DataClass`, by which TensorBoard distinguishes curves from other data.
_SCALAR, _TENSOR = 1, 2


class TensorBoardLog:
    """A writer of a fit's curves, metrics and settings for TensorBoard.

    Each fit has a folder of its own, so that fits can be compared, and each training a folder in
    it, so that TensorBoard overlays their curves: `DIR/first/fold 1` has the tags `head/loss` and
    `head/accuracy`, and with validation slices `head/validation_loss` and
    `head/validation_accuracy`, by epoch; the same under `fine-tune`. `DIR/first` has the settings
    as a table, and after the fit `metrics/...`, the ends of the intervals as `intervals/... low`
    and `high`, and `seconds/...` of each stage.

    If the disk fills up, the fit continues after one warning.

    Args:
        folder: TensorBoard's log folder, which is created; None writes nothing at all.
        name: Name of the fit. If its folder exists, the first of "NAME 2", "NAME 3", ... that is
            free.
        progress: Receives the warning.
        resumed: Continue in the last existing folder of the fit. Defaults to False.

    Attributes:
        folder: The folder of the fit; None if nothing is written, or no longer.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(
        self, folder: str | Path | None, name: str, progress: Progress, resumed: bool = False
    ) -> None:
        self._progress = progress
        self._fit_writer: Any = None
        self._training_writer: Any = None
        self._training = ""
        self.folder: Path | None = None
        if folder is None:
            return
        try:
            self.folder = _make_fit_folder(Path(folder), name, resumed)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise OutputError(
                f"--tensorboard {folder}: cannot be written ({describe_os_error(error)}). Name a "
                "folder that can be written, or leave out --tensorboard."
            ) from None

    def write_settings(self, values: Mapping[str, Any]) -> None:
        """Write settings as a table. Imports TensorFlow, like the following methods."""
        lines = ["| setting | value |", "|---|---|"]
        lines += [f"| {name} | {_format_cell(value)} |" for name, value in sorted(values.items())]
        self._write(self._open_fit, 0, texts={"settings": "\n".join(lines)})

    def start_training(self, name: str) -> Callable[[Epoch], None]:
        """Start a training, and finish the one before.

        Args:
            name: The training's name in TensorBoard, such as "fold 1".

        Returns:
            A function to call with each row of the history, see `loop.Loop.train`.
        """
        self._close(self._training_writer)
        self._training_writer, self._training = None, name
        return self._write_epoch

    def finish(self, metrics: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write the metrics and times of the fit, and close all files.

        Args:
            metrics: See `evaluation.metrics.binary_metrics`; metrics that are None are left out.
            seconds: Duration of each stage, by its name.
        """
        known = {name: metrics[name] for name in HEADLINE_METRICS if metrics.get(name) is not None}
        scalars = {f"metrics/{name}": metric["estimate"] for name, metric in known.items()}
        for name, metric in known.items():
            scalars |= {f"intervals/{name} {end}": metric[end] for end in ("low", "high")}
        scalars |= {f"seconds/{stage}": value for stage, value in seconds.items()}
        self._write(self._open_fit, 0, scalars)
        self.close()

    def close(self) -> None:
        """Flush and close all files."""
        self._close(self._training_writer)
        self._close(self._fit_writer)
        self._training_writer = self._fit_writer = None

    def _write_epoch(self, row: Epoch) -> None:
        scalars = {f"{row['stage']}/{name}": row[name] for name in _CURVES if name in row}
        self._write(self._open_training, row["epoch"], scalars)

    def _open_fit(self, folder: Path) -> Any:
        if self._fit_writer is None:
            self._fit_writer = _create_writer(folder)
        return self._fit_writer

    def _open_training(self, folder: Path) -> Any:
        if self._training_writer is None:
            self._training_writer = _create_writer(folder / self._training)
        return self._training_writer

    def _write(
        self,
        open_writer: Callable[[Path], Any],
        step: int,
        scalars: Mapping[str, float] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        if self.folder is None:
            return
        import tensorflow as tf

        def write(tag: str, value: Any, plugin: str, kind: int) -> None:
            # tf.summary.scalar and tf.summary.text need TensorBoard, which may not be installed.
            metadata = tf.compat.v1.SummaryMetadata(data_class=kind)
            metadata.plugin_data.plugin_name = plugin
            tf.summary.write(tag, value, step, metadata)

        try:
            with open_writer(self.folder).as_default():
                for tag, value in (scalars or {}).items():
                    write(tag, tf.constant(value, tf.float32), "scalars", _SCALAR)
                for tag, text in (texts or {}).items():
                    write(tag, tf.constant(text), "text", _TENSOR)
        except (tf.errors.OpError, OSError) as error:
            self._give_up(error)

    def _close(self, writer: Any) -> None:
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
            f"--tensorboard {self.folder}: cannot be written ({reason}). The fit continues without "
            "writing there."
        )
        self.folder = None


def _make_fit_folder(folder: Path, name: str, resumed: bool) -> Path:
    """Create the first free folder of the name, or return the last existing one if resumed."""
    number, last = 1, None
    while True:
        path = folder / (name if number == 1 else f"{name} {number}")
        if resumed and last is not None and not path.exists():
            return last
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():
                raise
            number, last = number + 1, path


def _create_writer(folder: Path) -> Any:
    import tensorflow as tf

    return tf.summary.create_file_writer(
        str(folder), max_queue=_QUEUE, flush_millis=FLUSH_MILLISECONDS
    )


def _format_cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
