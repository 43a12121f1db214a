"""The embedded model, PhantomNet: it comes with the package and needs no TensorFlow to predict."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.inference.tflite_model import TFLiteModel
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL, TFLITE_FILE, embedded_file


class EmbeddedModel(TFLiteModel):
    """PhantomNet, run from the `.tflite` file of the package.

    Args:
        threads: Threads to run with; None for all processors.

    Raises:
        ModelError: The file is missing or damaged.
    """

    is_embedded = True

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(embedded_file(TFLITE_FILE), threads)
        self.path = Path(EMBEDDED_MODEL)
