"""Series whose prediction is known: a model that reads the probability in the middle of a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.metadata import ModelMetadata

SIZE = 64

STUDY = {
    "StudyInstanceUID": "1.2.826.0.1.77.1",
    "SeriesInstanceUID": "1.2.826.0.1.77.1.2",
    "FrameOfReferenceUID": "1.2.826.0.1.77.9",
    "SeriesNumber": 3,
    "PatientName": "Mustermann^Erika",
    "PatientID": "PAT0815",
    "PatientBirthDate": "19640812",
    "PatientSex": "F",
    "StudyDate": "20190417",
    "StudyTime": "101112",
    "StudyID": "ST1",
    "AccessionNumber": "ACC7788",
    "ReferringPhysicianName": "Doktor^Brinkmann",
    "StudyDescription": "Schwarzwaldklinik head",
    "SliceThickness": "5",
}


class CenterModel(Model):
    """Its probability is the gray level in the middle of a slice, through a window of 0 to 100 HU.

    Args:
        path: A file to hash in place of weights.
        threshold: Of slices and scans.
        subtypes: Names of subtypes; each gets half of the probability.
    """

    has_cam = True

    def __init__(self, path: Path, threshold: float = 0.5, subtypes: tuple[str, ...] = ()) -> None:
        path.write_bytes(f"{threshold} {subtypes}".encode())
        metadata = ModelMetadata(
            image_size=SIZE,
            threshold=threshold,
            backbone="center",
            feature_layer=None,
            pooling="avg",
            weights_hash="w",
            data_hash="d",
            versions={},
            window=("50/100",),
            operating_point="sensitivity=0.95",
            subtypes=subtypes,
            subtype_thresholds=(0.5,) * len(subtypes),
        )
        super().__init__(path, metadata)

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        middle = slice(SIZE // 2 - 2, SIZE // 2 + 2)
        probability = images[:, middle, middle].mean(axis=(1, 2, 3)) / 255
        outputs = {"probability": probability.astype(np.float32)}
        if self.subtypes:
            outputs["subtypes"] = np.repeat(probability[:, np.newaxis] / 2, len(self.subtypes), 1)
        if cam:
            outputs["cam"] = np.repeat(probability - 0.5, 16).reshape(-1, 4, 4).astype(np.float32)
        return outputs


def slice_with(probability: float) -> np.ndarray:
    """A head of 64 x 64 pixels with skull and brain, in whose middle the probability stands."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius = np.hypot(x, y)
    hounsfield = np.full((SIZE, SIZE), -1000, np.float32)
    hounsfield[radius < 28] = 1000
    hounsfield[radius < 25] = 30
    hounsfield[radius < 6] = round(100 * probability)
    return hounsfield


def write_predicted_series(write_dicom, folder: Path, probabilities, **tags) -> Path:
    """Writes a series of which `CenterModel` gives these probabilities, from the neck up."""
    tags = STUDY | tags
    uid = tags["SeriesInstanceUID"]
    for index, probability in enumerate(probabilities):
        instance = {"SOPInstanceUID": f"{uid}.{index + 1}"}
        write_dicom(
            folder / f"{index:03d}.dcm", slice_with(probability), 5.0 * index, **(tags | instance)
        )
    return folder
