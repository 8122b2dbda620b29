"""Augmentation of intensities: what stains, microscopes, cameras and files do to the same cells."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.normalise import fit_normaliser

FloatArray = NDArray[np.float32]

RANGE = (-0.5, 2.0)  # of normalised images
PHOTONS = (30.0, 1000.0)  # at brightness 1, of the shot noise
JPEG_QUALITY = (20, 90)
BITS = (3, 7)  # of the coarsest and the finest grey scale
TINT = 0.3  # standard deviation of the logarithm of a channel's share of coloured light
DARKEST_TINTED = 0.7  # of the brightest: a thin cell in a red medium absorbs little of its light
DARKEST = 1e-3  # of a stained image, where the optical density ends

# Optical densities of haematoxylin, eosin and DAB in R, G and B (Ruifrok and Johnston, Analytical
# and Quantitative Cytology and Histology 2001); a stain that is none of them is a mixture.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNSTAIN = np.linalg.inv(STAINS).astype(np.float32)


@dataclass(frozen=True)
class ColourSettings:
    """How strongly intensities vary.

    Attributes
    ----------
    invert : float
        Probability of a contrast inversion.
    permute : float
        Probability of a channel permutation.
    jitter : float
        Standard deviation of each channel's gain.
    grey : float
        Probability that colour is dropped.
    gain : float
        Standard deviation of the logarithm of the common gain.
    blank : float
        Probability of an empty noise image without cells.
    dropout : float
        Probability that one or two channels of a colour image go dark; the one with the
        strongest contrast stays.
    stain : float
        Standard deviation of gain and offset of each stain (HED) of a colour image.
    tint : float
        Probability that light of another colour shines through.
    shot : float
        Probability of Poisson noise.
    jpeg : float
        Probability of JPEG artefacts.
    bits : float
        Probability of a coarser bit depth.
    """

    invert: float = 0.0
    permute: float = 0.0
    jitter: float = 0.0
    grey: float = 0.0
    gain: float = 0.2
    blank: float = 0.01
    dropout: float = 0.0
    stain: float = 0.0
    tint: float = 0.0
    shot: float = 0.0
    jpeg: float = 0.0
    bits: float = 0.0


def vary_intensity(
    image: FloatArray, settings: ColourSettings, rng: np.random.Generator
) -> FloatArray:
    """Change brightness, contrast, gamma, colour, sharpness and noise at random.

    Parameters
    ----------
    image : (Y, X, 3) ndarray of float32
        Normalised, about [0, 1].
    settings : ColourSettings
        Probabilities and strengths.
    rng : Generator
        All randomness. What is switched off draws nothing from it, so that a recipe gives the
        same crops whatever was added here since.

    Returns
    -------
    (Y, X, 3) ndarray of float32
        A new array in the range that normalised images have.
    """
    image = _vary_colour(image.copy(), settings, rng)
    if rng.random() < 0.5:
        image = np.sign(image) * np.abs(image) ** np.float32(np.exp(rng.normal(0, 0.3)))
    gain = np.float32(np.exp(rng.normal(0, settings.gain)))
    image = image * gain + np.float32(rng.normal(0, 0.08))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < 0.4:
        sigma = rng.uniform(0.01, 0.08)
        noise = rng.normal(0, sigma, (*image.shape[:2], 1)).astype(np.float32)
        image = image + noise
    image = np.clip(image, *RANGE).astype(np.float32)
    effects: tuple[tuple[float, Callable[[FloatArray, np.random.Generator], FloatArray]], ...] = (
        (settings.shot, add_shot_noise),
        (settings.bits, reduce_bits),
        (settings.jpeg, compress_jpeg),
    )
    for probability, effect in effects:
        if probability and rng.random() < probability:
            image = effect(image, rng)
    return image


def _vary_colour(
    image: FloatArray, settings: ColourSettings, rng: np.random.Generator
) -> FloatArray:
    """Mix, scale, restain, drop and invert channels; may write into the image."""
    if settings.stain:
        image = vary_stains(image, settings.stain, rng)
    if rng.random() < settings.permute:
        image = image[:, :, rng.permutation(3)]
    if settings.jitter:
        image *= np.exp(rng.normal(0, settings.jitter, 3)).astype(np.float32)
    if settings.dropout and rng.random() < settings.dropout:
        image = drop_channels(image, rng)
    if rng.random() < settings.grey:
        image = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < settings.invert:
        image = 1.0 - image
    if settings.tint and rng.random() < settings.tint:
        image = tint_light(image, rng)
    return image


def tint_light(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Show an image as in light, or a medium, of a strong colour, and normalise it again.

    Parameters
    ----------
    image : (Y, X, 3) ndarray of float32
        Normalised, about [0, 1].
    rng : Generator
        Draws each channel's share of the light, and how far from black the darkest pixels are.

    Returns
    -------
    (Y, X, 3) ndarray of float32
        One range for all channels, as prediction has it: they now lie far apart, and each has
        less contrast.
    """
    light = np.exp(rng.normal(0, TINT, 3)).astype(np.float32)
    darkest = np.float32(rng.uniform(0, DARKEST_TINTED))
    tinted = (darkest + (1 - darkest) * image) * light
    return fit_normaliser(tinted, "joint").apply(tinted)


def is_grey(image: FloatArray) -> bool:
    """Whether the three channels (Y, X, 3) are one."""
    return bool((image[:, :, :1] == image[:, :, 1:]).all())


def vary_stains(image: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """Change how much of each stain a bright-field image holds; a grey image stays as it is.

    Parameters
    ----------
    image : (Y, X, 3) ndarray of float32
        Transmitted light, 1 = white.
    strength : float
        Standard deviation of each stain's gain (about 1) and offset (about 0, in optical density).
    rng : Generator
        All randomness.

    Returns
    -------
    (Y, X, 3) ndarray of float32

    Notes
    -----
    Optical densities add up by the Beer-Lambert law; they are parted into three stains
    (Ruifrok and Johnston 2001) that vary on their own (Tellez et al., Medical Image Analysis 2019).
    """
    if is_grey(image):
        return image
    density = -np.log(np.maximum(image, DARKEST))
    gain = (1.0 + rng.normal(0, strength, 3)).astype(np.float32)
    offset = rng.normal(0, 0.25 * strength, 3).astype(np.float32)
    stains = (density @ UNSTAIN) * gain + offset
    varied: FloatArray = np.clip(np.exp(-(stains @ STAINS)), *RANGE).astype(np.float32)
    return varied


def drop_channels(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Darken one or two channels (Y, X, 3), never the one with the strongest contrast."""
    if is_grey(image):
        return image
    others = [c for c in range(3) if c != int(image.std(axis=(0, 1)).argmax())]
    dark = rng.permutation(others)[: rng.integers(1, 3)]
    image = image.copy()
    image[:, :, dark] = 0.0
    return image


def add_shot_noise(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Count photons (Poisson); a grey image (Y, X, 3) gets the same noise in all channels."""
    photons = np.exp(rng.uniform(*np.log(PHOTONS)))
    seen = image[:, :, :1] if is_grey(image) else image
    counted = rng.poisson(np.maximum(seen, 0.0) * photons) / photons
    noisy = np.minimum(seen, 0.0) + counted.astype(np.float32)
    return np.broadcast_to(np.clip(noisy, *RANGE), image.shape).astype(np.float32)


def reduce_bits(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Round the image's own range (Y, X, 3) to 8 to 128 levels."""
    n_steps = 2 ** int(rng.integers(BITS[0], BITS[1] + 1)) - 1
    low, spread = _own_range(image)
    rounded: FloatArray = np.rint((image - low) / spread * n_steps) / n_steps * spread + low
    return rounded.astype(np.float32)


def compress_jpeg(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Write and read the image (Y, X, 3), stretched to its own range, as a JPEG of some quality."""
    low, spread = _own_range(image)
    pixels = np.rint((image - low) / spread * 255).astype(np.uint8)
    if is_grey(image):
        pixels = pixels[:, :, 0]
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)).reshape(*image.shape[:2], -1)
    restored = read.astype(np.float32) / 255 * spread + low
    return np.broadcast_to(restored, image.shape).astype(np.float32)


def _own_range(image: FloatArray) -> tuple[np.float32, np.float32]:
    """Give an image's smallest value and its spread, which is never 0."""
    low = image.min()
    return low, np.float32(max(image.max() - low, 1e-6))
