"""Previews: slices of a prediction drawn again, with their evidence, when someone looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.readers import SliceRef, read_slice
from hemorrhage_tf.inference.evidence import Decision, locate_evidence
from hemorrhage_tf.inference.model_runner import ModelRunner
from hemorrhage_tf.inference.predictions import SlicePrediction
from hemorrhage_tf.pipeline.model_input import ModelInput


@dataclass(frozen=True)
class SlicePreviews:
    """Draws slices of a prediction.

    Attributes:
        model: The model that predicted them.
        model_input: How they were converted to model input.
        refs: Where the slices of the prediction are, in its order.
    """

    model: ModelRunner
    model_input: ModelInput
    refs: Sequence[SliceRef]

    def draw(self, index: int, prediction: SlicePrediction) -> Image.Image | None:
        """Read and draw a slice, with its evidence if the model has class activation maps.

        Args:
            index: Its place in the prediction.
            prediction: That of the slice.

        Returns:
            An RGB image of its own size; None if the file cannot be read any more.
        """
        # Only here, because most predictions are not looked at as images.
        from hemorrhage_tf.inference.overlay import SliceView

        try:
            pixels = read_slice(self.refs[index])
        except SliceError:
            return None
        view, evidence = SliceView.of_slice(pixels, self.model_input), None
        if self.model.has_cam:
            _, (cam,) = self.model.run_with_cam(self.model_input(pixels)[None])
            evidence = locate_evidence(cam, self._decision(prediction))
        return view.draw(evidence)

    def _decision(self, prediction: SlicePrediction) -> Decision:
        if prediction.probability_in_scan is None:
            return Decision(prediction.probability, self.model.threshold)
        return Decision(prediction.probability_in_scan, self.model.slice_in_scan_threshold)
