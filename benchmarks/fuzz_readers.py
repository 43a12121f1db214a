"""Feeds damaged and hostile files to the readers: each must be read or refused, nothing else.

Files of pydicom.data and small ones that the script makes are mutated: flipped and cut bytes,
headers that declare huge sizes, swapped chunks, files spliced together, decompression bombs. One
worker process reads them: header, slice, head crop. A crash, a hang, an exception that is no
HemorrhageError and memory over the limit are counted; the exit status is 1 if there was any.
Seconds are of processor time.

    python benchmarks/fuzz_readers.py [--count 20000] [--seed 0] [--memory-mib 1024] [--keep DIR]

An input is decided by seed and number alone: `--first 4711 --count 1` does one again.
"""

import argparse
import faulthandler
import gzip
import io
import json
import os
import random
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Of processor time, since other programs may need the processor too; or this often as long.
HANG_SECONDS, PATIENCE = 20, 6
# What a worker may reserve at all: enough that the limit under test is seen first.
ADDRESS_SPACE = 12 << 30
BATCH = 250
# The largest legal files take seconds each, so they are drawn rarely.
BOMB_SHARE = 0.005
COLUMNS = ("inputs", "read", "refused", "crashed", "hung", "over memory", "other error")

EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
IMPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
SYNTAXES = (
    *(IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 100, 201)),
)
US_TAGS = {  # Rows, Columns, samples, bits and the like
    0x00280002: (0, 1, 2, 3, 4, 65535),
    0x00280006: (0, 1, 2, 65535),
    0x00280010: (0, 1, 2, 63, 64, 65, 511, 513, 4096, 8000, 10000, 32768, 65535),
    0x00280011: (0, 1, 2, 63, 64, 65, 511, 513, 4096, 8000, 10000, 32768, 65535),
    0x00280100: (0, 1, 8, 12, 16, 24, 32, 64, 65535),
    0x00280101: (0, 1, 7, 8, 12, 15, 16, 17, 32, 65535),
    0x00280102: (0, 7, 11, 15, 16, 31, 65535),
    0x00280103: (0, 1, 2, 65535),
    0x00280120: (0, 1, 63536, 32768, 65535),
    0x00280121: (0, 1, 32768, 65535),
}
TEXT_TAGS = {
    0x00080005: ("IS", ("ISO_IR 100", "ISO 2022 IR 87\\ISO 2022 IR 159", "nonsense", "\\" * 40)),
    0x00080060: ("CS", ("CT", "OT", "SC", "MR", "", "\xff\xfe", "CT\\MR")),
    0x00100020: ("LO", ("", "x" * 5000, "\x1b$B\x1b(B", "\0" * 64)),
    0x00200013: ("IS", ("-1", "1e400", "9" * 400, "", "1.5", "nan")),
    0x00200032: ("DS", ("0\\0\\0", "nan\\inf\\-inf", "1e308\\1e308\\1e308", "1\\2", "a\\b\\c")),
    0x00200037: (
        "DS",
        (
            *("1\\0\\0\\0\\1\\0", "0\\1\\0\\1\\0\\0", "-1\\0\\0\\0\\-1\\0", "0\\0\\0\\0\\0\\0"),
            *("nan\\0\\0\\0\\1\\0", "1\\0\\0\\0\\0\\1", "1e400\\0\\0\\0\\1\\0"),
        ),
    ),
    0x00280004: (
        "CS",
        (
            *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
            *("YBR_ICT", "YBR_RCT", "HSV", ""),
        ),
    ),
    0x00280008: (
        "IS",
        ("0", "1", "2", "3", "100000", "99999999", "-1", "9" * 300, "1A", "", "1.0"),
    ),
    0x00281050: ("DS", ("40", "nan", "1e400", "40\\50\\60", "")),
    0x00281051: ("DS", ("80", "0", "-1", "inf", "")),
    0x00281052: ("DS", ("-1024", "nan", "inf", "1e300", "-1e9", "", "x")),
    0x00281053: ("DS", ("1", "0", "nan", "1e9", "-1e9", "1e-300", "1\\2")),
}


# The files that are mutated.


def write_corpus(folder: Path) -> None:
    """Writes the files to mutate, named `KIND.NUMBER.SUFFIX`."""
    from hemorrhage_tf.core.native_output import silence_native_output

    warnings.simplefilter("ignore")
    with silence_native_output(2):  # gdcm tells what its encoders lack
        files = [*packaged_dicom(), *made_dicom(), *made_nifti(), *made_pictures(), *bombs()]
    for number, (kind, suffix, data) in enumerate(files):
        (folder / f"{kind}.{number:04d}{suffix}").write_bytes(data)


def packaged_dicom():
    """Gives the files that pydicom brings along; those of another modality as CT besides."""
    import pydicom

    for path in sorted((Path(pydicom.__file__).parent / "data").rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".pyc", ".json", ".txt", ".dump"):
            continue
        data = path.read_bytes()
        syntax = re.search(rb"\x02\x00\x10\x00UI..([0-9.]+)", data[:2048], re.DOTALL)
        kind = _dicom_kind(syntax[1].decode() if syntax else "")
        yield kind, ".dcm", data
        for modality in (b"MR", b"US", b"NM", b"CR"):  # else refused before it is decoded
            for tag in (b"\x08\0\x60\0CS\2\0", b"\x08\0\x60\0\2\0\0\0", b"\0\x08\0\x60CS\0\2"):
                if tag + modality in data:
                    yield kind, ".dcm", data.replace(tag + modality, tag + b"CT", 1)


def _dicom_kind(syntax: str) -> str:
    if syntax == "1.2.840.10008.1.2.5":
        return "DICOM RLE"
    number = int(syntax.rpartition(".")[2]) if ".2.4." in syntax else 0
    if number in (50, 51, 57, 70):
        return "DICOM JPEG"
    if number in (80, 81):
        return "DICOM JPEG-LS"
    return "DICOM JPEG 2000" if number else "DICOM"


def slice_of(size: int = 64, dtype: type = np.int16) -> np.ndarray:
    """Draws a head of sorts: in HU, or in gray levels for uint8."""
    y, x = np.mgrid[0:size, 0:size] / (size / 2) - 1
    radius = np.hypot(x / 0.7, y / 0.85)
    hounsfield = np.where(radius < 1, np.where(radius < 0.88, 35, 900), -1000)
    if dtype == np.uint8:
        return np.clip(hounsfield, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 5, hounsfield.shape)
    return (hounsfield + noise).astype(dtype)


def dicom_bytes(pixels: np.ndarray, syntax: str = EXPLICIT, header: bool = True, **tags) -> bytes:
    """Writes a CT slice."""
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "CT"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.InstanceNumber = 7
    dataset.ImagePositionPatient = [0, 0, 35]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    is_color = pixels.ndim == 3 and pixels.shape[-1] == 3
    bits = pixels.dtype.itemsize * 8
    frames = pixels.shape[0] if pixels.ndim == 3 and not is_color else None
    dataset.Rows, dataset.Columns = pixels.shape[:2] if frames is None else pixels.shape[1:]
    dataset.SamplesPerPixel = 3 if is_color else 1
    dataset.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    if is_color:
        dataset.PlanarConfiguration = 0
    if frames is not None:
        dataset.NumberOfFrames = frames
    order = ">" if syntax == BIG_ENDIAN else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    if header:
        return buffer.getvalue()
    bare = io.BytesIO()  # as old files are, without preamble and meta information
    del dataset.file_meta
    dataset.save_as(bare, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return bare.getvalue()


def _item(**tags):
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def made_dicom():
    """Gives small DICOM files of every kind that the package reads."""
    plain = slice_of()
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
        yield "DICOM", ".dcm", dicom_bytes(plain, syntax)
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
        yield "DICOM", "", dicom_bytes(plain, syntax, header=False)
    for kind in (np.uint16, np.int32, np.uint8):
        yield "DICOM", ".dcm", dicom_bytes(slice_of(dtype=kind))
    yield "DICOM", ".dcm", dicom_bytes(plain, BitsStored=12, HighBit=11, PixelPaddingValue=-2000)
    yield "DICOM", ".dcm", dicom_bytes(np.repeat(slice_of(dtype=np.uint8)[..., None], 3, axis=2))
    lut = _item(LUTDescriptor=[256, 0, 16], LUTData=bytes(512), ModalityLUTType="HU")
    gray = slice_of(dtype=np.uint8)
    yield "DICOM", ".dcm", dicom_bytes(gray, ModalityLUTSequence=[lut])
    palette = {f"{color}PaletteColorLookupTableData": bytes(512) for color in ("Red", "Green")}
    palette |= {"BluePaletteColorLookupTableData": bytes(range(256)) * 2}
    palette |= {
        f"{color}PaletteColorLookupTableDescriptor": [256, 0, 16]
        for color in ("Red", "Green", "Blue")
    }
    yield "DICOM", ".dcm", dicom_bytes(gray, PhotometricInterpretation="PALETTE COLOR", **palette)
    groups = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, 5 * frame])],
            PixelValueTransformationSequence=[_item(RescaleSlope=1, RescaleIntercept=frame)],
        )
        for frame in range(3)
    ]
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        FrameVOILUTSequence=[_item(WindowCenter=40, WindowWidth=80)],
    )
    frames = np.stack([plain] * 3)
    enhanced = {
        "PerFrameFunctionalGroupsSequence": groups,
        "SharedFunctionalGroupsSequence": [shared],
    }
    for syntax in (IMPLICIT, EXPLICIT, DEFLATED):
        yield "DICOM", ".dcm", dicom_bytes(frames, syntax, **enhanced)
    yield from compressed_dicom(plain, gray)
    yield from nested_dicom(plain)


def compressed_dicom(plain: np.ndarray, gray: np.ndarray):
    """Gives a CT slice, and three frames, in what pydicom and gdcm have encoders for."""
    import gdcm
    import pydicom

    for pixels in (plain, gray, np.stack([gray] * 3)):
        for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
            dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(pixels)))
            dataset.compress(syntax)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            yield _dicom_kind(syntax), ".dcm", buffer.getvalue()
    names = {"JPEGBaselineProcess1": "50", "JPEGExtendedProcess2_4": "51"}
    names |= {"JPEGLosslessProcess14_1": "70", "JPEGLSLossless": "80"}
    names |= {"JPEGLSNearLossless": "81", "JPEG2000": "91"}
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/source.dcm", f"{folder}/target.dcm"
        for pixels in (plain, gray):
            Path(source).write_bytes(dicom_bytes(pixels))
            for name, number in names.items():
                reader = gdcm.ImageReader()
                reader.SetFileName(source)
                change = gdcm.ImageChangeTransferSyntax()
                syntax = getattr(gdcm.TransferSyntax, name)
                change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
                writer = gdcm.ImageWriter()
                writer.SetFileName(target)
                reader.Read()
                change.SetInput(reader.GetImage())
                if not change.Change():  # baseline has no 16 bits
                    continue
                writer.SetFile(reader.GetFile())
                writer.SetImage(change.GetOutput())
                if writer.Write():
                    yield _dicom_kind(f".2.4.{number}"), ".dcm", Path(target).read_bytes()


def nested_dicom(plain: np.ndarray):
    """Gives headers that are deep, wide or long."""
    data = dicom_bytes(plain)
    at = data.index(b"\x28\x00\x02\x00US")

    def with_element(tag: bytes, value: bytes, vr: bytes = b"SQ") -> bytes:
        length = len(value)
        return data[:at] + tag + vr + b"\0\0" + struct.pack("<I", length) + value + data[at:]

    start = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    deep = (start + b"\x20\x00\x13\x91SQ\0\0\xff\xff\xff\xff") * 3000
    empty = b"\xfe\xff\x00\xe0\0\0\0\0"
    groups = b"\x00\x52\x30\x92"
    yield "DICOM", ".dcm", with_element(groups, deep)
    yield "DICOM", ".dcm", with_element(groups, empty * 20000)
    yield "DICOM", ".dcm", with_element(b"\x20\x00\x00\x99", b"\\" * 60000, b"UT")
    yield "DICOM", ".dcm", with_element(b"\x21\x00\x10\x10", deep, b"UN")
    odd = b"".join(struct.pack("<HH2sH", 0x21, 0x1000 + k, b"LO", 2) + b"x " for k in range(20000))
    yield "DICOM", ".dcm", data[:at] + odd + data[at:]


def nifti_bytes(volume: np.ndarray, version: int = 1, tilt: float = 0.0) -> bytes:
    """Writes an uncompressed NIfTI file."""
    import nibabel

    affine = np.diag([-1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = tilt
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(volume, affine, dtype=volume.dtype)
    if volume.dtype.kind == "f":
        image.header.set_slope_inter(1, 0)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    return image.to_bytes()


def made_nifti():
    """Gives NIfTI files of many types, plain and compressed."""
    head = np.stack([slice_of().T] * 5, axis=-1)
    volumes = [nifti_bytes(head), nifti_bytes(head, 2), nifti_bytes(head, tilt=1.5)]
    for kind in (np.uint8, np.int32, np.float32, np.float64, np.uint16, np.int64, np.complex64):
        volumes.append(nifti_bytes(head.clip(0).astype(kind)))
    volumes.append(nifti_bytes(head[..., None]))
    volumes.append(nifti_bytes(np.stack([head] * 2, axis=-1)))
    volumes.append(nifti_bytes(head[..., 0]))
    volumes.append(nifti_bytes(head.transpose(2, 0, 1)))
    infinite = head.astype(np.float32)
    infinite[::2], infinite[1::4] = np.nan, np.inf
    volumes.append(nifti_bytes(infinite))
    for data in volumes:
        yield "NIfTI", ".nii", data
        yield "NIfTI gzip", ".nii.gz", gzip.compress(data, 1)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Makes a chunk with a right checksum."""
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_bytes(width: int, height: int, bits: int, color: int, level: int = 1) -> bytes:
    """Makes a black PNG of any size, whose pixels take no memory here."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = bytes(1 + (width * samples * bits + 7) // 8)
    packer = zlib.compressobj(level)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    palette = png_chunk(b"PLTE", bytes(768)) if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + palette
        + png_chunk(b"IDAT", packed)
        + png_chunk(b"IEND", b"")
    )


def made_pictures():
    """Gives PNG and JPEG files of every mode."""
    from PIL import Image

    gray = Image.fromarray(slice_of(dtype=np.uint8))
    wide = Image.fromarray(slice_of(dtype=np.uint16))

    def saved(image, kind: str, **options) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield "PNG", ".png", saved(gray.convert(mode), "PNG")
    yield "PNG", ".png", saved(wide, "PNG")
    yield "PNG", ".png", saved(gray.convert("P"), "PNG", transparency=0)
    yield "PNG", ".png", saved(gray, "PNG", transparency=0)
    yield "PNG", ".png", saved(gray, "PNG", icc_profile=bytes(3000), exif=b"Exif\0\0" + bytes(64))
    frames = {"save_all": True, "append_images": [gray, gray], "duration": 10}
    yield "PNG", ".png", saved(gray, "PNG", **frames)
    for bits, color in ((1, 0), (2, 0), (4, 0), (16, 2), (16, 4), (16, 6), (4, 3)):
        yield "PNG", ".png", png_bytes(40, 30, bits, color)
    for mode in ("L", "RGB", "CMYK"):
        yield "JPEG", ".jpg", saved(gray.convert(mode), "JPEG")
    yield "JPEG", ".jpeg", saved(gray.convert("RGB"), "JPEG", progressive=True)
    yield "JPEG", ".jpg", saved(gray.convert("RGB"), "JPEG", restart_marker_rows=1)
    yield "JPEG", ".jpg", saved(gray.convert("RGB"), "JPEG", subsampling=0, icc_profile=bytes(200))


def bombs():
    """Gives small files of the largest sizes that are accepted, and some beyond."""
    from PIL import Image

    for bits, color in ((8, 0), (16, 0), (8, 2), (8, 6), (16, 6), (8, 4), (8, 3), (1, 0)):
        yield "bomb PNG", ".png", png_bytes(8000, 8000, bits, color)
    yield "bomb PNG", ".png", png_bytes(10000, 1, 8, 0)
    yield "bomb PNG", ".png", png_bytes(1, 10000, 16, 6)
    text = zlib.compress(bytes(200 << 20), 9)
    plain = png_bytes(40, 30, 8, 0)
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + text)
    yield "bomb PNG", ".png", plain[:33] + chunk + plain[33:]
    profile = png_chunk(b"iCCP", b"profile\0\0" + text)
    yield "bomb PNG", ".png", plain[:33] + profile + plain[33:]
    for mode, progressive in (("L", False), ("RGB", False), ("CMYK", True)):
        buffer = io.BytesIO()
        Image.new(mode, (8000, 8000)).save(buffer, "JPEG", progressive=progressive, quality=1)
        yield "bomb JPEG", ".jpg", buffer.getvalue()
    header = nifti_bytes(np.zeros((8, 8, 2), np.float32))[:352]
    for dims, bits in (((512, 512, 500), 4), ((8000, 8000, 1), 8), ((8000, 1, 8000), 4)):
        code = {4: (16, 32), 8: (64, 64)}[bits]
        edited = bytearray(header)
        struct.pack_into("<8h", edited, 40, 3, *dims, 1, 1, 1, 1)
        struct.pack_into("<hh", edited, 70, *code)
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        count = dims[0] * dims[1] * dims[2] * bits >> 20
        parts = [packer.compress(bytes(edited))]
        parts += [packer.compress(block) for _ in range(count + 1)]
        packed = b"".join(parts) + packer.flush()
        yield "bomb NIfTI gzip", ".nii.gz", packed
    for rows, kind in ((8000, np.int16), (4000, np.int32), (8000, np.uint8)):
        yield "bomb DICOM", ".dcm", dicom_bytes(np.zeros((rows, 8000), kind), DEFLATED)
    flat = np.zeros((4096, 4096), np.int16)
    for data in (dicom_bytes(flat), dicom_bytes(flat.astype(np.uint8))):
        yield from _compressed_flat(data)
    # With a head in it, which is then cut out.
    large = slice_of(160).repeat(50, axis=0).repeat(50, axis=1)
    yield "bomb DICOM", ".dcm", dicom_bytes(large, DEFLATED)
    buffer = io.BytesIO()
    gray = Image.fromarray(slice_of(160, np.uint8))
    gray.resize((10000, 6400)).convert("RGB").save(buffer, "PNG", compress_level=1)
    yield "bomb PNG", ".png", buffer.getvalue()
    color = np.zeros((6400, 6400, 3), np.uint8)
    yield "bomb DICOM", ".dcm", dicom_bytes(color, DEFLATED, Modality="OT")


def _compressed_flat(data: bytes):
    import pydicom

    for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.compress(syntax)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        yield "bomb DICOM", ".dcm", buffer.getvalue()


# The mutations. Each takes the bytes of a file and gives others.


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Changes some bytes; half of the time in the first KiB, where the headers are."""
    changed = bytearray(data)
    end = min(len(changed), 1024) if rng.random() < 0.5 else len(changed)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        if end:
            changed[rng.randrange(end)] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(changed)


def put_number(data: bytes, rng: random.Random) -> bytes:
    """Writes an extreme number over some bytes."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) <= size:
        return data
    number = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1))
    end = min(len(data), 1024) if rng.random() < 0.6 else len(data)
    at = rng.randrange(max(end - size, 1))
    return data[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cuts the end off; sometimes nearly everything."""
    if rng.random() < 0.3:
        return data[: rng.randrange(0, 512)]
    return data[: rng.randrange(len(data) + 1)]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Puts bytes in between, or at the end."""
    at = rng.choice((rng.randrange(len(data) + 1), len(data)))
    extra = rng.choice((rng.randbytes(rng.randrange(1, 200)), bytes(rng.randrange(1, 5000))))
    return data[:at] + extra + data[at:]


def delete(data: bytes, rng: random.Random) -> bytes:
    """Takes bytes out."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 3, 8, 100, 1000)) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Writes a block twice, or many times."""
    at = rng.randrange(len(data) + 1)
    block = data[at : at + rng.choice((1, 8, 64, 2000))]
    return data[:at] + block * rng.choice((2, 3, 50)) + data[at:]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Lets two blocks change places."""
    first, second, third = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


GENERIC = (flip_bytes, flip_bytes, put_number, put_number, truncate, insert, delete, repeat, swap)


def edit_dicom(data: bytes, rng: random.Random) -> bytes:
    """Gives one tag another value, or another length, or works on the compressed pixels."""
    draw = rng.random()
    if draw < 0.06:  # bits that fit each other, though not the pixels
        allocated = rng.choice((8, 16, 32))
        stored = rng.randint(1, allocated)
        for tag, value in ((0x280100, allocated), (0x280101, stored), (0x280102, stored - 1)):
            data = set_element(data, tag, "US", value, rng)
        return data
    if draw < 0.4:
        tag = rng.choice(tuple(US_TAGS))
        return set_element(data, tag, "US", rng.choice(US_TAGS[tag]), rng)
    if draw < 0.7:
        tag = rng.choice(tuple(TEXT_TAGS))
        vr, values = TEXT_TAGS[tag]
        return set_element(data, tag, vr, rng.choice(values), rng)
    if draw < 0.78:
        return set_element(data, 0x00020010, "UI", rng.choice(SYNTAXES), rng)
    if draw < 0.86:
        return change_length(data, rng)
    return edit_codestream(data, rng)


def _find_element(data: bytes, tag: int) -> tuple[int, str, bool, int, int] | None:
    """Finds a tag: where, byte order, whether it has a VR, length of its head and of its value."""
    for order in "<>":
        at = data.find(struct.pack(order + "HH", tag >> 16, tag & 0xFFFF))
        if at < 0 or len(data) < at + 12:
            continue
        vr = data[at + 4 : at + 6]
        if not vr.isalpha() or not vr.isupper():
            return at, order, False, 8, struct.unpack_from(order + "I", data, at + 4)[0]
        if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
            return at, order, True, 12, struct.unpack_from(order + "I", data, at + 8)[0]
        return at, order, True, 8, struct.unpack_from(order + "H", data, at + 6)[0]
    return None


def set_element(data: bytes, tag: int, vr: str, value: int | str, rng: random.Random) -> bytes:
    """Replaces an element, or puts it in before the next one that is known."""
    found = _find_element(data, tag)
    if found is None:
        later = 0x00280010 if tag < 0x00280010 else 0x7FE00010
        found = _find_element(data, later)
        if found is None:
            return flip_bytes(data, rng)
        at, order, explicit, _, _ = found
        end = at
    else:
        at, order, explicit, head, length = found
        end = at + head + length
    if isinstance(value, int):
        content = struct.pack(order + "H", value)
    else:
        content = value.encode("latin-1")
        content += b" " * (len(content) % 2)
    start = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if explicit:
        start += vr.encode() + struct.pack(order + "H", len(content))
    else:
        start += struct.pack(order + "I", len(content))
    return data[:at] + start + content + data[end:]


def change_length(data: bytes, rng: random.Random) -> bytes:
    """Lets an element be longer or shorter than it is."""
    found = _find_element(data, rng.choice((*US_TAGS, *TEXT_TAGS, 0x7FE00010, 0x52009229)))
    if found is None:
        return flip_bytes(data, rng)
    at, order, explicit, head, length = found
    size = 2 if explicit and head == 8 else 4
    extreme = (0, 1, length + 1, max(length - 2, 0), 2 ** (8 * size) - 1, 2 ** (8 * size - 1))
    number = rng.choice(extreme) % 2 ** (8 * size)
    packed = struct.pack(order + ("H" if size == 2 else "I"), number)
    return data[: at + head - size] + packed + data[at + head :]


def edit_codestream(data: bytes, rng: random.Random) -> bytes:
    """Damages compressed pixels: item lengths, marker segments, sizes, entropy-coded bytes."""
    start = data.find(b"\xe0\x7f\x10\x00")
    if start < 0:
        return flip_bytes(data, rng)
    head, pixels = data[: start + 12], data[start + 12 :]
    found = [match.start() for match in re.finditer(rb"\xff[\x4f-\x64\xc0-\xfe]", pixels[:4000])]
    if not found or rng.random() < 0.25:
        return head + rng.choice(GENERIC)(pixels, rng)
    return head + edit_segment(pixels, rng.choice(found), rng)


def edit_segment(data: bytes, at: int, rng: random.Random) -> bytes:
    """Changes the marker segment of a JPEG of any kind that begins there."""
    if len(data) < at + 4:
        return flip_bytes(data, rng)
    end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
    draw = rng.random()
    if data[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7) and draw < 0.3 and len(data) > at + 5:
        return data[: at + 4] + bytes([rng.randint(0, 17)]) + data[at + 5 :]  # bits of a sample
    if draw < 0.2:
        return data[:at] + data[end:]
    if draw < 0.4:
        return data[:end] + data[at:end] * rng.choice((1, 2, 200)) + data[end:]
    if draw < 0.5:
        length = rng.choice((0, 1, 2, 3, 0xFFFF))
        return data[: at + 2] + struct.pack(">H", length) + data[at + 4 :]
    if draw < 0.6:
        marker = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xCC, 0xD8, 0xDA, 0xDB, 0xDD, 0xF7))
        return data[: at + 1] + bytes([marker]) + data[at + 2 :]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        place = at + 4 + rng.randrange(max(min(end, len(data)) - at - 4, 1))
        if place < len(changed):
            changed[place] = rng.choice((0, 1, 2, 4, 8, 16, 17, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed)


NIFTI_FIELDS = {  # of NIfTI-1 and NIfTI-2: where, and which numbers, and how many
    1: {
        **{"dim": (40, "h", 8), "type": (70, "h", 2), "pixdim": (76, "f", 8)},
        **{"offset": (108, "f", 3), "forms": (252, "h", 2), "affine": (256, "f", 18)},
        **{"size": (0, "i", 1), "unit": (123, "b", 1)},
    },
    2: {
        **{"dim": (16, "q", 8), "type": (12, "h", 2), "pixdim": (104, "d", 8)},
        **{"offset": (168, "q", 1), "forms": (344, "i", 2), "affine": (352, "d", 18)},
        **{"size": (0, "i", 1), "slope": (176, "d", 2)},
    },
}
SIZES = (0, 1, -1, 2, 3, 4, 5, 7, 8, 31, 33, 64, 100, 512, 8000, 10000, 32767, -32768)
LARGE_SIZES = (*SIZES, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, 1.0, -1.0, 0.5, 352.0, 353.5, 1e-38, 1e6, 1e30, 3e38, -3e38, np.nan, np.inf, -np.inf)
TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)


def edit_nifti(data: bytes, rng: random.Random) -> bytes:
    """Gives some fields of the header other numbers."""
    if len(data) < 540:
        return flip_bytes(data, rng)
    changed = bytearray(data)
    fields = NIFTI_FIELDS[2 if data[4:7] == b"n+2" else 1]
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(("dim", "dim", *fields))
        at, code, count = fields[name]
        at += struct.calcsize(code) * rng.randrange(count)
        if code in "fd":
            values = REALS
        else:
            values = TYPES if name == "type" else LARGE_SIZES if code == "q" else SIZES
        number = rng.choice([each for each in values if code != "b" or abs(each) < 128])
        struct.pack_into(rng.choice("<<<<>") + code, changed, at, number)
    return bytes(changed)


def edit_gzip(data: bytes, rng: random.Random) -> bytes:
    """Damages what is compressed, mostly; else the stream."""
    if rng.random() < 0.3:
        return rng.choice(GENERIC)(data, rng)
    try:
        inner = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return rng.choice(GENERIC)(data, rng)
    change = edit_nifti if rng.random() < 0.7 else rng.choice(GENERIC)
    packed = gzip.compress(change(inner, rng), 1)
    return packed + packed if rng.random() < 0.03 else packed


SIDES = (0, 1, 39, 41, 63, 65, 8000, 10000, 10001, 64000, 2**31 - 1, 2**32 - 1)
# Width, height, bits, color, compression, filter, interlacing.
HEADER_VALUES = (SIDES, SIDES, (1, 2, 4, 8, 16, 32), (0, 2, 3, 4, 6, 7), (0, 1), (0, 1), (0, 1, 2))


def edit_png(data: bytes, rng: random.Random) -> bytes:
    """Changes, swaps, repeats or leaves out chunks; checksums are mostly right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flip_bytes(data, rng)
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    draw = rng.random()
    if draw < 0.4 and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        for _ in range(rng.choice((1, 1, 2))):
            field = rng.randrange(len(header))
            header[field] = rng.choice(HEADER_VALUES[field])
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header))
    elif draw < 0.5:
        other = rng.randrange(len(chunks))
        chunks[index], chunks[other] = chunks[other], chunks[index]
    elif draw < 0.6:
        chunks.insert(index, (kind, content) if rng.random() < 0.5 else chunks[-1])
    elif draw < 0.68:
        del chunks[index]
    elif draw < 0.78:
        extra = (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iTXt", b"zTXt", b"iCCP")
        chunks.insert(index, (rng.choice(extra), rng.randbytes(rng.choice((0, 1, 6, 26, 300)))))
    elif draw < 0.88 and kind == b"IDAT":
        raw = zlib.decompressobj()
        try:
            pixels = raw.decompress(content, 1 << 20)
            chunks[index] = (kind, zlib.compress(rng.choice(GENERIC)(pixels, rng)))
        except zlib.error:
            chunks[index] = (kind, rng.choice(GENERIC)(content, rng))
    else:
        chunks[index] = (kind, rng.choice(GENERIC)(content, rng))
    edited = data[:8] + b"".join(png_chunk(kind, content) for kind, content in chunks)
    return rng.choice(GENERIC)(edited, rng) if rng.random() < 0.1 else edited


def edit_jpeg(data: bytes, rng: random.Random) -> bytes:
    """Works on a marker segment; half of the time on the one with the sizes."""
    found = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data[:4000])]
    if not found:
        return flip_bytes(data, rng)
    frames = [at for at in found if data[at + 1] in (0xC0, 0xC1, 0xC2)]
    if frames and rng.random() < 0.4:
        at = frames[0]
        changed = bytearray(data)
        for _ in range(rng.choice((1, 2))):
            size = rng.choice((0, 1, 63, 65, 8000, 10000, 10001, 65500, 65535))
            struct.pack_into(">H", changed, at + rng.choice((5, 7)), size)
        if rng.random() < 0.3:
            changed[at + rng.choice((4, 9, 10, 11, 12))] = rng.randrange(256)
        return bytes(changed)
    return edit_segment(data, rng.choice(found), rng)


EDITS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "DICOM": edit_dicom,
    "NIfTI": edit_nifti,
    "NIfTI gzip": edit_gzip,
    "PNG": edit_png,
    "JPEG": edit_jpeg,
}


def edit_of(kind: str) -> Callable[[bytes, random.Random], bytes]:
    """Gives the edit that knows a format."""
    return EDITS["DICOM" if kind.startswith("DICOM") else kind]


class Mutator:
    """Makes inputs of the files of a corpus.

    Args:
        corpus: the folder that `write_corpus` filled.
        seed: of all inputs.
    """

    def __init__(self, corpus: Path, seed: int) -> None:
        self.seed = seed
        self.files: dict[str, list[Path]] = {}
        self.all = sorted(corpus.iterdir())
        for path in self.all:
            self.files.setdefault(path.name.split(".")[0], []).append(path)
        self.formats = [kind for kind in self.files if not kind.startswith("bomb")]
        # DICOM has most of the code that reads it, and PNG and JPEG have most of their users.
        self.weights = [8 if kind == "DICOM" else 4 for kind in self.formats]

    def make(self, number: int) -> tuple[str, str, bytes]:
        """Gives format, file name suffix and bytes of an input; the first are the files as is."""
        if number < len(self.all):
            path = self.all[number]
            return path.name.split(".")[0].removeprefix("bomb "), _suffix(path), path.read_bytes()
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.choices(self.formats, self.weights)[0]
        if rng.random() < BOMB_SHARE:
            kinds = [each for each in self.files if each.startswith("bomb")]
            path = rng.choice([path for each in kinds for path in self.files[each]])
            kind = path.name.split(".")[0].removeprefix("bomb ")
            data = path.read_bytes()
            if rng.random() < 0.5:
                return kind, _suffix(path), data
            return kind, _suffix(path), rng.choice((flip_bytes, truncate))(data, rng)
        path = rng.choice(self.files[kind])
        data = path.read_bytes()
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            draw = rng.random()
            if draw < 0.55:
                data = edit_of(kind)(data, rng)
            elif draw < 0.95:
                data = rng.choice(GENERIC)(data, rng)
            else:
                data = self._splice(data, kind, rng)
        suffix = _suffix(path)
        if rng.random() < 0.03:
            suffix = rng.choice((".dcm", "", ".nii", ".nii.gz", ".png", ".jpg"))
        return kind, suffix, data

    def _splice(self, data: bytes, kind: str, rng: random.Random) -> bytes:
        """Joins the head of a file with the tail of another, mostly of the same format."""
        other_kind = kind if rng.random() < 0.6 else rng.choice(self.formats)
        other = rng.choice(self.files[other_kind]).read_bytes()
        return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _suffix(path: Path) -> str:
    return "." + path.name.split(".", 2)[2] if path.name.count(".") > 1 else ""


# The worker process.


def work(corpus: Path, scratch: Path, seed: int) -> None:
    """Reads inputs, by the numbers that come in on standard input; tells results on another."""
    from hemorrhage_tf.core.errors import HemorrhageError
    from hemorrhage_tf.imaging import nifti, readers
    from hemorrhage_tf.imaging.head_crop import crop_head

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what native code prints is no result
    mutator = Mutator(corpus, seed)
    for file in (corpus / name for name in _smallest_of_each(corpus)):  # imports what is needed
        try:
            readers.read_slice(readers.SliceRef(file))
        except HemorrhageError:
            pass
    base = _memory("VmRSS")
    print(json.dumps({"ready": base}), file=results)
    for line in sys.stdin:
        number = int(line)
        kind, suffix, data = mutator.make(number)
        path = scratch / f"input{suffix}"
        path.write_bytes(data)
        del data
        print(json.dumps({"number": number, "format": kind, "name": path.name}), file=results)
        nifti._cache.clear()  # what this input takes, not what earlier ones left
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        begin, step, error = time.process_time(), "header", None
        peaks = {}
        try:
            ref = readers.SliceRef(path)
            try:
                header = readers.read_header(path)
                if len(header) > 1:
                    ref = readers.SliceRef(path, 0)
            except HemorrhageError:
                pass
            peaks[step], step = _memory("VmHWM") - base, "slice"
            pixels = readers.read_slice(ref)
            _check_pixels(pixels)
            peaks[step], step = _memory("VmHWM") - base, "crop_head"
            _check_pixels(crop_head(pixels, upright=number % 2 == 0))
            outcome = "read"
            del pixels
        except HemorrhageError:
            outcome = "refused"
        except Exception as raised:
            import traceback

            outcome, error = "other error", "".join(traceback.format_exception(raised))
        peaks[step] = _memory("VmHWM") - base
        done = {"done": outcome, "seconds": time.process_time() - begin, "peaks": peaks}
        print(json.dumps(done | {"error": error}), file=results)
        path.unlink()


def _smallest_of_each(corpus: Path) -> list[str]:
    smallest: dict[str, tuple[int, str]] = {}
    for path in corpus.iterdir():
        entry = (path.stat().st_size, path.name)
        kind = path.name.split(".")[0]
        smallest[kind] = min(smallest.get(kind, entry), entry)
    return [name for kind, (_, name) in smallest.items() if not kind.startswith("bomb")]


def _check_pixels(pixels: np.ndarray) -> None:
    """Says with an AssertionError that a reader broke its promise."""
    if pixels.dtype == np.float32:
        assert pixels.ndim == 2, pixels.shape
        # Adding them up shows what is not finite, and takes no memory.
        assert np.isfinite(pixels.sum(dtype=np.float64)), "not finite"
    else:
        assert pixels.dtype == np.uint8, pixels.dtype
        assert pixels.ndim == 2 or pixels.shape[2:] == (3,), pixels.shape
    assert pixels.size > 0, pixels.shape


def _memory(field: str) -> float:
    """Gives a field of this process's memory in MiB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


# The parent process.


@dataclass
class Worker:
    """A worker process, and what it has said so far."""

    process: subprocess.Popen
    errors: Path
    said: bytes = b""

    @classmethod
    def start(cls, corpus: Path, scratch: Path, seed: int) -> "Worker":
        """Starts it, and waits until it is ready."""
        errors = scratch / "stderr.txt"
        with open(errors, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, __file__, "--worker", str(corpus), str(scratch), str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        worker = cls(process, errors)
        if (worker.listen(120) or {}).get("ready") is None:
            process.kill()
            sys.exit(f"the worker did not start:\n{errors.read_text(errors='replace')}")
        return worker

    def listen(self, seconds: float) -> dict | None:
        """Gives the next thing it says; None where it has ended. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while b"\n" not in self.said:
            stream = self.process.stdout
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                return None
            self.said += chunk
        line, _, self.said = self.said.partition(b"\n")
        return json.loads(line)

    def wait_for_result(self) -> dict | None:
        """Gives what became of an input, as `listen` does."""
        begin = self._processor_seconds()
        for _ in range(PATIENCE):
            try:
                return self.listen(HANG_SECONDS)
            except TimeoutError:
                if self._processor_seconds() - begin > HANG_SECONDS:
                    raise
        raise TimeoutError

    def _processor_seconds(self) -> float:
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, numbers: range) -> None:
        """Hands it inputs to do."""
        self.process.stdin.write("".join(f"{number}\n" for number in numbers).encode())
        self.process.stdin.flush()

    def stop(self) -> str:
        """Ends it; gives the last of what it wrote on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)  # where it hangs
            time.sleep(0.5)
            self.process.kill()
        status = self.process.wait()
        return f"exit status {status}\n{self.errors.read_text(errors='replace')[-6000:]}"


@dataclass
class Tally:
    """What became of the inputs of a format."""

    counts: dict[str, int]
    worst_seconds: float = 0.0
    peak: float = 0.0

    def row(self, name: str) -> str:
        """A line of the table."""
        numbers = "".join(f"{self.counts[column]:>12}" for column in COLUMNS)
        return f"{name:<16}{numbers}{self.worst_seconds:>10.1f}{self.peak:>10.0f}"


class Fuzz:
    """Runs inputs through a worker, and counts.

    Args:
        folder: for the corpus and the inputs.
        keep: where inputs that something went wrong with are kept, or None.
        seed: of the inputs.
        limit: of the memory, in MiB.
    """

    def __init__(self, folder: Path, keep: Path | None, seed: int, limit: float) -> None:
        self.corpus, self.scratch = folder / "corpus", folder / "scratch"
        self.corpus.mkdir()
        self.scratch.mkdir()
        write_corpus(self.corpus)
        self.keep, self.seed, self.limit = keep, seed, limit
        self.tallies: dict[str, Tally] = {}
        self.steps = {"header": 0.0, "slice": 0.0, "crop_head": 0.0}

    def run(self, numbers: range) -> None:
        """Does all inputs, with a new worker after each that went wrong."""
        worker, begin = None, time.monotonic()
        at = numbers.start
        try:
            while at < numbers.stop:
                worker = worker or Worker.start(self.corpus, self.scratch, self.seed)
                batch = range(at, min(at + BATCH, numbers.stop))
                worker.ask(batch)
                for number in batch:
                    at = number + 1
                    if not self._one(worker, number):
                        worker = None
                        break
                if at % 2000 < BATCH:
                    seconds = time.monotonic() - begin
                    print(f"  {at - numbers.start} inputs, {seconds:.0f} s", flush=True)
        finally:
            if worker is not None:
                worker.process.kill()
                worker.process.wait()

    def _one(self, worker: Worker, number: int) -> bool:
        """Follows one input; says whether the worker can go on."""
        try:
            started = worker.listen(60)
        except TimeoutError:
            started = None
        if started is None:
            sys.exit(f"making input {number} failed:\n{worker.stop()}")
        tally = self.tallies.setdefault(started["format"], Tally(dict.fromkeys(COLUMNS, 0)))
        tally.counts["inputs"] += 1
        path = self.scratch / started["name"]
        try:
            done = worker.wait_for_result()
        except TimeoutError:
            tally.counts["hung"] += 1
            tally.worst_seconds = max(tally.worst_seconds, HANG_SECONDS)
            self._tell("hung", number, path, worker.stop())
            return False
        if done is None:
            tally.counts["crashed"] += 1
            self._tell("crashed", number, path, worker.stop())
            return False
        tally.counts[done["done"]] += 1
        tally.worst_seconds = max(tally.worst_seconds, done["seconds"])
        peak = max(done["peaks"].values())
        tally.peak = max(tally.peak, peak)
        for step, reached in done["peaks"].items():
            self.steps[step] = max(self.steps[step], reached)
        if done["error"]:
            self._tell("other error", number, path, done["error"])
        if peak > self.limit:
            tally.counts["over memory"] += 1
            steps = ", ".join(f"{step} {reached:.0f}" for step, reached in done["peaks"].items())
            self._tell("over memory", number, path, f"peak MiB up to: {steps}")
        return True

    def _tell(self, what: str, number: int, path: Path, details: str) -> None:
        print(f"{what}: input {number}, {path.name}\n    " + details.replace("\n", "\n    "))
        sys.stdout.flush()
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            name = f"{what.replace(' ', '-')}.{number}.{path.name}"
            (self.keep / name).write_bytes(Mutator(self.corpus, self.seed).make(number)[2])
            (self.keep / f"{name}.txt").write_text(details)

    def table(self) -> str:
        """Formats what was counted."""
        columns = "".join(f"{column:>12}" for column in COLUMNS)
        lines = [f"{'format':<16}{columns}{'worst s':>10}{'peak MiB':>10}"]
        lines += [self.tallies[name].row(name) for name in sorted(self.tallies)]
        total = Tally({key: sum(t.counts[key] for t in self.tallies.values()) for key in COLUMNS})
        total.worst_seconds = max(tally.worst_seconds for tally in self.tallies.values())
        total.peak = max(tally.peak for tally in self.tallies.values())
        return "\n".join([*lines, total.row("all")])

    @property
    def bad(self) -> int:
        """How often something went wrong."""
        return sum(sum(list(each.counts.values())[3:]) for each in self.tallies.values())


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["--worker"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20000, help="how many inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-mib", type=float, default=1024, help="allowed over the base")
    parser.add_argument("--keep", type=Path, help="folder for inputs that something is wrong with")
    arguments = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), arguments.keep, arguments.seed, arguments.memory_mib)
        files = len(list(fuzz.corpus.iterdir()))
        print(f"{files} files to mutate, made in {time.monotonic() - begin:.0f} s", flush=True)
        fuzz.run(range(arguments.first, arguments.first + arguments.count))
    print(fuzz.table())
    steps = ", ".join(f"{step} {peak:.0f}" for step, peak in fuzz.steps.items())
    print(f"highest peak by step, MiB: {steps}")
    load = os.getloadavg()[1]
    print(f"{time.monotonic() - begin:.0f} s in all, load average {load:.1f}")
    sys.exit(1 if fuzz.bad else 0)


if __name__ == "__main__":
    main()
