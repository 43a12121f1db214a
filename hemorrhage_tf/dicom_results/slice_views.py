"""The slices of a result as images: through the window, with the overlay where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.dicom_results.scan_result import ScanResult
from hemorrhage_tf.imaging.readers import to_rgb
from hemorrhage_tf.inference.evidence import Decision
from hemorrhage_tf.inference.model import BATCH_SIZE, Model
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.inference.slice_stream import stream_slices
from hemorrhage_tf.pipeline.model_input import ModelInput


def stream_views(
    result: ScanResult, indices: Sequence[int], model: Model, model_input: ModelInput
) -> Iterator[tuple[int, Image.Image]]:
    """Read and draw some slices of a result, a batch at a time.

    Args:
        result: The result.
        indices: The indices of the slices.
        model: The model; one without class activation maps gives slices without overlay.
        model_input: How slices are converted to model input.

    Yields:
        The index of each slice, and an RGB image of its own size.

    Raises:
        DataError: A file cannot be read any more.
    """
    refs = [one.ref for one in result.source_slices(indices)]
    for batch in stream_slices(refs, model_input, BATCH_SIZE):
        if batch.problems:
            raise DataError.of_problems(
                "These files changed after they were predicted:", batch.problems, "Run it again."
            )
        cams: Sequence[np.ndarray | None] = [None] * batch.size
        if model.has_cam:
            cams = list(model.run_with_cam(np.stack([one.image for one in batch.valid]))[1])
        for one, cam in zip(batch.valid, cams, strict=True):
            index = indices[one.index]
            if cam is None:
                shown = np.rint(to_rgb(model_input.apply_window(one.pixels))).astype(np.uint8)
                yield index, Image.fromarray(shown)
            else:
                decision = Decision(
                    result.slices[index].final_probability, result.algorithm.slice_threshold
                )
                yield index, draw_overlay(one.pixels, cam, model_input, decision)
