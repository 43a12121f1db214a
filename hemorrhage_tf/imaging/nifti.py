"""NIfTI: a file in, one axial slice in Hounsfield units out. Windows and listing live elsewhere."""

from __future__ import annotations

import gzip
import logging
import os
import stat
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.header import MAX_PIXELS, Header
from hemorrhage_tf.imaging.windows import AIR

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

NIFTI_SUFFIXES = (".nii", ".nii.gz")

# A header can declare any size; these are refused before anything is allocated. A head CT has a
# few hundred slices of 512 x 512; the largest that scanners write has 1024 x 1024.
MAX_SLICES = 10_000
MAX_COMPRESSED_BYTES = 512 * 2**20

# What scanners write where they measured nothing (-1500, -2000, -3024) lies below the scale of
# 12-bit CT, which begins here.
LOWEST = -1024.0

# Fewer voxels across than this are no axial slices of a head: a stack of slices in another plane.
_FEWEST_ACROSS = 32
_LARGEST_ASPECT = 3.0

# An affine with an entry beyond this, in mm, or whose axes (as unit vectors) span less than this
# volume, is no place of a head.
_FARTHEST = 1e6
_FLATTEST = 1e-2

# Extensions lie before the pixels, and a gzip stream has to be read through to get past them.
_MAX_COMPRESSED_OFFSET = 64 * 2**20
# Deflate's codes cannot do better than this (RFC 1951: 258 bytes from two bits).
_MAX_DEFLATE_RATIO = 1032
_CHUNK = 2**20

_CACHED_VOLUMES = 2
# What is done with larger slices takes so much memory that their volume is not kept besides.
_MAX_KEPT_PIXELS = 1 << 24

# Longest of the two header blocks, 348 and 540 bytes.
_HEADER_BYTES = 540

# nibabel's checks report to a logger: to this one, which no handler or setting reaches.
_silent = logging.Logger("nifti checks", logging.CRITICAL + 1)


def is_nifti(path: str | Path) -> bool:
    """Says whether a path is named like a NIfTI file: .nii or .nii.gz, in any case."""
    return str(path).lower().endswith(NIFTI_SUFFIXES)


def read_header(path: str | Path) -> Header:
    """Reads what a NIfTI file says of its slices; no pixels.

    The slices are the planes across the voxel axis nearest to the body's long axis, in the order
    in which they lie in the file, so that data sets that number the raw slices fit.

    Args:
        path: a NIfTI-1 or NIfTI-2 file in one piece, compressed by gzip or not.

    Returns:
        The header. Its positions are in the unit of the affine, which is millimeters.

    Raises:
        SliceError: the file is missing, damaged, no NIfTI file, or holds no volume of slices.

    Reference:
        https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    """
    path = Path(path)
    with _opened(path) as file:
        volume = _read_volume_header(path, file)
        return Header(positions=volume.positions(), input_warning=volume.input_warning())


def read_frame(path: str | Path, frame: int | None = None) -> np.ndarray:
    """Reads one axial slice in Hounsfield units.

    The slice lies as an axial DICOM slice does: its rows go from anterior to posterior, its columns
    from the patient's right to the left. That takes flips and transposes alone; slices of a tilted
    gantry are not resampled. Of an uncompressed file the slice alone is read; of compressed ones
    the last two volumes are kept, for the slices of a file are mostly read one after the other.

    Args:
        path: a NIfTI-1 or NIfTI-2 file in one piece, compressed by gzip or not.
        frame: which slice, from 0, in the file's own order; None where it holds just one.
            Default None.

    Returns:
        float32 array `(height, width)` in HU. Air stands where the file has no finite value, or
        one below -1024, the scanners' padding.

    Raises:
        SliceError: as of `read_header`; or there is no such slice, the file is cut off, or more
            is declared than is accepted.
    """
    path = Path(path)
    with _opened(path) as file:
        volume = _read_volume_header(path, file)
        index = _checked_frame(path, frame, volume.shape[volume.axes[2]])
        voxels = _decompressed(path, file, volume) if volume.compressed else _mapped(file, volume)
        return _to_hounsfield(volume.plane(voxels, index), volume.slope, volume.intercept)


@dataclass(frozen=True)
class _Volume:
    """What reading slices needs from the header of a file.

    Attributes:
        shape: of the three axes of voxels.
        dtype: as the voxels are stored, byte order included.
        offset: of the first voxel in the (decompressed) file, in bytes.
        slope: stored values are multiplied by it.
        intercept: and this is added, in HU.
        affine: `(4, 4)`, voxel indices to mm, growing to the right, to anterior, to superior.
        axes: which voxel axis lies nearest to left-right, anterior-posterior, inferior-superior.
        signs: 1 where that axis grows to the right, to anterior, to superior, else -1.
        compressed: whether the file is a gzip stream.
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
        if min(across) < _FEWEST_ACROSS:
            return f"its axial slices have only {across[0]} x {across[1]} voxels"
        if max(sizes) > _LARGEST_ASPECT * min(sizes):
            return f"the voxels of its axial slices measure {sizes[0]:.3g} x {sizes[1]:.3g} mm"
        return None

    def plane(self, voxels: np.ndarray, index: int) -> np.ndarray:
        """Gives a view of one slice: rows to posterior, columns to the patient's left."""
        right, anterior, superior = self.axes
        plane = voxels.transpose(anterior, right, superior)[:, :, index]
        return plane[:: -self.signs[1], :: -self.signs[0]]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file; whatever goes wrong with it inside the block becomes a SliceError."""
    from nibabel.spatialimages import HeaderDataError

    # A hostile header makes infinities and NaNs; they are looked for where they matter.
    with np.errstate(all="ignore"):
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
                raise SliceError(path, "not a file")
            if status.st_size == 0:
                raise SliceError(path, "the file is empty (0 bytes)")
            with open(path, "rb") as file:
                yield file
        except FileNotFoundError:
            raise SliceError(path, "no such file") from None
        except MemoryError:
            raise SliceError(path, "there is not enough memory to read it") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SliceError(path, f"cannot be decompressed ({_one_line(error)})") from None
        except HeaderDataError as error:
            raise SliceError(path, f"its header is damaged ({_one_line(error)})") from None
        except (OSError, ValueError, OverflowError, struct.error) as error:
            raise SliceError(path, f"cannot be read as NIfTI ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _read_volume_header(path: Path, file: BinaryIO) -> _Volume:
    # By content, not by name: people rename, and browsers decompress what they download.
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    with gzip.GzipFile(fileobj=file) if compressed else nullcontext(file) as stream:
        start = stream.read(_HEADER_BYTES)
    header = _parsed(path, start)
    shape = _checked_shape(path, header.get_data_shape())
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "RGB" if dtype.names else dtype.name
        raise SliceError(path, f"its voxels are {name}: CT has one integer or real number a voxel")
    slope, intercept = header.get_slope_inter()
    affine = np.asarray(header.get_best_affine(), np.float64)
    axes, signs = _nearest_axes(path, affine)
    volume = _Volume(
        shape=shape,
        dtype=dtype,
        # 0 stands for "right behind the header" in the files of some writers.
        offset=header.get_data_offset() or header.single_vox_offset,
        # A slope of 0 or NaN says that the values are not scaled.
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        affine=affine,
        axes=axes,
        signs=signs,
        compressed=compressed,
    )
    _check_sizes(path, volume, os.fstat(file.fileno()).st_size)
    return volume


def _parsed(path: Path, start: bytes) -> Nifti1Header:
    """Makes nibabel's header of the first bytes of a file."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(start) < Nifti1Header.template_dtype.itemsize:
        raise SliceError(path, f"not a NIfTI file: {len(start)} bytes, less than a header has")
    # The magic strings of nifti1.h and nifti2.h, and where they stand.
    if b"ni1\0" == start[344:348] or start[4:8] == b"ni2\0":
        raise SliceError(
            path, "a header whose voxels lie in an .img file: convert the pair to one .nii file"
        )
    if start[344:348] == b"n+1\0":
        kind = Nifti1Header
    elif start[4:8] == b"n+2\0":
        kind = Nifti2Header
    else:
        raise SliceError(path, "not a NIfTI file (it has no NIfTI magic string)")
    block = start[: kind.template_dtype.itemsize]
    if len(block) < kind.template_dtype.itemsize:
        raise SliceError(path, "the file is cut off within its header")
    header = kind(block, check=False)
    # What nibabel does on loading, with a logger of our own: small faults are mended.
    header.check_fix(logger=_silent, error_level=40)
    return header


def _nearest_axes(
    path: Path, affine: np.ndarray
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Finds which voxel axis runs along which of the body's, and whether in its direction."""
    from nibabel.orientations import io_orientation

    if np.isfinite(affine).all() and np.abs(affine).max() < _FARTHEST:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > _FLATTEST:
            towards = {
                int(axis): (voxel, int(sign))
                for voxel, (axis, sign) in enumerate(io_orientation(affine))
            }
            right, anterior, superior = (towards[axis] for axis in range(3))
            return (right[0], anterior[0], superior[0]), (right[1], anterior[1], superior[1])
    raise SliceError(path, "its affine does not say how the voxels lie in the body")


def _checked_shape(path: Path, declared: tuple[int, ...]) -> tuple[int, int, int]:
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
            f"declares slices of {width} x {height} pixels, more than the "
            f"{MAX_PIXELS // 1_000_000} million that are accepted",
        )
    if slices > MAX_SLICES:
        raise SliceError(path, f"declares {slices} slices, more than the {MAX_SLICES} accepted")
    end = volume.offset + volume.nbytes
    if not volume.compressed:
        if end > file_bytes:
            raise SliceError(path, f"is cut off: {file_bytes} bytes of the {end} that it declares")
        return
    if volume.nbytes > MAX_COMPRESSED_BYTES:
        raise SliceError(
            path,
            f"declares {volume.nbytes // 2**20} MiB of voxels, more than the "
            f"{MAX_COMPRESSED_BYTES // 2**20} MiB accepted of a compressed file: decompress it",
        )
    if volume.offset > _MAX_COMPRESSED_OFFSET:
        raise SliceError(path, f"declares that its voxels begin at byte {volume.offset}")
    if end > file_bytes * _MAX_DEFLATE_RATIO:
        raise SliceError(path, f"is cut off: {file_bytes} bytes cannot hold the {end} it declares")


def _checked_frame(path: Path, frame: int | None, slices: int) -> int:
    if frame is None:
        if slices > 1:
            raise SliceError(path, f"holds {slices} slices: say which one, from 0 to {slices - 1}")
        return 0
    if not 0 <= frame < slices:
        raise SliceError(path, f"has no slice {frame}: it holds {slices}, counted from 0")
    return int(frame)


def _mapped(file: BinaryIO, volume: _Volume) -> np.ndarray:
    """Gives the voxels of an uncompressed file, of which only what is used gets read."""
    return np.memmap(file, volume.dtype, "r", volume.offset, volume.shape, order="F")


# Compressed volumes as they are stored, the last used at the end. Together they have at most
# MAX_COMPRESSED_BYTES.
_cache: OrderedDict[tuple[str, int, int], np.ndarray] = OrderedDict()
_cache_guard = threading.Lock()
# One volume is decompressed at a time: threads that want slices of the same one wait for it instead
# of doing the same, and the memory of several does not add up. Slices of kept volumes do not wait.
_decompressing = threading.Lock()


def _decompressed(path: Path, file: BinaryIO, volume: _Volume) -> np.ndarray:
    status = os.fstat(file.fileno())
    key = (os.path.abspath(path), status.st_mtime_ns, status.st_size)
    voxels = _kept(key)
    if voxels is not None:
        return voxels
    with _decompressing:
        voxels = _kept(key)  # another thread may have been first
        if voxels is None:
            _make_room(volume.nbytes)
            voxels = _decompress(path, file, volume)
            if volume.slice_pixels <= _MAX_KEPT_PIXELS:
                with _cache_guard:
                    _cache[key] = voxels
    return voxels


def _kept(key: tuple[str, int, int]) -> np.ndarray | None:
    with _cache_guard:
        if key in _cache:
            _cache.move_to_end(key)
        return _cache.get(key)


def _make_room(nbytes: int) -> None:
    with _cache_guard:
        while _cache and (
            len(_cache) >= _CACHED_VOLUMES
            or nbytes + sum(kept.nbytes for kept in _cache.values()) > MAX_COMPRESSED_BYTES
        ):
            _cache.popitem(last=False)


def _decompress(path: Path, file: BinaryIO, volume: _Volume) -> np.ndarray:
    file.seek(0)
    stored = np.empty(volume.nbytes, np.uint8)
    target = memoryview(stored)
    with gzip.GzipFile(fileobj=file) as stream:
        to_skip = volume.offset
        while to_skip and (skipped := len(stream.read(min(to_skip, _CHUNK)))):
            to_skip -= skipped
        filled = 0
        while filled < len(target):
            read = stream.readinto(target[filled : filled + _CHUNK])
            if not read:
                raise SliceError(
                    path, f"is cut off: {filled} bytes of the {len(target)} that its voxels need"
                )
            filled += read
        # At the stream's end this compares the checksum; what may stand behind is left alone.
        stream.read(1)
    return stored.view(volume.dtype).reshape(volume.shape, order="F")


def _to_hounsfield(plane: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Scales a slice, in strips, so that float64 copies of large ones take little memory."""
    hounsfield = np.empty(plane.shape, np.float32)
    rows = max(1, _CHUNK // plane.shape[1])
    for start in range(0, len(plane), rows):
        # In float64, so that what is rounded to float32 is the scaled value.
        strip = plane[start : start + rows].astype(np.float64)
        strip *= slope
        strip += intercept
        strip[~(np.isfinite(strip) & (strip >= LOWEST))] = AIR
        hounsfield[start : start + rows] = strip
    hounsfield[np.isinf(hounsfield)] = AIR  # beyond float32
    return hounsfield
