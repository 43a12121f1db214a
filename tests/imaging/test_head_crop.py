import ast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from scipy import ndimage

from hemorrhage_tf.imaging import head_crop as module
from hemorrhage_tf.imaging.head_crop import (
    cells_to_pixels,
    count_levels,
    crop_head,
    crop_to,
    edge_depths,
    find_head,
    gray_levels,
    tissue_level,
    uncrop,
)
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.imaging.windows import Window

SIZE = 256
CELL = SIZE // 64
AIR = -1000
CENTER, LENGTH, WIDTH = (118, 131), 85, 66

rows, columns = np.mgrid[:SIZE, :SIZE]


def head_in_hu(center=CENTER, length=LENGTH, width=WIDTH, size=SIZE):
    """Draw a head in HU with its wider back at the bottom; return it and the mask of its skull."""
    y, x = np.mgrid[:size, :size]
    v = (y - center[0]) / length
    u = (x - center[1]) / (width * (1 + 0.12 * v))
    radius = np.hypot(u, v)
    hounsfield = np.full((size, size), AIR, np.float32)
    hounsfield[radius < 1.05] = -60  # scalp
    hounsfield[radius < 1] = 900
    hounsfield[radius < 0.9] = 35
    for side in (-0.12, 0.12):
        hounsfield[np.hypot((u - side) / 0.07, (v + 0.05) / 0.25) < 1] = 5
    noise = np.random.default_rng(0).normal(0, 4, hounsfield.shape)
    return (hounsfield + noise).astype(np.float32), (radius < 1) & (radius >= 0.9)


def arc(center, radius, thickness, below):
    distance = np.hypot(rows - center[0], columns - center[1])
    return (abs(distance - radius) < thickness / 2) & (rows > below)


HEAD, SKULL = head_in_hu()
SOLID = HEAD > -300  # the head with its scalp
BOTTOM = int(np.nonzero(SOLID.any(axis=1))[0].max())
COUCH = arc((BOTTOM - 400 + 24, 131), 400, 6, 0) & ~SOLID
# Touches the back of the head.
HEADREST = arc((BOTTOM - 110 + 1, 131), 110, 3, 120) & ~SOLID


def letters():
    image = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(image)
    for place, text in (((3, 2), "R 12:30"), ((200, 2), "P 120"), ((3, 240), "40/80 HU")):
        draw.text(place, text, fill=255)
    return np.asarray(image) > 128


LETTERS = letters()


def display_image(hounsfield):
    return Window(40, 80).apply(hounsfield).round().astype(np.uint8)


def slice_in_hu():
    """Draw the head on its couch, in HU."""
    hounsfield = HEAD.copy()
    hounsfield[COUCH | HEADREST] = 150
    return hounsfield


def screenshot(background=0):
    """Show the same through the brain window, with letters in the corners."""
    pixels = np.maximum(display_image(slice_in_hu()), np.uint8(background))
    pixels[LETTERS] = 255
    return pixels


SLICES = {"hu": slice_in_hu(), "display": screenshot(), "gray background": screenshot(30)}
by_slice = pytest.mark.parametrize("pixels", SLICES.values(), ids=SLICES)


def preserved_pixels(pixels, head):
    """Return the mask of the pixels of a slice that its head crop preserves."""
    air = 0 if pixels.dtype == np.uint8 else AIR
    height, width = pixels.shape[:2]
    # In a frame so large that it holds the whole square.
    margin = head.side
    frame = np.full((height + 2 * margin, width + 2 * margin, *pixels.shape[2:]), air, pixels.dtype)
    top, left = head.top + margin, head.left + margin
    frame[top : top + head.side, left : left + head.side] = np.rot90(
        crop_to(pixels, head), -head.turns
    )
    inside = frame[margin : margin + height, margin : margin + width]
    changed = inside != pixels
    assert (inside[changed] == air).all(), "a pixel is neither unchanged nor air"
    inside[...] = air
    assert (frame == air).all(), "a pixel outside the slice is not air"
    return ~changed if pixels.ndim == 2 else ~changed.any(axis=-1)


def padded(pixels):
    """Place the whole slice in the middle of a square."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    around = [((side - n + 1) // 2, (side - n) // 2) for n in (height, width)]
    air = 0 if pixels.dtype == np.uint8 else AIR
    return np.pad(pixels, around + [(0, 0)] * (pixels.ndim - 2), constant_values=air)


def box_of(head):
    """Return top, left, bottom and right of the square."""
    return np.array([head.top, head.left, head.top + head.side, head.left + head.side])


def pasted(pixels, size, top, left, air):
    sheet = np.full((size, size), air, pixels.dtype)
    sheet[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return sheet


class TestHeadCrop:
    @by_slice
    def test_square_around_the_skull_with_a_margin(self, pixels):
        head = find_head(pixels)
        assert head.is_found
        assert crop_head(pixels).shape == (head.side, head.side)
        top, left, bottom, right = box_of(head)
        ys, xs = np.nonzero(SKULL)
        longer = ys.max() + 1 - ys.min()
        assert longer * 1.01 <= head.side <= longer * 1.1 + 2 * CELL
        # The head is in the middle.
        assert abs((top + bottom) - (ys.min() + ys.max() + 1)) <= 2 * CELL
        assert abs((left + right) - (xs.min() + xs.max() + 1)) <= 2 * CELL

    @by_slice
    def test_skull_and_brain_are_preserved(self, pixels):
        preserved = preserved_pixels(pixels, find_head(pixels))
        inside = ndimage.binary_fill_holes(SKULL)
        assert preserved[SKULL].mean() > 0.99
        assert preserved[inside & ~SKULL].all()

    @by_slice
    def test_couch_headrest_and_letters_are_removed(self, pixels):
        preserved = preserved_pixels(pixels, find_head(pixels)) & (gray_levels(pixels) > 0)
        far = ndimage.distance_transform_edt(~SOLID) > 3 * CELL
        assert not (preserved & far).any()
        assert not (preserved & (COUCH | LETTERS)).any()

    def test_in_hu_most_of_a_touching_headrest_is_removed(self):
        preserved = preserved_pixels(SLICES["hu"], find_head(SLICES["hu"]))
        assert preserved[HEADREST].mean() < 0.1

    @pytest.mark.parametrize("side", [-1, 1])
    def test_in_hu_a_shell_touched_by_an_ear_is_removed(self, side):
        shell = (abs(columns - (131 + side * 80)) < 2) & (rows > 60)
        ear = (abs(rows - 120) < 6) & (abs(columns - (131 + side * 72)) < 8) & ~SOLID & ~shell
        hounsfield = HEAD.copy()
        hounsfield[shell] = 200
        hounsfield[ear] = 30
        preserved = preserved_pixels(hounsfield, find_head(hounsfield))
        assert preserved[shell].mean() < 0.1
        assert preserved[SKULL].mean() > 0.99

    def test_a_display_image_is_cropped_like_its_hounsfield_units(self):
        hounsfield, pixels = SLICES["hu"], SLICES["display"]
        difference = box_of(find_head(hounsfield)) - box_of(find_head(pixels))
        assert abs(difference).max() <= 1.5 * CELL

    @pytest.mark.parametrize("background", [10, 30, 50, 80])
    def test_gray_background_changes_little(self, background):
        plain, gray = (find_head(screenshot(level)) for level in (0, background))
        assert gray.is_found
        assert abs(box_of(plain) - box_of(gray)).max() <= 2

    @by_slice
    def test_cropping_again_changes_little(self, pixels):
        once = crop_head(pixels)
        head = find_head(once)
        assert head.is_found
        assert abs(box_of(head) - [0, 0, len(once), len(once)]).max() <= CELL
        # A few pixels at the edge may be lost, and a rim of background.
        lost = ~preserved_pixels(once, head) & (gray_levels(once) > 30)
        assert lost.mean() < 0.01

    def test_color_is_cropped_like_its_brightest_channel(self):
        gray = SLICES["display"]
        tinted = np.stack([gray // 2, gray, gray // 4 * 3], axis=-1)
        made = crop_head(tinted)
        assert made.shape == (*crop_head(gray).shape, 3)
        np.testing.assert_array_equal(made[..., 1], crop_head(gray))
        np.testing.assert_array_equal(made[..., 0], crop_head(gray) // 2)

    @by_slice
    def test_head_at_the_border_is_centered_in_air(self, pixels):
        part = pixels[60:, 90:]
        head = find_head(part)
        assert head.is_found
        assert head.top < 0 and head.left < 0
        made = crop_head(part)
        assert made.shape == (head.side, head.side)
        assert (made[: -head.top] == (0 if part.dtype == np.uint8 else AIR)).all()
        assert preserved_pixels(part, head)[SKULL[60:, 90:]].mean() > 0.98

    @by_slice
    def test_input_is_not_changed_and_dtype_is_kept(self, pixels):
        before = pixels.copy()
        made = crop_head(pixels, upright=True)
        made += 1
        np.testing.assert_array_equal(pixels, before)
        assert made.dtype == pixels.dtype

    def test_small_head_near_the_vertex_is_found(self):
        hounsfield, _ = head_in_hu(length=26, width=24)
        for pixels in (hounsfield, display_image(hounsfield)):
            head = find_head(pixels)
            assert head.is_found
            assert abs(head.side - 2 * 26) <= 2 * CELL


class TestEquivariance:
    @pytest.mark.parametrize("kind", ["hu", "display"])
    @given(down=st.integers(-6, 11), right=st.integers(-11, 11))
    @settings(max_examples=15, deadline=None)
    def test_moving_by_whole_cells_keeps_the_crop(self, kind, down, right):
        pixels = HEAD if kind == "hu" else display_image(HEAD)
        moved = np.roll(pixels, (down * CELL, right * CELL), axis=(0, 1))
        np.testing.assert_array_equal(crop_head(moved), crop_head(pixels))
        shift = np.array([down, right, down, right]) * CELL
        np.testing.assert_array_equal(box_of(find_head(moved)) - box_of(find_head(pixels)), shift)

    @by_slice
    @given(down=st.integers(-25, 1), right=st.integers(-30, 30))
    @settings(max_examples=15, deadline=None)
    def test_moving_by_pixels_moves_the_square(self, pixels, down, right):
        moved = np.roll(pixels, (down, right), axis=(0, 1))
        shift = np.array([down, right, down, right])
        difference = box_of(find_head(moved)) - box_of(find_head(pixels)) - shift
        assert abs(difference).max() <= 2 * CELL

    @by_slice
    @pytest.mark.parametrize("times", [2, 3])
    def test_scaling_up_scales_the_square(self, pixels, times):
        large = find_head(np.kron(pixels, np.ones((times, times), pixels.dtype)))
        assert large.cell == times * CELL
        # The margin is rounded to whole pixels.
        assert abs(box_of(large) - times * box_of(find_head(pixels))).max() <= 2 * times

    @pytest.mark.parametrize("size", [64, 100, 181, 300, 400])
    def test_resizing_resizes_the_square(self, size):
        pixels = SLICES["display"]
        resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX)
        box = box_of(find_head(np.asarray(resized))) * SIZE / size
        assert abs(box - box_of(find_head(pixels))).max() <= 2 * CELL * max(1, SIZE / size)

    @pytest.mark.parametrize("name", ["hu", "display"])
    @pytest.mark.parametrize(("size", "top", "left"), [(260, 1, 3), (300, 44, 0), (400, 70, 100)])
    def test_padding_with_air_keeps_the_head(self, name, size, top, left):
        pixels = SLICES[name]
        air = 0 if name == "display" else AIR
        head = find_head(pasted(pixels, size, top, left, air))
        difference = box_of(head) - box_of(find_head(pixels)) - [top, left, top, left]
        assert abs(difference).max() <= 2 * head.cell


class TestUpright:
    @by_slice
    @pytest.mark.parametrize("turned", [1, 3])
    def test_sideways_head_is_turned_back(self, pixels, turned):
        sideways = np.rot90(pixels, turned)
        head = find_head(sideways, upright=True)
        assert head.turns == 4 - turned
        made, expected = crop_head(sideways, upright=True), crop_head(pixels)
        assert abs(len(made) - len(expected)) <= CELL
        # Skull and brain keep their place, up to a cell of the grid.
        bright = [ndimage.center_of_mass(gray_levels(each) == 255) for each in (made, expected)]
        np.testing.assert_allclose(*bright, atol=1.5 * CELL)
        side = min(len(made), len(expected))
        both = gray_levels(made)[:side, :side], gray_levels(expected)[:side, :side]
        assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] > 0.6

    @by_slice
    @pytest.mark.parametrize("turned", [1, 3])
    def test_sideways_head_is_not_turned_by_default(self, pixels, turned):
        sideways = np.rot90(pixels, turned)
        head = find_head(sideways)
        assert head.turns == 0
        ys, xs = np.nonzero(gray_levels(crop_head(sideways)) > 200)
        assert np.ptp(xs) > 1.15 * np.ptp(ys)

    @by_slice
    @pytest.mark.parametrize("turned", [0, 2])
    def test_standing_head_is_not_turned(self, pixels, turned):
        standing = np.rot90(pixels, turned)
        assert find_head(standing, upright=True).turns == 0
        np.testing.assert_array_equal(crop_head(standing, upright=True), crop_head(standing))

    def test_head_as_wide_as_long_is_not_turned(self):
        hounsfield, _ = head_in_hu(length=75, width=75)
        assert find_head(hounsfield, upright=True).turns == 0
        assert find_head(np.rot90(hounsfield), upright=True).turns == 0

    def test_turning_rotates_the_crop(self):
        sideways = np.rot90(SLICES["display"])
        np.testing.assert_array_equal(
            crop_head(sideways, upright=True), np.rot90(crop_head(sideways), 3)
        )


def noise(shape, low, high):
    return np.random.default_rng(0).integers(low, high, shape, np.uint8)


def stripes(shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[::8] = 255
    return pixels


SHAPES = [(1, 1), (1, 500), (500, 1), (3, 7), (64, 64), (65, 40), (512, 300), (257, 511)]


class TestNoHead:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize(
        "make",
        [
            lambda shape: np.zeros(shape, np.uint8),
            lambda shape: np.full(shape, 255, np.uint8),
            lambda shape: np.full((*shape, 3), 77, np.uint8),
            lambda shape: stripes(shape),
            lambda shape: np.full(shape, AIR, np.float32),
            lambda shape: np.full(shape, -301, np.float32),
            lambda shape: np.random.default_rng(0).normal(AIR, 50, shape).astype(np.float32),
        ],
        ids=["black", "white", "gray rgb", "stripes", "air", "lung", "noisy air"],
    )
    def test_crop_is_the_whole_slice_in_a_square(self, make, shape):
        pixels = make(shape)
        head = find_head(pixels, upright=True)
        assert not head.is_found
        assert head.turns == 0
        made = crop_head(pixels, upright=True)
        assert made.dtype == pixels.dtype
        np.testing.assert_array_equal(made, padded(pixels))

    def test_letters_are_not_a_head(self):
        pixels = np.where(LETTERS, 255, 0).astype(np.uint8)
        np.testing.assert_array_equal(crop_head(pixels), pixels)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_couch_is_not_a_head(self, dtype):
        empty = np.full((SIZE, SIZE), AIR, np.float32)
        empty[COUCH | HEADREST] = 150
        pixels = empty if dtype == np.float32 else display_image(empty)
        np.testing.assert_array_equal(crop_head(pixels), pixels)

    @pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape) >= 64])
    @pytest.mark.parametrize(
        "make",
        [
            lambda shape: noise(shape, 0, 256),
            lambda shape: noise(shape, 100, 120),
            lambda shape: noise((*shape, 3), 0, 256),
            lambda shape: np.where(np.arange(shape[1]) < 3, 0, noise(shape, 190, 200)),
            lambda shape: np.full(shape, 40, np.float32),
            lambda shape: np.full(shape, 3000, np.float32),
            lambda shape: noise(shape, 0, 80).astype(np.float32),
        ],
        ids=["noise", "faint noise", "color noise", "bright", "brain", "bone", "noisy brain"],
    )
    def test_a_slice_full_of_tissue_is_preserved(self, make, shape):
        pixels = make(shape)
        pixels = pixels if pixels.dtype == np.float32 else pixels.astype(np.uint8)
        made = crop_head(pixels, upright=True)
        assert made.shape[0] == made.shape[1] <= max(shape) * 1.07
        head = find_head(pixels, upright=True)
        assert preserved_pixels(pixels, head).mean() > 0.98


class TestAnySlice:
    @given(
        pixels=st.one_of(
            arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)),
            arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 2, st.just(3))),
            arrays(
                np.float32,
                array_shapes(min_dims=2, max_dims=2, max_side=20),
                elements=st.floats(-32768, 32767, width=32),
            ),
        ),
        upright=st.booleans(),
    )
    @settings(max_examples=40, deadline=None)
    def test_crop_is_a_square_of_slice_and_air(self, pixels, upright):
        self.check(pixels, upright)

    @given(
        height=st.integers(1, 300),
        width=st.integers(1, 300),
        seed=st.integers(0, 2**32 - 1),
        smooth=st.sampled_from([0, 1, 4, 12]),
        is_display_image=st.booleans(),
        upright=st.booleans(),
    )
    @settings(max_examples=40, deadline=None)
    def test_crop_of_random_blobs(self, height, width, seed, smooth, is_display_image, upright):
        blobs = np.random.default_rng(seed).normal(0, 1, (height, width))
        blobs = ndimage.gaussian_filter(blobs, smooth, mode="wrap")
        blobs = (blobs / max(np.std(blobs), 1e-6)).clip(-3, 3)
        pixels = (128 + 42 * blobs).astype(np.uint8) if is_display_image else 400 * blobs - 300
        self.check(pixels if is_display_image else pixels.astype(np.float32), upright)

    def check(self, pixels, upright):
        before = pixels.copy()
        made = crop_head(pixels, upright)
        np.testing.assert_array_equal(pixels, before)
        head = find_head(pixels, upright)
        assert made.dtype == pixels.dtype
        assert made.shape == (head.side, head.side, *pixels.shape[2:])
        preserved = preserved_pixels(pixels, head)
        if not head.is_found:
            np.testing.assert_array_equal(made, padded(pixels))
        assert head.turns in ((0, 1, 3) if upright else (0,))
        assert preserved.any() or (pixels == (0 if pixels.dtype == np.uint8 else AIR)).any()


class TestGrayLevels:
    def test_hounsfield_units_through_the_brain_window(self):
        hounsfield = np.array([[-1000, -1, 0, 20], [40, 80, 81, 3000]], np.float32)
        gray = gray_levels(hounsfield)
        assert gray.dtype == np.uint8
        assert gray.tolist() == [[0, 0, 0, 63], [127, 255, 255, 255]]

    def test_gray_is_unchanged_and_color_becomes_its_brightest_channel(self):
        rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
        np.testing.assert_array_equal(gray_levels(rgb[..., 0]), rgb[..., 0])
        np.testing.assert_array_equal(gray_levels(rgb), np.sort(rgb, axis=-1)[..., -1])


class TestTissueLevel:
    @settings(max_examples=40)
    @given(gray=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=15)))
    def test_is_five_sixteenths_of_the_range_above_dark(self, gray):
        ordered = [int(level) for level in np.sort(gray.ravel())]
        # The levels that 5 % and 98 % of the pixels do not surpass.
        dark, bright = (ordered[-(-per * len(ordered) // 100) - 1] for per in (5, 98))
        assert tissue_level(count_levels(gray)) == dark + 5 * (bright - dark) // 16

    def test_is_between_background_and_brain(self):
        assert 30 < tissue_level(count_levels(SLICES["gray background"])) < 112
        assert 0 < tissue_level(count_levels(SLICES["display"])) < 112


class TestCells:
    @settings(max_examples=40)
    @given(cells=arrays(bool, array_shapes(min_dims=2, max_dims=2)), cell=st.integers(1, 4))
    def test_each_cell_is_a_square_of_pixels(self, cells, cell):
        shape = cells.shape[0] * cell - cell // 2, cells.shape[1] * cell - cell + 1
        spread = cells_to_pixels(cells, cell, shape)
        assert spread.shape == shape
        for (row, column), flag in np.ndenumerate(spread):
            assert flag == cells[row // cell, column // cell]

    def test_depth_is_the_distance_to_the_edge(self):
        cells = np.zeros((9, 8), bool)
        cells[1:8, 1:7] = True
        cells[0, 0] = True
        padded_cells = np.pad(cells, 1)
        expected = ndimage.distance_transform_cdt(padded_cells, "chessboard")[1:-1, 1:-1]
        np.testing.assert_array_equal(edge_depths(cells), expected)
        assert not edge_depths(np.zeros((3, 4), bool)).any()


def test_the_file_imports_only_numpy_and_the_standard_library():
    # The edge example runs this file on devices without TensorFlow and without the package.
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "importlib")
    assert imported == {"__future__", "dataclasses", "functools", "numpy"}


class TestUncrop:
    @pytest.mark.parametrize("turned", [0, 1])
    def test_places_a_map_where_the_head_is(self, turned):
        pixels = np.rot90(SLICES["hu"], turned)
        head = find_head(pixels, upright=True)
        placed = uncrop(crop_to(pixels, head), head, pixels.shape)
        assert placed.shape == pixels.shape
        top, left, bottom, right = box_of(head)
        inside = np.zeros(pixels.shape, bool)
        inside[max(top, 0) : bottom, max(left, 0) : right] = True
        assert (placed[~inside] == 0).all()
        same = placed == pixels
        assert (placed[inside & ~same] == AIR).all() and same[pixels > 300].mean() > 0.9


@pytest.mark.real_data
class TestRealSlices:
    def test_every_display_image_has_a_head(self, shared):
        paths = sorted((shared / "head_ct" / "head_ct").glob("*.png"))
        assert len(paths) == 200
        for path in paths:
            pixels = read_slice(path)
            head = find_head(pixels)
            assert head.is_found, path.name
            preserved = preserved_pixels(pixels, head)
            # Most of skull and brain is preserved.
            bright = gray_levels(pixels) > 60
            assert (preserved & bright).sum() > 0.8 * bright.sum(), path.name

    def test_every_slice_of_a_series_loses_its_holder_and_keeps_its_skull(self, shared):
        paths = sorted((shared / "ct" / "ge_series").glob("*.dcm"))
        assert len(paths) == 28
        for path in paths:
            hounsfield = read_slice(path)
            head = find_head(hounsfield)
            assert head.is_found, path.name
            dense = hounsfield > -300
            preserved = preserved_pixels(hounsfield, head) & dense
            anatomy = largest_body(dense)
            holder = dense & ~anatomy
            assert (preserved & holder).sum() < 0.01 * preserved.sum(), path.name
            assert (preserved & holder).sum() < 0.2 * holder.sum(), path.name
            skull = anatomy & (hounsfield > 300)
            assert (preserved & skull).sum() > 0.97 * skull.sum(), path.name


def largest_body(dense, radius=6):
    """Return the largest part of a slice after an opening with a square."""
    size = 2 * radius + 1
    inner = ndimage.minimum_filter(ndimage.binary_fill_holes(dense), size)
    parts, _ = ndimage.label(inner)
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return ndimage.maximum_filter(largest, size) & dense


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (512, 512), (701, 403), (300, 300, 3)])
def test_counts_each_gray_level(shape):
    gray = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    expected = [np.count_nonzero(gray == level) for level in range(256)]
    assert count_levels(gray).tolist() == expected
    assert count_levels(gray[::2]).sum() == gray[::2].size


def test_the_region_has_the_gray_levels_of_the_slice():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70)).astype(np.uint8)
    assert find_head(pixels).levels.tolist() == np.bincount(pixels.ravel(), minlength=256).tolist()
