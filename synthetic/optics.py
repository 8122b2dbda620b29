"""Light, blur and noise that the modalities share; images here are (Y, X) or (Y, X, C) float32."""

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

COARSE_SIGMA_PX = 8.0  # wider noise is made on a coarse grid and enlarged: same look, faster


def blur(image: Float, sigma_px: float) -> Float:
    """Blur an image by a Gaussian, edges reflected.

    Parameters
    ----------
    image : (Y, X) or (Y, X, C) ndarray of float32
        Any range.
    sigma_px : float
        Standard deviation; 0 or less returns the image.

    Returns
    -------
    ndarray of float32
        Same shape.
    """
    if sigma_px <= 0:
        return image
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), np.float32
    )


def smooth_noise(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Float:
    """Make a random texture with structures of one size.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    sigma_px : float
        Blur of the white noise it is made from.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X) ndarray of float32
        Mean about 0, standard deviation about 1.
    """
    step = max(1, int(sigma_px / COARSE_SIGMA_PX * 2))
    margin = int(3 * sigma_px / step) + 2  # filtered away from the edges, which are less random
    coarse_yx = tuple(-(-n // step) + 2 * margin for n in shape[:2])
    noise = blur(rng.standard_normal(coarse_yx, dtype=np.float32), sigma_px / step)
    noise = noise[margin:-margin, margin:-margin]
    noise *= 2 * np.sqrt(np.pi) * max(sigma_px / step, 0.3)  # white noise of unit variance again
    if step > 1:
        size_xy = (noise.shape[1] * step, noise.shape[0] * step)
        noise = np.asarray(cv2.resize(noise, size_xy, interpolation=cv2.INTER_CUBIC), np.float32)
    return np.ascontiguousarray(noise[: shape[0], : shape[1]])


def expose(image: Float, n_photons: float, read_noise: float, rng: np.random.Generator) -> Float:
    """Record an image with a camera: photon noise and read noise.

    Parameters
    ----------
    image : (Y, X) or (Y, X, C) ndarray of float32
        Light in [0, 1].
    n_photons : float
        Photons of a pixel of value 1.
    read_noise : float
        Standard deviation, in the image's units.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray of float32
        Same shape, in [0, 1]. Photon noise is drawn as Gaussian of the Poisson variance.
    """
    deviation = np.sqrt(np.clip(image, 0, None) / n_photons + read_noise**2)
    noisy = image + deviation * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0, 1), np.float32)
