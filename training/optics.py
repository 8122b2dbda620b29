"""Simulate phase contrast and DIC from quantitative phase, with the exact labels it has."""

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def simulate_dic(phase: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Render a quantitative phase image as differential interference contrast.

    Parameters
    ----------
    phase : (Y, X) ndarray of float32
        Optical phase or path difference, any unit.
    rng : Generator
        Draws shear, blur and noise.

    Returns
    -------
    (Y, X) ndarray of float32
        Grey relief in [0, 1] around a mid grey.

    Notes
    -----
    To first order the intensity is the bias plus the derivative of the phase along the
    shear (Preza, JOSA A 2000).
    """
    smooth = cv2.GaussianBlur(phase, (0, 0), rng.uniform(0.6, 1.6))
    angle = rng.uniform(0, 2 * np.pi)
    grad_y, grad_x = np.gradient(smooth)
    relief = np.cos(angle) * grad_x + np.sin(angle) * grad_y
    return _as_grey(relief, rng)


def simulate_phase(phase: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Render a quantitative phase image as Zernike phase contrast.

    Parameters
    ----------
    phase : (Y, X) ndarray of float32
        Optical phase or path difference, any unit.
    rng : Generator
        Draws sign, halo width, blur and noise.

    Returns
    -------
    (Y, X) ndarray of float32
        Grey image in [0, 1], cells dark (positive phase contrast) with a bright halo, or
        the reverse.

    Notes
    -----
    The phase ring passes part of the low frequencies unshifted, so the image is the phase
    less a wide blur of it: the halo (Yin et al., Medical Image Analysis 2012).
    """
    smooth = cv2.GaussianBlur(phase, (0, 0), rng.uniform(0.6, 1.4))
    halo = cv2.GaussianBlur(phase, (0, 0), rng.uniform(6.0, 16.0))
    sign = -1.0 if rng.random() < 0.6 else 1.0
    return _as_grey(sign * (smooth - rng.uniform(0.6, 0.95) * halo), rng)


def _as_grey(signal: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put a signed signal around mid grey, with camera noise."""
    spread = max(float(np.percentile(np.abs(signal), 99.5)), 1e-9)
    grey = 0.5 + 0.4 * signal / spread + rng.normal(0, rng.uniform(0.005, 0.03), signal.shape)
    return np.clip(grey, 0, 1).astype(np.float32)
