import numpy as np
import pydicom
import pytest
from dicom_files import COLOR, PACKAGED, reason_of_refusal

from hemorrhage_tf.imaging.dicom.reading import read_frame

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)


class TestGray:
    def test_8_bits_are_unchanged(self, read):
        pixels = read(GRAY, Modality="OT")
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, GRAY)

    def test_monochrome1_is_inverted(self, read):
        pixels = read(GRAY, Modality="OT", PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(pixels, 255 - GRAY)

    def test_fewer_bits_are_spread_over_the_gray_levels(self, read):
        pixels = read(GRAY % 16, Modality="OT", BitsStored=4)
        np.testing.assert_array_equal(pixels, GRAY % 16 * 17)

    def test_ct_and_rescaled_pixels_are_hounsfield_units(self, read):
        assert read(GRAY).dtype == np.float32
        assert read(GRAY, Modality="OT", RescaleSlope=1).dtype == np.float32


class TestColor:
    @pytest.mark.parametrize("planar", [0, 1])
    def test_rgb_by_pixel_and_by_plane(self, planar, read):
        stored = COLOR.transpose(2, 0, 1) if planar else COLOR
        pixels = read(COLOR, PixelData=stored.tobytes(), PlanarConfiguration=planar)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, COLOR)

    def test_16_bit_rgb_keeps_the_high_byte(self, read):
        np.testing.assert_array_equal(read(COLOR.astype(np.uint16) * 257), COLOR)


class TestPalette:
    @pytest.mark.parametrize("bits", [16, 8])
    def test_colors_are_looked_up(self, bits, read):
        tables = np.random.default_rng(1).integers(0, 256, (3, 256))
        tags = {}
        for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            values = (table * 257).astype(np.uint16) if bits == 16 else table.astype(np.uint8)
            tags[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
            tags[f"{color}PaletteColorLookupTableData"] = values.tobytes()
        pixels = read(GRAY, PhotometricInterpretation="PALETTE COLOR", **tags)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, tables.T[GRAY])

    def test_a_packaged_file_matches_pydicom(self, tmp_path):
        dataset = pydicom.dcmread(PACKAGED / "examples_palette.dcm")
        expected = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
        dataset.Modality = "OT"
        dataset.save_as(tmp_path / "ot.dcm")
        pixels = read_frame(tmp_path / "ot.dcm")
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected >> 8)

    def test_refuses_a_missing_palette(self, write):
        path = write(GRAY, PhotometricInterpretation="PALETTE COLOR")
        assert "palette is missing" in reason_of_refusal(read_frame, path)
