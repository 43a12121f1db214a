"""One interface over every form of a trained model: run folder, `.keras`, SavedModel, `.tflite`.

The embedded model is one of them, by name: its TFLite file needs no TensorFlow to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import index_unlabeled_slices
from hemorrhage_tf.evaluation.calibration import log_odds
from hemorrhage_tf.imaging.readers import SliceRef, read_slice
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW, parse_windows
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.inference.predictions import Prediction, ScanPrediction, SlicePrediction
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.run_files import is_run_folder, training_hashes, training_profile
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput

BATCH_SIZE = 32


# Axes of a batch of slices, and of their maps: the slice itself, and its three tta.
_FLIPS = ((), (2,), (1,), (1, 2))


# From float32 `(n, size, size, 3)` to probabilities `(n,)` and class activation maps `(n, h, w)`.
Explained = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Model:
    """A trained classifier of any form, ready to predict.

    Args:
        path: where it was loaded from.
        metadata: what it carries.
        run: from float32 `(n, size, size, 3)` in [0, 255] to float32 probabilities `(n,)`.
        explain: makes the function that gives the class activation maps `(n, h, w)` too, or None
            where the model has none. Default None.
        kept: what must live as long as the model does. Default None.
        classifier: the Keras model, where there is one. Default None.
        tta: whether `run` and the maps are means over the tta of a slice. Default False.
        is_embedded: whether it is the one that comes with the package. Default False.
    """

    def __init__(
        self,
        path: Path,
        metadata: ModelMetadata,
        run: Callable[[np.ndarray], np.ndarray],
        explain: Callable[[], Explained] | None = None,
        kept: Any = None,
        classifier: Any = None,
        tta: bool = False,
        is_embedded: bool = False,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._run = run
        self._explain = explain
        self._kept = kept
        self._classifier = classifier
        self.tta = tta
        self.is_embedded = is_embedded

    @property
    def has_cam(self) -> bool:
        """Whether it gives class activation maps."""
        return self._explain is not None

    @property
    def threshold(self) -> float:
        """Probabilities at or above it count as hemorrhage."""
        return self.metadata.threshold

    @property
    def scan_threshold(self) -> float:
        """Scans of which the mean of the three highest is at or above it count as hemorrhage."""
        chosen = self.metadata.scan_threshold
        return self.threshold if chosen is None else chosen

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predicts model input.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)` in [0, 1].
        """
        return self._run(images)

    def with_tta(self) -> Model:
        """Gives the same model asked four times: of a slice, its mirror images and both together.

        The logits are averaged; so are the class activation maps, turned back, so that the mean of
        a map stays the mean of the logits. It takes four times as long.
        """
        if self.tta:
            return self

        def run(images: np.ndarray) -> np.ndarray:
            return _mean_probability([self._run(_flip(images, axes)) for axes in _FLIPS])

        def explain() -> Explained:
            explained = self._explain()

            def flipped(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                found = [explained(_flip(images, axes)) for axes in _FLIPS]
                maps = [_flip(cam, axes) for (_, cam), axes in zip(found, _FLIPS, strict=True)]
                return _mean_probability([each for each, _ in found]), np.mean(maps, axis=0)

            return flipped

        return Model(
            *(self.path, self.metadata, run, explain if self.has_cam else None),
            kept=self._kept,
            classifier=self._classifier,
            tta=True,
            is_embedded=self.is_embedded,
        )

    def training_hashes(self) -> set[str]:
        """Content hashes of the slices it was trained on; empty where only a file is known."""
        return training_hashes(self.path) if self._is_run else set()

    def training_profile(self) -> dict[str, Any] | None:
        """How the slices that it was trained on look; None where only a file is known."""
        return training_profile(self.path) if self._is_run else None

    @property
    def _is_run(self) -> bool:
        return not self.is_embedded and is_run_folder(self.path)

    def input_for(
        self,
        is_hounsfield: np.ndarray,
        window: str | Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> ModelInput:
        """Says what slices are brought to, and refuses what the model was not trained for.

        Args:
            is_hounsfield: bool `(n,)`: which slices are in HU; the others are pictures.
            window: the window that the user asks for, or None for the model's.
            progress: where a note goes, or None for nowhere.

        Returns:
            The model's own, with a window for Hounsfield units.

        Raises:
            OptionError: another window than the model's, a window for pictures, or pictures where
                every channel is a window of its own.
        """
        trained = self.metadata.window
        asked = None if window is None else parse_windows(window)
        if asked and trained and asked != trained:
            raise OptionError(
                f"--window {','.join(asked)}: this model was trained with {','.join(trained)} and "
                "knows no other. Leave --window out, or train one with it"
            )
        if asked and not is_hounsfield.all():
            raise OptionError(
                f"--window {','.join(asked)}: {int((~is_hounsfield).sum())} of "
                f"{len(is_hounsfield)} slices are pictures, which were windowed already; only "
                "Hounsfield units (DICOM, NIfTI) can be. Leave --window or the pictures out"
            )
        model_input = self.metadata.model_input
        if not model_input.takes_display_images and not is_hounsfield.all():
            raise OptionError(
                f"this model takes Hounsfield units through {', '.join(trained)}, one a channel, "
                f"and {int((~is_hounsfield).sum())} of {len(is_hounsfield)} slices are pictures. "
                "Give DICOM or NIfTI"
            )
        if trained is None and is_hounsfield.any():
            asked = asked or DEFAULT_WINDOW
            if progress is not None:
                progress.note(
                    "The model was trained on pictures: Hounsfield units are shown to it through "
                    f"the window {','.join(asked)}."
                )
            model_input = replace(model_input, window=asked)
        return model_input

    def standardized(
        self, slices: Sequence[SliceRef | Path], model_input: ModelInput | None = None
    ) -> np.ndarray | None:
        """Gives the features of slices as the head sees them, standardized as in training.

        Args:
            slices: where they are; they are known to be readable.
            model_input: from `input_for`; None for the model's own.

        Returns:
            float32 `(n, width)`; None for a form that does not give them.
        """
        if self._classifier is None:
            return None
        import keras
        import tensorflow as tf

        classifier = self._classifier
        to_features = keras.Model(classifier.input, classifier.get_layer("standardization").output)
        forward = tf.function(lambda images: to_features(images, training=False))
        model_input = model_input or self.metadata.model_input
        batches = input_batches(slices, model_input, BATCH_SIZE)
        return np.concatenate([forward(tf.constant(images)).numpy() for images in batches])

    def probabilities(
        self,
        slices: Sequence[SliceRef | Path],
        progress: Progress | None = None,
        model_input: ModelInput | None = None,
    ) -> np.ndarray:
        """Predicts slices that are known to be readable.

        Args:
            slices: where they are.
            progress: where progress goes, or None for nowhere.
            model_input: from `input_for`; None for the model's own.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        found = []
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                found.append(self.run(images))
                advance(len(images))
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def explained(
        self,
        slices: Sequence[SliceRef | Path],
        progress: Progress | None = None,
        model_input: ModelInput | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Predicts slices one batch after the other, with the class activation map of each.

        Args:
            slices: where they are; they are known to be readable.
            progress: where progress goes, or None for nowhere.
            model_input: from `input_for`; None for the model's own.

        Yields:
            P(hemorrhage), and the map, float32 `(h, w)`, whose mean is the logit.

        Raises:
            ModelError: the model gives no map.
        """
        if self._explain is None:
            raise ModelError(
                f"{self.path}: gives no class activation map. Export it with --cam, or name the "
                "run folder"
            )
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        run = self._explain()
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                yield from zip(*run(images), strict=True)
                advance(len(images))

    def predict(
        self,
        images: str | Path | Iterable[str | Path],
        skip_invalid: bool = False,
        progress: Progress | None = None,
        window: str | Sequence[str] | None = None,
        cam: str | Path | None = None,
        tta: bool = False,
    ) -> Prediction:
        """Predicts files, folders and globs.

        Args:
            images: one of them, or several.
            skip_invalid: go on without files that cannot be read. Default False.
            progress: where progress and notes go, or None for nowhere.
            window: for Hounsfield units; None for the model's.
            cam: a folder to write overlays of the class activation map to, or None for none.
            tta: average over the tta of each slice, see `with_tta`. Default False.

        Returns:
            A finding for each slice, in the order given, and one for each scan.

        Raises:
            DataError: files that cannot be read, all in one message; or nothing to predict.
            OptionError: a window that does not fit the model or the slices.
            OutputError: an overlay cannot be written.
        """
        if tta and not self.tta:
            return self.with_tta().predict(images, skip_invalid, progress, window, cam)
        progress = progress or Progress(quiet=True)
        found = index_unlabeled_slices(images, progress, skip_invalid)
        model_input = self.input_for(found.is_hounsfield, window, progress)
        overlays: list[str | None] = [None] * len(found)
        if cam is None:
            probabilities = self.probabilities(found.slices, progress, model_input)
        else:
            folder = Path(cam)
            overlays = _overlay_paths(folder, found.slices)
            probabilities = np.empty(len(found), np.float32)
            explained = self.explained(found.slices, progress, model_input)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for index, (probability, weights) in enumerate(explained):
                    probabilities[index] = probability
                    pixels = read_slice(found.slices[index])
                    draw_overlay(pixels, weights, model_input).save(overlays[index], "PNG")
            except OSError as error:
                raise OutputError(
                    f"--cam {folder}: cannot be written ({error.strerror or error})"
                ) from None
        findings = tuple(
            SlicePrediction(
                *(str(ref), float(probability), bool(probability >= self.threshold)),
                *(scan, at, warning),
            )
            for ref, probability, scan, at, warning in zip(
                found.slices, probabilities, found.scans, overlays, found.warnings, strict=True
            )
        )
        return Prediction(findings, self.scan_predictions(found.scans, probabilities))

    def scan_predictions(
        self, scans: Sequence[str | None], probabilities: np.ndarray
    ) -> tuple[ScanPrediction, ...]:
        """Adds up the slices of each scan.

        Args:
            scans: the scan of each slice, or None.
            probabilities: `(n,)`, of each slice.

        Returns:
            A finding for each scan, in the order in which they first occur.
        """
        members: dict[str, list[int]] = {}
        for index, scan in enumerate(scans):
            if scan is not None:
                members.setdefault(scan, []).append(index)
        found = []
        for scan, indices in members.items():
            values = probabilities[indices]
            top = np.float32(mean_of_highest(values))
            found.append(
                ScanPrediction(
                    scan,
                    len(indices),
                    int((values >= self.threshold).sum()),
                    float(values.max()),
                    float(top),
                    self.scan_threshold,
                    bool(top >= self.scan_threshold),
                )
            )
        return tuple(found)


def _overlay_paths(folder: Path, slices: Sequence[SliceRef]) -> list[str]:
    """Names overlays after their slices; slices of one name in two folders are numbered."""
    names: dict[str, None] = {}
    for ref in slices:
        stem = ref.path.name if ref.frame is None else f"{ref.path.name}.{ref.frame:04d}"
        name, number = f"{stem}.cam.png", 1
        while name in names:
            number += 1
            name = f"{stem}.{number}.cam.png"
        names[name] = None
    return [str(folder / name) for name in names]


def _flip(batch: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    # Runtimes below Python take no negative strides.
    return np.ascontiguousarray(np.flip(batch, axes)) if axes else batch


def _mean_probability(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Averages logits, of which none is taken for infinite, and gives the probability of that."""
    mean = np.mean([log_odds(each) for each in probabilities], axis=0)
    return (1 / (1 + np.exp(-mean))).astype(np.float32)


def cast_images(images: np.ndarray, dtype: str) -> np.ndarray:
    """Brings float32 images in [0, 255] to the type of a model's input; uint8 is rounded."""
    if dtype == "uint8":
        return np.rint(images).clip(0, 255).astype(np.uint8)
    return images.astype(np.float32)
