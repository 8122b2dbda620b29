"""Colour statistics of an image that do not depend on how its file stores it."""

import numpy as np
from numpy.typing import NDArray

FEATURE_SIDE_PX = 256  # features are taken from local means, so that noise counts as little
#                        in a small image as in a slide
LOW_PERCENTILE = 1.0  # darkest and brightest pixels left out of the range, per cent; chosen on
HIGH_PERCENTILE = 99.0  # validation images, see ARCHITECTURE.md

N_FEATURES = 6


def hsv_features(overview: NDArray[np.generic]) -> NDArray[np.float64]:
    """Measure mean and variance of hue, saturation and value [1]_.

    Parameters
    ----------
    overview : (Y, X, C) ndarray of int or float, C in {1, 3}
        The whole image, grey or RGB, in any unit; larger than 256 px it is reduced.

    Returns
    -------
    (6,) ndarray of float64
        Mean of H, S, V, then variance of H, S, V; each of H, S, V lies in [0, 1].

    Raises
    ------
    ValueError
        If the array is empty or not (Y, X, C) with C in {1, 3}.

    References
    ----------
    .. [1] The paper, section 2.2.
    """
    return _mean_and_variance(_rgb_to_hsv(unit_rgb(overview)))


def rgb_features(overview: NDArray[np.generic]) -> NDArray[np.float64]:
    """Measure mean and variance of red, green and blue [1]_.

    Parameters
    ----------
    overview : (Y, X, C) ndarray of int or float, C in {1, 3}
        The whole image, grey or RGB, in any unit; larger than 256 px it is reduced.

    Returns
    -------
    (6,) ndarray of float64
        Mean of R, G, B, then variance of R, G, B; each of R, G, B lies in [0, 1].

    Raises
    ------
    ValueError
        If the array is empty or not (Y, X, C) with C in {1, 3}.

    References
    ----------
    .. [1] The paper, section 2.4.
    """
    return _mean_and_variance(unit_rgb(overview))


def unit_rgb(overview: NDArray[np.generic]) -> NDArray[np.float64]:
    """Map an image to [0, 1] by its own range, one range for all channels.

    Parameters
    ----------
    overview : (Y, X, C) ndarray of int or float, C in {1, 3}
        Grey or RGB in any unit: bit depth, gain and offset of the file cancel.

    Returns
    -------
    (y, x, 3) ndarray of float64
        Local means with sides of at most 256 px; grey is repeated; all zero if the image is flat.

    Raises
    ------
    ValueError
        If the array is empty or not (Y, X, C) with C in {1, 3}.
    """
    if overview.ndim != 3 or overview.shape[2] not in (1, 3) or overview.size == 0:
        raise ValueError(f"wanted a (Y, X, C) image with C in {{1, 3}}, got {overview.shape}")
    image = _reduce(overview)
    low, high = np.percentile(image, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # rounding of a flat image is no contrast
        return np.zeros((*image.shape[:2], 3))
    unit = np.clip((image - low) / (high - low), 0, 1)
    return np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit


def _reduce(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Average blocks of pixels, by one whole number along both axes; cut blocks are left out."""
    height, width, n_channels = image.shape
    factor = -(-max(height, width) // FEATURE_SIDE_PX)
    step_y, step_x = min(factor, height), min(factor, width)
    whole = image[: height // step_y * step_y, : width // step_x * step_x].astype(np.float64)
    blocks = whole.reshape(height // step_y, step_y, width // step_x, step_x, n_channels)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


def _rgb_to_hsv(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (Y, X, 3) RGB in [0, 1] to HSV in [0, 1]; grey has hue and saturation 0."""
    red, green, blue = np.moveaxis(rgb, 2, 0)
    value = rgb.max(axis=2)
    chroma = value - rgb.min(axis=2)
    if not chroma.any():
        return np.stack([chroma, chroma, value], axis=2)
    divisor = np.where(chroma > 0, chroma, 1)
    sixths = np.select(
        [value == red, value == green],
        [(green - blue) / divisor % 6, (blue - red) / divisor + 2],
        (red - green) / divisor + 4,
    )
    saturation = chroma / np.where(value > 0, value, 1)
    return np.stack([sixths / 6, saturation, value], axis=2)


def _mean_and_variance(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the mean of each channel, then the variance of each."""
    return np.concatenate([image.mean(axis=(0, 1)), image.var(axis=(0, 1))])
