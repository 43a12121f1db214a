import io
import logging
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_windowing

from hemorrhage_tf.core.errors import HemorrhageError, SliceError
from hemorrhage_tf.imaging.dicom import elements
from hemorrhage_tf.imaging.dicom.parse import is_dicom
from hemorrhage_tf.imaging.dicom.reading import file_windows, read_frame, read_header
from hemorrhage_tf.imaging.windows import Window

# The oracles here are pydicom's own functions, which warn of what its own files do wrong.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:pydicom.*", "ignore::RuntimeWarning:pydicom.*"
)

PACKAGED = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = sorted(path for path in PACKAGED.rglob("*") if path.is_file())
CT_SMALL = PACKAGED / "CT_small.dcm"

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RUN_LENGTH = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
MPEG = "1.2.840.10008.1.2.4.100"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

AXIAL = [1, 0, 0, 0, 1, 0]
RAMP = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)
# The encoder of JPEG 2000 takes nothing smaller than 32 pixels.
TILES = np.tile(RAMP, (4, 4))


def dataset_of(pixels=RAMP, syntax=EXPLICIT, **tags):
    """A file's data set; a tag of value None is left out."""
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
    dataset = Dataset()
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
    return dataset


def encode(dataset):
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def sequence_item(**tags):
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def refusal(function, *arguments):
    with pytest.raises(SliceError) as caught:
        function(*arguments)
    return caught.value.problem.reason


@pytest.fixture
def write(tmp_path):
    def write(pixels=RAMP, name="slice.dcm", **tags):
        path = tmp_path / name
        data = pixels if isinstance(pixels, bytes) else encode(dataset_of(pixels, **tags))
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def read(write):
    def read(pixels=RAMP, **tags):
        return read_frame(write(pixels, **tags))

    return read


def as_read(hounsfield):
    """What reading must make of Hounsfield units that another program decoded."""
    return np.where(hounsfield < -1024, -1000, hounsfield).astype(np.float32)


def as_ct(path, target):
    """Copies a packaged file, as if it were a CT; None if it is no gray picture."""
    try:
        dataset = pydicom.dcmread(path)
    except Exception:
        return None
    if "PixelData" not in dataset or dataset.get("SamplesPerPixel") != 1:
        return None
    if dataset.get("BitsAllocated") == 1 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        return None
    if "TransferSyntaxUID" not in dataset.file_meta or path.name == "badVR.dcm":
        return None
    dataset.Modality = "CT"
    dataset.save_as(target)
    return dataset


def transcode(source, target, syntax):
    """Compresses a file by gdcm, which has encoders that pydicom lacks."""
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


class TestPackagedFiles:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGED)))
    def test_each_reads_or_is_refused(self, path):
        assert is_dicom(path) in (True, False)
        for function in (read_header, lambda path: read_frame(path, 0), file_windows):
            try:
                function(path)
            except HemorrhageError as error:
                assert str(path) in str(error)

    @pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGED)))
    def test_gray_ones_give_what_pydicom_decodes(self, path, tmp_path):
        dataset = as_ct(path, tmp_path / "ct.dcm")
        if dataset is None:
            return
        try:
            expected = dataset.pixel_array
        except (RuntimeError, ValueError):
            if path.name not in ("JPEG-lossy.dcm", "JPGExtended.dcm"):
                assert refusal(read_frame, tmp_path / "ct.dcm", 0)
            return
        expected = apply_modality_lut(expected, dataset)
        if expected.ndim == 3:
            expected = expected[0]
        pixels = read_frame(tmp_path / "ct.dcm", 0)
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, as_read(expected))

    @pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
    def test_12_bit_jpeg_gives_what_gdcm_reads(self, name, tmp_path):
        as_ct(PACKAGED / name, tmp_path / "ct.dcm")
        reader = gdcm.ImageReader()
        reader.SetFileName(str(PACKAGED / name))
        assert reader.Read()
        data = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
        expected = np.frombuffer(data, np.uint16).reshape(1024, 256)
        assert (expected[420, 140], expected[230, 120]) == (244, 95)
        np.testing.assert_array_equal(read_frame(tmp_path / "ct.dcm"), expected)

    @pytest.mark.parametrize(
        "path",
        [path for path in FILES if path.name.startswith(("SC_", "examples_"))],
        ids=lambda path: path.name,
    )
    def test_color_ones_give_what_pydicom_decodes(self, path, tmp_path):
        dataset = pydicom.dcmread(path)
        if dataset.SamplesPerPixel != 3:
            return
        if dataset.get("Modality") == "US":
            dataset.Modality = "OT"
            path = tmp_path / "ot.dcm"
            dataset.save_as(path)
        # gdcm is another decoder than the one that is used here, where it can decode them.
        plugin = "gdcm" if dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE else ""
        expected = pydicom.pixels.pixel_array(dataset, index=0, decoding_plugin=plugin)
        expected = expected >> (dataset.BitsStored - 8)
        pixels = read_frame(path, 0)
        assert pixels.dtype == np.uint8 and pixels.shape == (dataset.Rows, dataset.Columns, 3)
        # Two decoders of JPEG may round the color of a pixel differently.
        difference = np.abs(pixels.astype(int) - expected)
        assert difference.max() <= (3 if plugin else 0)

    def test_the_palette_is_looked_up(self, tmp_path):
        dataset = pydicom.dcmread(PACKAGED / "examples_palette.dcm")
        expected = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
        dataset.Modality = "OT"
        dataset.save_as(tmp_path / "ot.dcm")
        pixels = read_frame(tmp_path / "ot.dcm")
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected >> 8)

    @pytest.mark.parametrize(
        "syntax",
        [
            "ImplicitVRLittleEndian",
            "ExplicitVRLittleEndian",
            "ExplicitVRBigEndian",
            "DeflatedExplicitVRLittleEndian",
            "JPEGLosslessProcess14",
            "JPEGLosslessProcess14_1",
            "JPEGLSLossless",
            "JPEG2000Lossless",
            "RLELossless",
        ],
    )
    def test_a_ct_reads_alike_in_every_transfer_syntax(self, syntax, tmp_path):
        transcode(CT_SMALL, tmp_path / "ct.dcm", syntax)
        expected = read_frame(CT_SMALL)
        np.testing.assert_array_equal(read_frame(tmp_path / "ct.dcm"), expected)
        assert read_header(tmp_path / "ct.dcm").positions == read_header(CT_SMALL).positions


class TestWindows:
    def windowed(self, hounsfield, center, width, function):
        dataset = Dataset()
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsStored, dataset.PixelRepresentation = 8, 0
        dataset.WindowCenter, dataset.WindowWidth = center, width
        dataset.VOILUTFunction = function
        return apply_windowing(hounsfield, dataset)

    @given(
        st.lists(st.integers(-3000, 4000), min_size=1, max_size=50),
        st.integers(-1000, 1000),
        st.integers(2, 4000),
        st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    )
    @settings(max_examples=200, deadline=None)
    def test_gray_levels_are_those_of_pydicom(self, values, center, width, function):
        hounsfield = np.array(values, np.float32)
        expected = self.windowed(hounsfield, center, width, function)
        gray = Window(center, width, function.lower()).apply(hounsfield)
        np.testing.assert_allclose(gray, expected, atol=0.01)

    def test_a_files_own_window_shows_it_as_pydicom_does(self, tmp_path):
        dataset = as_ct(PACKAGED / "693_J2KI.dcm", tmp_path / "ct.dcm")
        (window, *_) = file_windows(tmp_path / "ct.dcm")
        hounsfield = apply_modality_lut(dataset.pixel_array, dataset)
        shown = apply_windowing(hounsfield, dataset)
        low, high = -(2**13) - 1024, 2**13 - 1 - 1024
        expected = (shown - low) / (high - low) * 255
        gray = window.apply(read_frame(tmp_path / "ct.dcm"))
        assert np.abs(np.round(gray) - np.round(expected)).max() <= 1

    def test_one(self, write):
        path = write(WindowCenter=40, WindowWidth=80)
        assert file_windows(path) == (Window(40, 80),)

    def test_several_with_a_function(self, write):
        path = write(WindowCenter=[40, 600], WindowWidth=[80, 2800], VOILUTFunction="SIGMOID")
        expected = (Window(40, 80, "sigmoid"), Window(600, 2800, "sigmoid"))
        assert file_windows(path) == expected

    def test_none(self, write):
        assert file_windows(write()) == ()

    def test_unusable_pairs_are_left_out(self, write):
        path = write(WindowCenter=[40, 50, 60], WindowWidth=[0, 100])
        assert file_windows(path) == (Window(50, 100),)
        assert file_windows(write(WindowCenter=1, WindowWidth=2, VOILUTFunction="MAGIC")) == ()

    def test_broken_numbers_are_no_window(self, write):
        data = encode(dataset_of(WindowCenter="4444", WindowWidth="80"))
        assert file_windows(write(data.replace(b"4444", b"4x4!"))) == ()

    def test_each_frame_has_its_own(self, write):
        path = write(enhanced([0, 5, 10]))
        assert file_windows(path, 2) == (Window(42, 80),)
        assert file_windows(path) == (Window(40, 80),)
        assert "no frame 3" in refusal(file_windows, path, 3)


def enhanced(positions, **tags):
    """An enhanced CT of 4 x 4 pixels; frame n holds n everywhere and adds 100 n."""
    frames = np.repeat(np.arange(len(positions), dtype=np.int16), 16)
    dataset = dataset_of(
        np.zeros((4, 4), np.int16),
        NumberOfFrames=len(positions),
        PixelData=frames.tobytes(),
        **tags,
    )
    plane = sequence_item(ImageOrientationPatient=AXIAL)
    dataset.SharedFunctionalGroupsSequence = [sequence_item(PlaneOrientationSequence=[plane])]
    dataset.PerFrameFunctionalGroupsSequence = [
        sequence_item(
            PlanePositionSequence=[sequence_item(ImagePositionPatient=[0, 0, position])],
            PixelValueTransformationSequence=[
                sequence_item(RescaleSlope=1, RescaleIntercept=100 * number, RescaleType="HU")
            ],
            FrameVOILUTSequence=[sequence_item(WindowCenter=40 + number, WindowWidth=80)],
        )
        for number, position in enumerate(positions)
    ]
    return encode(dataset)


class TestIsDicom:
    def test_by_content_whatever_the_name(self, write, tmp_path):
        assert is_dicom(write(name="IM000001"))
        assert not is_dicom(write(b"\x89PNG\r\n\x1a\n" + bytes(200), name="slice.dcm"))

    @pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\0\x05\0", bytes(200), b"text " * 99])
    def test_short_and_foreign_files(self, data, write):
        assert not is_dicom(write(data))

    def test_missing_files_and_folders(self, tmp_path):
        assert not is_dicom(tmp_path / "missing.dcm")
        assert not is_dicom(tmp_path)

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
    def test_a_file_without_a_header_is_read(self, syntax, write):
        data = encode(dataset_of(syntax=syntax))
        start = data.index(b"\x08\0\x16\0" if syntax != BIG_ENDIAN else b"\0\x08\0\x16")
        path = write(data[start:])
        assert is_dicom(path)
        np.testing.assert_array_equal(read_frame(path), RAMP)

    def test_an_index_is_refused_by_its_class_and_by_its_name(self, write):
        index = PACKAGED / "dicomdirtests" / "DICOMDIR-bigEnd"
        for function in (read_header, read_frame, file_windows):
            assert "index of other files" in refusal(function, index)
            assert "index of other files" in refusal(function, write(name="DICOMDIR"))


class TestHeader:
    def test_holds_what_the_tags_say(self, write):
        header = read_header(
            write(
                PatientID=" P-17 ",
                PatientName="Muster^Erika Anna^^Dr",
                PatientBirthDate="19700102",
                AccessionNumber="A12345",
                OtherPatientIDs=["X-99", "Y-88"],
                SeriesInstanceUID="1.2.4",
                InstanceNumber=7,
                ImagePositionPatient=[-100, -120, 35.5],
                ImageOrientationPatient=AXIAL,
                BodyPartExamined="HEAD",
            )
        )
        assert header.positions == (35.5,) and len(header) == 1
        assert (header.patient, header.series, header.instance) == ("P-17", "1.2.4", "1.2.3")
        assert header.number == 7 and header.input_warning is None
        expected = {"Muster", "Erika", "Anna", "19700102", "A12345", "X-99", "Y-88"}
        assert set(header.identifying) == expected

    def test_missing_tags_are_none(self, write):
        header = read_header(write(SOPInstanceUID="1.2.3", Modality=None))
        assert header.positions == (None,)
        assert (header.patient, header.series, header.number) == (None, None, None)
        assert header.identifying == () and header.input_warning is None

    @pytest.mark.parametrize(
        "tag, value, broken",
        [
            ("InstanceNumber", "7777", b"7.x!"),
            ("ImagePositionPatient", ["111", "222", "333"], b"1x1\\222"),
            ("SeriesInstanceUID", "1.222", b"hello"),
            ("NumberOfFrames", "1111", b"1A!!"),
        ],
    )
    def test_broken_values_raise_nothing(self, tag, value, broken, write):
        data = encode(dataset_of(ImageOrientationPatient=AXIAL, **{tag: value}))
        text = "\\".join(value) if isinstance(value, list) else value
        header = read_header(write(data.replace(text[: len(broken)].encode(), broken, 1)))
        assert header.number is None and header.positions == (None,)

    @pytest.mark.parametrize("corner", [["1", "2"], ["1", "2", "NaN"], ["1", "2", "1e400"]])
    def test_a_position_that_is_none(self, corner, write):
        text = "\\".join(corner).encode()
        marker = b"9\\" * (len(text) // 2) + b"9" * (len(text) % 2)
        tags = {"ImageOrientationPatient": AXIAL}
        data = encode(dataset_of(ImagePositionPatient=marker.decode(), **tags))
        assert read_header(write(data.replace(marker, text))).positions == (None,)

    def test_a_gantry_tilt_is_measured_along_the_normal(self, write):
        tilt = np.radians(18.5)
        orientation = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
        corner = [-125, -123.5, 5.8]
        orientation = [round(value, 7) for value in orientation]
        header = read_header(
            write(ImagePositionPatient=corner, ImageOrientationPatient=orientation)
        )
        expected = np.dot(corner, [0, np.sin(tilt), np.cos(tilt)])
        assert header.positions[0] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("orientation", [AXIAL, [-1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0]])
    def test_positions_grow_towards_the_head_however_the_slice_lies(self, orientation, write):
        header = read_header(
            write(ImagePositionPatient=[0, 0, 12], ImageOrientationPatient=orientation)
        )
        assert header.positions == (12,)

    @given(st.permutations(range(8)))
    @settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_shuffled_series_sorts(self, write, order):
        paths = [
            write(
                name=f"{number}.dcm",
                ImagePositionPatient=[-100, 20, -7 + 2.5 * height],
                ImageOrientationPatient=[1, 0, 0, 0, 0.9483237, -0.3173047],
            )
            for number, height in enumerate(order)
        ]
        found = sorted(paths, key=lambda path: read_header(path).positions)
        assert [order[int(path.stem)] for path in found] == list(range(8))

    def test_an_enhanced_file_has_a_position_for_each_frame(self, write):
        assert read_header(write(enhanced([9, 4, -1.5]))).positions == (9, 4, -1.5)

    def test_frames_without_functional_groups_have_no_position(self, write):
        header = read_header(
            write(
                NumberOfFrames=2,
                PixelData=RAMP.tobytes() * 2,
                ImagePositionPatient=[0, 0, 1],
                ImageOrientationPatient=AXIAL,
            )
        )
        assert header.positions == (None, None)

    @pytest.mark.parametrize(
        "tags, words",
        [
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
            ({"ImageType": ["DERIVED", "PRIMARY", "SCOUT"]}, "localizer"),
            ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "sagittal"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "coronal"),
            ({"BodyPartExamined": "CHEST"}, "CHEST"),
            ({"Modality": "MR"}, "MR"),
            ({"Rows": None}, "no picture"),
        ],
    )
    def test_what_speaks_against_a_head_ct_is_named(self, tags, words, write):
        assert words in read_header(write(**tags)).input_warning

    @pytest.mark.parametrize("part", ["HEAD", "HEADNECK", "skull ", "BRAIN", "HEAD_NECK", ""])
    def test_parts_of_the_head_are_not_suspicious(self, part, write):
        path = write(BodyPartExamined=part, ImageOrientationPatient=[1, 0, 0, 0, 0.8, -0.6])
        assert read_header(path).input_warning is None

    def test_reads_no_pixels(self, write, tmp_path):
        data = encode(dataset_of(InstanceNumber=3))
        path = write(data[: data.index(b"\xe0\x7f\x10\0")])
        assert read_header(path).number == 3

    def test_private_elements_of_undefined_length_are_skipped(self, write):
        data = encode(dataset_of(InstanceNumber=3))
        private = b"\x09\0\x10\0LO\x04\0TEST" + b"\x09\0\x01\x10OB\0\0\xff\xff\xff\xff"
        private += b"\xfe\xff\x00\xe0\x02\0\0\0ab" + b"\xfe\xff\xdd\xe0\0\0\0\0"
        at = data.index(b"\x20\0\x13\0")
        path = write(data[:at] + private + data[at:])
        assert read_header(path).number == 3
        np.testing.assert_array_equal(read_frame(path), RAMP)


class TestHounsfieldUnits:
    def test_are_exact(self, read):
        hounsfield = read(RescaleSlope=2, RescaleIntercept=-7)
        assert hounsfield.dtype == np.float32
        np.testing.assert_array_equal(hounsfield, RAMP.astype(int) * 2 - 7)

    def test_all_16_bit_values_are_exact(self, read):
        stored = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        expected = as_read(stored.astype(np.int64) - 1024)
        hounsfield = read(stored, RescaleSlope=1, RescaleIntercept=-1024)
        np.testing.assert_array_equal(hounsfield, expected)

    def test_fractions_are_rounded_once(self, read):
        hounsfield = read(RescaleSlope="0.1", RescaleIntercept="-0.3")
        np.testing.assert_array_equal(hounsfield, (RAMP * 0.1 - 0.3).astype(np.float32))

    def test_without_rescale_tags_are_the_stored_values(self, read):
        np.testing.assert_array_equal(read(), RAMP)
        np.testing.assert_array_equal(read(Modality="OT"), RAMP)
        np.testing.assert_array_equal(read(RescaleSlope="", RescaleIntercept=None), RAMP)

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.int8, np.int32])
    @pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN])
    def test_of_every_type(self, kind, syntax, read):
        stored = np.arange(35, dtype=kind).reshape(5, 7)
        np.testing.assert_array_equal(read(stored, syntax=syntax), stored)

    @pytest.mark.parametrize("modality", ["CT", "OT", "SC", "", None])
    def test_of_every_accepted_modality(self, modality, read):
        np.testing.assert_array_equal(read(Modality=modality), RAMP)

    @pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
    @pytest.mark.parametrize("value", [b"hello", b"NaN  ", b"inf  ", b"1e400"])
    def test_of_unusable_tags_are_refused(self, tag, value, write):
        data = encode(dataset_of(**{tag: "98765"}))
        assert "not a usable number" in refusal(read_frame, write(data.replace(b"98765", value)))

    def test_of_slope_0_are_refused(self, write):
        assert "Rescale Slope is 0" in refusal(read_frame, write(RescaleSlope=0))

    def test_are_looked_up_in_a_modality_lut(self, read):
        stored = np.arange(8, 20, dtype=np.uint16).reshape(3, 4)
        table = list(range(1000, 1010))
        item = sequence_item(LUTDescriptor=[10, 10, 16], ModalityLUTType="HU")
        item.add_new("LUTData", "US", table)
        hounsfield = read(stored, ModalityLUTSequence=[item])
        expected = np.array(table)[np.clip(stored.astype(int) - 10, 0, 9)]
        np.testing.assert_array_equal(hounsfield, expected)

    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_of_each_frame_have_its_own_rescale(self, syntax, write):
        path = write(enhanced([0, 5, 10], syntax=syntax))
        for number in range(3):
            assert (read_frame(path, number) == 101 * number).all()

    def test_are_not_inverted_by_monochrome1(self, read):
        np.testing.assert_array_equal(read(PhotometricInterpretation="MONOCHROME1"), RAMP)

    def test_are_the_same_where_signs_are_broken_off(self, read):
        bits = RAMP.view(np.uint16) & 0x0FFF | 0xA000
        hounsfield = read(bits, BitsStored=12, PixelRepresentation=1)
        np.testing.assert_array_equal(hounsfield, RAMP)

    def test_leave_overlays_in_unused_bits_out(self, read):
        stored = np.arange(120, dtype=np.uint16).reshape(10, 12)
        stored_with_overlay = stored | (stored % 2 << 12)
        hounsfield = read(stored_with_overlay, BitsStored=12, HighBit=11)
        np.testing.assert_array_equal(hounsfield, stored)

    def test_are_taken_below_the_highest_bit(self, read):
        hounsfield = read(RAMP << 4, BitsStored=12, HighBit=15)
        np.testing.assert_array_equal(hounsfield, RAMP)

    def test_leave_overlay_planes_out(self, tmp_path, write):
        dataset = dataset_of()
        dataset.add_new(0x60000010, "US", 10)
        dataset.add_new(0x60000011, "US", 12)
        dataset.add_new(0x60000100, "US", 1)
        dataset.add_new(0x60003000, "OW", b"\xff" * 16)
        np.testing.assert_array_equal(read_frame(write(encode(dataset))), RAMP)


class TestPadding:
    def test_below_all_pixels_is_air(self, read):
        stored = RAMP.copy()
        stored[0, :3] = -900
        expected = np.where(stored == -900, -1000, stored)
        np.testing.assert_array_equal(read(stored, PixelPaddingValue=-900), expected)

    def test_above_all_pixels_is_air(self, read):
        stored = RAMP.copy()
        stored[0, :3] = 3000
        expected = np.where(stored == 3000, -1000, stored)
        np.testing.assert_array_equal(read(stored, PixelPaddingValue=3000), expected)

    def test_among_the_pixels_is_not_believed(self, read):
        np.testing.assert_array_equal(read(PixelPaddingValue=0), RAMP)

    def test_may_be_a_range(self, read):
        stored = RAMP.copy()
        stored[0, :3] = [-900, -850, -800]
        tags = {"PixelPaddingValue": -800, "PixelPaddingRangeLimit": -900}
        expected = np.where(stored <= -800, -1000, stored)
        np.testing.assert_array_equal(read(stored, **tags), expected)

    def test_may_be_written_as_unsigned(self, read):
        stored = RAMP.copy()
        stored[0, :3] = -700
        dataset = dataset_of(stored, RescaleIntercept=5000, RescaleSlope=1)
        dataset.add_new("PixelPaddingValue", "US", 65536 - 700)
        hounsfield = read(encode(dataset))
        np.testing.assert_array_equal(hounsfield, np.where(stored == -700, -1000, stored + 5000.0))

    def test_may_use_the_unused_bits(self, read):
        # 63536 is -2000 in 16 bits; its lowest 12 bits alone would be bone.
        stored = np.arange(120, dtype=np.uint16).reshape(10, 12)
        padded = stored.copy()
        padded[0, :3] = 63536
        hounsfield = read(padded, BitsStored=12, PixelPaddingValue=63536)
        np.testing.assert_array_equal(hounsfield, np.where(padded == 63536, -1000.0, stored))

    def test_may_be_everything(self, read):
        assert (read(np.full((4, 4), -2000, np.int16), PixelPaddingValue=-2000) == -1000).all()

    @pytest.mark.parametrize("value", [-1025, -1500, -2000, -3024])
    def test_undeclared_is_air_too(self, value, read):
        stored = RAMP.copy()
        stored[0, :3] = value
        np.testing.assert_array_equal(read(stored), np.where(stored == value, -1000, stored))

    def test_leaves_the_lowest_measured_value_alone(self, read):
        assert (read(np.full((4, 4), -1024, np.int16)) == -1024).all()


class TestDisplayPixels:
    GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
    COLOR = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)

    def test_of_a_gray_capture(self, read):
        pixels = read(self.GRAY, Modality="OT")
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, self.GRAY)

    def test_of_monochrome1_are_inverted(self, read):
        pixels = read(self.GRAY, Modality="OT", PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(pixels, 255 - self.GRAY)

    def test_of_fewer_bits_are_spread(self, read):
        pixels = read(self.GRAY % 16, Modality="OT", BitsStored=4)
        np.testing.assert_array_equal(pixels, self.GRAY % 16 * 17)

    def test_are_hounsfield_units_where_it_is_a_ct_or_is_rescaled(self, read):
        assert read(self.GRAY).dtype == np.float32
        assert read(self.GRAY, Modality="OT", RescaleSlope=1).dtype == np.float32

    @pytest.mark.parametrize("planar", [0, 1])
    def test_of_rgb(self, planar, read):
        stored = self.COLOR.transpose(2, 0, 1) if planar else self.COLOR
        pixels = read(self.COLOR, PixelData=stored.tobytes(), PlanarConfiguration=planar)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, self.COLOR)

    def test_of_16_bit_rgb_keep_the_high_byte(self, read):
        np.testing.assert_array_equal(read(self.COLOR.astype(np.uint16) * 257), self.COLOR)

    @pytest.mark.parametrize("entries", [16, 8])
    def test_of_a_palette(self, entries, read):
        tables = np.random.default_rng(1).integers(0, 256, (3, 256))
        tags = {}
        for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            values = (table * 257).astype(np.uint16) if entries == 16 else table.astype(np.uint8)
            tags[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, entries]
            tags[f"{color}PaletteColorLookupTableData"] = values.tobytes()
        pixels = read(self.GRAY, PhotometricInterpretation="PALETTE COLOR", **tags)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, tables.T[self.GRAY])

    def test_of_a_palette_that_is_not_there_are_refused(self, write):
        path = write(self.GRAY, PhotometricInterpretation="PALETTE COLOR")
        assert "palette is missing" in refusal(read_frame, path)


class TestOrientation:
    # Columns to the patient's left and rows to the back, as the slice is to come out.
    @pytest.mark.parametrize(
        "orientation, stored",
        [
            (AXIAL, RAMP),
            ([-1, 0, 0, 0, 1, 0], RAMP[:, ::-1]),
            ([1, 0, 0, 0, -1, 0], RAMP[::-1]),
            ([-1, 0, 0, 0, -1, 0], RAMP[::-1, ::-1]),
            ([0, 1, 0, 1, 0, 0], RAMP.T),
            ([0, -1, 0, 1, 0, 0], RAMP.T[:, ::-1]),
            ([0, 1, 0, -1, 0, 0], RAMP.T[::-1]),
            ([0, -1, 0, -1, 0, 0], RAMP.T[::-1, ::-1]),
            ([0.9962, 0.0872, 0, -0.0827, 0.9446, -0.3173], RAMP),
        ],
    )
    def test_every_axial_slice_comes_out_upright(self, orientation, stored, read):
        pixels = read(stored, ImageOrientationPatient=orientation)
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, RAMP)

    def test_color_too(self, read):
        color = TestDisplayPixels.COLOR
        pixels = read(color[:, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])
        np.testing.assert_array_equal(pixels, color)

    @pytest.mark.parametrize(
        "orientation",
        [[0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, 0, -1], [0] * 6, [-1, 0, 0, -1, 0, 0], [-1, 0, 0], ""],
    )
    def test_others_and_broken_ones_stay_as_stored(self, orientation, read):
        np.testing.assert_array_equal(read(ImageOrientationPatient=orientation), RAMP)


class TestFrames:
    def test_one_of_several_has_to_be_named(self, write):
        path = write(enhanced([0, 5, 10]))
        assert "holds 3 frames" in refusal(read_frame, path)
        for frame in (3, -1):
            assert "it holds 3" in refusal(read_frame, path, frame)

    def test_the_only_one_need_not_be(self, write):
        np.testing.assert_array_equal(read_frame(write(), 0), RAMP)

    @pytest.mark.parametrize("has_table", [True, False])
    def test_of_compressed_pixels(self, has_table, write):
        frames = [dataset_of(TILES + number) for number in range(3)]
        encoded = []
        for frame in frames:
            frame.compress(JPEG_2000, encoding_plugin="pylibjpeg")
            encoded.append(pydicom.encaps.get_frame(frame.PixelData, 0, number_of_frames=1))
        data = encapsulate(encoded, fragments_per_frame=2, has_bot=has_table)
        dataset = dataset_of(TILES, syntax=JPEG_2000, NumberOfFrames=3, PixelData=data)
        dataset["PixelData"].is_undefined_length = True
        path = write(encode(dataset))
        for number in range(3):
            np.testing.assert_array_equal(read_frame(path, number), TILES + number)

    def test_only_the_one_is_read(self, write):
        # 40 frames of 8 MB would be 320 MB; the file is sparse, and none of them is kept.
        dataset = dataset_of(np.zeros((2048, 2048), np.int16), NumberOfFrames=40, PixelData=b"")
        path = write(encode(dataset)[:-4] + struct.pack("<I", 40 << 23))
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size + (40 << 23))
        assert read_frame(path, 39).shape == (2048, 2048)


class TestRefusals:
    @pytest.mark.parametrize(
        "data, words",
        [
            (b"", "empty"),
            (b"GIF89a" + bytes(500), "not a DICOM file"),
            (bytes(128) + b"DICM", "nothing in it can be read"),
            (
                bytes(128) + b"DICM" + np.random.default_rng(3).bytes(5000),
                "damaged|nothing in it|no picture|larger",
            ),
        ],
    )
    def test_of_no_dicom(self, data, words, write):
        for function in (read_header, read_frame, file_windows):
            with pytest.raises(SliceError, match=words):
                function(write(data))

    def test_of_missing_files_and_folders(self, tmp_path):
        assert refusal(read_frame, tmp_path / "missing.dcm") == "no such file"
        assert refusal(read_frame, tmp_path) == "not a file"

    @pytest.mark.parametrize(
        "tags, words",
        [
            ({"Modality": "MR"}, "modality is MR: accepted are CT, OT, SC"),
            ({"PixelData": None, "Rows": None}, "no picture .CT Image Storage"),
            ({"PixelData": None}, "cut short"),
            ({"Rows": 0}, "no size"),
            ({"Columns": None}, "no size"),
            ({"Rows": 65535, "Columns": 65535}, "more than the 64 million"),
            ({"SamplesPerPixel": 4}, "4 samples"),
            ({"BitsAllocated": 1}, "1 bits a sample"),
            ({"BitsAllocated": 64}, "64 bits a sample"),
            ({"BitsStored": 17}, "17 bits in 16"),
            ({"NumberOfFrames": 0}, "declares 0 frames"),
            ({"NumberOfFrames": -3}, "declares -3 frames"),
            ({"NumberOfFrames": 2**31 - 1}, "frames; accepted are"),
            ({"NumberOfFrames": 2}, "cut short: 240 bytes of pixel data, but 480 expected"),
            ({"Rows": 11}, "cut short"),
            ({"PhotometricInterpretation": "HSV"}, "photometric interpretation is HSV"),
            ({"PhotometricInterpretation": "RGB"}, "photometric interpretation is RGB"),
        ],
    )
    def test_of_what_a_header_says(self, tags, words, write):
        with pytest.raises(SliceError, match=words):
            read_frame(write(**tags), 0)

    def test_of_floating_point_pixels(self, write):
        path = write(PixelData=None, FloatPixelData=bytes(480))
        assert "floating-point" in refusal(read_frame, path)

    def test_of_reports(self, write):
        structures = "1.2.840.10008.5.1.4.1.1.481.3"
        path = write(SOPClassUID=structures, PixelData=None, Rows=None, Modality="RTSTRUCT")
        assert refusal(read_frame, path) == "holds no picture (RT Structure Set Storage)"

    def test_of_encrypted_content(self, write):
        item = sequence_item(EncryptedContentTransferSyntaxUID=EXPLICIT)
        item.EncryptedContent = b"0123"
        path = write(PixelData=None, EncryptedAttributesSequence=[item])
        assert "encrypted" in refusal(read_frame, path)

    @pytest.mark.parametrize("syntax, name", [(MPEG, "MPEG2"), ("1.2.840.10008.1.2.4.94", "JPIP")])
    def test_of_transfer_syntaxes_without_a_decoder(self, syntax, name, write):
        dataset = dataset_of(PixelData=encapsulate([b"1234"]))
        data = encode(dataset).replace(EXPLICIT.encode() + b"\0", syntax.encode() + b" ", 1)
        dataset.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        assert data and name in refusal(read_frame, write(buffer.getvalue()))

    @pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
    @pytest.mark.parametrize("syntax", [EXPLICIT, RUN_LENGTH, JPEG_2000, DEFLATED])
    def test_of_files_cut_short(self, syntax, keep, write):
        dataset = dataset_of(np.random.default_rng(0).integers(-99, 99, (64, 64), np.int16))
        if syntax == DEFLATED:
            dataset.file_meta.TransferSyntaxUID = DEFLATED
        elif syntax != EXPLICIT:
            plugin = "pydicom" if syntax == RUN_LENGTH else "pylibjpeg"
            dataset.compress(syntax, encoding_plugin=plugin)
        data = encode(dataset)
        start = data.index(b"\xe0\x7f\x10\0") if syntax != DEFLATED else 400
        cut = data[: start + int((len(data) - start) * keep)]
        assert "cut short" in refusal(read_frame, write(cut))

    def test_of_codestreams_of_another_size(self, write):
        dataset = dataset_of(TILES)
        dataset.compress(JPEG_2000, encoding_plugin="pylibjpeg")
        encoded = bytearray(dataset.PixelData)
        at = encoded.index(b"\xff\x4f\xff\x51")
        encoded[at + 8 : at + 16] = struct.pack(">II", 60_000, 60_000)
        dataset.PixelData = bytes(encoded)
        dataset["PixelData"].is_undefined_length = True
        reason = refusal(read_frame, write(encode(dataset)))
        assert "60000 x 60000" in reason and "48 x 40" in reason

    @pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jls_lossy_line.dcm"])
    def test_of_jpegs_of_another_size(self, name, write):
        data = bytearray((PACKAGED / name).read_bytes())
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xf7"))
        data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
        assert "65500 x 65500" in refusal(read_frame, write(bytes(data)))

    # At both, gdcm 3.2.6 would end the process.
    @pytest.mark.parametrize(
        "inserted, is_read",
        [(b"junk", False), (b"\xff\xe0\0\x10JFIF\0\x09\x02\0\0\x01\0\x01\0\0", True)],
    )
    def test_of_odd_jpeg_segments(self, inserted, is_read, tmp_path):
        path = tmp_path / "ct.dcm"
        transcode(CT_SMALL, path, "JPEGLosslessProcess14_1")
        dataset = pydicom.dcmread(path)
        jpeg = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([jpeg[:2] + inserted + jpeg[2:]])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
        if is_read:
            np.testing.assert_array_equal(read_frame(path), read_frame(CT_SMALL))
        else:
            assert "no readable size" in refusal(read_frame, path)

    def test_of_deflated_bombs(self, write):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        zeros = bytes(1 << 20)
        bomb = b"".join(deflate.compress(zeros) for _ in range(260)) + deflate.flush()
        syntax = DEFLATED.encode()
        meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(syntax)) + syntax
        path = write(bytes(128) + b"DICM" + meta + bomb)
        assert path.stat().st_size < 1_000_000
        assert "256 MiB" in refusal(read_header, path)

    @pytest.mark.parametrize("declared", [0xFFFFFFFF, 16_000_000])
    def test_of_endless_sequences(self, declared, write, monkeypatch):
        monkeypatch.setattr(elements, "_MAX_READS", 20_000)
        data = encode(dataset_of())
        items = b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000
        groups = b"\0\x52\x30\x92SQ\0\0" + struct.pack("<I", declared) + items
        at = data.index(b"\xe0\x7f\x10\0")
        assert "larger than is accepted" in refusal(
            read_header, write(data[:at] + groups + data[at:])
        )

    def test_of_values_without_end(self, write):
        dataset = dataset_of(syntax=IMPLICIT, WindowCenter="40", WindowWidth="80")
        data = encode(dataset)
        at = data.index(b"\x28\0\x50\x10")
        long = b"\x28\0\x50\x10" + struct.pack("<I", 4_000_000) + b"1\\" * 2_000_000
        path = write(data[:at] + long + data[at + 10 :])
        assert file_windows(path) == ()

    def test_quote_nothing_of_the_file(self, write):
        data = encode(dataset_of(PatientName="Geheim^Otto", RescaleSlope="111111", PatientID="S3"))
        path = write(data.replace(b"111111", b"Geheim"))
        assert "Geheim" not in str(refusal(read_frame, path))


class TestQuiet:
    def test_no_warning_and_no_log_reach_the_user(self, write, caplog, capfd):
        path = write(SeriesInstanceUID="1.2.4", PatientBirthDate="19700101")
        data = path.read_bytes().replace(b"1.2.4", b"a b c").replace(b"19700101", b"yesteday")
        path.write_bytes(data + b"\0\0")
        with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
            warnings.simplefilter("always")
            read_header(path)
            read_frame(path)
        assert not caught and not caplog.records
        assert capfd.readouterr() == ("", "")

    def test_importing_it_imports_no_pydicom(self):
        code = "import sys, hemorrhage_tf.data.dicom; sys.exit('pydicom' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def small_files():
    plain = dataset_of(
        PatientName="A^B",
        InstanceNumber=3,
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=AXIAL,
        RescaleSlope=1,
        RescaleIntercept=-4,
        PixelPaddingValue=-50,
        WindowCenter=[40, 50],
        WindowWidth=[80, 90],
    )
    files = [encode(plain), encode(dataset_of(syntax=IMPLICIT)), enhanced([0, 1])]
    files.append(encode(dataset_of(TestDisplayPixels.COLOR, syntax=BIG_ENDIAN)))
    for syntax, plugin in ((RUN_LENGTH, "pydicom"), (JPEG_2000, "pylibjpeg")):
        dataset = dataset_of(TILES)
        dataset.compress(syntax, encoding_plugin=plugin)
        files.append(encode(dataset))
    deflated = dataset_of()
    deflated.file_meta.TransferSyntaxUID = DEFLATED
    return [*files, encode(deflated)]


class TestMutatedFiles:
    FILES = small_files()

    @given(
        st.sampled_from(FILES),
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6),
        st.one_of(st.none(), st.integers(130, 2000)),
    )
    @settings(
        max_examples=300,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_read_or_are_refused(self, write, data, changes, length):
        data = bytearray(data)
        for at, value in changes:
            data[132 + at % (len(data) - 132)] = value
        path = write(bytes(data[:length]))
        for function in (read_header, file_windows, lambda path: read_frame(path, 0)):
            try:
                function(path)
            except HemorrhageError as error:
                assert str(path) in str(error)


@pytest.mark.real_data
class TestRealSeries:
    @pytest.fixture
    def paths(self, shared):
        paths = sorted((shared / "ct" / "ge_series").glob("*.dcm"))
        if not paths:
            pytest.skip("no CT series beside the project")
        return paths

    def test_positions_are_in_the_order_of_the_files(self, paths):
        headers = [read_header(path) for path in paths]
        positions = [header.positions[0] for header in headers]
        assert len(paths) == 28 and positions == sorted(positions)
        assert np.diff(positions).min() > 0
        assert [header.number for header in headers] == list(range(1, 29))
        assert {header.input_warning for header in headers} == {None}
        assert len({header.series for header in headers}) == 1

    def test_hounsfield_units_are_exact(self, paths):
        for path in paths[::9]:
            dataset = pydicom.dcmread(path)
            stored = dataset.pixel_array.astype(np.int64)
            expected = stored * int(dataset.RescaleSlope) + int(dataset.RescaleIntercept)
            expected[stored == -1500] = -1000
            np.testing.assert_array_equal(read_frame(path), expected)

    def test_the_file_names_its_window(self, paths):
        assert file_windows(paths[0]) == (Window(35, 100),)
