"""Parallel-beam projections of a slice, and images reconstructed from them.

Artifacts are wrong projections. Drawn there, they reach from bone to bone as real ones do.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from PIL import Image
from scipy import fft, sparse


class Projector:
    """Line integrals through a square image, and their inverse.

    Args:
        side: Rows and columns of the image.
        angles: float64 `(angles,)`, in radians. Rays of angle 0 run along the columns, those of
            pi / 2 along the rows.

    Attributes:
        side: Rows and columns of the image.
        bins: Number of detector bins, each as wide as a pixel.
        angles: float64 `(angles,)`, in radians.
    """

    def __init__(self, side: int, angles: np.ndarray) -> None:
        self.side = side
        self.bins = int(np.ceil(side * np.sqrt(2))) + 3
        self.angles = angles

    @cached_property
    def _matrix(self) -> sparse.csr_array:
        """Weights of the two nearest bins of each angle, for each pixel."""
        along = np.arange(self.side) - (self.side - 1) / 2
        cos, sin = np.cos(self.angles), np.sin(self.angles)
        place = along[:, np.newaxis, np.newaxis] * sin + along[np.newaxis, :, np.newaxis] * cos
        place = place.reshape(-1, len(self.angles)) + (self.bins - 1) / 2
        low = np.floor(place).astype(np.int32)
        share = (place - low).astype(np.float32)
        columns = low + np.arange(len(self.angles), dtype=np.int32) * np.int32(self.bins)
        weights = np.stack([1 - share, share], axis=-1)
        pixels = self.side**2
        return sparse.csr_array(
            (
                weights.ravel(),
                np.stack([columns, columns + np.int32(1)], axis=-1).ravel(),
                np.arange(pixels + 1, dtype=np.int32) * np.int32(2 * len(self.angles)),
            ),
            shape=(pixels, len(self.angles) * self.bins),
        )

    def project(self, image: np.ndarray) -> np.ndarray:
        """Return the line integrals of an image, in its unit times pixels.

        Args:
            image: float32 `(side, side)`.

        Returns:
            float32 `(angles, bins)`.
        """
        sums: np.ndarray = self._matrix.T @ image.ravel()
        return sums.reshape(len(self.angles), self.bins)

    def backproject(self, projections: np.ndarray) -> np.ndarray:
        """Return the mean over the angles of the values of each pixel's rays.

        Args:
            projections: float32 `(angles, bins)`.

        Returns:
            float32 `(side, side)`.
        """
        sums: np.ndarray = self._matrix @ projections.ravel()
        return (sums * np.float32(1 / len(self.angles))).reshape(self.side, self.side)

    def reconstruct(self, projections: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
        """Return the image of projections over half a turn by filtered backprojection.

        Args:
            projections: float32 `(angles, bins)`.
            shifts: float64 `(angles,)`: how far the object had moved along the detector at each
                angle, in pixels; the result is the change of the image. None for the image itself.
                Defaults to None.

        Returns:
            float32 `(side, side)`, without absolute level.

        Reference:
            Kak and Slaney, Principles of Computerized Tomographic Imaging, 1988, section 3.3.
        """
        length = fft.next_fast_len(2 * self.bins, real=True)
        frequency = fft.rfftfreq(length).astype(np.float32)
        # Apodized, so that edges of the coarse grid leave no ripples.
        gain = frequency * np.cos(np.pi * frequency)
        spectrum = fft.rfft(projections.astype(np.float32, copy=False), length, axis=-1) * gain
        if shifts is not None:
            turn = np.float32(-2 * np.pi) * shifts[:, np.newaxis].astype(np.float32) * frequency
            spectrum = spectrum * (np.exp(1j * turn) - np.float32(1))
        filtered = fft.irfft(spectrum, length, axis=-1)[:, : self.bins]
        return self.backproject(filtered) * np.float32(np.pi)


@lru_cache(maxsize=4)
def projector(side: int, angles: int, first: float = 0.0, last: float = np.pi) -> Projector:
    """Return a projector that is shared by all slices.

    Args:
        side: Rows and columns of the image.
        angles: Number of angles.
        first: The first angle, in radians. Defaults to 0.
        last: The angle after the last one, in radians. Defaults to pi.
    """
    return Projector(side, np.linspace(first, last, angles, endpoint=False))


def resample(image: np.ndarray, side: int) -> np.ndarray:
    """Return a square float32 image at another size: averaged if smaller, else interpolated."""
    if side == len(image):
        return image
    method = Image.Resampling.BOX if side < len(image) else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((side, side), method))
