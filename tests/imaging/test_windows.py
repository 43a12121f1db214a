import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.imaging.windows import (
    DEFAULT_WINDOW,
    FUNCTIONS,
    WINDOWS,
    Window,
    apply_windows,
    parse_window,
    parse_windows,
    to_display_image,
)

# Every half HU that a CT of 12 bits can hold, and a little beyond.
SCALE = np.arange(-1100, 3200, 0.5, dtype=np.float32)

# With a few decimals, as files write them.
tenths = st.integers(-20_000, 30_000).map(lambda value: value / 10)
widths = st.integers(10, 60_000).map(lambda value: value / 10)
hounsfield = arrays(
    np.float32,
    array_shapes(max_dims=3, max_side=4),
    elements=st.floats(-1100, 3100, width=32),
)
finite = st.floats(allow_nan=False, allow_infinity=False)


def by_pydicom(pixels, center, width, function):
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored = 8
    dataset.PixelRepresentation = 0
    dataset.WindowCenter = center
    dataset.WindowWidth = width
    dataset.VOILUTFunction = function.upper()
    with np.errstate(over="ignore"):  # pydicom's exponential overflows far below narrow windows
        return apply_windowing(pixels.astype(np.float64), dataset)


class TestWindow:
    @pytest.mark.parametrize(
        ("window", "expected"),
        [
            # C.11.2.1.2: ((x - 39.5) / 79 + 0.5) * 255
            (Window(40, 80), {-1: 0, 0: 0, 39.5: 127.5, 40: 129.1139, 79: 255, 80: 255}),
            (Window(0, 3), {-2: 0, -1.5: 0, -1: 63.75, -0.5: 127.5, 0: 191.25, 0.5: 255, 1: 255}),
            # C.11.2.1.3.2: ((x - 40) / 80 + 0.5) * 255
            (Window(40, 80, "linear_exact"), {-1: 0, 0: 0, 20: 63.75, 40: 127.5, 80: 255, 81: 255}),
            (Window(0.5, 0.5, "linear_exact"), {0.25: 0, 0.5: 127.5, 0.625: 191.25, 0.75: 255}),
            # C.11.2.1.3.1: 255 / (1 + exp(-4 (x - 40) / 80))
            (Window(40, 80, "sigmoid"), {0: 30.3967, 20: 68.5798, 40: 127.5, 60: 186.4202}),
        ],
    )
    def test_follows_the_formulas_of_the_standard(self, window, expected):
        values = np.array(list(expected), np.float32)
        np.testing.assert_allclose(window.apply(values), list(expected.values()), atol=1e-3)

    @pytest.mark.parametrize("function", FUNCTIONS)
    @given(center=tenths, width=widths)
    @settings(max_examples=40, deadline=None)
    def test_agrees_with_pydicom(self, function, center, width):
        gray = Window(center, width, function).apply(SCALE)
        np.testing.assert_allclose(gray, by_pydicom(SCALE, center, width, function), atol=1e-3)

    @pytest.mark.parametrize("function", ["linear_exact", "sigmoid"])
    @given(center=tenths, width=st.integers(1, 99).map(lambda value: value / 100))
    @settings(max_examples=40, deadline=None)
    def test_agrees_with_pydicom_on_widths_below_1(self, function, center, width):
        near = np.linspace(center - 2, center + 2, 401, dtype=np.float32)
        gray = Window(center, width, function).apply(near)
        np.testing.assert_allclose(gray, by_pydicom(near, center, width, function), atol=1e-3)

    def test_linear_of_width_1_is_a_step(self):
        values = np.array([-5, 39, 39.5, 39.75, 40, 900], np.float32)
        np.testing.assert_array_equal(Window(40, 1).apply(values), [0, 0, 0, 255, 255, 255])

    @pytest.mark.parametrize("name", WINDOWS)
    def test_black_and_white_begin_at_the_ends_of_the_width(self, name):
        window = WINDOWS[name]
        low, high = window.center - window.width / 2, window.center + window.width / 2 - 1
        assert window.apply(np.array([low, high])).tolist() == [0, 255]
        inner = window.apply(np.array([low + 0.5, high - 0.5]))
        assert 0 < inner[0] < 255 / 40 and 255 - 255 / 40 < inner[1] < 255

    @pytest.mark.parametrize("function", FUNCTIONS)
    @given(pixels=hounsfield, center=tenths, width=widths)
    @settings(max_examples=40, deadline=None)
    def test_keeps_shape_range_and_input(self, function, pixels, center, width):
        before = pixels.copy()
        gray = Window(center, width, function).apply(pixels)
        assert gray.shape == pixels.shape
        assert gray.dtype == np.float32
        assert gray.min() >= 0 and gray.max() <= 255
        np.testing.assert_array_equal(pixels, before)

    @pytest.mark.parametrize("function", FUNCTIONS)
    @given(center=tenths, width=widths)
    @settings(max_examples=40, deadline=None)
    def test_denser_is_brighter(self, function, center, width):
        assert (np.diff(Window(center, width, function).apply(SCALE)) >= 0).all()

    @pytest.mark.parametrize("function", FUNCTIONS)
    @given(center=finite, width=finite)
    @settings(max_examples=40, deadline=None)
    def test_every_valid_window_maps_to_increasing_gray_levels(self, function, center, width):
        lowest = 1 if function == "linear" else math.nextafter(0, 1)
        window = Window(center, max(abs(width), lowest), function)
        values = np.array([-1024, -0.5, 0, 0.5, 1, 40, 3071], np.float32)
        gray = window.apply(values)
        assert (np.diff(gray) >= 0).all()
        assert gray.min() >= 0 and gray.max() <= 255

    @pytest.mark.parametrize("function", ["linear_exact", "sigmoid"])
    @pytest.mark.parametrize("width", [1e-30, 1e-50, 1e-320])
    def test_a_tiny_width_is_a_step(self, width, function):
        gray = Window(40, width, function).apply(np.array([39.5, 40, 40.5], np.float32))
        np.testing.assert_allclose(gray, [0, 127.5, 255], atol=1e-6)

    def test_accepts_integers(self):
        whole = np.array([[-1024, 0, 40], [79, 80, 3071]], np.int16)
        np.testing.assert_array_equal(
            Window(40, 80).apply(whole), Window(40, 80).apply(whole.astype(np.float32))
        )

    @pytest.mark.parametrize(
        ("center", "width", "function", "accepted"),
        [
            (40, 0.99, "linear", "at least 1"),
            (40, 0, "linear", "at least 1"),
            (40, -80, "linear", "at least 1"),
            (40, 0, "linear_exact", "above 0"),
            (40, -1, "sigmoid", "above 0"),
            (math.nan, 80, "linear", "at least 1"),
            (math.inf, 80, "sigmoid", "above 0"),
            (40, math.nan, "linear_exact", "above 0"),
            (40, math.inf, "linear", "at least 1"),
        ],
    )
    def test_unusable_values_are_in_the_error(self, center, width, function, accepted):
        with pytest.raises(OptionError) as caught:
            Window(center, width, function)
        message = str(caught.value)
        assert f"center {center}, width {width}" in message
        assert (
            f"both must be finite, and the width must be {accepted} (function {function})"
            in message
        )

    def test_only_the_exact_functions_take_widths_below_1(self):
        assert Window(40, 0.5, "linear_exact").width == 0.5
        assert Window(40, 0.5, "sigmoid").width == 0.5
        assert Window(40, 1).function == "linear"

    @pytest.mark.parametrize("function", ["LINEAR", "cubic", ""])
    def test_error_of_an_unknown_function_lists_the_known_ones(self, function):
        with pytest.raises(OptionError) as caught:
            Window(40, 80, function)
        message = str(caught.value)
        assert repr(function) in message
        assert all(known in message for known in ("linear", "linear_exact", "sigmoid"))


class TestNamedWindows:
    def test_are_the_usual_windows_of_head_ct(self):
        assert {name: (each.center, each.width) for name, each in WINDOWS.items()} == {
            "brain": (40, 80),
            "subdural": (80, 200),
            "bone": (600, 2800),
            "stroke": (40, 40),
        }

    @pytest.mark.parametrize("name", WINDOWS)
    def test_a_name_stands_for_its_window(self, name):
        assert parse_window(name) is WINDOWS[name]

    def test_default_is_the_brain(self):
        assert parse_windows(",".join(DEFAULT_WINDOW)) == ("brain",)


class TestParseWindow:
    @given(center=tenths, width=widths)
    def test_center_and_width(self, center, width):
        assert parse_window(f"{center}/{width}") == Window(center, width)

    @pytest.mark.parametrize(
        "name", ["", "lung", "40", "40/", "/80", "/", "a/b", "40/80/120", "brain/80", "40\\80"]
    )
    def test_error_of_another_name_lists_the_accepted_ones(self, name):
        with pytest.raises(OptionError) as caught:
            parse_window(name)
        message = str(caught.value)
        assert message.startswith(f"--window {name}: unknown. Pass brain (40/80), ")
        assert "bone (600/2800)" in message
        assert message.endswith("or CENTER/WIDTH in HU.")

    @pytest.mark.parametrize("name", ["40/0", "40/-80", "40/0.5", "nan/80", "40/inf", "1e999/80"])
    def test_numbers_that_are_not_a_window_are_in_the_error(self, name):
        with pytest.raises(OptionError, match="the width must be at least 1") as caught:
            parse_window(name)
        center, width = (float(number) for number in name.split("/"))
        assert f"center {center}, width {width}" in str(caught.value)


class TestParseWindows:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("brain", ("brain",)),
            ("BRAIN", ("brain",)),
            (" stroke ", ("stroke",)),
            ("40/80", ("40/80",)),
            ("-600/1500.5", ("-600/1500.5",)),
            ("brain,subdural,bone", ("brain", "subdural", "bone")),
            ("Brain, 80/200 ,bone", ("brain", "80/200", "bone")),
            ("brain,brain,brain", ("brain",) * 3),
        ],
    )
    def test_one_or_three(self, text, names):
        assert parse_windows(text) == names

    @pytest.mark.parametrize("names", [("brain",), ("brain", "80/200", "bone")])
    def test_sequences_are_returned_unchanged(self, names):
        assert parse_windows(names) == parse_windows(list(names)) == names

    @pytest.mark.parametrize(
        "text", ["brain,bone", "brain,", "brain,subdural,bone,stroke", (), ("brain", "bone")]
    )
    def test_refuses_other_counts(self, text):
        given_text = text if isinstance(text, str) else ",".join(text)
        with pytest.raises(OptionError) as caught:
            parse_windows(text)
        message = str(caught.value)
        assert message.startswith(f"--window {given_text}: ")
        assert message.endswith("windows. Pass one, or three for the three channels.")

    @pytest.mark.parametrize("text", ["brain,lung,bone", ("brain", "lung", "bone")])
    def test_error_names_the_unknown_one_of_three(self, text):
        with pytest.raises(OptionError, match=r"--window lung: unknown. Pass brain \(40/80\)"):
            parse_windows(text)

    @pytest.mark.parametrize("text", ["", ",,"])
    def test_refuses_empty_text(self, text):
        with pytest.raises(OptionError, match="--window : unknown. Pass brain"):
            parse_windows(text)


class TestApplyWindows:
    SLICE = np.random.default_rng(0).uniform(-1000, 2000, (5, 7)).astype(np.float32)

    def test_one_window_is_gray(self):
        gray = apply_windows(self.SLICE, ("subdural",))
        assert gray.dtype == np.float32
        np.testing.assert_array_equal(gray, Window(80, 200).apply(self.SLICE))

    def test_three_windows_are_channels(self):
        gray = apply_windows(self.SLICE, ("brain", "80/200", "bone"))
        assert gray.shape == (5, 7, 3)
        assert gray.dtype == np.float32
        for channel, window in enumerate((Window(40, 80), Window(80, 200), Window(600, 2800))):
            np.testing.assert_array_equal(gray[..., channel], window.apply(self.SLICE))


class TestToDisplayImage:
    def test_hounsfield_units_go_through_the_brain_window(self):
        hounsfield = np.array([[-1000, 0, 40, 79, 3000]], np.float32)
        image = to_display_image(hounsfield)
        assert image.dtype == np.uint8
        assert image.tolist() == [[0, 0, 129, 255, 255]]

    def test_display_images_are_unchanged(self):
        image = np.array([[0, 7, 255]], np.uint8)
        assert to_display_image(image) is image
