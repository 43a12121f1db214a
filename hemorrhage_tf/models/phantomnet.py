"""PhantomNet: a compact backbone for head-CT slices, pretrained on phantoms alone.

A residual encoder down to 1/32 of the input's side, and a decoder up to 1/8 of it: each position of
the feature map is small enough to locate a lesion, and its receptive field covers the whole slice.
"""

from __future__ import annotations

from typing import Any

# Channels that pretraining supervises with the masks of the phantoms; see `training.pretraining`.
EVIDENCE = (
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
    "epidural",
    "any",
    "mimic",
)
# Evidence is a logit plus this offset: ReLU6 then clips the logit to [-2, 4] instead of [0, 6].
EVIDENCE_OFFSET = 2.0
STRIDE = 8
IMAGE_SIZE = 192  # pixels, of the input in pretraining

_WIDTHS = (32, 64, 104, 112)
_TOP_WIDTH = 72


def PhantomNet(  # noqa: N802 - named like the builders of keras.applications
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> Any:
    """Build the backbone, with random weights.

    Args:
        include_top: Must be False; the backbone has no top.
        weights: Must be None; pretrained weights are loaded from a file.
        input_shape: `(height, width, 3)`, each side a multiple of 32 pixels.

    Returns:
        A `keras.Model` to a feature map with 1/8 of the input's side: 72 learned channels, then one
        for each name in `EVIDENCE`.

    Raises:
        ValueError: An argument is not supported.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError("phantomnet has no top, and its weights are loaded from a file")
    if any(side < 32 or side % 32 for side in input_shape[:2]):
        raise ValueError("phantomnet needs sides that are multiples of 32 pixels")

    def convolution(
        x: Any, filters: int, size: int, strides: int, name: str, relu: bool = True
    ) -> Any:
        x = keras.layers.Conv2D(
            filters, size, strides, "same", use_bias=False, name=f"{name}_convolution"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.97, name=f"{name}_normalization")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def residual(x: Any, filters: int, strides: int, name: str) -> Any:
        shortcut = x
        if strides > 1:
            shortcut = keras.layers.AveragePooling2D(strides, name=f"{name}_shortcut_pooling")(x)
        if x.shape[-1] != filters:
            shortcut = convolution(shortcut, filters, 1, 1, f"{name}_shortcut", relu=False)
        x = convolution(x, filters, 3, strides, f"{name}_first")
        x = convolution(x, filters, 3, 1, f"{name}_second", relu=False)
        x = keras.layers.Add(name=f"{name}_sum")([x, shortcut])
        return keras.layers.ReLU(name=f"{name}_out")(x)

    inputs = keras.Input(input_shape)
    x = convolution(inputs, 24, 3, 2, "stem")
    stages = []
    for number, filters in enumerate(_WIDTHS, start=1):
        x = residual(x, filters, 2, f"stage{number}_down")
        if number < len(_WIDTHS):
            x = residual(x, filters, 1, f"stage{number}_block")
        stages.append(x)
    for number in (3, 2):
        x = convolution(x, _TOP_WIDTH, 1, 1, f"top{number}_above", relu=False)
        x = keras.layers.UpSampling2D(2, name=f"top{number}_up")(x)
        side = convolution(stages[number - 1], _TOP_WIDTH, 1, 1, f"top{number}_side", relu=False)
        x = keras.layers.Add(name=f"top{number}_sum")([x, side])
        x = keras.layers.ReLU(name=f"top{number}_sum_relu")(x)
        x = convolution(x, _TOP_WIDTH, 3, 1, f"top{number}_out")
    evidence = keras.layers.Conv2D(len(EVIDENCE), 1, name="evidence")(x)
    evidence = keras.layers.ReLU(6.0, name="evidence_out")(evidence)
    x = keras.layers.Concatenate(name="features")([x, evidence])
    return keras.Model(inputs, x, name="phantomnet")
