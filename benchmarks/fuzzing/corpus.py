"""The files that are mutated: those packaged with pydicom, small ones of every kind, and bombs."""

import gzip
import io
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

File = tuple[str, str, bytes]  # format, suffix and content


EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
IMPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"


def write_corpus(folder: Path) -> None:
    """Write the files to mutate, named `FORMAT.NUMBER.SUFFIX`."""
    from hemorrhage_tf.core.native_output import silence_native_output

    warnings.simplefilter("ignore")
    with silence_native_output(2):  # gdcm prints the limits of its encoders
        files = [*packaged_dicom(), *small_dicom(), *small_nifti(), *display_images(), *bombs()]
    for number, (kind, suffix, data) in enumerate(files):
        (folder / f"{kind}.{number:04d}{suffix}").write_bytes(data)


def packaged_dicom() -> Iterator[File]:
    """Yield the files packaged with pydicom, and those of another modality also as CT."""
    import pydicom

    for path in sorted((Path(pydicom.__file__).parent / "data").rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".pyc", ".json", ".txt", ".dump"):
            continue
        data = path.read_bytes()
        syntax = re.search(rb"\x02\x00\x10\x00UI..([0-9.]+)", data[:2048], re.DOTALL)
        kind = dicom_format(syntax[1].decode() if syntax else "")
        yield kind, ".dcm", data
        for modality in (b"MR", b"US", b"NM", b"CR"):  # which would be refused undecoded
            for tag in (b"\x08\0\x60\0CS\2\0", b"\x08\0\x60\0\2\0\0\0", b"\0\x08\0\x60CS\0\2"):
                if tag + modality in data:
                    yield kind, ".dcm", data.replace(tag + modality, tag + b"CT", 1)


def dicom_format(syntax: str) -> str:
    """Return the name under which files of a transfer syntax are counted."""
    if syntax == "1.2.840.10008.1.2.5":
        return "DICOM RLE"
    number = int(syntax.rpartition(".")[2]) if ".2.4." in syntax else 0
    if number in (50, 51, 57, 70):
        return "DICOM JPEG"
    if number in (80, 81):
        return "DICOM JPEG-LS"
    return "DICOM JPEG 2000" if number else "DICOM"


def slice_of(size: int = 64, dtype: type = np.int16) -> np.ndarray:
    """Draw a simple head, in HU or, for uint8, in gray levels."""
    y, x = np.mgrid[0:size, 0:size] / (size / 2) - 1
    radius = np.hypot(x / 0.7, y / 0.85)
    hounsfield = np.where(radius < 1, np.where(radius < 0.88, 35, 900), -1000)
    if dtype == np.uint8:
        return np.clip(hounsfield, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 5, hounsfield.shape)
    return (hounsfield + noise).astype(dtype)


def dicom_bytes(
    pixels: np.ndarray, syntax: str = EXPLICIT, header: bool = True, **tags: object
) -> bytes:
    """Return the bytes of a CT slice."""
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
    bare = io.BytesIO()  # like old files, without preamble and meta information
    del dataset.file_meta
    dataset.save_as(bare, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return bare.getvalue()


def _item(**tags: object) -> "Dataset":
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def small_dicom() -> Iterator[File]:
    """Yield small DICOM files of every kind that the package reads."""
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


def compressed_dicom(plain: np.ndarray, gray: np.ndarray) -> Iterator[File]:
    """Yield a CT slice, and three frames, in each syntax with an encoder in pydicom or gdcm."""
    import gdcm
    import pydicom

    for pixels in (plain, gray, np.stack([gray] * 3)):
        for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
            dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(pixels)))
            dataset.compress(syntax)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            yield dicom_format(syntax), ".dcm", buffer.getvalue()
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
                    yield dicom_format(f".2.4.{number}"), ".dcm", Path(target).read_bytes()


def nested_dicom(plain: np.ndarray) -> Iterator[File]:
    """Yield files whose headers are deep, wide or long."""
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
    """Return the bytes of an uncompressed NIfTI file."""
    import nibabel

    affine = np.diag([-1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = tilt
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind(volume, affine, dtype=volume.dtype)
    if volume.dtype.kind == "f":
        image.header.set_slope_inter(1, 0)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    return image.to_bytes()


def small_nifti() -> Iterator[File]:
    """Yield NIfTI files of many voxel types, plain and compressed."""
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
        yield "NIfTI gzip", ".nii.gz", gzip.compress(data, 1, mtime=0)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk with a valid checksum."""
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_bytes(width: int, height: int, bits: int, color: int, level: int = 1) -> bytes:
    """Return a black PNG of any size, without allocating its pixels."""
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


def display_images() -> Iterator[File]:
    """Yield PNG and JPEG files of every mode."""
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


def bombs() -> Iterator[File]:
    """Yield small files of the largest sizes that are accepted, and some over the limits."""
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
    # With a head, which is then cropped.
    large = slice_of(160).repeat(50, axis=0).repeat(50, axis=1)
    yield "bomb DICOM", ".dcm", dicom_bytes(large, DEFLATED)
    buffer = io.BytesIO()
    gray = Image.fromarray(slice_of(160, np.uint8))
    gray.resize((10000, 6400)).convert("RGB").save(buffer, "PNG", compress_level=1)
    yield "bomb PNG", ".png", buffer.getvalue()
    color = np.zeros((6400, 6400, 3), np.uint8)
    yield "bomb DICOM", ".dcm", dicom_bytes(color, DEFLATED, Modality="OT")


def _compressed_flat(data: bytes) -> Iterator[File]:
    import pydicom

    for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"):
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.compress(syntax)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        yield "bomb DICOM", ".dcm", buffer.getvalue()
