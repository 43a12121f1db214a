"""Predicts slices on a device that has only numpy, pillow and ai-edge-litert.

    python predict.py MODEL.tflite IMAGE... [--threads N] [--json] [--cam DIR]

MODEL.tflite is a file that `hemorrhage-tf export` wrote: a ZIP archive at its end carries the image
size, the threshold and the labels. `head_crop.py`, beside this file, is the library's own: it cuts
a picture to its head. Research software, not a medical device.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from head_crop import HeadRegion, crop_to, find_head, uncrop
from PIL import Image

METADATA_MEMBER = "hemorrhage_tf.json"
FORMAT_VERSION = 3
SIGNATURE = "serving_default"

# As in the library: a header can declare any size, and this is refused before it is allocated.
MAX_PIXELS = 64_000_000
MAX_SIDE = 10_000

_RED = np.array([255, 0, 0], np.float32)
_STRONGEST = 0.6  # share of red at most, so that the slice shows through


class PredictionError(Exception):
    """A model or a picture that cannot be used; the message is one line."""


def read_picture(path: str | Path) -> np.ndarray:
    """Reads a PNG or JPEG as `hemorrhage_tf` does.

    Alpha is composited on black, of 16-bit samples the high byte is kept, and an EXIF orientation
    is not applied.

    Args:
        path: a PNG or JPEG file.

    Returns:
        uint8 array, `(height, width)` for grey or `(height, width, 3)` for RGB, in [0, 255].

    Raises:
        PredictionError: the file cannot be read as a picture.
    """
    try:
        with warnings.catch_warnings():
            # The limit here is lower than the size that Pillow warns of, and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    raise PredictionError(
                        f"{path}: declares {width} x {height} pixels, more than the "
                        f"{MAX_PIXELS // 1_000_000} million, or {MAX_SIDE} a side, that are "
                        "accepted"
                    )
                image.load()
                return _to_display_pixels(image)
    except Image.UnidentifiedImageError:
        raise PredictionError(f"{path}: not a PNG or JPEG image") from None
    except Image.DecompressionBombError:
        raise PredictionError(f"{path}: declares more pixels than are accepted") from None
    except FileNotFoundError:
        raise PredictionError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise PredictionError(f"{path}: cannot be decoded ({_one_line(error)})") from None


def _to_display_pixels(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I"):  # 16-bit grey; Pillow's own convert("L") would clip it at 255
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    if mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        rgb = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return rgb[..., 0] if mode in ("LA", "La", "L", "1") else rgb
    return np.asarray(image.convert("RGB"))


def to_model_input(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Stretches a picture to the model's square, in floating point and without rounding.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        image_size: side of the square, in pixels.

    Returns:
        float32 `(image_size, image_size, 3)`, RGB, in [0, 255].
    """
    size = (image_size, image_size)
    channels = [pixels] if pixels.ndim == 2 else [pixels[..., k] for k in range(3)]
    resized = [channel.astype(np.float32) for channel in channels]
    if pixels.shape[:2] != size:
        resized = [_resize(channel, size) for channel in resized]
    return np.stack(resized * 3 if len(resized) == 1 else resized, axis=-1)


def _resize(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes float32 `(height, width)` to `size`, which is `(width, height)`."""
    return np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))


def draw_overlay(pixels: np.ndarray, cam: np.ndarray, head: HeadRegion | None) -> Image.Image:
    """Colors a picture red where it speaks for hemorrhage.

    The scale is the same for every picture: a place gets more red the further its own logit,
    `cam`, lies above 0, which is a probability of one half.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        cam: float32 `(h, w)`, whose mean is the logit of what the model saw.
        head: the part of the picture that the model saw, or None for all of it.

    Returns:
        An RGB image of the picture's own size.
    """
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=-1)
    strength = np.tanh(np.maximum(cam.astype(np.float32), 0) / 2)
    share = _STRONGEST * _place(strength, pixels.shape[:2], head)[..., np.newaxis]
    return Image.fromarray(np.rint(rgb * (1 - share) + _RED * share).astype(np.uint8))


def _place(cam: np.ndarray, shape: tuple[int, int], head: HeadRegion | None) -> np.ndarray:
    """Puts a map of the model's input where it belongs on the picture."""
    if head is None:
        return _resize(cam, shape[::-1])
    return uncrop(_resize(cam, (head.side, head.side)), head, shape)


class Predictor:
    """A `.tflite` model, ready to predict.

    Args:
        path: a `.tflite` file that `hemorrhage-tf export` wrote.
        threads: CPU threads of the interpreter, or None for its own default.

    Attributes:
        metadata: what the file carries: `image_size`, `threshold`, `labels` and more.
        has_cam: whether the model gives a class activation map.

    Raises:
        PredictionError: the file is no such model, or ai-edge-litert is not installed.

    Example:
        >>> probability, is_hemorrhage = Predictor("model.tflite").predict("scan.png")
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.metadata = read_metadata(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise PredictionError(
                f"ai-edge-litert cannot be imported ({_one_line(error)}): "
                "pip install -r requirements.txt"
            ) from None
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._run = interpreter.get_signature_runner(SIGNATURE)
            image = self._run.get_input_details()["image"]
            outputs = self._run.get_output_details()
        except (ValueError, RuntimeError, KeyError) as error:
            raise PredictionError(f"{path}: cannot be loaded ({_one_line(error)})") from None
        size = self.metadata["image_size"]
        self._dtype = np.dtype(image["dtype"])
        if tuple(image["shape"][1:]) != (size, size, 3) or self._dtype not in (
            np.dtype(np.float32),
            np.dtype(np.uint8),
        ):
            raise PredictionError(
                f"{path}: its input is {self._dtype} {tuple(map(int, image['shape']))}, where "
                f"float32 or uint8 (1, {size}, {size}, 3) was expected"
            )
        if "probability" not in outputs:
            raise PredictionError(f"{path}: has no output named probability")
        self.has_cam = "cam" in outputs

    def predict(self, image_path: str | Path) -> tuple[float, bool]:
        """Predicts one picture.

        Args:
            image_path: a PNG or JPEG file.

        Returns:
            P(hemorrhage) in [0, 1], and whether it is at or above the model's threshold.

        Raises:
            PredictionError: the picture cannot be read.
        """
        return self.predict_pixels(read_picture(image_path))[:2]

    def find_head(self, pixels: np.ndarray) -> HeadRegion | None:
        """Finds the part of a picture that the model takes; None for all of it."""
        if not self.metadata.get("crop_head", False):
            return None
        return find_head(pixels, self.metadata.get("upright", False))

    def predict_pixels(self, pixels: np.ndarray) -> tuple[float, bool, np.ndarray | None]:
        """Predicts what `read_picture` gave.

        Args:
            pixels: uint8 `(height, width)` or `(height, width, 3)`.

        Returns:
            P(hemorrhage) in [0, 1], whether it is at or above the model's threshold, and the
            class activation map, float32 `(h, w)`, or None where the model gives none.
        """
        head = self.find_head(pixels)
        seen = pixels if head is None else crop_to(pixels, head)
        image = to_model_input(seen, self.metadata["image_size"])
        if self._dtype == np.uint8:
            image = np.rint(image).clip(0, 255)
        found = self._run(image=image.astype(self._dtype)[np.newaxis])
        probability = np.float32(found["probability"].reshape(-1)[0])
        # In float32, as the library compares: a float64 threshold could fall between two values.
        is_hemorrhage = bool(probability >= np.float32(self.metadata["threshold"]))
        return float(probability), is_hemorrhage, found["cam"][0] if self.has_cam else None


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Reads what a `.tflite` file carries beside the model.

    Args:
        path: a `.tflite` file.

    Returns:
        The values of `hemorrhage_tf.json`.

    Raises:
        PredictionError: the file is missing, no `.tflite` file, or carries no metadata.
    """
    try:
        with open(path, "rb") as file:
            identifier = file.read(8)[4:]
    except OSError as error:
        raise PredictionError(f"{path}: {error.strerror or error}") from None
    if identifier != b"TFL3":
        raise PredictionError(f"{path}: not a .tflite file")
    foreign = f"{path}: carries no metadata: cut short, or not written by hemorrhage-tf export"
    if not zipfile.is_zipfile(path):
        raise PredictionError(foreign)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA_MEMBER))
    except KeyError:
        raise PredictionError(foreign) from None
    # RuntimeError is what zipfile raises where a damaged header tells of encryption.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PredictionError(f"{path}: its metadata is damaged ({_one_line(error)})") from None
    try:
        if metadata.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
            raise PredictionError(f"{path}: written by a newer hemorrhage-tf than predict.py")
        if [float(value) for value in metadata["input_range"]] != [0.0, 255.0]:
            raise PredictionError(
                f"{path}: takes values in {metadata['input_range']}, where [0, 255] was expected"
            )
        metadata["image_size"] = int(metadata["image_size"])
        metadata["threshold"] = float(metadata["threshold"])
        _, _ = metadata["labels"]
        if len(metadata.get("window") or ()) > 1:
            raise PredictionError(
                f"{path}: takes Hounsfield units through {len(metadata['window'])} windows, which "
                "no picture has. Predict DICOM and NIfTI with hemorrhage-tf"
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PredictionError(f"{path}: its metadata is damaged ({_one_line(error)})") from None
    return metadata


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _threads(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1. Received: {text}")
    return int(text)


def _overlay_path(folder: Path, image: str, taken: set[Path]) -> Path:
    """Names an overlay after its picture; pictures of one name in two folders are numbered."""
    path, number = folder / f"{Path(image).name}.cam.png", 1
    while path in taken:
        number += 1
        path = folder / f"{Path(image).name}.{number}.cam.png"
    taken.add(path)
    return path


def _tell(message: str) -> None:
    print(f"Error: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what follows the program's name, or None for the process's own.

    Returns:
        0, or 1 where the model or a picture could not be used.
    """
    parser = argparse.ArgumentParser(
        description="Predict slices with a .tflite file that hemorrhage-tf exported.",
        epilog="A picture that cannot be read is told on standard error, the others are "
        "predicted, and the exit code is 1. Research software, not a medical device.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG or JPEG file")
    parser.add_argument("--threads", type=_threads, metavar="N", help="CPU threads to use")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    parser.add_argument("--cam", type=Path, metavar="DIR", help="write overlay PNGs into DIR")
    options = parser.parse_args(arguments)

    try:
        predictor = Predictor(options.model, options.threads)
        if options.cam is not None:
            if not predictor.has_cam:
                raise PredictionError(f"{options.model}: has no cam, so --cam cannot be used")
            options.cam.mkdir(parents=True, exist_ok=True)
        rows, failed = _predict_all(predictor, options)
    except PredictionError as error:
        _tell(str(error))
        return 1
    except OSError as error:  # of the overlays; what is read has its own errors
        _tell(f"{error.filename or options.cam}: {error.strerror or error}")
        return 1
    if options.json:
        print(json.dumps(rows, indent=2))
    return 1 if failed else 0


def _predict_all(predictor: Predictor, options: argparse.Namespace) -> tuple[list[dict], bool]:
    rows: list[dict] = []
    failed = False
    taken: set[Path] = set()
    for image in options.images:
        try:
            pixels = read_picture(image)
        except PredictionError as error:
            _tell(str(error))
            failed = True
            continue
        probability, is_hemorrhage, cam = predictor.predict_pixels(pixels)
        row = {
            "path": image,
            "probability": round(probability, 6),
            "hemorrhage": int(is_hemorrhage),
        }
        if options.cam is not None:
            overlay = _overlay_path(options.cam, image, taken)
            draw_overlay(pixels, cam, predictor.find_head(pixels)).save(overlay, "PNG")
            row["cam"] = str(overlay)
        rows.append(row)
        if not options.json:
            label = predictor.metadata["labels"][int(is_hemorrhage)]
            print(f"{image}\t{probability:.6f}\t{label}")
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
