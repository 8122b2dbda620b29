"""Phase contrast and DIC: both are made from the optical path through the cells."""

import numpy as np
from scipy.special import expit

from synthetic.cells import Cell
from synthetic.optics import Float, blur, expose, smooth_noise

GREY = 0.5  # brightness of the empty field
SHEAR_YX = (0.5**0.5, 0.5**0.5)  # direction of the DIC prism, down and right


def render_phase(shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator) -> Float:
    """Render positive phase contrast: dark cells with bright halos on a grey field.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    cells : list of Cell
        Whole cells.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X, 1) ndarray of float32
        In [0, 1].

    Notes
    -----
    To first order phase contrast shows the optical path minus its local mean, because the ring
    also shifts light diffracted at small angles; the removed part is the halo [1]_.

    References
    ----------
    .. [1] Yin et al., Understanding the phase contrast optics to restore artifact-free
       microscopy images for segmentation, Medical Image Analysis 16, 2012.
    """
    path = _optical_path(shape, cells, rng, flatness=2, granules=0.16)
    halo_px = 0.22 * _typical_diameter(cells)
    contrast = path - blur(path, halo_px) - 0.25 * blur(path, 3 * halo_px)
    contrast += 0.5 * (path - blur(path, 1.5))  # fine structure passes undamped
    image = _field(shape, rng) - rng.uniform(0.4, 0.65) * contrast
    return expose(blur(image, 0.7), n_photons=8000, read_noise=0.008, rng=rng)[:, :, None]


def render_dic(shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator) -> Float:
    """Render DIC: a grey relief, one flank of each cell bright and the other dark.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    cells : list of Cell
        Whole cells.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X, 1) ndarray of float32
        In [0, 1].

    Notes
    -----
    DIC shows, to first order, the derivative of the optical path along the prism's shear.
    """
    path = _optical_path(shape, cells, rng, flatness=6, granules=0.10)
    padded = np.pad(blur(path, 1.0), 1, mode="edge")
    slope_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    slope_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    slope = SHEAR_YX[0] * slope_y + SHEAR_YX[1] * slope_x
    image = _field(shape, rng) + np.float32(rng.uniform(0.7, 1.3)) * slope
    return expose(image, n_photons=8000, read_noise=0.008, rng=rng)[:, :, None]


def _optical_path(
    shape: tuple[int, int],
    cells: list[Cell],
    rng: np.random.Generator,
    flatness: int,
    granules: float,
) -> Float:
    """Optical path through the cells, about 1 in their middle, 0 in the empty field."""
    path = np.zeros(shape, np.float32)
    for cell in cells:
        height = np.clip(1 - cell.radius**flatness, 0, 1) ** 0.5
        nucleus = expit((rng.uniform(0.4, 0.5) - cell.radius) * 22)
        ripple = smooth_noise(cell.mask.shape, cell.diameter_px / 10, rng)
        grains = np.maximum(smooth_noise(cell.mask.shape, 1.2, rng) - 1.0, 0)
        plasma = 0.14 * ripple + granules * grains * (1 - nucleus) * 3
        body = height * (0.7 + plasma) + 0.25 * nucleus + 0.2 * _nucleoli(cell, rng)
        path[cell.window] += np.where(cell.mask, body * rng.lognormal(0, 0.2), 0)
    return blur(path, 0.8)


def _nucleoli(cell: Cell, rng: np.random.Generator) -> Float:
    """One or two dense spots near the centre of a cell."""
    y, x = np.indices(cell.radius.shape, np.float32)
    centre = np.array(np.unravel_index(int(cell.radius.argmin()), cell.radius.shape))
    spots = np.zeros(cell.radius.shape, np.float32)
    for _ in range(rng.integers(1, 3)):
        at = centre + rng.normal(0, 0.09 * cell.diameter_px, 2)
        distance_2 = (y - at[0]) ** 2 + (x - at[1]) ** 2
        spots += np.exp(-distance_2 / (2 * (0.045 * cell.diameter_px) ** 2)).astype(np.float32)
    return spots


def _typical_diameter(cells: list[Cell]) -> float:
    """Median diameter; 20 px for an empty image, where it does not matter."""
    return float(np.median([cell.diameter_px for cell in cells])) if cells else 20.0


def _field(shape: tuple[int, int], rng: np.random.Generator) -> Float:
    """Empty field: uneven illumination and faint dirt."""
    uneven = 0.02 * smooth_noise(shape, max(shape) / 4, rng)
    dirt = 0.004 * smooth_noise(shape, 2, rng)
    return np.asarray(GREY + rng.uniform(-0.08, 0.08) + uneven + dirt, np.float32)
