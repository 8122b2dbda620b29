"""Brightfield: stained white cells among red ones on a pale blood smear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from synthetic.cells import Cell, Outline, place_cells
from synthetic.optics import Float, blur, expose, smooth_noise

RED_SHARE = 0.62  # diameter of a red cell relative to a white one
RED_SPACING = 1.6  # image area for each red cell, in squares of its diameter


@dataclass(frozen=True)
class Stain:
    """Colours of one staining, as (red, green, blue).

    Attributes
    ----------
    field : tuple of float
        Transmitted light of the empty field, in [0, 1].
    red_cell, plasma, nucleus : tuple of float
        Optical densities (natural logarithm) of red cells, and of the two parts of white ones.
    """

    field: tuple[float, float, float]
    red_cell: tuple[float, float, float]
    plasma: tuple[float, float, float]
    nucleus: tuple[float, float, float]


# Colours as seen on blood smears of several laboratories: warm, yellowish, and neutral light.
STAINS = (
    Stain((0.94, 0.85, 0.77), (0.24, 0.48, 0.20), (0.16, 0.42, 0.08), (0.45, 1.75, 0.40)),
    Stain((0.90, 0.88, 0.74), (0.30, 0.52, 0.30), (0.30, 0.52, 0.12), (0.70, 1.65, 0.30)),
    Stain((0.90, 0.90, 0.91), (0.17, 0.30, 0.17), (0.38, 0.50, 0.15), (0.95, 1.55, 0.35)),
)


def render_smear(shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator) -> Float:
    """Render a stained blood smear; the white cells are the labelled ones.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    cells : list of Cell
        White cells. Red cells, which are background, are put around and against them.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (Y, X, 3) ndarray of float32
        RGB in [0, 1].

    Notes
    -----
    Light is absorbed as in Beer and Lambert's law: densities add up, light multiplies.
    """
    stain = STAINS[rng.integers(len(STAINS))]
    white_px = float(np.median([cell.diameter_px for cell in cells])) if cells else 40.0
    free = np.ones(shape, np.float32)
    for cell in cells:
        free[cell.window][cell.mask] = 0
    red = _red_cells(shape, RED_SHARE * white_px, rng) * free
    plasma, nucleus = _white_cells(shape, cells, rng)
    sharpness_px = max(0.6, white_px / 70)
    density = sum(
        blur(amount, sharpness_px)[:, :, None] * np.asarray(colour, np.float32)
        for amount, colour in (
            (red, stain.red_cell),
            (plasma, stain.plasma),
            (nucleus, stain.nucleus),
        )
    )
    uneven = (
        1 + 0.03 * smooth_noise(shape, max(shape) / 3, rng) + 0.012 * smooth_noise(shape, 3, rng)
    )
    light = np.asarray(stain.field, np.float32) * uneven[:, :, None] * np.exp(-density)
    return expose(light.astype(np.float32), n_photons=6000, read_noise=0.006, rng=rng)


def _red_cells(shape: tuple[int, int], diameter_px: float, rng: np.random.Generator) -> Float:
    """Amount of haemoglobin: discs with a pale centre, some of which overlap."""
    amount = np.zeros(shape, np.float32)
    outline = Outline(diameter_px, spread=0.08, elongation=(1.0, 1.25), roughness=0.02, gap_px=0)
    n_cells = int(shape[0] * shape[1] / (RED_SPACING * diameter_px**2))
    for share in (0.75, 0.25):  # two layers: within one, cells do not overlap
        for cell in place_cells(shape, int(share * n_cells), outline, rng)[1]:
            pallor = rng.uniform(0.3, 0.85) * np.exp(-((cell.radius / 0.42) ** 2))
            rim = np.clip((1 - cell.radius) * 8, 0, 1)
            amount[cell.window] += cell.mask * rim * (1 - pallor) * rng.uniform(0.85, 1.15)
    return amount


def _white_cells(
    shape: tuple[int, int], cells: list[Cell], rng: np.random.Generator
) -> tuple[Float, Float]:
    """Amounts of stain in the plasma and in the nuclei of white cells."""
    plasma = np.zeros(shape, np.float32)
    nuclei = np.zeros(shape, np.float32)
    for cell in cells:
        nucleus = _lobes(cell, rng)
        grains = 1 + 0.18 * smooth_noise(cell.mask.shape, max(0.8, cell.diameter_px / 40), rng)
        chromatin = 1 + 0.15 * smooth_noise(cell.mask.shape, cell.diameter_px / 18, rng)
        rim = 1 + 0.25 * np.exp(-(((cell.radius - 0.95) / 0.08) ** 2))
        amount = rng.uniform(0.7, 1.2)
        plasma[cell.window] += cell.mask * (1 - nucleus) * grains * rim * amount
        nuclei[cell.window] += cell.mask * nucleus * chromatin * rng.uniform(0.85, 1.1)
    return plasma, nuclei


def _lobes(cell: Cell, rng: np.random.Generator) -> NDArray[np.float32]:
    """Nucleus of a white cell in [0, 1]: one large round lobe, or up to four small ones."""
    y, x = np.indices(cell.radius.shape, np.float32)
    centre = np.array(np.unravel_index(int(cell.radius.argmin()), cell.radius.shape))
    n_lobes = int(rng.choice([1, 1, 2, 3, 4]))
    lobe_px = cell.diameter_px * (rng.uniform(0.3, 0.4) if n_lobes == 1 else 0.2)
    turn = rng.uniform(0, 2 * np.pi)
    field = np.zeros(cell.radius.shape, np.float32)
    for lobe in range(n_lobes):
        angle = turn + lobe * rng.uniform(1.2, 1.7)
        offset_px = cell.diameter_px * (0.03 if n_lobes == 1 else 0.2)
        lobe_yx = centre + offset_px * np.array([np.sin(angle), np.cos(angle)])
        distance_px = np.hypot(y - lobe_yx[0], x - lobe_yx[1])
        bumps = 0.06 * lobe_px * smooth_noise(cell.radius.shape, lobe_px / 3, rng)
        edge_px = max(0.7, 0.06 * lobe_px)
        field = np.maximum(field, expit((lobe_px - distance_px - bumps) / edge_px))
    inside: NDArray[np.float32] = field * np.clip((1 - cell.radius) * 12, 0, 1)
    return inside.astype(np.float32)
