"""DICOM files of phantoms: what all of them say, whether single slices or studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.synthesis.scanner import LOWEST_HU

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_INTERCEPT = int(LOWEST_HU)  # so that no stored value is negative


def derive_phantom_uid(*parts: object) -> str:
    """Return the UID of a part of a phantom; the same part always has the same."""
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["hemorrhage_tf", *map(str, parts)])


def create_ct_image(hounsfield: np.ndarray, pixel: float, instance: str) -> Dataset:
    """Create a CT image with its pixels, without patient, study and place.

    Args:
        hounsfield: float32 `(height, width)`, whole HU.
        pixel: Side of a pixel, in mm.
        instance: The SOP Instance UID.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, instance
    dataset.PatientName = "Phantom"
    dataset.Modality, dataset.Manufacturer = "CT", "hemorrhage_tf"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.PixelSpacing = [f"{pixel:.6f}"] * 2
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, _INTERCEPT, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 80
    dataset.PixelData = (hounsfield - _INTERCEPT).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset
