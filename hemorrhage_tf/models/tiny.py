"""`tiny`: a backbone of three blocks, for tests and for runs that need no download."""

from __future__ import annotations

from typing import Any


def Tiny(  # noqa: N802 - named like the builders of keras.applications
    include_top: bool, weights: str | None, input_shape: tuple[int, int, int]
) -> Any:
    """Build the backbone: three strided convolutions with batch normalization.

    Args:
        include_top: Must be False; the backbone has no top.
        weights: Must be None; the backbone has no stored weights.
        input_shape: `(height, width, 3)`, each side at least 8 pixels.

    Returns:
        A `keras.Model` to a feature map with 1/8 of the input's side and 64 channels.

    Raises:
        ValueError: An argument is not supported.
    """
    import keras

    if include_top or weights is not None:
        raise ValueError("tiny has neither a top nor stored weights")
    if min(input_shape[:2]) < 8:
        raise ValueError("tiny needs at least 8 x 8 pixels")
    inputs = keras.Input(input_shape)
    x = inputs
    for block, filters in enumerate((16, 32, 64), start=1):
        x = keras.layers.Conv2D(
            filters, 3, 2, "same", use_bias=False, name=f"block{block}_convolution"
        )(x)
        x = keras.layers.BatchNormalization(name=f"block{block}_normalization")(x)
        x = keras.layers.ReLU(name=f"block{block}_out")(x)
    return keras.Model(inputs, x, name="tiny")
