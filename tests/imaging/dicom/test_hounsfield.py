import numpy as np
import pytest
from dicom_files import (
    RAMP,
    dataset_of,
    encode,
    expected_hounsfield,
    item_of,
    reason_of_refusal,
)

from hemorrhage_tf.imaging.dicom.reading import read_frame


class TestRescale:
    def test_integers_are_exact(self, read):
        hounsfield = read(RescaleSlope=2, RescaleIntercept=-7)
        assert hounsfield.dtype == np.float32
        np.testing.assert_array_equal(hounsfield, RAMP.astype(int) * 2 - 7)

    def test_all_16_bit_values_are_exact(self, read):
        stored = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        expected = expected_hounsfield(stored.astype(np.int64) - 1024)
        hounsfield = read(stored, RescaleSlope=1, RescaleIntercept=-1024)
        np.testing.assert_array_equal(hounsfield, expected)

    def test_fractions_are_rounded_once(self, read):
        hounsfield = read(RescaleSlope="0.1", RescaleIntercept="-0.3")
        np.testing.assert_array_equal(hounsfield, (RAMP * 0.1 - 0.3).astype(np.float32))

    def test_without_rescale_tags_stored_values_are_hounsfield_units(self, read):
        np.testing.assert_array_equal(read(), RAMP)
        np.testing.assert_array_equal(read(Modality="OT"), RAMP)
        np.testing.assert_array_equal(read(RescaleSlope="", RescaleIntercept=None), RAMP)

    @pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
    def test_refuses_unusable_values(self, tag, write):
        data = encode(dataset_of(**{tag: "98765"}))
        for value in (b"hello", b"NaN  ", b"inf  ", b"1e400"):
            path = write(data.replace(b"98765", value))
            assert "not a usable number" in reason_of_refusal(read_frame, path)

    def test_refuses_slope_0(self, write):
        assert "Rescale Slope is 0" in reason_of_refusal(read_frame, write(RescaleSlope=0))

    def test_monochrome1_is_not_inverted(self, read):
        np.testing.assert_array_equal(read(PhotometricInterpretation="MONOCHROME1"), RAMP)


def test_values_are_looked_up_in_a_modality_lut(read):
    stored = np.arange(8, 20, dtype=np.uint16).reshape(3, 4)
    table = list(range(1000, 1010))
    item = item_of(LUTDescriptor=[10, 10, 16], ModalityLUTType="HU")
    item.add_new("LUTData", "US", table)
    hounsfield = read(stored, ModalityLUTSequence=[item])
    expected = np.array(table)[np.clip(stored.astype(int) - 10, 0, 9)]
    np.testing.assert_array_equal(hounsfield, expected)


class TestPadding:
    @pytest.mark.parametrize("value", [-900, 3000])
    def test_outside_the_range_of_the_pixels_is_air(self, value, read):
        stored = RAMP.copy()
        stored[0, :3] = value
        expected = np.where(stored == value, -1000, stored)
        np.testing.assert_array_equal(read(stored, PixelPaddingValue=value), expected)

    def test_within_the_range_of_the_pixels_is_ignored(self, read):
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

    def test_may_fill_the_slice(self, read):
        assert (read(np.full((4, 4), -2000, np.int16), PixelPaddingValue=-2000) == -1000).all()

    @pytest.mark.parametrize("value", [-1025, -1500, -2000, -3024])
    def test_undeclared_padding_is_air_too(self, value, read):
        stored = RAMP.copy()
        stored[0, :3] = value
        np.testing.assert_array_equal(read(stored), np.where(stored == value, -1000, stored))

    def test_the_lowest_measured_value_is_kept(self, read):
        assert (read(np.full((4, 4), -1024, np.int16)) == -1024).all()
