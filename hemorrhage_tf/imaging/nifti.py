"""Read the header of a NIfTI file, or one axial slice of it in Hounsfield units.

Listing files is in `datasets.series`, windows are in `windows`.
"""

from __future__ import annotations

import functools
import gzip
import logging
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.header import MAX_PIXELS, Header
from hemorrhage_tf.imaging.hounsfield_scale import AIR, LOWEST_HOUNSFIELD
from hemorrhage_tf.imaging.row_blocks import convert_in_blocks
from hemorrhage_tf.imaging.volume_cache import VolumeCache

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

NIFTI_SUFFIXES = (".nii", ".nii.gz")

# A header can declare any size; larger ones are refused before anything is allocated. A head CT
# has a few hundred slices of 512 x 512, at most 1024 x 1024.
MAX_SLICES = 10_000
MAX_COMPRESSED_BYTES = 512 * 2**20

# Fewer voxels across are not axial slices of a head but a stack of slices in another plane.
_MIN_VOXELS_ACROSS = 32
_MAX_ASPECT = 3.0

# An affine is unusable with an entry beyond this, in mm, or if its axes, as unit vectors, span less
# than this volume.
_MAX_COORDINATE = 1e6
_MIN_AXES_VOLUME = 1e-2

# Extensions come before the voxels, and a gzip stream must be read through to skip them.
_MAX_COMPRESSED_OFFSET = 64 * 2**20
# The highest ratio that deflate can reach (RFC 1951: 258 bytes from two bits).
_MAX_DEFLATE_RATIO = 1032
_CHUNK = 2**20

# Volumes with larger slices are not cached: processing these slices takes the memory.
_MAX_CACHED_SLICE_PIXELS = 1 << 24

# Size of the larger of the two header blocks, 348 and 540 bytes.
_HEADER_BYTES = 540

# Receives the reports of nibabel's checks; no handler or setting reaches it.
_silent_logger = logging.Logger("nifti checks", logging.CRITICAL + 1)

# Compressed volumes, as they are stored.
decompressed_volumes = VolumeCache(max_volumes=2, max_bytes=MAX_COMPRESSED_BYTES)


def is_nifti(path: str | Path) -> bool:
    """Return whether a path is named like a NIfTI file: .nii or .nii.gz, in any case."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def read_header(path: str | Path) -> Header:
    """Read the header of a NIfTI file; no voxels are read.

    The slices are the planes across the voxel axis nearest to the body's long axis. They keep the
    order of the file, so that data sets that number the stored slices fit.

    Args:
        path: A single-file NIfTI-1 or NIfTI-2 file, compressed by gzip or not.

    Returns:
        The header. Its positions are in the unit of the affine, which is mm.

    Raises:
        SliceError: The file is missing, damaged, not NIfTI, or holds no volume of slices.

    Reference:
        https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    """
    path = Path(path)
    with _opened(path) as file:
        volume = _read_volume_header(path, file)
        return Header(positions=volume.positions(), input_warning=volume.input_warning())


def read_frame(path: str | Path, frame: int | None = None) -> np.ndarray:
    """Read one axial slice in Hounsfield units.

    The slice has the orientation of an axial DICOM slice: rows run from anterior to posterior,
    columns from the patient's right to left. Only flips and transpositions are used; slices of a
    tilted gantry are not resampled. From an uncompressed file only the slice is read; the last two
    compressed volumes are cached.

    Args:
        path: A single-file NIfTI-1 or NIfTI-2 file, compressed by gzip or not.
        frame: Index of the slice, from 0, in the file's own order. Default None, for a file of one
            slice.

    Returns:
        float32 `(height, width)` in HU. Values that are not finite or below -1024 HU, the padding
        of scanners, are set to air.

    Raises:
        SliceError: As `read_header`; or there is no such slice, the file is truncated, or it
            declares more than is accepted.
    """
    path = Path(path)
    with _opened(path) as file:
        volume = _read_volume_header(path, file)
        index = _check_frame_index(path, frame, volume.shape[volume.axes[2]])
        voxels = _decompressed(path, file, volume) if volume.compressed else _mapped(file, volume)
        return _to_hounsfield(volume.plane(voxels, index), volume.slope, volume.intercept)


@dataclass(frozen=True)
class _Volume:
    """The part of a header that reading slices needs.

    Attributes:
        shape: Lengths of the three voxel axes.
        dtype: Of the stored voxels, including byte order.
        offset: Position of the first voxel in the (decompressed) file, in bytes.
        slope: Factor on stored values.
        intercept: Added after the factor, in HU.
        affine: float64 `(4, 4)`: voxel indices to mm, growing to the right, anterior and superior.
        axes: The voxel axes nearest to left-right, posterior-anterior and inferior-superior.
        signs: 1 where that axis grows to the right, anterior or superior, else -1.
        compressed: Whether the file is a gzip stream.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    affine: np.ndarray
    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    compressed: bool

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def slice_pixels(self) -> int:
        return self.shape[self.axes[0]] * self.shape[self.axes[1]]

    def positions(self) -> tuple[float, ...]:
        right, anterior, superior = (self.affine[:3, axis] for axis in self.axes)
        normal = np.cross(right / np.linalg.norm(right), anterior / np.linalg.norm(anterior))
        normal /= np.linalg.norm(normal)
        if normal @ superior * self.signs[2] < 0:
            normal = -normal
        first, step = normal @ self.affine[:3, 3], normal @ superior
        return tuple((first + step * np.arange(self.shape[self.axes[2]])).tolist())

    def input_warning(self) -> str | None:
        across = [self.shape[axis] for axis in self.axes[:2]]
        sizes = [float(np.linalg.norm(self.affine[:3, axis])) for axis in self.axes[:2]]
        if min(across) < _MIN_VOXELS_ACROSS:
            return f"its axial slices have only {across[0]} x {across[1]} voxels"
        if max(sizes) > _MAX_ASPECT * min(sizes):
            return f"the voxels of its axial slices measure {sizes[0]:.3g} x {sizes[1]:.3g} mm"
        return None

    def plane(self, voxels: np.ndarray, index: int) -> np.ndarray:
        """Return a view of one slice: rows to posterior, columns to the patient's left."""
        right, anterior, superior = self.axes
        plane = voxels.transpose(anterior, right, superior)[:, :, index]
        return plane[:: -self.signs[1], :: -self.signs[0]]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and turn any error raised in the block into a SliceError."""
    from nibabel.spatialimages import HeaderDataError

    # A hostile header produces infinities and NaNs, which are checked where they matter.
    with np.errstate(all="ignore"):
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
                raise SliceError(path, "not a file")
            if status.st_size == 0:
                raise SliceError(path, "the file is empty (0 bytes)")
            with open(path, "rb") as file:
                yield file
        except FileNotFoundError:
            raise SliceError(path, "no such file") from None
        except MemoryError:
            raise SliceError(path, "not enough memory to read it") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SliceError(path, f"cannot be decompressed ({_one_line(error)})") from None
        except HeaderDataError as error:
            raise SliceError(path, f"its header is damaged ({_one_line(error)})") from None
        except (OSError, ValueError, OverflowError, struct.error) as error:
            raise SliceError(path, f"cannot be read as NIfTI ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_volume_header(path: Path, file: BinaryIO) -> _Volume:
    # By content, not by name: people rename files, and browsers decompress downloads.
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    with gzip.GzipFile(fileobj=file) if compressed else nullcontext(file) as stream:
        start = stream.read(_HEADER_BYTES)
    header = _parse_header(path, start)
    shape = _check_shape(path, header.get_data_shape())
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "RGB" if dtype.names else dtype.name
        raise SliceError(
            path, f"its voxels are {name}: CT has one integer or real number per voxel"
        )
    slope, intercept = header.get_slope_inter()
    affine = np.asarray(header.get_best_affine(), np.float64)
    axes, signs = _nearest_axes(path, affine)
    volume = _Volume(
        shape=shape,
        dtype=dtype,
        # Some writers use 0 for "right after the header".
        offset=header.get_data_offset() or header.single_vox_offset,
        # A slope of 0 or NaN means that the values are not scaled.
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        affine=affine,
        axes=axes,
        signs=signs,
        compressed=compressed,
    )
    _check_sizes(path, volume, os.fstat(file.fileno()).st_size)
    return volume


def _parse_header(path: Path, start: bytes) -> Nifti1Header:
    """Parse the first bytes of a file as a nibabel header."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(start) < Nifti1Header.template_dtype.itemsize:
        raise SliceError(path, f"not a NIfTI file: its {len(start)} bytes are less than a header")
    # The magic strings of nifti1.h and nifti2.h, at their positions.
    if b"ni1\0" == start[344:348] or start[4:8] == b"ni2\0":
        raise SliceError(
            path, "a header with its voxels in an .img file: convert the pair to one .nii file"
        )
    if start[344:348] == b"n+1\0":
        kind = Nifti1Header
    elif start[4:8] == b"n+2\0":
        kind = Nifti2Header
    else:
        raise SliceError(path, "not a NIfTI file (it has no NIfTI magic string)")
    block = start[: kind.template_dtype.itemsize]
    if len(block) < kind.template_dtype.itemsize:
        raise SliceError(path, "truncated: it ends within its header")
    header = kind(block, check=False)
    # As nibabel does on loading, but with a silent logger: small faults are fixed.
    header.check_fix(logger=_silent_logger, error_level=40)
    return header


def _nearest_axes(
    path: Path, affine: np.ndarray
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the voxel axis nearest to each axis of the body, and the sign of its direction."""
    from nibabel.orientations import io_orientation

    if np.isfinite(affine).all() and np.abs(affine).max() < _MAX_COORDINATE:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > _MIN_AXES_VOLUME:
            toward = {
                int(axis): (voxel, int(sign))
                for voxel, (axis, sign) in enumerate(io_orientation(affine))
            }
            right, anterior, superior = (toward[axis] for axis in range(3))
            return (right[0], anterior[0], superior[0]), (right[1], anterior[1], superior[1])
    raise SliceError(path, "its affine does not define the orientation of the voxels")


def _check_shape(path: Path, declared: tuple[int, ...]) -> tuple[int, int, int]:
    shape = tuple(int(length) for length in declared)
    named = " x ".join(map(str, shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise SliceError(path, f"holds an array of {named}, not a volume of three axes")
    if min(shape) <= 0:
        raise SliceError(path, f"declares an array of {named} voxels")
    return shape


def _check_sizes(path: Path, volume: _Volume, file_bytes: int) -> None:
    width, height, slices = (volume.shape[axis] for axis in volume.axes)
    if width * height > MAX_PIXELS:
        raise SliceError(
            path,
            f"declares slices of {width} x {height} pixels: the limit is "
            f"{MAX_PIXELS // 1_000_000} million",
        )
    if slices > MAX_SLICES:
        raise SliceError(path, f"declares {slices} slices: the limit is {MAX_SLICES}")
    end = volume.offset + volume.nbytes
    if not volume.compressed:
        if end > file_bytes:
            raise SliceError(path, f"truncated: {file_bytes} bytes of {end} declared")
        return
    if volume.nbytes > MAX_COMPRESSED_BYTES:
        raise SliceError(
            path,
            f"declares {volume.nbytes // 2**20} MiB of voxels: the limit for compressed files is "
            f"{MAX_COMPRESSED_BYTES // 2**20} MiB. Decompress it",
        )
    if volume.offset > _MAX_COMPRESSED_OFFSET:
        raise SliceError(path, f"declares that its voxels start at byte {volume.offset}")
    if end > file_bytes * _MAX_DEFLATE_RATIO:
        raise SliceError(path, f"truncated: {file_bytes} bytes cannot hold the {end} declared")


def _check_frame_index(path: Path, frame: int | None, slices: int) -> int:
    if frame is None:
        if slices > 1:
            raise SliceError(path, f"holds {slices} slices: choose one, from 0 to {slices - 1}")
        return 0
    if not 0 <= frame < slices:
        raise SliceError(path, f"has no slice {frame}: it holds {slices}, numbered from 0")
    return int(frame)


def _mapped(file: BinaryIO, volume: _Volume) -> np.ndarray:
    """Map the voxels of an uncompressed file, so that only those used are read."""
    return np.memmap(file, volume.dtype, "r", volume.offset, volume.shape, order="F")


def _decompressed(path: Path, file: BinaryIO, volume: _Volume) -> np.ndarray:
    status = os.fstat(file.fileno())
    return decompressed_volumes.get(
        (os.path.abspath(path), status.st_mtime_ns, status.st_size),
        volume.nbytes,
        functools.partial(_decompress, path, file, volume),
        keep=volume.slice_pixels <= _MAX_CACHED_SLICE_PIXELS,
    )


def _decompress(path: Path, file: BinaryIO, volume: _Volume) -> np.ndarray:
    file.seek(0)
    stored = np.empty(volume.nbytes, np.uint8)
    target = stored.data
    with gzip.GzipFile(fileobj=file) as stream:
        to_skip = volume.offset
        while to_skip and (skipped := len(stream.read(min(to_skip, _CHUNK)))):
            to_skip -= skipped
        filled = 0
        while filled < len(target):
            read = stream.readinto(target[filled : filled + _CHUNK])
            if not read:
                raise SliceError(
                    path, f"truncated: {filled} bytes of the {len(target)} that its voxels need"
                )
            filled += read
        # Reading the end of the stream verifies its checksum; bytes after it are ignored.
        stream.read(1)
    return stored.view(volume.dtype).reshape(volume.shape, order="F")


def _to_hounsfield(plane: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    def rescale(block: np.ndarray) -> np.ndarray:
        # In float64, so that values are rounded to float32 once.
        scaled = block.astype(np.float64)
        scaled *= slope
        scaled += intercept
        scaled[~(np.isfinite(scaled) & (scaled >= LOWEST_HOUNSFIELD))] = AIR
        return scaled

    hounsfield = convert_in_blocks(rescale, plane, plane.shape, np.float32)
    hounsfield[np.isinf(hounsfield)] = AIR  # beyond float32
    return hounsfield
