"""The options of an export: one frozen object that checks itself. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass

from hemorrhage_tf.core.errors import OptionError

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
BATCHES = ("static", "dynamic")
INPUT_TYPES = ("float32", "uint8")
DEFAULT_CALIBRATION_SLICES = 64
MIN_CALIBRATION_SLICES = 8


@dataclass(frozen=True)
class ExportSettings:
    """What form an export takes.

    Attributes:
        quantize: "none", "float16", "dynamic" or "int8"; of TFLite only.
        input_type: "float32" or "uint8", of the input `image`.
        cam: whether a TFLite file gives the class activation map too; a SavedModel always does.
        batch: "static" for batches of one or "dynamic"; of TFLite only.
        calibration_slices: how many slices int8 is calibrated on, at most.
    """

    quantize: str = "none"
    input_type: str = "float32"
    cam: bool = False
    batch: str = "static"
    calibration_slices: int = DEFAULT_CALIBRATION_SLICES

    def __post_init__(self) -> None:
        """Checks every value."""
        for option, value, accepted in (
            ("--quantize", self.quantize, QUANTIZATIONS),
            ("--input-type", self.input_type, INPUT_TYPES),
            ("--batch", self.batch, BATCHES),
        ):
            if value not in accepted:
                raise OptionError(f"{option} {value}: accepted are {', '.join(accepted)}")
        if self.calibration_slices < MIN_CALIBRATION_SLICES:
            raise OptionError(
                f"--calibration-slices {self.calibration_slices}: accepted is "
                f"{MIN_CALIBRATION_SLICES} or more"
            )
