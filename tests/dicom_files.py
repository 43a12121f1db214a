"""DICOM files for tests: small ones built in memory, and those that pydicom packages."""

from __future__ import annotations

import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import BIG_ENDIAN, EXPLICIT

PACKAGED = Path(pydicom.__file__).parent / "data" / "test_files"
PACKAGED_FILES = sorted(path for path in PACKAGED.rglob("*") if path.is_file())
CT_SMALL = PACKAGED / "CT_small.dcm"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"

AXIAL = [1, 0, 0, 0, 1, 0]
RAMP = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)
# The JPEG 2000 encoder takes no image smaller than 32 pixels.
TILES = np.tile(RAMP, (4, 4))
COLOR = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)


def dataset_of(pixels=RAMP, syntax=EXPLICIT, **tags):
    """Create the dataset of a CT slice; a tag of value None is left out."""
    pixels = np.asarray(pixels)
    bits = pixels.dtype.itemsize * 8
    is_color = pixels.ndim == 3 and pixels.shape[2] == 3
    values = {
        "SOPClassUID": CT_STORAGE,
        "SOPInstanceUID": "1.2.3",
        "Modality": "CT",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if is_color else 1,
        "PhotometricInterpretation": "RGB" if is_color else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": tags.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if is_color:
        values["PlanarConfiguration"] = 0
    order = ">" if syntax == BIG_ENDIAN else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    values["PixelData"] = data + b"\0" * (len(data) % 2)
    dataset = item_of(**{key: value for key, value in (values | tags).items() if value is not None})
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
    return dataset


def item_of(**tags):
    """Create a dataset of tags, such as an item of a sequence."""
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def encode(dataset):
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def compressed(dataset, syntax):
    """Compress the pixels of a dataset with an encoder of pydicom."""
    plugin = "pylibjpeg" if syntax == JPEG_2000_LOSSLESS else "pydicom"
    dataset.compress(syntax, encoding_plugin=plugin)
    return dataset


def enhanced(positions, **tags):
    """Return an enhanced CT of 4 x 4 pixels; frame n holds n everywhere, plus 100 n by rescale."""
    frames = np.repeat(np.arange(len(positions), dtype=np.int16), 16)
    dataset = dataset_of(
        np.zeros((4, 4), np.int16),
        NumberOfFrames=len(positions),
        PixelData=frames.tobytes(),
        **tags,
    )
    plane = item_of(ImageOrientationPatient=AXIAL)
    dataset.SharedFunctionalGroupsSequence = [item_of(PlaneOrientationSequence=[plane])]
    dataset.PerFrameFunctionalGroupsSequence = [
        item_of(
            PlanePositionSequence=[item_of(ImagePositionPatient=[0, 0, position])],
            PixelValueTransformationSequence=[
                item_of(RescaleSlope=1, RescaleIntercept=100 * number, RescaleType="HU")
            ],
        )
        for number, position in enumerate(positions)
    ]
    return encode(dataset)


def transcode(source, target, syntax):
    """Compress a file with gdcm, which has encoders that pydicom lacks."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def expected_hounsfield(hounsfield):
    """Return what reading must return for Hounsfield units that another program decoded."""
    return np.where(hounsfield < -1024, -1000, hounsfield).astype(np.float32)


def reason_of_refusal(function, *arguments):
    """Call a function that must raise a SliceError, and return its reason."""
    with pytest.raises(SliceError) as caught:
        function(*arguments)
    return caught.value.problem.reason
