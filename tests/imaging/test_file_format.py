from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from plain_phantoms import draw_phantom

from hemorrhage_tf.imaging.file_format import FileFormat, jpeg_quality
from hemorrhage_tf.imaging.readers import read_slice_and_format
from hemorrhage_tf.synthesis.phantom_sets import PhantomSet, write_phantoms

HEAD = draw_phantom(0, 0, 0)


class TestJpegQuality:
    @pytest.mark.parametrize("quality", [5, 20, 49, 50, 51, 75, 90, 95, 99, 100])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_of_images_that_pillow_saved(self, tmp_path, quality, mode):
        path = tmp_path / "a.jpg"
        Image.fromarray(HEAD).convert(mode).save(path, quality=quality)
        assert read_slice_and_format(path)[1].jpeg_quality == quality

    def test_of_every_table(self, tmp_path):
        qualities = []
        for quality in range(2, 101):
            Image.fromarray(HEAD).save(tmp_path / "a.jpg", quality=quality)
            with Image.open(tmp_path / "a.jpg") as image:
                qualities.append(jpeg_quality(image.quantization[0]))
        assert qualities == list(range(2, 101))

    @pytest.mark.parametrize(("step", "quality"), [(1, 100), (255, 1)])
    def test_of_another_table_is_the_nearest(self, step, quality):
        assert jpeg_quality([step] * 64) == quality


class TestDisplayImage:
    @pytest.mark.parametrize(
        ("mode", "bits"), [("L", 8), ("1", 1), ("P", 8), ("RGB", 8), ("RGBA", 8), ("I;16", 16)]
    )
    def test_mode_and_bits_of_png(self, tmp_path, mode, bits):
        path = tmp_path / "a.png"
        image = Image.fromarray(HEAD)
        if mode == "I;16":
            image = Image.fromarray(HEAD.astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        image.save(path)
        saved = read_slice_and_format(path)[1]
        assert (saved.file_format, saved.mode, saved.bits) == ("PNG", mode, bits)
        assert saved.jpeg_quality is None

    def test_bits_of_a_png_with_less_than_8(self, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(HEAD // 64).convert("P").save(path, bits=4)
        assert read_slice_and_format(path)[1].bits == 4

    def test_metadata_has_kinds_but_no_texts(self, tmp_path):
        exif = Image.Exif()
        exif[0x010E] = "Jane Doe"
        text = PngInfo()
        text.add_text("Doe^Jane", "1970-01-01")
        path = tmp_path / "a.png"
        Image.fromarray(HEAD).save(path, exif=exif, dpi=(72, 72), pnginfo=text)
        saved = read_slice_and_format(path)[1]
        assert saved.metadata == {"EXIF", "resolution", "text"}

    def test_pixels_and_format_are_read_together(self, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(HEAD).save(path)
        pixels, saved = read_slice_and_format(path)
        np.testing.assert_array_equal(pixels, HEAD)
        assert saved == FileFormat("L", "PNG", 8)


@pytest.mark.parametrize(("form", "name"), [("dicom", "DICOM"), ("nifti", "NIfTI")])
def test_format_of_slices_in_hounsfield_units(tmp_path, form, name):
    folder = write_phantoms(tmp_path / "set", PhantomSet(1, form=form, size=64))
    pixels, saved = read_slice_and_format(next((folder / "slices").iterdir()))
    assert pixels.dtype == np.float32
    assert saved == FileFormat("HU", name, 16)
