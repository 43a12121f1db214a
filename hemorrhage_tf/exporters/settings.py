"""The settings of an export. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from hemorrhage_tf.core.errors import OptionError

FULL_INT8 = "full-int8"
QUANTIZATIONS = ("none", "float16", "dynamic", "int8", FULL_INT8)
ONNX_QUANTIZATIONS = ("none", "int8")
BATCHES = ("static", "dynamic")
INPUT_TYPES = ("float32", "uint8")
# Forms that the ending of the target cannot tell from others.
WEB, HUB = "web", "hub"
FORMATS = (WEB, HUB)
DEFAULT_CALIBRATION_SLICES = 64
MIN_CALIBRATION_SLICES = 8


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export.

    Attributes:
        quantize: "none", "float16" (weights), "dynamic" (int8 weights, activations quantized at run
            time), "int8" (weights and activations) or "full-int8" (pooling and head, too: a file of
            one signature for accelerators without floating point); for TFLite, and "int8" for ONNX.
            Defaults to "none".
        input_type: "float32" or "uint8", type of the input `image`. Defaults to "float32".
        cam: Whether a TFLite or ONNX file has the class activation map as an output; a SavedModel
            always has. Defaults to False.
        batch: "static" for batches of one slice or "dynamic"; TFLite only. Defaults to "static".
        calibration_slices: Maximum number of slices to calibrate int8 on. Defaults to 64.

    Raises:
        OptionError: A value that is not accepted.
    """

    quantize: str = "none"
    input_type: str = "float32"
    cam: bool = False
    batch: str = "static"
    calibration_slices: int = DEFAULT_CALIBRATION_SLICES

    def __post_init__(self) -> None:
        """Check every value."""
        for option, value, accepted in (
            ("--quantize", self.quantize, QUANTIZATIONS),
            ("--input-type", self.input_type, INPUT_TYPES),
            ("--batch", self.batch, BATCHES),
        ):
            if value not in accepted:
                raise OptionError(f"{option} {value}: unknown. Pass one of {', '.join(accepted)}.")
        if self.calibration_slices < MIN_CALIBRATION_SLICES:
            raise OptionError(
                f"--calibration-slices {self.calibration_slices}: too few for int8. Pass "
                f"{MIN_CALIBRATION_SLICES} or more."
            )
        if self.quantize == FULL_INT8 and (self.cam or self.batch != "static"):
            unfit = "--cam" if self.cam else f"--batch {self.batch}"
            raise OptionError(
                f"--quantize {FULL_INT8}: accelerators run one signature, from one slice to its "
                f"probability. Leave out {unfit}, or pass --quantize int8."
            )

    @property
    def needs_calibration(self) -> bool:
        """Whether activations are quantized, too, by ranges that are measured on slices."""
        return self.quantize in ("int8", FULL_INT8)

    def require_calibration(self, images: Sized) -> None:
        """Raise an OptionError if there are no images to calibrate on, but some are needed."""
        if self.needs_calibration and len(images) == 0:
            raise OptionError(
                f"--quantize {self.quantize}: there are no slices to calibrate on. Pass "
                "--representative DATA."
            )
