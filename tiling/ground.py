"""Windows that show nothing but empty ground: glass, or the dark between cells.

A window is left out only if the very pixels that the network would see are all of one even tone,
and that tone is the ground's. The overview tells the tone, never which windows are empty: a small
cell hardly shows in it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tiling.sampling import Float32
from tiling.settings import GroundTone

PATCH_PX = 4
"""Side of the squares whose means must agree, in network pixels: smaller than any cell that the
networks know (7 px), so that a cell fills at least one."""

FLAT_TOLERANCE = 0.02
"""Largest distance of a patch from its window's median, as a share of the image's range: about four
grey levels of 8 bits. Noise passes up to a standard deviation of about 0.017; what is noisier is
computed."""

TONE_TOLERANCE = 0.06
"""Largest distance of a window's median from the ground's tone: shading across a slide."""

MODE_STEP = 0.01
"""Width of the bins of the histogram in which the commonest value is found."""

DARK_BELOW, BRIGHT_ABOVE = 0.3, 0.7
"""Where in an image's range its ground may lie: saturated cells must not pass for glass."""


@dataclass(frozen=True)
class Ground:
    """The tone of the empty ground of one image.

    Attributes
    ----------
    tone : (float, float, float)
        Of its channels, normalised.
    """

    tone: tuple[float, float, float]

    def fills(self, window: Float32) -> bool:
        """Tell whether a window shows nothing but ground.

        Parameters
        ----------
        window : (Y, X, 3) ndarray of float32
            Normalised, in network pixels, as the network would see it.

        Returns
        -------
        bool
        """
        rows = PATCH_PX * max(1, len(window) // (16 * PATCH_PX))  # most tissue shows at once
        return self._is_even(window[:rows]) and self._is_even(window)

    def _is_even(self, pixels: Float32) -> bool:
        """Tell whether all patches of some pixels have the ground's tone."""
        patches = _patch_means(pixels)
        median = np.median(patches, axis=1)
        if np.abs(median - np.asarray(self.tone, np.float32)).max() > TONE_TOLERANCE:
            return False
        return bool(
            (patches.max(axis=1) - median).max() <= FLAT_TOLERANCE
            and (median - patches.min(axis=1)).max() <= FLAT_TOLERANCE
        )


def find_ground(overview: Float32, where: GroundTone) -> Ground | None:
    """Find the tone of an image's empty ground: the commonest value of each channel.

    Parameters
    ----------
    overview : (Y, X, 3) ndarray of float32
        The whole image, normalised, possibly reduced.
    where : {"dark", "bright", "any"}
        Where in the range the ground of this modality lies.

    Returns
    -------
    Ground or None
        None if the commonest value lies elsewhere: then nothing is known to be empty.
    """
    tone = tuple(_mode(overview[..., channel]) for channel in range(3))
    if where == "dark" and max(tone) > DARK_BELOW:
        return None
    if where == "bright" and min(tone) < BRIGHT_ABOVE:
        return None
    return Ground((tone[0], tone[1], tone[2]))


def _mode(values: npt.NDArray[np.float32]) -> float:
    """Find the commonest value."""
    bins = np.floor(values.ravel() / MODE_STEP).astype(np.int64)
    lowest = int(bins.min())
    # Neighbouring bins count too, or a mode between two bins would lose against a narrower one.
    counts = np.convolve(np.bincount(bins - lowest), [1, 2, 1], "same")
    return (int(counts.argmax()) + lowest + 0.5) * MODE_STEP


def _patch_means(pixels: Float32) -> Float32:
    """Average (Y, X, 3) over squares, or a little less where a side is no multiple: (3, N)."""
    height, width = (-(-side // PATCH_PX) for side in pixels.shape[:2])
    means = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(means.reshape(-1, 3).T)
