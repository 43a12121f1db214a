"""The slices that a model got most wrong, drawn when a notebook shows a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.core.notebook_html import paragraph, side_by_side, thumbnail
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.prediction_html import evidence_scale
from hemorrhage_tf.inference.predictions import SlicePrediction
from hemorrhage_tf.inference.previews import SlicePreviews
from hemorrhage_tf.pipeline.model_input import ModelInput

if TYPE_CHECKING:
    from markupsafe import Markup

    from hemorrhage_tf.inference.model_runner import ModelRunner

_SHOWN = 3  # of each kind of error


@dataclass(frozen=True)
class WrongSlice:
    """A slice whose prediction is wrong.

    Attributes:
        name: What it is called in outputs.
        ref: Where it is.
        label: 0 or 1.
        probability: P(hemorrhage) of the slice alone.
    """

    name: str
    ref: SliceRef
    label: int
    probability: float


@dataclass(frozen=True)
class ErrorPreviews:
    """Draws the slices that a model got most wrong.

    Attributes:
        errors: The slices: missed hemorrhages first, each kind from its worst on.
        load: Returns the model; called when something is drawn.
        model_input: How the slices were converted to model input.
    """

    errors: tuple[WrongSlice, ...]
    load: Callable[[], ModelRunner]
    model_input: ModelInput

    @classmethod
    def of_slices(
        cls,
        slices: SliceIndex,
        probabilities: np.ndarray,
        threshold: float,
        load: Callable[[], ModelRunner],
        model_input: ModelInput,
    ) -> ErrorPreviews:
        """Return the previews of a model on labeled slices.

        Args:
            slices: The slices.
            probabilities: `(n,)`, in [0, 1]; NaN for a slice that was not predicted.
            threshold: Probabilities at or above it are predicted hemorrhage.
            load: Returns the model.
            model_input: How the slices were converted to model input.
        """
        known = slices.has_slice_label & np.isfinite(probabilities)
        missed = known & (slices.labels == 1) & (probabilities < threshold)
        false_alarm = known & (slices.labels == 0) & (probabilities >= threshold)
        order = np.argsort(probabilities, kind="stable")
        worst = [
            *order[missed[order]][:_SHOWN].tolist(),
            *order[::-1][false_alarm[order[::-1]]][:_SHOWN].tolist(),
        ]
        errors = tuple(
            WrongSlice(
                name=slices.manifest.name_at(index),
                ref=slices.refs[index],
                label=int(slices.labels[index]),
                probability=float(probabilities[index]),
            )
            for index in worst
        )
        return cls(errors, load, model_input)

    def html(self) -> list[Markup]:
        """Return the slices with their evidence, and the color scale; none without an error."""
        if not self.errors:
            return []
        try:
            model = self.load()
        except ModelError:
            return [paragraph("The slices are not shown: the model is not there any more.")]
        row = side_by_side(self._thumbnails(model))
        heading = paragraph("The worst errors, by the probability of the slice alone")
        return [heading, *([] if row is None else [row]), evidence_scale()]

    def _thumbnails(self, model: ModelRunner) -> Iterator[Markup]:
        previews = SlicePreviews(model, self.model_input, [one.ref for one in self.errors])
        for index, one in enumerate(self.errors):
            is_missed = one.label == 1
            prediction = SlicePrediction(one.name, one.probability, is_hemorrhage=not is_missed)
            kind = "missed" if is_missed else "false alarm"
            text = f"{kind}: {one.name}, probability {one.probability:.3f}"
            yield thumbnail(previews.draw(index, prediction), text, text)
