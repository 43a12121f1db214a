"""Write slices and files with what the library makes of them, which the page's code must repeat.

`python tests/web/vectors.py FOLDER --phantoms 500 --shared ../shared` writes them for
`VECTORS=FOLDER npm --prefix web test`. `test_vectors.py` does both with fewer phantoms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dicom_files import AXIAL, JPEG_2000_LOSSLESS, PACKAGED_FILES, compressed, dataset_of, encode

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.datasets.series import find_slice_files
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import BIG_ENDIAN, DEFLATED, RUN_LENGTH
from hemorrhage_tf.imaging.head_crop import crop_to, find_head, head_pixels
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, drop_equal_channels, read_header
from hemorrhage_tf.imaging.windows import to_display_image
from hemorrhage_tf.inference.evidence import Decision, locate_evidence
from hemorrhage_tf.inference.overlay import map_to_slice
from hemorrhage_tf.models.scan_model import scan_geometry
from hemorrhage_tf.pipeline.model_input import ModelInput

MAX_FRAMES = 3  # of a file with several


class Vectors:
    """A folder with arrays in one file, and cases in another.

    Args:
        folder: The folder to create.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.cases: dict[str, list[dict[str, Any]]] = {}
        self._arrays = open(folder / "arrays.bin", "wb")

    def array(self, values: np.ndarray) -> dict[str, Any]:
        """Store an array, and return where it is."""
        at = self._arrays.tell()
        assert values.dtype in (np.float32, np.float64, np.uint8)
        self._arrays.write(np.ascontiguousarray(values).tobytes())
        place = {"at": at, "bytes": values.nbytes, "dtype": values.dtype.name}
        return place | {"shape": list(values.shape)}

    def add(self, kind: str, name: str, **values: Any) -> None:
        """Add a case."""
        self.cases.setdefault(kind, []).append({"name": name, **values})

    def close(self) -> None:
        """Write the cases."""
        self._arrays.close()
        (self.folder / "cases.json").write_text(json.dumps(self.cases))


def write_vectors(folder: Path, phantoms: int, shared: Path | None = None) -> None:
    """Write all cases.

    Args:
        folder: The folder to create.
        phantoms: Number of phantoms, each in Hounsfield units and as a display image.
        shared: A folder with real slices. Defaults to None.
    """
    vectors = Vectors(folder)
    settings = ModelInput(image_size=48)
    for name, pixels in _slices(phantoms):
        for upright in (False, True):
            _add_slice(vectors, name, pixels, ModelInput(48, upright=upright))
    for name, pixels in list(_slices(4))[:8]:
        if pixels.dtype != np.uint8:
            three = ModelInput(40, ("brain", "subdural", "80/1"), crop_head=False)
            _add_slice(vectors, name, pixels, three)
    for path in _written_files(folder / "files"):
        _add_file(vectors, path)
    for path in PACKAGED_FILES:
        _add_file(vectors, path)
    if shared is not None:
        for path in find_slice_files(shared):
            for ref in _refs(path):
                _add_slice(vectors, str(ref), htf.read_slice(ref), settings)
            _add_file(vectors, path)
    _add_evidence(vectors)
    _add_geometry(vectors)
    vectors.close()


def _slices(phantoms: int) -> Iterator[tuple[str, np.ndarray]]:
    sizes = (512, 256, 200, 127)
    for index in range(phantoms):
        hounsfield = htf.draw_phantom(7, index, size=sizes[index % 4]).hounsfield
        yield f"phantom {index}, HU", hounsfield
        display = to_display_image(hounsfield)
        turned = np.rot90(display, index % 3) if index % 2 else display
        yield f"phantom {index}, display", turned[: 3 * len(turned) // 4 + index % 7]
    rng = np.random.default_rng(0)
    yield "uniform", np.full((60, 70), 80, np.uint8)
    yield "noise", rng.integers(0, 256, (130, 97), np.uint8)
    yield "color noise", rng.integers(0, 256, (96, 96, 3), np.uint8)
    yield "a pixel", np.zeros((1, 1), np.uint8)
    yield "air", np.full((100, 300), -1000, np.float32)
    for size in (33, 64, 65, 300):
        yield f"blobs of {size}", _blobs(rng, size)
        yield f"blobs in HU of {size}", _blobs(rng, size).astype(np.float32) * 6 - 900
    tinted = np.stack([_blobs(rng, 140)] * 3, axis=-1)
    tinted[..., 2] //= 2
    yield "tinted", tinted


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw discs of random gray levels, with holes, some of them cut by the border."""
    image = np.zeros((size, size + 9), np.uint8)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for _ in range(9):
        row, column = rng.uniform(0, size, 2)
        distance = np.hypot(y - row, x - column)
        radius = rng.uniform(size / 12, size / 2.5)
        image[(distance < radius) & (distance > radius * rng.uniform(0, 0.9))] = rng.integers(256)
    return image


def _add_slice(vectors: Vectors, name: str, pixels: np.ndarray, model_input: ModelInput) -> None:
    pixels = drop_equal_channels(np.ascontiguousarray(pixels))
    region = find_head(pixels, model_input.upright)
    crop = np.ascontiguousarray(crop_to(pixels, region))
    vectors.add(
        "slices",
        name,
        pixels=vectors.array(pixels),
        upright=model_input.upright,
        crop_head=model_input.crop_head,
        size=model_input.image_size,
        window=model_input.window,
        region=[region.top, region.left, region.side, region.cell, region.turns],
        is_found=region.is_found,
        crop=hashlib.sha256(crop.tobytes()).hexdigest(),
        input=vectors.array(model_input(pixels)),
        warning=check_input(pixels, region),
    )


def _refs(path: Path) -> list[SliceRef]:
    try:
        count = len(read_header(path))
    except SliceError:
        return [SliceRef(path)]
    if count == 1:
        return [SliceRef(path)]
    return [SliceRef(path, frame) for frame in range(0, count, max(1, count // MAX_FRAMES))]


def _add_file(vectors: Vectors, path: Path) -> None:
    for ref in _refs(path):
        try:
            pixels, reason = vectors.array(htf.read_slice(ref)), None
        except SliceError as error:
            pixels, reason = None, error.problem.reason
        header: dict[str, Any] = {}
        try:
            values = read_header(path)
            header = {
                "positions": list(values.positions),
                "number": values.number,
                "warning": values.input_warning,
            }
        except SliceError:
            pass
        vectors.add(
            "files",
            path.name,
            path=str(path),
            frame=ref.frame or 0,
            pixels=pixels,
            reason=reason,
            header=header,
        )


def _written_files(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    hounsfield = htf.draw_phantom(7, 1, size=128).hounsfield
    display = to_display_image(hounsfield)
    yield from _pictures(folder, display)
    yield from _dicom(folder, np.rint(hounsfield).astype(np.int16))
    yield from _volumes(folder, hounsfield)


def _pictures(folder: Path, gray: np.ndarray) -> Iterator[Path]:
    rgb = np.stack([gray, gray // 2, 255 - gray], axis=-1)
    alpha = np.dstack([rgb, np.roll(gray, 20)])
    quarter = Image.fromarray(gray // 64)
    images = {
        "gray": Image.fromarray(gray),
        "rgb": Image.fromarray(rgb),
        "rgba": Image.fromarray(alpha),
        "la": Image.fromarray(alpha[..., 2:]),
        "palette": Image.fromarray(rgb).quantize(50),
        "one_bit": Image.fromarray(gray > 90),
        "sixteen": Image.fromarray(gray.astype(np.uint16) * 257 + 3),
    }
    for name, image in images.items():
        image.save(folder / f"{name}.png")
        yield folder / f"{name}.png"
    quarter.putpalette([value for level in range(4) for value in (level * 80,) * 3])
    quarter.save(folder / "two_bits.png", bits=2)
    yield folder / "two_bits.png"
    images["rgb"].save(folder / "transparent.png", transparency=tuple(int(v) for v in rgb[3, 3]))
    yield folder / "transparent.png"
    images["palette"].save(folder / "transparent_palette.png", transparency=3)
    yield folder / "transparent_palette.png"
    for name, image, options in (
        ("gray", images["gray"], {}),
        ("rgb", images["rgb"], {"quality": 90}),
        ("subsampled", images["rgb"], {"subsampling": 2}),
        ("progressive", images["gray"], {"progressive": True}),
    ):
        image.save(folder / f"{name}.jpg", **options)
        yield folder / f"{name}.jpg"
    whole = (folder / "gray.png").read_bytes()
    for name, data in {
        "truncated.png": whole[: len(whole) // 2],
        "empty.png": b"",
        "text.png": b"not an image at all",
        "truncated.jpg": (folder / "gray.jpg").read_bytes()[:900],
    }.items():
        (folder / name).write_bytes(data)
        yield folder / name


def _dicom(folder: Path, stored: np.ndarray) -> Iterator[Path]:
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0, "ImageOrientationPatient": AXIAL}
    sideways = [0, 1, 0, -1, 0, 0]
    unsigned = (stored + 1024).astype(np.uint16)
    datasets = {
        "plain": dataset_of(stored, ImagePositionPatient=[0, 0, 12.5], **tags),
        "sideways": dataset_of(stored[:100], **(tags | {"ImageOrientationPatient": sideways})),
        "twelve_bits": dataset_of(
            unsigned, **(tags | {"BitsStored": 12, "RescaleIntercept": -1024})
        ),
        "padding": dataset_of(
            np.where(stored < -900, -2000, stored).astype(np.int16), PixelPaddingValue=-2000, **tags
        ),
        "fraction": dataset_of(stored, **(tags | {"RescaleSlope": 0.3, "RescaleIntercept": 1.7})),
        "capture": dataset_of(to_display_image(stored.astype(np.float32)), Modality="SC"),
        "run_length": compressed(dataset_of(stored, **tags), RUN_LENGTH),
        "jpeg_2000": compressed(dataset_of(stored, **tags), JPEG_2000_LOSSLESS),
        "deflated": dataset_of(stored, syntax=DEFLATED, **tags),
        "big_endian": dataset_of(stored, syntax=BIG_ENDIAN, **tags),
    }
    for name, dataset in datasets.items():
        path = folder / f"{name}.dcm"
        path.write_bytes(encode(dataset))
        yield path
    whole = (folder / "plain.dcm").read_bytes()
    for name, data in {"truncated": whole[: len(whole) // 2], "stray": whole + b"\0\1\2"}.items():
        (folder / f"{name}.dcm").write_bytes(data)
        yield folder / f"{name}.dcm"


def _volumes(folder: Path, hounsfield: np.ndarray) -> Iterator[Path]:
    import nibabel

    voxels = np.stack([hounsfield[:90].T] * 4, axis=-1)
    voxels += np.arange(4, dtype=np.float32) * 10
    tilted = np.array([[0.5, 0.1, 0, -3], [0.1, -0.5, 0.4, 2], [0, 0.3, 4.8, 7], [0, 0, 0, 1]])
    turned = np.array([[0, 0, -5.0, 1], [0.6, 0, 0, 2], [0, 0.6, 0, 3], [0, 0, 0, 1]])
    for name, data, affine, suffix in (
        ("int16", voxels.astype(np.int16), np.diag([0.5, 0.5, 5, 1]), "nii"),
        ("float32", voxels, np.diag([-0.5, -0.5, -5, 1]), "nii.gz"),
        ("tilted", voxels.astype(np.int32), tilted, "nii.gz"),
        ("turned", voxels.astype(np.float64), turned, "nii"),
    ):
        path = folder / f"{name}.{suffix}"
        nibabel.Nifti1Image(data, affine).to_filename(path)
        yield path
    path = folder / "second.nii"
    nibabel.Nifti2Image(voxels.astype(np.uint16), np.diag([0.5, -0.5, 5, 1])).to_filename(path)
    yield path
    image = nibabel.Nifti1Image(voxels.astype(np.int16), tilted)
    image.set_sform(None, 0)
    image.set_qform(tilted, 1)
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, folder / "quaternion.nii")
    yield folder / "quaternion.nii"
    (folder / "cut.nii").write_bytes((folder / "int16.nii").read_bytes()[:5000])
    yield folder / "cut.nii"


def _add_evidence(vectors: Vectors) -> None:
    rng = np.random.default_rng(1)
    hounsfield = htf.draw_phantom(7, 3, size=200).hounsfield
    region = find_head(hounsfield)
    for number, (probability, threshold) in enumerate(
        ((0.9, 0.5), (0.5, 0.5), (0.3, 0.6), (0.999999999, 0.2), (0.31, 0.3), (0.7, 0.1))
    ):
        cam = rng.normal(0, 8, (24, 24)).astype(np.float32)
        evidence = locate_evidence(cam, Decision(probability, threshold))
        placed = map_to_slice(evidence, hounsfield.shape, region)
        placed = (placed * head_pixels(region, hounsfield.shape)).astype(np.float32)
        vectors.add(
            "evidence",
            f"map {number}",
            cam=vectors.array(cam),
            probability=probability,
            threshold=threshold,
            evidence=vectors.array(evidence),
            pixels=vectors.array(hounsfield),
            placed=vectors.array(placed),
        )


def _add_geometry(vectors: Vectors) -> None:
    for positions in ([], [3.0], [0, 5, 10, 20], [1.5, 1.5], [0, None, 4], [-7.25, 0.5, 1, 9, 40]):
        values = np.array([np.nan if one is None else one for one in positions], np.float64)
        geometry = vectors.array(scan_geometry(values))
        vectors.add("geometry", str(positions), positions=positions, geometry=geometry)


def main() -> None:
    """Write the vectors for the whole test."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--phantoms", type=int, default=500)
    parser.add_argument("--shared", type=Path)
    arguments = parser.parse_args()
    write_vectors(arguments.folder, arguments.phantoms, arguments.shared)


if __name__ == "__main__":
    main()
