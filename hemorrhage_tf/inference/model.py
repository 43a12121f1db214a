"""The base class of every form of a trained model, and its prediction of files and scans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.invalid_files import raise_or_skip_invalid
from hemorrhage_tf.datasets.series import Listing, list_images
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.flips import AXES, flip, mean_probability
from hemorrhage_tf.inference.input_choice import check_file_names, input_for, input_through
from hemorrhage_tf.inference.model_runner import ModelRunner
from hemorrhage_tf.inference.predictions import Prediction, ScanOutput, ScanProbabilities
from hemorrhage_tf.inference.previews import SlicePreviews
from hemorrhage_tf.inference.scan_runner import Members, ScanRunner
from hemorrhage_tf.inference.slice_stream import SliceBatch, stream_slices
from hemorrhage_tf.inference.streamed_results import StreamedResults, Thresholds
from hemorrhage_tf.models.run_files import is_run_folder, training_hashes, training_profile
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput

if TYPE_CHECKING:  # only for overlays
    from hemorrhage_tf.inference.overlay_folder import OverlayFolder

BATCH_SIZE = 32


class Model(ModelRunner):
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
        progress = progress or Progress(quiet=True)
        model_input = model_input or self.metadata.model_input
        runner = ScanRunner(self.run_scan, members, positions)
        order = runner.reading_order()
        alone = np.empty(len(slices), np.float32)
        subtypes = np.empty((len(slices), len(self.subtypes)), np.float32)
        done = 0
        with progress.track("Predicting", len(slices)) as advance:
            for images in input_batches([slices[i] for i in order], model_input, BATCH_SIZE):
                indices = order[done : done + len(images)]
                outputs = self.run_outputs(images, features=self.has_scan_model)
                alone[indices] = outputs["probability"]
                if self.subtypes:
                    subtypes[indices] = outputs["subtypes"]
                if self.has_scan_model:
                    for index, one in zip(indices, outputs["features"], strict=True):
                        runner.add(index, one)
                done += len(images)
                advance(len(images))
        scans = runner.scans
        if not self.has_scan_model:
            scans = np.array([mean_of_highest(alone[list(each)]) for each in members], np.float32)
        return ScanProbabilities(alone, runner.in_scans, scans, subtypes if self.subtypes else None)

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
        images: str | Path | Iterable[str | Path] | Listing,
        *,
        window: str | Sequence[str] | None = None,
        cam: str | Path | None = None,
        contours: bool = False,
        series: str | int | Iterable[str | int] = (),
        tta: bool = False,
        skip_invalid: bool = False,
        progress: Progress | None = None,
    ) -> Prediction:
        """Predict files, folders and globs. Each file is read once.

        Args:
            images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several; or their
                listing, from which the series were chosen already.
            window: Window for Hounsfield units; None for the model's.
            cam: Folder to write overlays of the class activation map to. Defaults to None.
            contours: Draw contours in the overlays instead of colors. Defaults to False.
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
                contours=contours,
                series=series,
                skip_invalid=skip_invalid,
                progress=progress,
            )
        if cam is not None:
            self.require_cam()
        progress = progress or Progress(quiet=True)
        model_input = input_through(self.metadata, window)
        listing = images if isinstance(images, Listing) else list_images(images, series, progress)
        check_file_names(self.metadata, self.path, listing.slices, window)
        thresholds = Thresholds(self.threshold, self.slice_in_scan_threshold, self.scan_threshold)
        run_scan = self.run_scan if self.has_scan_model else None
        results = StreamedResults(listing, thresholds, run_scan)
        with ExitStack() as stack:
            overlays = None
            if cam is not None:
                from hemorrhage_tf.inference.overlay_folder import OverlayFolder

                overlays = stack.enter_context(OverlayFolder(Path(cam), contours))
            advance = stack.enter_context(progress.track("Predicting", len(listing.slices)))
            for batch in stream_slices(listing.slices, model_input, BATCH_SIZE):
                advance(batch.size)
                results.add_checks(batch)
                # After a problem the other files are still checked, for one complete message.
                if skip_invalid or not results.problems:
                    self._predict_batch(batch, listing.slices, results, overlays)
                    if overlays is not None:
                        overlays.draw_decided(results.decision)
            raise_or_skip_invalid(results.problems, progress, skip_invalid, results.warnings)
            if not results.is_hounsfield:
                raise DataError("no slice is left to predict. Pass at least one readable file.")
            self.input_for(np.array(results.is_hounsfield), window, progress)
        previews = SlicePreviews(self, model_input, results.predicted_refs)
        return replace(results.prediction(), previews=previews)

    def _predict_batch(
        self,
        batch: SliceBatch,
        slices: Sequence[SliceRef],
        results: StreamedResults,
        overlays: OverlayFolder | None,
    ) -> None:
        """Predict the valid slices of a batch, and add their overlays."""
        if not batch.valid:
            results.add(batch, np.empty(0, np.float32), None, [], [])
            return
        inputs = np.stack([one.image for one in batch.valid])
        outputs = self.run_outputs(
            inputs, features=results.needs_features(batch), cam=overlays is not None
        )
        paths: list[str | None] = [None] * len(batch.valid)
        if overlays is not None:
            from hemorrhage_tf.inference.overlay import SliceView

            views = (SliceView.of_slice(one.pixels, batch.model_input) for one in batch.valid)
            paths = [
                overlays.add(one.index, slices[one.index], view, weights)
                for one, view, weights in zip(batch.valid, views, outputs["cam"], strict=True)
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

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        """Average logits and maps over the four images; the mean of a map stays the logit."""
        results = [
            self._model.run_outputs(flip(images, axes), features=features, cam=cam) for axes in AXES
        ]
        outputs = {"probability": mean_probability([one["probability"] for one in results])}
        if self.subtypes:
            subtypes = mean_probability([one["subtypes"] for one in results])
            # A mean of logits may exceed that of another mean by rounding only.
            outputs["subtypes"] = np.minimum(subtypes, outputs["probability"][:, np.newaxis])
        if features:
            outputs["features"] = np.concatenate([one["features"] for one in results], axis=1)
        if cam:
            maps = [flip(one["cam"], axes) for one, axes in zip(results, AXES, strict=True)]
            outputs["cam"] = np.mean(maps, axis=0)
        return outputs

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict the scan flipped in each way, and average the logits."""
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
