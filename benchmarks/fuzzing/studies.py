"""Mutated studies: their headers are damaged or contradict each other."""

import random
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

import hemorrhage_tf as htf
from fuzzing.mutations import flip_bytes
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.synthesis.phantom_dicom import create_ct_image

SIZE = 64
SLICES = 3
# Texts that are too long, of another character set, or hostile.
TEXTS = (
    b"",
    b"x" * 65,
    b"y" * 5000,
    b"\xff\xfe\x00",
    b"A^B^C^D^E^F^G",
    b"a=b=c=d",
    b"a\\b",
    b"line\nbreak",
    b"\x1b$B;3ED\x1b(B^\x1b$BB@O:",
    b"\xb2\xe4\xbb\xb3",
    b"Yamada^Tarou=\xe5\xb1\xb1\xe7\x94\xb0^\xe5\xa4\xaa\xe9\x83\x8e",
    b"../../etc/passwd",
    b"  ",
)
UIDS = (
    b"",
    b"1.2.03",
    b"1..2",
    b"abc",
    b"1." + b"2" * 63,
    b"9" * 70,
    b"1.2.3\\1.2.4",
    b".",
    b"1.2.3",
)
DATES = (b"", b"20190417", b"2019.04.17", b"20191399", b"today", b"00000000", b"20190417-20190418")
TIMES = (b"", b"101112", b"10:11:12", b"999999", b"101112.1234567", b"-1")
NUMBERS = (b"", b"3", b"-1", b"99999999999999", b"1e5", b"x", b"2147483648", b"1\\2")
CHARACTER_SETS = (
    b"ISO_IR 100",
    b"ISO_IR 192",
    b"ISO 2022 IR 87",
    b"\\ISO 2022 IR 87",
    b"GB18030",
    b"x",
)
CODES = (b"", b"YES", b"NO", b"M", b"F", b"X", b"CT", b"MR", b"male")
ORIENTATIONS = (
    b"1\\0\\0\\0\\1\\0",
    b"0\\1\\0\\0\\0\\-1",
    b"1\\0\\0\\0\\0\\0",
    b"nan\\0\\0\\0\\1\\0",
    b"",
)
VALUES = {
    "PatientName": ("PN", TEXTS),
    "PatientID": ("LO", TEXTS),
    "IssuerOfPatientID": ("LO", TEXTS),
    "PatientBirthDate": ("DA", DATES),
    "PatientSex": ("CS", CODES),
    "StudyInstanceUID": ("UI", UIDS),
    "SeriesInstanceUID": ("UI", UIDS),
    "SOPInstanceUID": ("UI", UIDS),
    "SOPClassUID": ("UI", (*UIDS, b"1.2.840.10008.5.1.4.1.1.7", b"1.2.840.10008.5.1.4.1.1.2.1")),
    "FrameOfReferenceUID": ("UI", UIDS),
    "StudyDate": ("DA", DATES),
    "StudyTime": ("TM", TIMES),
    "ContentDate": ("DA", DATES),
    "ContentTime": ("TM", TIMES),
    "AccessionNumber": ("SH", TEXTS),
    "StudyID": ("SH", TEXTS),
    "StudyDescription": ("LO", TEXTS),
    "ReferringPhysicianName": ("PN", TEXTS),
    "SeriesNumber": ("IS", NUMBERS),
    "InstanceNumber": ("IS", NUMBERS),
    "NumberOfFrames": ("IS", NUMBERS),
    "SpecificCharacterSet": ("CS", CHARACTER_SETS),
    "BurnedInAnnotation": ("CS", CODES),
    "Modality": ("CS", CODES),
    "ImageOrientationPatient": ("DS", ORIENTATIONS),
}


class ConstantModel(Model):
    """A model that flags every slice, so that every kind of object is written.

    Args:
        path: A file to hash in place of weights.
    """

    has_cam = True

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"constant")
        super().__init__(
            path,
            ModelMetadata(
                image_size=SIZE,
                threshold=0.5,
                backbone="constant",
                feature_layer=None,
                pooling="avg",
                weights_hash="",
                data_hash="",
                versions={},
                window=("brain",),
            ),
        )

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        outputs = {"probability": np.full(len(images), 0.9, np.float32)}
        if cam:
            outputs["cam"] = np.full((len(images), 4, 4), 2.2, np.float32)
        return outputs


def draw_slices() -> list[Dataset]:
    """Draw the slices that studies are made of."""
    phantoms = htf.draw_phantom_scan(0, 1, size=SIZE, thickness=5.0, count=12)[:SLICES]
    slices = []
    for number, phantom in enumerate(phantoms):
        dataset = create_ct_image(phantom.hounsfield, phantom.pixel, f"1.2.826.1.{number + 1}")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.1", "1.2.826.1.9"
        dataset.FrameOfReferenceUID = "1.2.826.1.8"
        dataset.PatientID, dataset.StudyDate = "P1", "20190417"
        dataset.SliceThickness = "5"
        dataset.ImagePositionPatient = [0, 0, 5 * number]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slices.append(dataset)
    return slices


def write_mutated(slices: list[Dataset], folder: Path, rng: random.Random) -> None:
    """Write a study with one to four values that are wrong in one or all of its files."""
    changes = {}
    for keyword in rng.sample(sorted(VALUES), rng.randint(1, 4)):
        changes[keyword] = rng.choice(VALUES[keyword][1])
    in_all = rng.random() < 0.7
    for number, dataset in enumerate(slices):
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        if in_all or number == 1:
            content = path.read_bytes()
            for keyword, value in changes.items():
                content = _replace(content, keyword, value)
            path.write_bytes(content)
    if rng.random() < 0.15:
        path = folder / f"{rng.randrange(len(slices))}.dcm"
        path.write_bytes(flip_bytes(path.read_bytes(), rng))


def _replace(content: bytes, keyword: str, value: bytes) -> bytes:
    """Replace the value of an element, or add the element in its place; explicit VR."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    representation = VALUES[keyword][0].encode()
    padded = value + (b"\0" if representation == b"UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    element = head + representation + struct.pack("<H", len(padded)) + padded
    place = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    while place < len(content):
        group, number = struct.unpack_from("<HH", content, place)
        current = group << 16 | number
        long = content[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT")
        size = 12 if long else 8
        length = struct.unpack_from(
            "<I" if long else "<H", content, place + size - (4 if long else 2)
        )
        end = place + size + length[0]
        if current == tag:
            return content[:place] + element + content[end:]
        if current > tag:
            return content[:place] + element + content[place:]
        place = end
    return content + element


def run_one(
    slices: list[Dataset], seed: int, number: int, model: Model, folder: Path
) -> tuple[str, str | None]:
    """Predict one mutated study with DICOM results.

    Returns:
        "written", or the class of the error that answered it; and what is wrong with the outcome.
    """
    rng = random.Random(f"{seed}:{number}")
    study, out = folder / "study", folder / "out"
    for place in (study, out):
        shutil.rmtree(place, ignore_errors=True)
    study.mkdir()
    write_mutated(slices, study, rng)
    options = {"anonymize": rng.random() < 0.3, "skip_invalid": rng.random() < 0.3}
    try:
        htf.predict(study, model=model, dicom_out=out, quiet=True, **options)
    except htf.HemorrhageError as error:
        return type(error).__name__, None
    except Exception as error:  # that is what is searched for
        return "crashed", f"{type(error).__name__}: {error}"
    return "written", check_objects(out)


def check_objects(folder: Path) -> str | None:
    """Return what is wrong with written objects: unreadable, or not valid where a validator is."""
    for path in sorted(folder.rglob("*.dcm")):
        try:
            str(pydicom.dcmread(path))
        except Exception as error:  # pydicom raises almost any error
            return f"{path.name} cannot be read ({type(error).__name__})"
        if shutil.which("dciodvfy") and path.name in ("report.dcm", "summary.dcm"):
            run = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
            lines = (run.stdout + run.stderr).splitlines()
            errors = [line for line in lines if line.startswith("Error")]
            if errors:
                return f"{path.name}: {errors[0]}"
    return None
