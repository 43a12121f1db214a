import numpy as np
import pytest
from PIL import Image, ImageDraw
from plain_phantoms import draw_phantom
from scipy import ndimage

from hemorrhage_tf.imaging.head_crop import find_head
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import read_slice

SIZE = 256
COLOR = "a color image, not a head CT"
NO_HEAD = "no head was found in it"
CHEST = "it has as much lung-like tissue as a chest, not a head"
NO_SKULL = "no skull was found in it"

y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2


def ellipse(down, right, height, width):
    return np.hypot((y - down) / height, (x - right) / width) < 1


def in_hu(*layers):
    """Paint each `(mask, HU)` over those before, in air."""
    hounsfield = np.full((SIZE, SIZE), -1000, np.float32)
    for mask, level in layers:
        hounsfield[mask] = level
    return hounsfield


def head(bone=900):
    return in_hu(
        (ellipse(0, 0, 100, 80), -60),
        (ellipse(0, 0, 95, 75), bone),
        (ellipse(0, 0, 87, 67), 35),
        (ellipse(-70, 0, 12, 15), -980),  # a frontal sinus
    )


def chest():
    body, wall = ellipse(0, 0, 85, 120), ellipse(0, 0, 75, 110)
    ribs = wall & ~ellipse(0, 0, 71, 106) & (np.floor(np.arctan2(y, x) * 6) % 2 == 0)
    lungs = ellipse(0, -55, 60, 40) | ellipse(0, 55, 60, 40)
    return in_hu((body, 40), (ribs, 500), (lungs, -800), (ellipse(62, 0, 14, 14), 400))


def photograph(seed=0):
    """Draw smooth patches of every color and of several sizes."""
    rng = np.random.default_rng(seed)
    channels = [
        ndimage.gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), each) * each for each in (9, 12, 15)
    ]
    return (128 + 100 * np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)


def gray_head():
    gray = np.kron(draw_phantom(0, 0, 0), np.ones((2, 2), np.uint8))
    return np.stack([gray] * 3, axis=-1)


class TestDisplayImages:
    @pytest.mark.parametrize("seed", range(4))
    def test_photograph_is_a_color_image(self, seed):
        assert check_input(photograph(seed)) == COLOR

    def test_photograph_without_its_colors_is_not_a_color_image(self):
        assert check_input(photograph()[..., 0]) != COLOR
        assert check_input(np.stack([photograph()[..., 0]] * 3, axis=-1)) != COLOR

    @pytest.mark.parametrize("index", range(6))
    def test_head_causes_no_warning(self, index):
        assert check_input(draw_phantom(0, index, index % 2)) is None

    @pytest.mark.parametrize(
        "tint",
        [
            lambda gray: gray * [1.0, 0.8, 0.5],
            lambda gray: gray * [0.6, 0.8, 1.0],
            lambda gray: gray * 0.8 + [0, 20, 50],
        ],
        ids=["sepia", "blue", "lifted"],
    )
    def test_a_tint_causes_no_warning(self, tint):
        assert check_input(tint(gray_head().astype(float)).clip(0, 255).astype(np.uint8)) is None

    def test_a_few_colored_marks_cause_no_warning(self):
        pixels = gray_head()
        pixels[:6, :24] = (255, 220, 0)
        pixels[120:123, 90:110] = (255, 0, 0)
        assert check_input(pixels) is None

    def test_compression_noise_causes_no_warning(self):
        noise = np.random.default_rng(0).normal(0, 5, (SIZE, SIZE, 3))
        assert check_input((gray_head() + noise).clip(0, 255).astype(np.uint8)) is None

    @pytest.mark.parametrize("seed", range(4))
    def test_gray_photograph_shows_no_skull(self, seed):
        assert check_input(photograph(seed)[..., 1]) in (NO_SKULL, NO_HEAD)

    @pytest.mark.parametrize("radius", [40, 80, 110, 126])
    @pytest.mark.parametrize("level", [120, 255])
    def test_disc_shows_no_skull(self, radius, level):
        disc = ellipse(0, 0, radius, radius).astype(np.uint8) * np.uint8(level)
        assert check_input(disc) == NO_SKULL
        assert check_input(np.pad(disc, 30, constant_values=level // 4)) == NO_SKULL

    @pytest.mark.parametrize(
        "ramp", [x + 128, y + 128, (x + y) / 2 + 128, np.abs(x) * 2, 255 - np.hypot(x, y)]
    )
    def test_gradient_shows_no_skull(self, ramp):
        assert check_input(ramp.clip(0, 255).astype(np.uint8)) in (NO_SKULL, NO_HEAD)

    @pytest.mark.parametrize("seed", range(3))
    def test_noise_shows_no_skull(self, seed):
        noise = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
        assert check_input(noise) in (NO_SKULL, NO_HEAD)

    @pytest.mark.parametrize("paper", [255, 200])
    def test_page_of_text_shows_no_skull(self, paper):
        page = Image.new("L", (300, 400), paper)
        for line in range(12, 380, 14):
            ImageDraw.Draw(page).text((15, line), "There is no hemorrhage in this scan. " * 2, 0)
        assert check_input(np.asarray(page)) in (NO_SKULL, NO_HEAD)

    def test_brain_without_a_skull(self):
        brain = ellipse(0, 0, 95, 75)
        pixels = np.zeros((SIZE, SIZE), np.uint8)
        pixels[brain] = np.random.default_rng(0).normal(100, 8, brain.sum()).astype(np.uint8)
        pixels[ellipse(10, -20, 20, 12)] = 190  # blood, the brightest part
        assert check_input(pixels) == NO_SKULL

    @pytest.mark.parametrize(
        "change",
        [
            lambda pixels: pixels[::-1],
            lambda pixels: pixels[20:-20, 30:-30],
            lambda pixels: np.pad(pixels, ((90, 0), (0, 200))),
            lambda pixels: pixels // 2 + 100,
            lambda pixels: (pixels * 0.8).astype(np.uint8),
        ],
        ids=["flipped", "cropped", "off the middle", "lifted", "darker"],
    )
    def test_changed_head_causes_no_warning(self, change):
        assert check_input(np.ascontiguousarray(change(gray_head()[..., 0]))) is None

    @pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64), (90, 70, 3), (1, 2, 3)])
    @pytest.mark.parametrize("level", [0, 200])
    def test_blank_image_shows_no_head(self, level, shape):
        assert check_input(np.full(shape, level, np.uint8)) == NO_HEAD


class TestHounsfieldUnits:
    def test_head_causes_no_warning(self):
        assert check_input(head()) is None

    def test_chest_has_lungs(self):
        assert check_input(chest()) == CHEST

    def test_brain_without_a_skull(self):
        assert check_input(head(bone=45)) == NO_SKULL

    def test_abdomen_has_too_little_bone(self):
        abdomen = in_hu((ellipse(0, 0, 85, 120), 50), (ellipse(55, 0, 14, 14), 500))
        assert check_input(abdomen) == NO_SKULL

    def test_couch_does_not_count_as_bone(self):
        hounsfield = head(bone=45)
        hounsfield[-20:-8] = 1500
        assert check_input(hounsfield) == NO_SKULL

    @pytest.mark.parametrize("shape", [(1, 1), (2, 500), (512, 512)])
    def test_air_shows_no_head(self, shape):
        assert check_input(np.full(shape, -1000, np.float32)) == NO_HEAD


@pytest.mark.parametrize("pixels", [head(), chest(), gray_head(), photograph()])
def test_uses_a_head_region_that_is_known(pixels):
    before = pixels.copy()
    assert check_input(pixels, find_head(pixels)) == check_input(pixels)
    nothing = find_head(np.zeros(pixels.shape[:2], np.uint8))
    assert check_input(pixels, nothing) in (NO_HEAD, COLOR)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.real_data
@pytest.mark.parametrize(("pattern", "count"), [("head_ct/head_ct/*.png", 200), ("ct/*/*.dcm", 28)])
def test_no_real_slice_causes_a_warning(shared, pattern, count):
    paths = sorted(shared.glob(pattern))
    assert len(paths) == count
    warnings = {path.name: check_input(read_slice(path)) for path in paths}
    assert {name: warning for name, warning in warnings.items() if warning} == {}
