"""Global intensity normalisation: percentiles of an overview, applied to any region."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["grey", "joint", "per_channel"]

LOW_PERCENTILE = 0.5  # darkest pixels left out, per cent
HIGH_PERCENTILE = 99.8  # above 99, so that one sparse bright cell still sets the range
MIN_CHANNEL_SHARE = 0.1  # a channel's range is at least this share of the widest channel's
MIN_RANGE_SHARE = 0.01  # a range is at least this share of the brightest value (flat images)
CLIP = (-0.5, 2.0)  # normalised values outside are outliers to a network


@dataclass(frozen=True)
class Normaliser:
    """Linear map of the three channels of one image to about [0, 1].

    Attributes
    ----------
    low, high : (3,) ndarray of float32
        Values that become 0 and 1, in the image's own intensity units; ``high > low``.
    is_grey : bool
        Whether the mean of the channels stands for each of them.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    is_grey: bool = False

    def apply(self, region: NDArray[np.generic]) -> NDArray[np.float32]:
        """Normalise a region of the image the percentiles came from.

        Parameters
        ----------
        region : (Y, X, C) ndarray of int or float, C in {1, 3}
            Pixels in the image's own units; a single channel is repeated.

        Returns
        -------
        (Y, X, 3) ndarray of float32
            About [0, 1], clipped to :data:`CLIP`.
        """
        return as_three(self.apply_narrow(region))

    def apply_narrow(self, region: NDArray[np.generic]) -> NDArray[np.float32]:
        """Normalise a region, as :meth:`apply`, but once where the three channels are equal.

        Parameters
        ----------
        region : (Y, X, C) ndarray of int or float, C in {1, 3}
            As :meth:`apply` takes it.

        Returns
        -------
        (Y, X, 1 or 3) ndarray of float32
            :func:`as_three` of it is what :meth:`apply` gives.
        """
        pixels = _to_grey(region) if self.is_grey else region.astype(np.float32)
        if pixels.shape[2] == 1 and not (_are_equal(self.low) and _are_equal(self.high)):
            pixels = as_three(pixels)
        height, width, n_channels = pixels.shape
        # Rows in one piece: NumPy is several times slower where its innermost loop has 3 steps.
        rows = pixels.reshape(height, width * n_channels)
        rows -= np.tile(self.low[:n_channels], width)
        rows /= np.tile((self.high - self.low)[:n_channels], width)
        np.clip(rows, *CLIP, out=rows)
        return rows.reshape(height, width, n_channels)


def as_three(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat a single channel: (Y, X, 1 or 3) to (Y, X, 3)."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def fit_normaliser(overview: NDArray[np.generic], mode: Mode) -> Normaliser:
    """Take the percentiles that normalise an image from its overview.

    Parameters
    ----------
    overview : (Y, X, C) ndarray of int or float, C in {1, 3}
        The whole image, possibly reduced.
    mode : {"grey", "joint", "per_channel"}
        One range for the mean of the channels (phase contrast and DIC: colour is that of the
        lamp or the medium), one for all channels (keeps the hue of a stain), or one a channel
        (fluorescence: channels are separate dyes).

    Returns
    -------
    Normaliser
        Its ranges are positive even for a constant image, which becomes 0.

    Raises
    ------
    ValueError
        If the overview is empty or has another number of channels.

    Notes
    -----
    Percentiles come from the whole image and never from a tile, so that an empty tile
    stays empty; and a dim channel is stretched to at most ten times the gain of the
    strongest, so that an unused channel stays dark.
    """
    if overview.size == 0 or overview.ndim != 3 or overview.shape[2] not in (1, 3):
        raise ValueError(f"wanted a non-empty (Y, X, 1 or 3) overview, got {overview.shape}")
    seen = _to_grey(overview) if mode == "grey" else overview.astype(np.float32)
    pixels = seen.reshape(-1, seen.shape[2])
    if mode == "joint":
        pixels = pixels.reshape(-1, 1)
    low, high = np.percentile(pixels, (LOW_PERCENTILE, HIGH_PERCENTILE), axis=0)
    widest = float((high - low).max())
    floor = max(MIN_CHANNEL_SHARE * widest, MIN_RANGE_SHARE * float(np.abs(pixels).max()), 1e-6)
    high = np.maximum(high, low + floor)
    return Normaliser(
        low=np.broadcast_to(low, 3).astype(np.float32),
        high=np.broadcast_to(high, 3).astype(np.float32),
        is_grey=mode == "grey",
    )


def _are_equal(values: NDArray[np.float32]) -> bool:
    """Tell whether the channels have one value."""
    return bool((values == values[0]).all())


def _to_grey(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Average the channels of (Y, X, C): (Y, X, 1)."""
    grey: NDArray[np.float32] = pixels.mean(axis=2, dtype=np.float32, keepdims=True)
    return grey
