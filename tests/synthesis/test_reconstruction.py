import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.reconstruction import Kernel, apply_kernel, draw_noise

SOFT = Kernel(blur=0.5, cutoff=1.0, boost=0.0, ramp=0.5, noise=4.0, starvation=0.8)
SHARP = Kernel(blur=0.25, cutoff=1.5, boost=0.5, ramp=0.8, noise=4.0, starvation=0.8)


def water(size: int, field: float = 240.0):
    """Return a head that is water everywhere, so that noise is the same everywhere."""
    head = drawn_head(size=64)
    head.canvas = Canvas(size, field, (0.0, 0.0), 0.0, np.random.default_rng(0))
    head.canvas.hounsfield = np.zeros((size, size), np.float32)
    return head


def power(noise: np.ndarray, pixel: float, low: float, high: float) -> float:
    """Return the mean noise power between two frequencies, in HU2 mm2."""
    spectrum = np.abs(np.fft.fft2(noise)) ** 2 * pixel**2 / noise.size
    axis = np.fft.fftfreq(len(noise), pixel)
    frequency = np.hypot(axis, axis[:, np.newaxis])
    return float(spectrum[(frequency >= low) & (frequency < high)].mean())


class TestKernel:
    def test_thin_slices_have_more_noise(self):
        def typical(thickness):
            kernels = [Kernel.draw(np.random.default_rng(seed), thickness) for seed in range(200)]
            return np.median([kernel.noise for kernel in kernels])

        thin, usual, thick = (typical(thickness) for thickness in (0.625, 5.0, 10.0))
        # The dose per slice is between the same and inversely proportional to the thickness.
        assert 1.8 < thin / usual < 2.8 and 1.2 < usual / thick < 1.42

    def test_most_kernels_are_soft_and_some_are_sharp(self):
        kernels = [Kernel.draw(np.random.default_rng(seed), 5.0) for seed in range(300)]
        assert 0.7 < np.mean([kernel.blur > 0.36 for kernel in kernels]) < 0.95
        assert 0.2 < np.mean([kernel.boost > 0.05 for kernel in kernels]) < 0.65
        sharp = [kernel.noise for kernel in kernels if kernel.blur < 0.3]
        assert np.median(sharp) > 1.5 * np.median([kernel.noise for kernel in kernels])

    @pytest.mark.parametrize("kernel", [SOFT, SHARP])
    def test_flat_areas_keep_their_value_and_nothing_passes_the_cutoff(self, kernel):
        gain = kernel.gain(np.array([0, kernel.cutoff, 3], np.float32))
        np.testing.assert_allclose(gain, [1, 0, 0], atol=1e-6)

    def test_a_sharp_kernel_enhances_edges(self):
        frequency = np.float32([0.3])
        assert SHARP.gain(frequency)[0] > 1 > SOFT.gain(frequency)[0]


class TestApplyKernel:
    def test_blurs_as_much_at_any_size(self):
        widths = []
        for size in (160, 320):
            canvas = Canvas(size, 80.0, (0, 0), 0.0, np.random.default_rng(0))
            canvas.hounsfield = np.where(canvas.x > 0, np.float32(100), np.float32(0))
            profile = apply_kernel(canvas, SOFT)[size // 2]
            inner = profile[size // 8 : -size // 8]
            np.testing.assert_allclose([inner[0], inner[-1]], [0, 100], atol=0.5)
            at = np.interp([16, 84], inner, np.arange(len(inner)) * canvas.pixel)
            widths.append(at[1] - at[0])
        # From 16 % to 84 % of an edge there are two standard deviations, more with the cutoff.
        assert widths[0] == pytest.approx(widths[1], rel=0.06)
        assert 1.0 < widths[0] < 1.5

    def test_opposite_borders_do_not_mix(self):
        canvas = Canvas(64, 64.0, (0, 0), 0.0, np.random.default_rng(0))
        canvas.hounsfield[:32] = 1000
        assert apply_kernel(canvas, SHARP)[-1] == pytest.approx(-1000, abs=1)


class TestDrawNoise:
    def test_noise_is_correlated_as_filtered_backprojection_makes_it(self):
        head = water(256, 128.0)
        noise = draw_noise(head, SOFT, np.random.default_rng(1))
        bands = [power(noise, 0.5, low, low + 0.1) for low in (0.0, 0.2, 0.4, 0.7)]
        # White noise would have the same power in all bands.
        assert bands[1] > bands[0] and bands[1] > 1.5 * bands[2] and bands[2] > 10 * bands[3]

    def test_the_power_does_not_depend_on_the_size(self):
        powers = [
            power(draw_noise(water(size), SOFT, np.random.default_rng(2)), 240 / size, 0.1, 0.4)
            for size in (240, 480)
        ]
        assert powers[0] == pytest.approx(powers[1], rel=0.1)

    def test_the_middle_of_an_average_head_has_the_kernel_s_noise(self):
        ratios = []
        for seed in range(4):
            head = drawn_head(level=0.55, size=384)
            noise = draw_noise(head, SOFT, np.random.default_rng(seed))
            middle, border = head.inside > 45, (head.inside > 0) & (head.inside < 8)
            assert noise[middle].std() == pytest.approx(SOFT.noise, rel=0.35)
            ratios.append(noise[border].std() / noise[middle].std())
        assert np.mean(ratios) < 0.95

    def test_rays_through_bone_are_noisier(self):
        head = water(128)
        head.canvas.hounsfield[56:72] = 1000
        noise = draw_noise(head, SOFT, np.random.default_rng(3))
        assert noise[56:72].std() > 1.5 * noise[:32].std()

    def test_shoulders_make_streaks_along_the_rows(self):
        head = drawn_head(level=0.5, size=128)
        head.front = head.back = -0.95
        noise = draw_noise(head, SOFT, np.random.default_rng(4))
        along, across = (np.diff(noise, axis=axis).std() for axis in (1, 0))
        assert across > 1.2 * along
