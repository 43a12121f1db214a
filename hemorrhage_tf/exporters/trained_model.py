"""The trained model of an export, with the predictions that every exported form must repeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters.reference_slices import (
    BATCH_SIZE,
    VERIFICATION,
    VERIFICATION_PHANTOMS,
    ReferenceSlices,
    select_slices,
)
from hemorrhage_tf.exporters.verify import Verification, compare
from hemorrhage_tf.inference.keras_model import load_classifier, load_scan_model
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanProbabilities
from hemorrhage_tf.inference.tflite_model import SIGNATURE
from hemorrhage_tf.models.classifier import outputs_of
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.scan_model import SCAN_SIGNATURE, scan_geometry
from hemorrhage_tf.pipeline.datasets import input_batches


@dataclass(frozen=True)
class Signatures:
    """The signatures of an exported model that a comparison runs.

    Attributes:
        slices: The one for slices. Defaults to `serving_default`.
        scans: The one for scans. Defaults to `serve_scan`.
        longest_scan: The most slices that it takes; None for any number. Defaults to None.
    """

    slices: str = SIGNATURE
    scans: str = SCAN_SIGNATURE
    longest_scan: int | None = None


DYNAMIC_SHAPES = Signatures()


@dataclass(frozen=True)
class TrainedModel:
    """The model to export, with the predictions that an export must repeat.

    Attributes:
        classifier: The Keras model, from pixels to probability.
        metadata: What every form of it carries.
        slices: The slices to compare on.
        outputs: `probability` of these slices, float32 `(n, 1)`; with subtypes also `subtypes`,
            float32 `(n, subtypes)`; with a scan model also their `features`, float32 `(n, width)`.
        scan_model: The Keras model from `build_scan_model`; None if there is none. Defaults to
            None.
    """

    classifier: Any
    metadata: ModelMetadata
    slices: ReferenceSlices
    outputs: dict[str, np.ndarray]
    scan_model: Any = None

    @classmethod
    def load(
        cls, source: Path, verify: str | Path | Manifest | None, progress: Progress
    ) -> TrainedModel:
        """Load a model, and predict the slices to compare on.

        Args:
            source: A run folder, its `.keras` file, or "phantomnet".
            verify: Labeled slices; None for those of `select_slices`.
            progress: Receives progress.

        Raises:
            ModelError: The source is not a model.
            DataError: The slices are missing or changed.
            OptionError: The slices do not suit the model, or there are none by default.
        """
        with progress.stage(f"Loading {source}"):
            metadata, classifier = load_classifier(source)
            scan_model = None if metadata.scan_model is None else load_scan_model(source)
        slices = select_slices(
            source, metadata.model_input, VERIFICATION, verify, VERIFICATION_PHANTOMS, progress
        )
        trained = cls(classifier, metadata, slices, {}, scan_model)
        trained.outputs.update(trained._predict(progress))
        return trained

    def without_scan_model(self) -> TrainedModel:
        """Return the model for slices alone; scans are predicted as by one without a scan model."""
        metadata = replace(
            self.metadata,
            scan_model=None,
            scan_threshold=None,
            scan_operating_point=None,
            slice_in_scan_threshold=None,
        )
        return replace(self, metadata=metadata, scan_model=None)

    @property
    def probabilities(self) -> np.ndarray:
        """float32 `(n,)` of the slices."""
        return self.outputs["probability"][:, 0]

    def compare(self, exported: np.ndarray, chosen: Any = slice(None)) -> Verification:
        """Compare with the probabilities of an exported model, on all or on chosen slices."""
        labels = self.slices.labels[chosen]
        return compare(self.probabilities[chosen], exported, labels, self.metadata.threshold)

    def compare_subtypes(
        self, exported: np.ndarray, chosen: Any = slice(None)
    ) -> dict[str, Verification]:
        """Compare with the subtypes `(n, subtypes)` of an exported model, one by one."""
        labels, before = self.slices.labels[chosen], self.outputs["subtypes"][chosen]
        metadata = self.metadata
        columns = zip(
            metadata.subtypes, metadata.subtype_thresholds, before.T, exported.T, strict=True
        )
        # The labels are those of any hemorrhage, so that there is no area to compare.
        return {
            name: replace(compare(one, other, labels, threshold), roc_auc=None, roc_auc_before=None)
            for name, threshold, one, other in columns
        }

    def compare_all(
        self,
        exported: Model,
        progress: Progress,
        signatures: Signatures = DYNAMIC_SHAPES,
    ) -> dict[str, Verification]:
        """Compare every output of an exported model: slices, subtypes, scans and slices in them.

        Args:
            exported: The exported model.
            progress: Receives progress.
            signatures: The signatures that the model runs. Defaults to `serving_default` and
                `serve_scan`.

        Returns:
            By signature and output the comparison.
        """
        scans = self.slices.sequences
        # Forms of one model are compared, so that a part of a long scan serves as well.
        members = [each[: signatures.longest_scan] for each in scans.members]
        members = members if self.scan_model is not None else []
        after = exported.scan_probabilities(self.slices.refs, members, scans.positions, progress)
        verifications = {signatures.slices: self.compare(after.slices)}
        if after.subtypes is not None:
            for name, each in self.compare_subtypes(after.subtypes).items():
                verifications[f"{signatures.slices}, {name}"] = each
        if self.scan_model is not None:
            scan = self._compare_scans(exported, after, members)
            verifications |= {f"{signatures.scans}, {name}": each for name, each in scan.items()}
        return verifications

    def _compare_scans(
        self, exported: Model, after: ScanProbabilities, members: Sequence[np.ndarray]
    ) -> dict[str, Verification]:
        labels = self.slices.labels
        of_scans = np.empty(len(members), np.float32)
        in_scans = np.full(len(labels), np.nan, np.float32)
        for number, outputs in enumerate(self._predict_scans(members)):
            of_scans[number] = outputs["probability"][0, 0]
            in_scans[members[number]] = outputs["slice_probability"][0]
        label_of_scan = np.array([labels[each].max() for each in members])
        inside = np.isfinite(in_scans)
        return {
            "scans": compare(of_scans, after.scans, label_of_scan, exported.scan_threshold),
            "slices": compare(
                in_scans[inside],
                after.in_scans[inside],
                labels[inside],
                exported.slice_in_scan_threshold,
            ),
        }

    def _predict(self, progress: Progress) -> dict[str, np.ndarray]:
        import keras
        import tensorflow as tf

        outputs = outputs_of(self.classifier)
        if self.scan_model is not None:
            outputs = {**outputs, "features": self.classifier.get_layer("standardization").output}
        model = keras.Model(self.classifier.input, outputs)
        forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
        refs = self.slices.refs
        batches = []
        with progress.track("Predicting with the trained model", len(refs)) as advance:
            for images in input_batches(refs, self.metadata.model_input, BATCH_SIZE):
                batches.append(forward(tf.constant(images)))
                advance(len(images))
        return {name: np.concatenate([one[name].numpy() for one in batches]) for name in outputs}

    def _predict_scans(self, members: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of the scan model for each scan."""
        positions = self.slices.sequences.positions
        for each in members:
            inputs = {
                "features": self.outputs["features"][each][np.newaxis],
                "geometry": scan_geometry(positions[each])[np.newaxis],
                "mask": np.ones((1, len(each)), np.float32),
            }
            outputs = self.scan_model(inputs, training=False)
            yield {name: output.numpy() for name, output in outputs.items()}
