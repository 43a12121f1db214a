"""One interface over every form that a trained model comes in: run folders and `.keras` files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data.manifest import expand_images
from hemorrhage_tf.data.pipeline import explained_read_errors, slice_dataset
from hemorrhage_tf.data.scan import readable
from hemorrhage_tf.errors import ModelError
from hemorrhage_tf.models.metadata import ModelMetadata, read_metadata
from hemorrhage_tf.reporting import Reporter, import_tensorflow
from hemorrhage_tf.training.run import MODEL_FILE, is_run_folder, training_hashes

BATCH_SIZE = 32

FORMATS = "a run folder (it holds model.keras), or a .keras file from one"


@dataclass(frozen=True)
class Finding:
    """What a model says of one slice.

    Attributes:
        path: the image file.
        probability: P(hemorrhage), in [0, 1].
        is_hemorrhage: whether it is at or above the model's threshold.
    """

    path: str
    probability: float
    is_hemorrhage: bool


class Model:
    """A trained classifier, ready to predict.

    Args:
        path: where it was loaded from.
        metadata: what it carries.
        classifier: the Keras model, from float32 `(batch, size, size, 3)` in [0, 255] to
            probabilities `(batch, 1)`.
    """

    def __init__(self, path: Path, metadata: ModelMetadata, classifier: Any) -> None:
        import tensorflow as tf

        self.path = path
        self.metadata = metadata
        self.classifier = classifier
        self._forward = tf.function(
            lambda images: classifier(images, training=False), reduce_retracing=True
        )

    @property
    def threshold(self) -> float:
        """Probabilities at or above it count as hemorrhage."""
        return self.metadata.threshold

    def training_hashes(self) -> set[str]:
        """Content hashes of the slices it was trained on; empty where only a file is known."""
        return training_hashes(self.path) if is_run_folder(self.path) else set()

    def probabilities(self, paths: Sequence[Path], reporter: Reporter | None = None) -> np.ndarray:
        """Predicts image files that are known to be readable.

        Args:
            paths: PNG or JPEG files.
            reporter: where progress goes, or None for nowhere.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        reporter = reporter or Reporter(quiet=True)
        dataset = slice_dataset(paths, self.metadata.image_size).map(lambda _, image: image)
        found = []
        with explained_read_errors(), reporter.progress("Predicting", len(paths)) as advance:
            for images in dataset.batch(BATCH_SIZE).prefetch(2):
                found.append(self._forward(images).numpy()[:, 0])
                advance(len(images))
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def predict(
        self,
        images: str | Path | Iterable[str | Path],
        skip_bad: bool = False,
        reporter: Reporter | None = None,
    ) -> list[Finding]:
        """Predicts files, folders and globs.

        Args:
            images: one of them, or several.
            skip_bad: go on without files that cannot be read. Default False.
            reporter: where progress and notes go, or None for nowhere.

        Returns:
            A finding for each slice, in the order given.

        Raises:
            DataError: files that cannot be read, all in one message; or nothing to predict.
        """
        reporter = reporter or Reporter(quiet=True)
        if isinstance(images, str | Path):
            images = [images]
        paths = readable(expand_images(images), reporter, skip_bad)
        return [
            Finding(str(path), float(probability), bool(probability >= self.threshold))
            for path, probability in zip(paths, self.probabilities(paths, reporter), strict=True)
        ]


def load(path: str | Path) -> Model:
    """Loads a trained model.

    Args:
        path: a run folder, or a `.keras` file from one.

    Returns:
        The model.

    Raises:
        ModelError: nothing is there, or it is no whole model of this package.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{path}: no model there. Accepted: {FORMATS}")
    if file.suffix.lower() != ".keras":
        raise ModelError(f"{path}: not a known model format. Accepted: {FORMATS}")
    metadata = read_metadata(file)
    import_tensorflow()
    import keras

    try:
        classifier = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be loaded, the file is damaged ({error})") from None
    expected = (None, metadata.image_size, metadata.image_size, 3)
    if tuple(classifier.input_shape) != expected or tuple(classifier.output_shape) != (None, 1):
        raise ModelError(
            f"{file}: a model from {classifier.input_shape} to {classifier.output_shape}, where "
            f"{expected} to (None, 1) was expected"
        )
    return Model(path, metadata, classifier)
