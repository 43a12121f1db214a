"""Predict slices and scans on a device with only numpy, pillow and ai-edge-litert.

    python predict.py MODEL.tflite IMAGE_OR_FOLDER... [--threads N] [--json] [--cam DIR]

A folder is one scan: its images are the slices from the neck to the vertex, in the order of the
numbers in their names. MODEL.tflite is a file from `hemorrhage-tf export`: a ZIP archive at its end
holds the image size, the thresholds and the labels. `head_crop.py` and `evidence.py` in the same
folder are the library's own files: they crop an image to the head, and color an overlay. Research
software, not a medical device.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence import Decision, blend_evidence, locate_evidence
from head_crop import DISPLAY_RIM, HeadRegion, crop_to, find_head, head_pixels, uncrop
from PIL import Image

METADATA_MEMBER = "hemorrhage_tf.json"
FORMAT_VERSION = 5
SIGNATURE = "serving_default"
SCAN_SIGNATURE = "serve_scan"
SUFFIXES = (".png", ".jpg", ".jpeg")
TOP_SLICES = 3  # without a scan model, the score of a scan is the mean over this many slices

# A header can declare any size: larger images are rejected before memory is allocated, as in the
# library.
MAX_PIXELS = 64_000_000
MAX_SIDE = 10_000


class PredictionError(Exception):
    """A model or an image that cannot be used; the message is one line."""


def read_image(path: str | Path) -> np.ndarray:
    """Read a PNG or JPEG like `hemorrhage_tf`.

    Alpha is composited on black, 16-bit samples are reduced to their high byte, and EXIF
    orientation is ignored.

    Args:
        path: A PNG or JPEG file.

    Returns:
        uint8 array, `(height, width)` for gray or `(height, width, 3)` for RGB, in [0, 255].

    Raises:
        PredictionError: The file cannot be read as an image.
    """
    try:
        with warnings.catch_warnings():
            # The limit here is lower than the size of Pillow's warning, and raises an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    raise PredictionError(
                        f"{path}: declares {width} x {height} pixels: at most "
                        f"{MAX_PIXELS // 1_000_000} million, and {MAX_SIDE} a side, are accepted"
                    )
                image.load()
                return _to_display_pixels(image)
    except Image.UnidentifiedImageError:
        raise PredictionError(f"{path}: not a PNG or JPEG image") from None
    except Image.DecompressionBombError:
        raise PredictionError(f"{path}: declares too many pixels") from None
    except FileNotFoundError:
        raise PredictionError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise PredictionError(f"{path}: cannot be decoded ({_one_line(error)})") from None


def _to_display_pixels(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I"):  # 16-bit gray; Pillow's own convert("L") clips it at 255
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    if mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        rgb = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return rgb[..., 0] if mode in ("LA", "La", "L", "1") else rgb
    return np.asarray(image.convert("RGB"))


def to_model_input(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resize an image to the model's square input, in floating point without rounding.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        image_size: Side of the square, in pixels.

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
    """Resize float32 `(height, width)` to `size`, which is `(width, height)`."""
    return np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR))


def draw_overlay(
    pixels: np.ndarray, cam: np.ndarray, head: HeadRegion | None, decision: Decision
) -> Image.Image:
    """Color an image where the model sees the evidence by which it exceeds the threshold.

    An image below the threshold stays as it is. The color scale is the same for every image.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        cam: float32 `(h, w)`, the class activation map; its mean is the logit.
        head: The head crop, or None if the model predicts the whole image.
        decision: The probability and its threshold; those in the scan if a scan model has decided.

    Returns:
        An RGB image of the same size.
    """
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=-1)
    evidence = _map_to_image(locate_evidence(cam, decision), pixels.shape[:2], head)
    evidence *= head_pixels(
        find_head(pixels) if head is None else head, evidence.shape, DISPLAY_RIM
    )
    return Image.fromarray(blend_evidence(rgb, evidence))


def _map_to_image(cam: np.ndarray, shape: tuple[int, int], head: HeadRegion | None) -> np.ndarray:
    """Resize a map of the model input to its part of the image."""
    if head is None:
        return _resize(cam, shape[::-1]).copy()
    return uncrop(_resize(cam, (head.side, head.side)), head, shape)


@dataclass(frozen=True)
class SliceResult:
    """The prediction of one image.

    Attributes:
        probability: P(hemorrhage) of the slice alone, in [0, 1].
        is_hemorrhage: Whether it is at or above the model's threshold.
        cam: The class activation map, float32 `(h, w)`; None if the model has none.
        features: float32 `(width,)`, the input of the scan model; None if there is none.
    """

    probability: float
    is_hemorrhage: bool
    cam: np.ndarray | None
    features: np.ndarray | None


@dataclass(frozen=True)
class ScanResult:
    """The prediction of one scan.

    Attributes:
        probability: P(hemorrhage) of the scan. Without a scan model, the mean of its three highest
            slices.
        is_hemorrhage: Whether it is at or above the model's threshold for scans.
        slice_probabilities: P(hemorrhage) of each slice in its scan; None without a scan model.
    """

    probability: float
    is_hemorrhage: bool
    slice_probabilities: list[float] | None


class Predictor:
    """A `.tflite` model, ready to predict.

    Args:
        path: A `.tflite` file from `hemorrhage-tf export`.
        threads: CPU threads of the interpreter; None for its own default.

    Attributes:
        metadata: `image_size`, `threshold`, `labels` and more.
        has_cam: Whether the model outputs a class activation map.
        has_scan_model: Whether the file has a scan model.

    Raises:
        PredictionError: The file is not such a model, or ai-edge-litert is not installed.

    Example:
        >>> probability, is_hemorrhage = Predictor("model.tflite").predict("slice.png")
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.metadata = read_metadata(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise PredictionError(
                f"ai-edge-litert cannot be imported ({_one_line(error)}). "
                "Run pip install -r requirements.txt"
            ) from None
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._run = interpreter.get_signature_runner(SIGNATURE)
            image = self._run.get_input_details()["image"]
            outputs = self._run.get_output_details()
            self.has_scan_model = SCAN_SIGNATURE in interpreter.get_signature_list()
            if self.has_scan_model:
                self._run_scan = interpreter.get_signature_runner(SCAN_SIGNATURE)
        except (ValueError, RuntimeError, KeyError) as error:
            raise PredictionError(f"{path}: cannot be loaded ({_one_line(error)})") from None
        size = self.metadata["image_size"]
        self._dtype = np.dtype(image["dtype"])
        if tuple(image["shape"][1:]) != (size, size, 3) or self._dtype not in (
            np.dtype(np.float32),
            np.dtype(np.uint8),
        ):
            raise PredictionError(
                f"{path}: its input is {self._dtype} {tuple(map(int, image['shape']))}: it must be "
                f"float32 or uint8 (1, {size}, {size}, 3)"
            )
        if "probability" not in outputs:
            raise PredictionError(f"{path}: has no output with the name probability")
        self.has_cam = "cam" in outputs

    def predict(self, image_path: str | Path) -> tuple[float, bool]:
        """Predict one image.

        Args:
            image_path: A PNG or JPEG file.

        Returns:
            P(hemorrhage) in [0, 1], and whether it is at or above the model's threshold.

        Raises:
            PredictionError: The image cannot be read.
        """
        result = self.predict_pixels(read_image(image_path))
        return result.probability, result.is_hemorrhage

    def find_head(self, pixels: np.ndarray) -> HeadRegion | None:
        """Find the part of an image that the model predicts; None for the whole image."""
        if not self.metadata["crop_head"]:
            return None
        return find_head(pixels, self.metadata.get("upright", False))

    def predict_pixels(self, pixels: np.ndarray) -> SliceResult:
        """Predict pixels from `read_image`.

        Args:
            pixels: uint8 `(height, width)` or `(height, width, 3)`.
        """
        head = self.find_head(pixels)
        cropped = pixels if head is None else crop_to(pixels, head)
        image = to_model_input(cropped, self.metadata["image_size"])
        if self._dtype == np.uint8:
            image = np.rint(image).clip(0, 255)
        outputs = self._run(image=image.astype(self._dtype)[np.newaxis])
        probability = np.float32(outputs["probability"].reshape(-1)[0])
        return SliceResult(
            probability=float(probability),
            is_hemorrhage=self.reaches(probability, "threshold"),
            cam=outputs["cam"][0] if self.has_cam else None,
            features=outputs["features"][0] if self.has_scan_model else None,
        )

    def predict_scan(self, slices: list[SliceResult]) -> ScanResult:
        """Predict a scan from its slices.

        Args:
            slices: The results of its images, from the neck to the vertex.
        """
        if not self.has_scan_model:
            alone = np.sort(np.array([one.probability for one in slices], np.float32))
            score = alone[-TOP_SLICES:].mean()
            return ScanResult(float(score), self.reaches(score, "scan_threshold"), None)
        features = np.stack([one.features for one in slices])
        # Relative positions; images do not state their distance in mm.
        geometry = np.zeros((len(slices), 3), np.float32)
        geometry[:, 0] = np.linspace(0, 1, len(slices)) if len(slices) > 1 else 0.5
        outputs = self._run_scan(features=features[np.newaxis], geometry=geometry[np.newaxis])
        probability = np.float32(outputs["probability"][0, 0])
        return ScanResult(
            probability=float(probability),
            is_hemorrhage=self.reaches(probability, "scan_threshold"),
            slice_probabilities=[float(one) for one in outputs["slice_probability"][0]],
        )

    def reaches(self, probability: np.float32, threshold: str) -> bool:
        """Return whether a probability reaches a threshold of the metadata.

        Args:
            probability: float32, in [0, 1].
            threshold: "threshold", "scan_threshold" or "slice_in_scan_threshold".
        """
        # In float32, like the library: a float64 threshold could lie between two float32 values.
        return bool(probability >= np.float32(self.threshold(threshold)))

    def threshold(self, name: str) -> float:
        """Return a threshold of the metadata, or the one for slices if the model lacks it."""
        value = self.metadata.get(name)
        return float(self.metadata["threshold"] if value is None else value)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a `.tflite` file.

    Args:
        path: A `.tflite` file.

    Returns:
        The values of `hemorrhage_tf.json`, with the key `crop_head` for older files, too.

    Raises:
        PredictionError: The file is missing, not a `.tflite` file, or has no metadata.
    """
    try:
        with open(path, "rb") as file:
            identifier = file.read(8)[4:]
    except OSError as error:
        raise PredictionError(f"{path}: {error.strerror or error}") from None
    if identifier != b"TFL3":
        raise PredictionError(f"{path}: not a .tflite file")
    foreign = f"{path}: has no metadata: it is truncated, or not from hemorrhage-tf export"
    if not zipfile.is_zipfile(path):
        raise PredictionError(foreign)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA_MEMBER))
    except KeyError:
        raise PredictionError(foreign) from None
    # zipfile raises RuntimeError if a damaged header declares encryption.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PredictionError(f"{path}: its metadata is damaged ({_one_line(error)})") from None
    try:
        if metadata.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
            raise PredictionError(f"{path}: written by a newer hemorrhage-tf. Update predict.py")
        if [float(value) for value in metadata["input_range"]] != [0.0, 255.0]:
            raise PredictionError(
                f"{path}: its input range is {metadata['input_range']}: it must be [0, 255]"
            )
        metadata["image_size"] = int(metadata["image_size"])
        metadata["threshold"] = float(metadata["threshold"])
        # The key was "canonical" up to format version 3.
        metadata["crop_head"] = metadata.get("crop_head", metadata.get("canonical", False))
        _, _ = metadata["labels"]
        if len(metadata.get("window") or ()) > 1:
            raise PredictionError(
                f"{path}: needs Hounsfield units for its {len(metadata['window'])} windows, which "
                "PNG and JPEG do not hold. Predict DICOM and NIfTI with hemorrhage-tf"
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PredictionError(f"{path}: its metadata is damaged ({_one_line(error)})") from None
    return metadata


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _threads(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: too low. Pass 1 or more")
    return int(text)


def _overlay_path(folder: Path, image: str, taken: set[Path]) -> Path:
    """Name an overlay after its image; a second image of the same name gets a number."""
    path, number = folder / f"{Path(image).name}.cam.png", 1
    while path in taken:
        number += 1
        path = folder / f"{Path(image).name}.{number}.cam.png"
    taken.add(path)
    return path


def _print_error(message: str) -> None:
    print(f"Error: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The command-line arguments; None for those of the process.

    Returns:
        0, or 1 if the model or an image cannot be used.
    """
    parser = argparse.ArgumentParser(
        description="Predict slices and scans with a .tflite file from hemorrhage-tf export.",
        epilog="Unreadable images are reported on standard error, the rest are predicted, and the "
        "exit code is 1. Research software, not a medical device.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a PNG or JPEG file, or a folder with the images of one scan",
    )
    parser.add_argument("--threads", type=_threads, metavar="N", help="CPU threads to use")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--cam", type=Path, metavar="DIR", help="write overlay PNGs into DIR")
    options = parser.parse_args(arguments)

    try:
        predictor = Predictor(options.model, options.threads)
        if options.cam is not None:
            if not predictor.has_cam:
                raise PredictionError(
                    f"{options.model}: has no cam. Leave out --cam, or export with --cam"
                )
            options.cam.mkdir(parents=True, exist_ok=True)
        results, failed = _predict_all(predictor, options)
    except PredictionError as error:
        _print_error(str(error))
        return 1
    except OSError as error:  # of the overlays; reading raises PredictionError
        _print_error(f"{error.filename or options.cam}: {error.strerror or error}")
        return 1
    if options.json:
        has_folder = any(Path(image).is_dir() for image in options.images)
        print(json.dumps(results if has_folder else results["slices"], indent=2))
    return 1 if failed else 0


def _predict_all(predictor: Predictor, options: argparse.Namespace) -> tuple[dict, bool]:
    """Predict and print every argument; return the JSON value, and whether something failed."""
    results: dict[str, list[dict]] = {"slices": [], "scans": []}
    failed = False
    taken: set[Path] = set()
    for argument in options.images:
        images, scan = [argument], None
        if Path(argument).is_dir():
            images, scan = _images_of(Path(argument)), argument
            if not images:
                _print_error(f"{argument}: the folder contains no PNG or JPEG image")
                failed = True
        rows, slices = [], []
        for image in images:
            try:
                pixels = read_image(image)
            except PredictionError as error:
                _print_error(str(error))
                failed = True
                continue
            result = predictor.predict_pixels(pixels)
            row = {
                "path": image,
                "probability": round(result.probability, 6),
                "hemorrhage": int(result.is_hemorrhage),
            }
            if options.cam is not None:
                row["cam"] = str(_overlay_path(options.cam, image, taken))
            rows.append(row)
            slices.append(result)
        if scan is not None and slices:
            results["scans"].append(_add_scan(predictor, scan, rows, slices))
        if options.cam is not None:
            _write_overlays(predictor, rows, slices)
        results["slices"] += rows
        if not options.json:
            _print_rows(predictor, results["scans"][-1] if scan and slices else None, rows)
    return results, failed


def _write_overlays(predictor: Predictor, rows: list[dict], slices: list[SliceResult]) -> None:
    """Write the overlays of slices that are decided on."""
    for row, result in zip(rows, slices, strict=True):
        pixels = read_image(row["path"])  # again, so that no scan is kept in memory
        decision = Decision(result.probability, predictor.threshold("threshold"))
        if "probability_in_scan" in row:
            threshold = predictor.threshold("slice_in_scan_threshold")
            decision = Decision(row["probability_in_scan"], threshold)
        drawn = draw_overlay(pixels, result.cam, predictor.find_head(pixels), decision)
        drawn.save(row["cam"], "PNG")


def _images_of(folder: Path) -> list[str]:
    """Return the images of a folder; numbers in their names count as numbers."""

    def by_number(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", path.name)
        return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]

    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    return [str(path) for path in sorted(paths, key=by_number)]


def _add_scan(
    predictor: Predictor, name: str, rows: list[dict], slices: list[SliceResult]
) -> dict[str, Any]:
    """Predict a scan, add what it says of its slices to their rows, and return its own row."""
    scan = predictor.predict_scan(slices)
    final = [row["probability"] for row in rows]
    if scan.slice_probabilities is not None:
        final = scan.slice_probabilities
        for row, probability in zip(rows, final, strict=True):
            is_hemorrhage = predictor.reaches(np.float32(probability), "slice_in_scan_threshold")
            row["probability_in_scan"] = round(probability, 6)
            row["hemorrhage"] = int(is_hemorrhage)
    for row in rows:
        row["scan"] = name
    highest = np.argsort(-np.array(final), kind="stable")[:TOP_SLICES]
    return {
        "scan": name,
        "probability": round(scan.probability, 6),
        "hemorrhage": int(scan.is_hemorrhage),
        "top_slices": [rows[index]["path"] for index in highest],
    }


def _print_rows(predictor: Predictor, scan: dict[str, Any] | None, rows: list[dict]) -> None:
    labels = predictor.metadata["labels"]
    if scan is not None:
        print(f"{scan['scan']}\t{scan['probability']:.6f}\t{labels[scan['hemorrhage']]}")
    for row in rows:
        probability = row.get("probability_in_scan", row["probability"])
        print(f"{row['path']}\t{probability:.6f}\t{labels[row['hemorrhage']]}")


if __name__ == "__main__":
    sys.exit(main())
