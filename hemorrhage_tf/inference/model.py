"""The base class of every form of a trained model, and its prediction of files and scans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, ModelError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.invalid_files import raise_or_skip_invalid
from hemorrhage_tf.datasets.series import find_sources, list_slices
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.flips import AXES, flip, mean_probability
from hemorrhage_tf.inference.input_choice import check_file_names, input_for, input_through
from hemorrhage_tf.inference.overlay import OverlayFolder
from hemorrhage_tf.inference.predictions import Prediction, ScanOutput, ScanProbabilities
from hemorrhage_tf.inference.scan_runner import Members, ScanRunner
from hemorrhage_tf.inference.slice_stream import SliceBatch, stream_slices
from hemorrhage_tf.inference.streamed_results import StreamedResults, Thresholds
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.run_files import is_run_folder, training_hashes, training_profile
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput

BATCH_SIZE = 32


class Model(ABC):
    """A trained model of any form, ready to predict; `load` returns one.

    Args:
        path: Where it was loaded from.
        metadata: Labels, input, thresholds and provenance.

    Example:
        >>> import hemorrhage_tf as htf
        >>> model = htf.load("runs/first")
        >>> model.metadata.image_size
        32
        >>> prediction = model.predict("slice.png")
        >>> prediction[0].is_hemorrhage == (prediction[0].probability >= model.threshold)
        True
    """

    is_embedded = False
    has_cam = False  # whether it provides class activation maps
    has_scan_model = False  # whether a scan model belongs to it
    uses_tta = False  # whether it averages over test-time augmentation

    def __init__(self, path: Path, metadata: ModelMetadata) -> None:
        self.path = path
        self.metadata = metadata

    @abstractmethod
    def run(self, images: np.ndarray) -> np.ndarray:
        """Predict model input.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage) in [0, 1].
        """

    def run_with_cam(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input, with class activation maps.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage); and float32 `(n, h, w)`, the maps: the mean of a map is
            the logit of its slice.

        Raises:
            ModelError: The model provides no class activation map.
        """
        raise ModelError(
            f"{self.path}: this model provides no class activation map. Export it with --cam, or "
            "pass the run folder."
        )

    def run_with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input, with the features for the scan model.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage); and float32 `(n, width)`, the standardized features.

        Raises:
            ModelError: The model has no scan model.
        """
        raise self._no_scan_model()

    def run_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict a scan, and each of its slices given the whole scan.

        Args:
            features: float32 `(n, width)`, from `run_with_features`, of the slices of one scan from
                the neck to the vertex.
            geometry: float32 `(n, 3)`, see `models.scan_model.scan_geometry`.

        Returns:
            The probability of the scan, and of each slice.

        Raises:
            ModelError: The model has no scan model.
        """
        raise self._no_scan_model()

    def run_outputs(
        self, images: np.ndarray, *, features: bool = False, cam: bool = False
    ) -> dict[str, np.ndarray]:
        """Predict model input, with all that is needed of the model's outputs, in one pass.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].
            features: Whether the features for the scan model are needed. Defaults to False.
            cam: Whether class activation maps are needed. Defaults to False.

        Returns:
            `probability`, float32 `(n,)`; `subtypes`, float32 `(n, subtypes)`, if the model has
            any; `features` and `cam` as `run_with_features` and `run_with_cam` return them.

        Raises:
            ModelError: The model does not provide what is needed.
        """
        outputs: dict[str, np.ndarray] = {}
        if features:
            outputs["probability"], outputs["features"] = self.run_with_features(images)
        if cam:
            outputs["probability"], outputs["cam"] = self.run_with_cam(images)
        return outputs or {"probability": self.run(images)}

    def name_subtypes(self, outputs: dict[str, np.ndarray]) -> list[dict[str, float] | None]:
        """Return the probabilities of subtypes by name for each image; None without subtypes."""
        if "subtypes" not in outputs:
            return [None] * len(outputs["probability"])
        return [dict(zip(self.subtypes, row, strict=True)) for row in outputs["subtypes"].tolist()]

    def _no_scan_model(self) -> ModelError:
        return ModelError(
            f"{self.path}: this model has no scan model. Fit one on data with scans, and pass its "
            "run folder or an export of it."
        )

    @property
    def threshold(self) -> float:
        """The threshold for slices: a probability that reaches it counts as hemorrhage."""
        return self.metadata.threshold

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The names of the subtypes that the model predicts; empty if it predicts none."""
        return self.metadata.subtypes

    @property
    def scan_threshold(self) -> float:
        """The threshold for the probability of a scan."""
        chosen = self.metadata.scan_threshold
        return self.threshold if chosen is None else chosen

    @property
    def slice_in_scan_threshold(self) -> float:
        """The threshold for the probability of a slice in its scan, from the scan model."""
        chosen = self.metadata.slice_in_scan_threshold
        return self.threshold if chosen is None else chosen

    def with_tta(self) -> Model:
        """Return the model with test-time augmentation.

        Logits are averaged over each slice and its three flips, and so are the class activation
        maps after they are flipped back. A scan model runs on the whole scan four times, each time
        flipped in another way, and its logits are averaged, too. Prediction takes four times as
        long.
        """
        return FlipAveragedModel(self)

    def training_hashes(self) -> set[str]:
        """Return the content hashes of the training slices; empty if they are unknown."""
        return training_hashes(self.path) if self._is_run_folder else set()

    def training_profile(self) -> dict[str, Any] | None:
        """Return the summary of the training slices' appearance; None if it is unknown."""
        return training_profile(self.path) if self._is_run_folder else None

    @property
    def _is_run_folder(self) -> bool:
        return not self.is_embedded and is_run_folder(self.path)

    def input_for(
        self,
        is_hounsfield: np.ndarray,
        window: str | Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> ModelInput:
        """Return the conversion of slices to model input, and reject slices that do not fit.

        Args:
            is_hounsfield: bool `(n,)`, which slices are in HU; the others are display images.
            window: The requested window, or None for the model's.
            progress: Prints a note where the window is not the model's own. Defaults to None.

        Returns:
            The model's own input, with a window for Hounsfield units.

        Raises:
            OptionError: Another window than the model's, a window for display images, or display
                images for a model whose channels are different windows.
        """
        return input_for(self.metadata, self.path, is_hounsfield, window, progress)

    def standardized(
        self, slices: Sequence[SliceRef | Path], model_input: ModelInput | None = None
    ) -> np.ndarray | None:
        """Return the standardized features of slices, as the dense head receives them.

        Args:
            slices: Where the slices are; they must be readable.
            model_input: From `input_for`; None for the model's own.

        Returns:
            float32 `(n, width)`; None for a form that does not expose features.
        """
        return None

    def probabilities(
        self,
        slices: Sequence[SliceRef | Path],
        progress: Progress | None = None,
        model_input: ModelInput | None = None,
    ) -> np.ndarray:
        """Predict slices that are known to be readable.

        Args:
            slices: Where the slices are.
            progress: Shows the progress. Defaults to None, for no output.
            model_input: From `input_for`; None for the model's own.

        Returns:
            float32 `(n,)`, P(hemorrhage) in [0, 1].
        """
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        batches = []
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                batches.append(self.run(images))
                advance(len(images))
        return np.concatenate(batches) if batches else np.empty(0, np.float32)

    def scan_probabilities(
        self,
        slices: Sequence[SliceRef | Path],
        members: Members,
        positions: np.ndarray,
        progress: Progress | None = None,
        model_input: ModelInput | None = None,
    ) -> ScanProbabilities:
        """Predict slices that are known to be readable, alone and in their scans.

        The slices are read scan by scan, so that the features of one scan are in memory at a time.

        Args:
            slices: Where the slices are.
            members: The indices of the slices of each scan, from the neck to the vertex.
            positions: float64 `(n,)`, the position of each slice in its scan in mm; NaN if unknown.
            progress: Shows the progress. Defaults to None, for no output.
            model_input: From `input_for`; None for the model's own.

        Returns:
            The probabilities of the slices and of the scans.
        """
        if not self.has_scan_model and not self.subtypes:
            alone = self.probabilities(slices, progress, model_input)
            scans = np.array([mean_of_highest(alone[list(each)]) for each in members], np.float32)
            return ScanProbabilities(alone, np.full(len(slices), np.nan, np.float32), scans)
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        runner = ScanRunner(self.run_scan, members, positions)
        order = runner.reading_order()
        refs = [slices[index] for index in order]
        alone = np.empty(len(slices), np.float32)
        subtypes = np.empty((len(slices), len(self.subtypes)), np.float32)
        done = 0
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches(refs, model_input, BATCH_SIZE):
                indices = order[done : done + len(images)]
                outputs = self.run_outputs(images, features=self.has_scan_model)
                alone[indices] = outputs["probability"]
                if self.subtypes:
                    subtypes[indices] = outputs["subtypes"]
                for index, one in zip(indices, outputs.get("features", ()), strict=False):
                    runner.add(index, one)
                done += len(images)
                advance(len(images))
        of_subtypes = subtypes if self.subtypes else None
        if not self.has_scan_model:
            scans = np.array([mean_of_highest(alone[list(each)]) for each in members], np.float32)
            return ScanProbabilities(
                alone, np.full(len(slices), np.nan, np.float32), scans, of_subtypes
            )
        return ScanProbabilities(alone, runner.in_scans, runner.scans, of_subtypes)

    def probabilities_with_cams(
        self,
        slices: Sequence[SliceRef | Path],
        progress: Progress | None = None,
        model_input: ModelInput | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Predict slices that are known to be readable, with class activation maps.

        Args:
            slices: Where the slices are.
            progress: Shows the progress. Defaults to None, for no output.
            model_input: From `input_for`; None for the model's own.

        Yields:
            P(hemorrhage), and the map, float32 `(h, w)`, whose mean is the logit.

        Raises:
            ModelError: The model provides no class activation map.
        """
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                yield from zip(*self.run_with_cam(images), strict=True)
                advance(len(images))

    def predict(
        self,
        images: str | Path | Iterable[str | Path],
        *,
        window: str | Sequence[str] | None = None,
        cam: str | Path | None = None,
        series: str | int | Iterable[str | int] = (),
        tta: bool = False,
        skip_invalid: bool = False,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict files, folders and globs. Each file is read once.

        Args:
            images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several.
            window: Window for Hounsfield units; None for the model's.
            cam: Folder to write overlays of the class activation map to. Defaults to None.
            series: The DICOM series to use of a folder or pattern, one or several: Series Number,
                Series Instance UID, or an end of it that no other series has. Defaults to none, for
                one series of each study, see `datasets.series_choice`.
            tta: Average over each slice and its flips; see `with_tta`. Defaults to False.
            skip_invalid: Continue without files that cannot be read. Defaults to False.
            progress: Shows progress and notes. Defaults to None, for no output.

        Returns:
            A prediction for each slice, in the order given, and for each scan; and the series that
            were left out.

        Raises:
            DataError: Files cannot be read, all listed in one message; or no slice is left.
            OptionError: The window does not fit the model or the slices, or a requested series does
                not exist.
            OutputError: An overlay cannot be written.
        """
        if tta and not self.uses_tta:
            return self.with_tta().predict(
                images,
                window=window,
                cam=cam,
                series=series,
                skip_invalid=skip_invalid,
                progress=progress,
            )
        if cam is not None and not self.has_cam:
            self.run_with_cam(np.empty((0, 0, 0, 3), np.float32))  # raises the error
        progress = progress or Progress(quiet=True)
        paths = [images] if isinstance(images, str | Path) else images
        model_input = input_through(self.metadata, window)
        sources = find_sources(paths)
        requested = [series] if isinstance(series, str | int) else series
        listing = list_slices(list(sources), progress, sources, [str(one) for one in requested])
        check_file_names(self.metadata, self.path, listing.slices, window)
        results = StreamedResults(listing, self.run_scan if self.has_scan_model else None)
        with ExitStack() as stack:
            overlays = None if cam is None else stack.enter_context(OverlayFolder(Path(cam)))
            advance = stack.enter_context(progress.track("Predicting", len(listing.slices)))
            for batch in stream_slices(listing.slices, model_input, BATCH_SIZE):
                advance(batch.size)
                results.add_checks(batch)
                # After a problem the other files are still checked, for one complete message.
                if skip_invalid or not results.problems:
                    self._predict_batch(batch, listing.slices, results, overlays)
            raise_or_skip_invalid(results.problems, progress, skip_invalid, results.warnings)
            if not results.is_hounsfield:
                raise DataError("no slice is left to predict. Pass at least one readable file.")
            self.input_for(np.array(results.is_hounsfield), window, progress)
        return results.prediction(
            Thresholds(self.threshold, self.slice_in_scan_threshold, self.scan_threshold)
        )

    def _predict_batch(
        self,
        batch: SliceBatch,
        slices: Sequence[SliceRef],
        results: StreamedResults,
        overlays: OverlayFolder | None,
    ) -> None:
        """Predict the valid slices of a batch, and write their overlays."""
        if not batch.valid:
            results.add(batch, np.empty(0, np.float32), None, [], [])
            return
        inputs = np.stack([one.image for one in batch.valid])
        outputs = self.run_outputs(
            inputs, features=results.needs_features(batch), cam=overlays is not None
        )
        paths: list[str | None] = [None] * len(batch.valid)
        if overlays is not None:
            paths = [
                overlays.write(slices[one.index], one.pixels, weights, batch.model_input)
                for one, weights in zip(batch.valid, outputs["cam"], strict=True)
            ]
        results.add(
            batch,
            outputs["probability"],
            outputs.get("features"),
            paths,
            self.name_subtypes(outputs),
        )


class FlipAveragedModel(Model):
    """A model with test-time augmentation: the mean over each slice and its three flips.

    Args:
        model: The model that predicts each of them.
    """

    uses_tta = True

    def __init__(self, model: Model) -> None:
        super().__init__(model.path, model.metadata)
        self._model = model
        self.is_embedded = model.is_embedded
        self.has_cam = model.has_cam
        self.has_scan_model = model.has_scan_model

    def with_tta(self) -> Model:
        """Return this model: the flips of the flips are the same four images."""
        return self

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predict each image and its flips, and average the logits; see `Model.run`."""
        return mean_probability([self._model.run(flip(images, axes)) for axes in AXES])

    def run_with_cam(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average logits and maps; the mean of a map stays the mean of the logits."""
        results = [self._model.run_with_cam(flip(images, axes)) for axes in AXES]
        maps = [flip(cams, axes) for (_, cams), axes in zip(results, AXES, strict=True)]
        return mean_probability([one for one, _ in results]), np.mean(maps, axis=0)

    def run_with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average logits; the features are those of the four images, one after the other.

        Returns:
            float32 `(n,)`, P(hemorrhage); and float32 `(n, 4 * width)`.
        """
        results = [self._model.run_with_features(flip(images, axes)) for axes in AXES]
        features = np.concatenate([one for _, one in results], axis=1)
        return mean_probability([one for one, _ in results]), features

    def run_outputs(
        self, images: np.ndarray, *, features: bool = False, cam: bool = False
    ) -> dict[str, np.ndarray]:
        """Average logits and maps over the four images; see `Model.run_outputs`."""
        if not self.subtypes:
            return super().run_outputs(images, features=features, cam=cam)
        results = [
            self._model.run_outputs(flip(images, axes), features=features, cam=cam) for axes in AXES
        ]
        probability = mean_probability([one["probability"] for one in results])
        subtypes = mean_probability([one["subtypes"] for one in results])
        outputs = {
            "probability": probability,
            # A mean of logits may exceed that of another mean by rounding only.
            "subtypes": np.minimum(subtypes, probability[:, np.newaxis]),
        }
        if features:
            outputs["features"] = np.concatenate([one["features"] for one in results], axis=1)
        if cam:
            maps = [flip(one["cam"], axes) for one, axes in zip(results, AXES, strict=True)]
            outputs["cam"] = np.mean(maps, axis=0)
        return outputs

    def run_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict the scan flipped in each way, and average the logits; see `Model.run_scan`."""
        parts = np.split(features, len(AXES), axis=1)
        outputs = [self._model.run_scan(np.ascontiguousarray(one), geometry) for one in parts]
        probability = mean_probability([np.array([one.probability]) for one in outputs])
        return ScanOutput(
            float(probability[0]), mean_probability([one.slice_probabilities for one in outputs])
        )

    def standardized(
        self, slices: Sequence[SliceRef | Path], model_input: ModelInput | None = None
    ) -> np.ndarray | None:
        """Return the standardized features of the slices themselves, without flips."""
        return self._model.standardized(slices, model_input)
