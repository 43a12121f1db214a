import numpy as np
import pydicom
import pytest
from dicom_files import (
    AXIAL,
    COLOR,
    JPEG_2000_LOSSLESS,
    PACKAGED,
    PACKAGED_FILES,
    TILES,
    compressed,
    dataset_of,
    encode,
    enhanced,
    expected_hounsfield,
    reason_of_refusal,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_modality_lut

from hemorrhage_tf.core.errors import HemorrhageError
from hemorrhage_tf.imaging.dicom.parse import is_dicom
from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    RUN_LENGTH,
)

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
TWELVE_BIT_JPEGS = ("JPEG-lossy.dcm", "JPGExtended.dcm")


def write_as_ct(path, target):
    """Copy a packaged file as CT; return its dataset, or None if it is not a gray image."""
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


def test_reads_or_refuses_each_packaged_file():
    assert len(PACKAGED_FILES) > 100
    for path in PACKAGED_FILES:
        assert is_dicom(path) in (True, False)
        for function in (read_header, lambda path: read_frame(path, 0)):
            try:
                function(path)
            except HemorrhageError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("path", PACKAGED_FILES, ids=lambda path: str(path.relative_to(PACKAGED)))
def test_gray_packaged_files_match_pydicom(path, tmp_path):
    dataset = write_as_ct(path, tmp_path / "ct.dcm")
    if dataset is None:
        return
    try:
        expected = dataset.pixel_array
    except (RuntimeError, ValueError):
        if path.name not in TWELVE_BIT_JPEGS:
            assert reason_of_refusal(read_frame, tmp_path / "ct.dcm", 0)
        return
    expected = apply_modality_lut(expected, dataset)
    if expected.ndim == 3:
        expected = expected[0]
    pixels = read_frame(tmp_path / "ct.dcm", 0)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, expected_hounsfield(expected))


@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGED_FILES if path.name.startswith(("SC_", "examples_"))],
    ids=lambda path: path.name,
)
def test_color_packaged_files_match_another_decoder(path, tmp_path):
    dataset = pydicom.dcmread(path)
    if dataset.SamplesPerPixel != 3:
        return
    if dataset.get("Modality") == "US":
        dataset.Modality = "OT"
        path = tmp_path / "ot.dcm"
        dataset.save_as(path)
    plugin = "gdcm" if dataset.file_meta.TransferSyntaxUID == JPEG_BASELINE else ""
    expected = pydicom.pixels.pixel_array(dataset, index=0, decoding_plugin=plugin)
    expected = expected >> (dataset.BitsStored - 8)
    pixels = read_frame(path, 0)
    assert pixels.dtype == np.uint8 and pixels.shape == (dataset.Rows, dataset.Columns, 3)
    # Two JPEG decoders may round the color of a pixel differently.
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= (3 if plugin else 0)


def test_reads_the_tags_of_a_header(write):
    header = read_header(
        write(
            PatientID=" P-17 ",
            SeriesInstanceUID="1.2.4",
            InstanceNumber=7,
            SliceThickness="4.8",
            ImagePositionPatient=[-100, -120, 35.5],
            ImageOrientationPatient=AXIAL,
            BodyPartExamined="HEAD",
        )
    )
    assert header.positions == (35.5,) and len(header) == 1
    assert (header.patient, header.series, header.instance) == ("P-17", "1.2.4", "1.2.3")
    assert header.number == 7 and header.thickness == 4.8 and header.input_warning is None


def test_missing_tags_are_none_in_a_header(write):
    header = read_header(write(SOPInstanceUID="1.2.3", Modality=None))
    assert header.positions == (None,)
    assert (header.patient, header.series, header.number) == (None, None, None)
    assert header.thickness is None
    assert header.identifying == () and header.input_warning is None


@pytest.mark.parametrize("thickness", ["0", "-1", None, [1, 2]])
def test_an_impossible_thickness_is_unknown(write, thickness):
    assert read_header(write(SliceThickness=thickness)).thickness is None


def test_an_impossible_instance_number_is_unknown(write):
    data = encode(dataset_of(InstanceNumber="70000000000"))
    assert read_header(write(data)).number is None


def test_header_needs_no_pixels(write):
    data = encode(dataset_of(InstanceNumber=3))
    path = write(data[: data.index(b"\xe0\x7f\x10\0")])
    assert read_header(path).number == 3


def small_files():
    plain = dataset_of(
        PatientName="A^B",
        InstanceNumber=3,
        ImagePositionPatient=[1, 2, 3],
        ImageOrientationPatient=AXIAL,
        RescaleSlope=1,
        RescaleIntercept=-4,
        PixelPaddingValue=-50,
    )
    deflated = dataset_of()
    deflated.file_meta.TransferSyntaxUID = DEFLATED
    datasets = [plain, dataset_of(syntax=IMPLICIT), dataset_of(COLOR, syntax=BIG_ENDIAN), deflated]
    datasets += [compressed(dataset_of(TILES), each) for each in (RUN_LENGTH, JPEG_2000_LOSSLESS)]
    return [*map(encode, datasets), enhanced([0, 1])]


damage = given(
    data=st.sampled_from(small_files()),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.one_of(st.none(), st.integers(130, 2000)),
)


def check_damaged_file(write, data, changes, length):
    data = bytearray(data)
    for at, value in changes:
        data[132 + at % (len(data) - 132)] = value
    path = write(bytes(data[:length]))
    for function in (read_header, lambda path: read_frame(path, 0)):
        try:
            function(path)
        except HemorrhageError as error:
            assert str(path) in str(error)


@damage
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_reads_or_refuses_damaged_files(write, data, changes, length):
    check_damaged_file(write, data, changes, length)


@pytest.mark.slow
@damage
@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_reads_or_refuses_many_damaged_files(write, data, changes, length):
    check_damaged_file(write, data, changes, length)


@pytest.mark.real_data
class TestRealSeries:
    @pytest.fixture
    def paths(self, shared):
        paths = sorted((shared / "ct" / "ge_series").glob("*.dcm"))
        if not paths:
            pytest.skip("no CT series next to the project")
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
