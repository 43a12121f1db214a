import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize, special

from hemorrhage_tf.inference.evidence import (
    CONTOURS,
    FULL_COLOR,
    FULL_OPACITY,
    HIGH_COLOR,
    LOW_COLOR,
    MAX_OPACITY,
    Decision,
    blend_evidence,
    color_evidence,
    locate_evidence,
    outline_evidence,
)


def expected_evidence(cam, excess):
    """The same by SciPy: a Gaussian filter, and a root of the mean as a function of the level."""
    deviations = [side / 32 for side in cam.shape]
    smooth = ndimage.gaussian_filter(
        cam.astype(np.float64), deviations, mode="reflect", truncate=12
    )
    if excess <= 0:
        return np.zeros(cam.shape)

    def surplus(level):
        return np.maximum(smooth - level, 0).mean() - excess

    level = optimize.brentq(surplus, smooth.min() - excess - 1, smooth.max() + 1, xtol=1e-10)
    return np.maximum(smooth - max(level, 0), 0)


class TestDecision:
    @pytest.mark.parametrize("probability", [0.02, 0.5, 0.97])
    def test_excess_is_the_difference_of_the_logits(self, probability):
        excess = Decision(probability, 0.7).excess
        assert excess == pytest.approx(special.logit(probability) - special.logit(0.7))

    def test_excess_of_certain_predictions_is_finite(self):
        assert Decision(1.0, 0.5).excess == pytest.approx(-Decision(0.0, 0.5).excess)
        assert 10 < Decision(1.0, 0.5).excess < 20
        assert Decision(1.0, 1.0).excess == Decision(0.0, 0.0).excess == 0


class TestLocateEvidence:
    @given(
        seed=st.integers(0, 1000),
        shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
        center=st.floats(-3, 5),
        threshold=st.floats(0.05, 0.95),
    )
    @settings(max_examples=60, deadline=None)
    def test_equals_a_gaussian_and_the_root_of_the_level(self, seed, shape, center, threshold):
        cam = np.random.default_rng(seed).normal(center, 8, shape).astype(np.float32)
        decision = Decision(float(special.expit(cam.mean(dtype=np.float64))), threshold)
        evidence = locate_evidence(cam, decision)
        assert evidence.dtype == np.float32
        np.testing.assert_allclose(evidence, expected_evidence(cam, decision.excess), atol=2e-3)

    def test_the_mean_of_the_evidence_is_the_excess(self):
        cam = np.random.default_rng(0).normal(1, 30, (24, 24))
        decision = Decision(float(special.expit(cam.mean())), 0.4)
        assert decision.excess > 0
        assert locate_evidence(cam, decision).mean() == pytest.approx(decision.excess, rel=1e-5)

    @pytest.mark.parametrize("probability", [0.0, 0.02, 0.4999, 0.5])
    def test_a_slice_below_the_threshold_has_none(self, probability):
        cam = np.zeros((8, 8), np.float32)
        cam[3, 3] = 900  # whatever the map holds
        assert not locate_evidence(cam, Decision(probability, 0.5)).any()

    def test_lies_at_the_spot_and_grows_with_the_excess(self):
        cam = np.full((24, 24), -2, np.float32)
        cam[10:13, 5:8] = 300
        previous = np.zeros(cam.shape)
        for probability in (0.6, 0.8, 0.99):
            evidence = locate_evidence(cam, Decision(probability, 0.5))
            assert (evidence >= previous).all() and evidence.sum() > previous.sum()
            assert np.unravel_index(evidence.argmax(), cam.shape) == (11, 6)
            assert not evidence[:, 14:].any()
            previous = evidence

    def test_a_location_that_speaks_against_never_counts(self):
        # A scan model may be surer than the slice alone.
        cam = np.tile(np.float32([-5, -4, -3, 1]), (4, 1))
        evidence = locate_evidence(cam, Decision(0.9999, 0.5))
        assert (evidence[:, 3] > 0.9).all() and not evidence[:, :3].any()

    def test_the_map_is_left_as_it_is(self):
        cam = np.random.default_rng(0).normal(0, 3, (8, 8)).astype(np.float32)
        before = cam.copy()
        locate_evidence(cam, Decision(0.9, 0.5))
        np.testing.assert_array_equal(cam, before)


class TestColors:
    def test_no_evidence_is_transparent_and_the_end_of_the_scale_has_the_last_color(self):
        colors, opacity = color_evidence(np.float32([0, FULL_OPACITY, FULL_COLOR, 500]))
        np.testing.assert_allclose(opacity, np.array([0, 1, 1, 1]) * MAX_OPACITY)
        np.testing.assert_array_equal(colors[[0, 2, 3]], [LOW_COLOR, HIGH_COLOR, HIGH_COLOR])

    def test_more_evidence_is_darker_so_that_gray_and_the_colorblind_tell_it(self):
        colors, _ = color_evidence(np.linspace(0, FULL_COLOR, 20, dtype=np.float32))
        luminance = colors @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(luminance) < 0).all()
        assert luminance[0] - luminance[-1] > 120

    def test_blending_leaves_pixels_without_evidence(self):
        image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
        evidence = np.zeros((6, 7), np.float32)
        evidence[2, 3] = 100
        blended = blend_evidence(image, evidence)
        expected = image[2, 3] * (1 - MAX_OPACITY) + np.array(HIGH_COLOR) * MAX_OPACITY
        np.testing.assert_allclose(blended[2, 3], expected, atol=0.51)
        blended[2, 3] = image[2, 3]
        np.testing.assert_array_equal(blended, image)


class TestOutline:
    @pytest.mark.parametrize("side, width", [(100, 1), (800, 2)])
    def test_lines_run_inside_along_the_levels(self, side, width):
        y, x = np.mgrid[:side, :side]
        radius = np.hypot(y - side / 2, x - side / 2) / side
        evidence = np.maximum(40 * (1 - radius / 0.4), 0).astype(np.float32)
        image = np.full((side, side, 3), 90, np.uint8)
        drawn = (outline_evidence(image, evidence) != 90).any(axis=-1)
        expected = np.zeros_like(drawn)
        for level in CONTOURS:
            inside = evidence >= level
            expected |= inside & ~ndimage.binary_erosion(inside, iterations=width)
        np.testing.assert_array_equal(drawn, expected)
        assert (image == 90).all()

    def test_no_line_along_the_edge_of_the_image(self):
        image = np.full((20, 20, 3), 90, np.uint8)
        assert (outline_evidence(image, np.full((20, 20), 50, np.float32)) == 90).all()
        assert (outline_evidence(image, np.zeros((20, 20), np.float32)) == 90).all()
