"""Fluorescence: bright stained nuclei, or cells in colour, on a dark background."""

import numpy as np
from scipy.special import expit

from synthetic.cells import Cell
from synthetic.optics import Float, blur, expose, smooth_noise

NUCLEUS_SHARE = 0.5  # radius of a nucleus in a whole cell
DYES = (
    (0, 1),
    (2, 1),
    (2, 0),
)  # channels of nucleus and cell body: red/green, blue/green, blue/red


def render_nuclei(shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator) -> Float:
    """Render stained nuclei, one grey channel.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    cells : list of Cell
        The nuclei.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X, 1) ndarray of float32
        In [0, 1]; many images are dim, as in DSB 2018.
    """
    light = np.zeros(shape, np.float32)
    for cell in cells:
        chromatin = smooth_noise(cell.mask.shape, cell.diameter_px / 12, rng)
        body = (1 - 0.35 * cell.radius**2) * (1 + 0.12 * chromatin)
        light[cell.window] += np.where(cell.mask, body * rng.lognormal(0, 0.3), 0)
    gain = rng.uniform(0.15, 0.6)
    background = 0.03 + 0.01 * smooth_noise(shape, 60, rng)
    out_of_focus = 0.06 * blur(light, 12)
    image = gain * (blur(light, 1.0) + out_of_focus) + background
    return expose(image, n_photons=1500, read_noise=0.004, rng=rng)[:, :, None]


def render_cells(shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator) -> Float:
    """Render whole cells in colour: nucleus in one channel, cell body in another.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    cells : list of Cell
        Whole cells; nuclei are put inside.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X, 3) ndarray of float32
        RGB in [0, 1]; one channel stays almost dark.
    """
    light = np.zeros((*shape, 3), np.float32)
    nucleus, body = DYES[rng.integers(len(DYES))]
    membrane = rng.uniform(0, 0.8)  # how much of the stain sits at the cell's edge
    for cell in cells:
        texture = 1 + 0.25 * smooth_noise(cell.mask.shape, cell.diameter_px / 14, rng)
        edge = np.exp(-(((cell.radius - 0.9) / 0.12) ** 2))
        inside_nucleus = expit((NUCLEUS_SHARE - cell.radius) * 30)
        plasma = ((1 - membrane) * (1 - 0.5 * cell.radius) + membrane * edge) * texture
        brightness = rng.lognormal(0, 0.25, 2)
        window = light[cell.window]
        window[..., body] += cell.mask * plasma * (1 - 0.6 * inside_nucleus) * brightness[0]
        window[..., nucleus] += cell.mask * inside_nucleus * (0.7 + 0.3 * texture) * brightness[1]
    gains = rng.uniform(0.45, 0.8, 3).astype(np.float32)
    image = gains * (blur(light, 0.9) + 0.05 * blur(light, 15)) + 0.015
    return expose(image, n_photons=800, read_noise=0.008, rng=rng)
