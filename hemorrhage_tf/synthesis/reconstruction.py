"""The reconstruction of a slice: its kernel, and the noise that belongs to kernel and thickness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.head import PhantomHead, interpolate

_SPREAD = 14.0  # mm over which rays of nearby angles mix
_STEPS = 1000.0  # frequencies per cycle and pixel for which gains are computed
_WATER = 0.0195  # attenuation at the mean energy of a head scan, in 1 / mm
_TYPICAL_ATTENUATION = 3.6  # through an average head
_REFERENCE_THICKNESS = 5.0  # mm
# Standard deviation of the noise of a soft kernel at this thickness, in HU, and the most of it.
_NOISE = 1.3, 4.6
_MOST_NOISE = 28.0  # HU
# The variance is inversely proportional to the thickness at the same dose. A higher dose of
# thinner slices makes up for a part of it.
_THICKNESS_EXPONENTS = 0.3, 0.48  # of the standard deviation
_MARGIN = 8  # pixels beside the canvas


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel and the noise of the slices reconstructed with it.

    Attributes:
        blur: Standard deviation of the Gaussian part of its point spread, in mm.
        cutoff: Frequency beyond which nothing passes, in cycles / mm.
        boost: Gain of the edges over flat areas, 0 for a soft kernel.
        ramp: Exponent of the noise power's rise with the frequency: 1 for filtered backprojection,
            less where a scanner smooths.
        noise: Standard deviation of the noise in the middle of an average head, in HU.
        starvation: How much the noise depends on what the rays pass: 1 at constant tube current.

    Reference:
        Riederer, Pelc, Chesler: The noise power spectrum in computed X-ray tomography. Physics in
        Medicine and Biology 23(3), 1978.
    """

    blur: float
    cutoff: float
    boost: float
    ramp: float
    noise: float
    starvation: float

    @classmethod
    def draw(cls, rng: np.random.Generator, thickness: float) -> Kernel:
        """Draw a kernel: mostly soft ones, as for brain, and some sharp ones.

        Args:
            rng: Random generator.
            thickness: Slice thickness, in mm.
        """
        kind, fine = rng.random(), rng.random()
        blur = interpolate(kind, (0, 0.06, 0.2, 0.9, 1), (0.2, 0.28, 0.36, 0.55, 0.8))
        boost = fine * interpolate(kind, (0, 0.2, 0.5, 0.6), (0.6, 0.35, 0.2, 0.0))
        noise = np.exp(rng.uniform(*np.log(_NOISE))) * (0.5 / blur) ** 1.1
        noise *= (_REFERENCE_THICKNESS / thickness) ** rng.uniform(*_THICKNESS_EXPONENTS)
        return cls(
            blur=blur,
            cutoff=float(rng.uniform(0.75, 1.15) * max(1.0, 0.4 / blur)),
            boost=boost,
            ramp=float(rng.uniform(0.2, 0.9)),
            noise=float(min(noise, _MOST_NOISE)),
            starvation=float(rng.uniform(0.5, 1.0)),
        )

    def gain(self, frequency: np.ndarray) -> np.ndarray:
        """Return the modulation transfer function.

        Args:
            frequency: float32, in cycles / mm.

        Returns:
            float32 of the same shape, 1 at frequency 0.
        """
        gain = np.exp(np.float32(-2 * np.pi**2 * self.blur**2) * frequency * frequency)
        gain *= np.cos(np.minimum(frequency / np.float32(self.cutoff), 1) * np.float32(np.pi / 2))
        if self.boost:
            middle = 0.6 * np.minimum(self.cutoff, 0.25 / self.blur)
            rise = frequency / np.float32(middle)
            gain *= 1 + np.float32(self.boost) * rise * rise * np.exp(1 - rise * rise)
        return gain

    def noise_gain(self, frequency: np.ndarray) -> np.ndarray:
        """Return the square root of the noise power, in HU mm, at frequencies in cycles / mm."""

        def shape(values: np.ndarray) -> np.ndarray:
            return self.gain(values) * np.maximum(values, 0.02) ** np.float32(self.ramp / 2)

        radial = np.arange(0.005, 2.5, 0.01, dtype=np.float32)
        variance = 2 * np.pi * 0.01 * float((radial * shape(radial) ** 2).sum())
        return shape(frequency) * np.float32(self.noise / np.sqrt(variance))


def apply_kernel(canvas: Canvas, kernel: Kernel) -> np.ndarray:
    """Return the canvas as a kernel shows it: float32 `(size, size)`, in HU."""
    padded = np.pad(canvas.hounsfield, _MARGIN, mode="edge")
    spectrum = fft.rfft2(padded)
    waves = _waves(len(padded))
    spectrum *= kernel.gain(waves.frequencies / np.float32(canvas.pixel))[waves.bins]
    shown: np.ndarray = fft.irfft2(spectrum, padded.shape)
    return shown[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def draw_noise(head: PhantomHead, kernel: Kernel, rng: np.random.Generator) -> np.ndarray:
    """Draw the noise of a slice.

    Noise comes from the rays that pass a pixel. Rays through more tissue and bone have more of
    it, which makes streaks along them.

    Args:
        head: The head with everything in it.
        kernel: The kernel.
        rng: Random generator of the noise.

    Returns:
        float32 `(size, size)`, in HU.
    """
    canvas = head.canvas
    waves = _waves(canvas.size)
    white = fft.rfft2(rng.standard_normal((canvas.size, canvas.size), np.float32))
    gain = kernel.noise_gain(waves.frequencies / np.float32(canvas.pixel))
    white *= (gain * np.float32(1 / canvas.pixel))[waves.bins]
    white[0, 0] = 0  # noise does not change the mean
    noise = np.zeros((canvas.size, canvas.size), np.float32)
    # Rays along the columns are the noise whose waves run along the rows.
    for share, strength in zip(
        (waves.along_rows, waves.along_columns), _ray_noise(head, kernel), strict=True
    ):
        part: np.ndarray = fft.irfft2(white * share, noise.shape)
        part *= strength
        noise += part
    return noise


@dataclass(frozen=True, slots=True)
class _Waves:
    """The coefficients of a real Fourier transform of a square.

    Attributes:
        frequencies: float32, frequencies for which gains are computed, in cycles per pixel.
        bins: int64 `(size, size // 2 + 1)`, which of them is that of each coefficient.
        along_rows: float32 of the same shape, share of the amplitude that runs along the rows.
        along_columns: The rest; the sum of both squares is 1.
    """

    frequencies: np.ndarray
    bins: np.ndarray
    along_rows: np.ndarray
    along_columns: np.ndarray


@lru_cache(maxsize=4)
def _waves(size: int) -> _Waves:
    down = (fft.fftfreq(size) ** 2)[:, np.newaxis]
    across = fft.rfftfreq(size) ** 2
    bins = np.rint(np.sqrt(down + across) * _STEPS).astype(np.int64)
    share = across**2 / np.maximum(across**2 + down**2, 1e-12)
    return _Waves(
        (np.arange(bins.max() + 1) / _STEPS).astype(np.float32),
        bins,
        np.sqrt(share).astype(np.float32),
        np.sqrt(1 - share).astype(np.float32),
    )


def _ray_noise(head: PhantomHead, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative noise of the rays along the columns and along the rows.

    Returns:
        float32 `(1, size)` and `(size, 1)`.
    """
    canvas = head.canvas
    density = np.maximum(canvas.hounsfield * np.float32(0.001) + np.float32(1), 0)
    # Shoulders lie outside the field of view, and rays along the rows pass both.
    shoulders = np.clip((-0.55 - head.level) / 0.4, 0, 1) * 2.5
    width = max(1, round(_SPREAD / canvas.pixel / 2)) * 2 + 1
    results = []
    for axis, extra in ((0, 0.0), (1, shoulders)):
        attenuation = density.sum(axis=axis) * np.float32(_WATER * canvas.pixel)
        padded = np.pad(attenuation, width // 2, mode="edge")
        mean = np.convolve(padded, np.full(width, np.float32(1 / width)), "valid")
        mean += np.float32(extra - _TYPICAL_ATTENUATION)
        strength = np.exp(np.float32(kernel.starvation / 2) * mean).clip(0.3, 5)
        results.append(np.expand_dims(strength.astype(np.float32), axis))
    return results[0], results[1]
