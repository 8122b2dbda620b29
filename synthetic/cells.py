"""Where cells lie and what outline they have: the exact labels of a synthetic image."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_MISSES = 150  # positions without room in a row, after which the image counts as full
MIN_VISIBLE = 0.6  # a cell shows at least this share of its area inside the image
N_ANGLES = 360  # at which an outline is known; finer than pixels up to 100 px
N_HARMONICS = 5  # of the outline; more would be invisible at these sizes


@dataclass(frozen=True)
class Outline:
    """How the outlines of cells vary.

    Attributes
    ----------
    diameter_px : float
        Mean diameter of a circle of the same area.
    spread : float
        Relative spread of the diameter, a standard deviation.
    elongation : (float, float)
        Smallest and largest ratio of length to width.
    roughness : float
        Relative amplitude of the outline's waves; 0 is an ellipse.
    gap_px : float
        Background between neighbours; 0 lets them touch.
    """

    diameter_px: float
    spread: float = 0.15
    elongation: tuple[float, float] = (1.0, 1.4)
    roughness: float = 0.05
    gap_px: float = 1.0


@dataclass(frozen=True)
class Cell:
    """One cell of an image.

    Attributes
    ----------
    label : int
        Its id in the label image.
    diameter_px : float
        Diameter of a circle of the same area, uncut.
    window : (slice, slice)
        Rows and columns of the image around the cell.
    radius : (y, x) ndarray of float32
        In the window: 0 in the centre, 1 on the outline, larger outside.
    mask : (y, x) ndarray of bool
        In the window: pixels that carry the label.
    """

    label: int
    diameter_px: float
    window: tuple[slice, slice]
    radius: NDArray[np.float32]
    mask: NDArray[np.bool_]


def place_cells(
    shape: tuple[int, int], n_cells: int, outline: Outline, rng: np.random.Generator
) -> tuple[NDArray[np.int32], list[Cell]]:
    """Scatter cells over an image without overlap.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    n_cells : int
        Cells wanted; fewer are placed when the image is full.
    outline : Outline
        Size and form.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    labels : (Y, X) ndarray of int32
        0 is background, ids 1..n.
    cells : list of Cell
        In order of their ids; cells may be cut by the image's edge.
    """
    labels = np.zeros(shape, np.int32)
    cells: list[Cell] = []
    misses = 0
    while len(cells) < n_cells and misses < MAX_MISSES:
        cell = _try_cell(labels, len(cells) + 1, outline, rng)
        if cell is None:
            misses += 1
            continue
        labels[cell.window][cell.mask] = cell.label
        cells.append(cell)
        misses = 0
    return labels, cells


def _try_cell(
    labels: NDArray[np.int32], label: int, outline: Outline, rng: np.random.Generator
) -> Cell | None:
    """Draw a cell at random; None if it would overlap another or hardly be visible."""
    centre = rng.uniform((0, 0), labels.shape)
    if labels[int(centre[0]), int(centre[1])]:
        return None
    diameter_px = outline.diameter_px * max(0.4, 1 + outline.spread * rng.standard_normal())
    radius, window = _draw_outline(labels.shape, centre, diameter_px, outline, rng)
    if radius.size == 0:
        return None
    occupied = labels[window] > 0
    mask = (radius <= 1) & ~occupied
    area = np.pi / 4 * diameter_px**2
    if mask.sum() < MIN_VISIBLE * area or not _is_one_piece(mask):
        return None
    reach = 1 + 2 * outline.gap_px / diameter_px
    if (occupied & (radius <= reach)).any():
        return None
    return Cell(label, diameter_px, window, radius, mask)


def _draw_outline(
    shape: tuple[int, ...],
    centre: NDArray[np.float64],
    diameter_px: float,
    outline: Outline,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
    """Relative radius around a centre, for a random star-shaped outline, in its window."""
    stretch = rng.uniform(*outline.elongation) ** 0.5
    reach = 0.5 * diameter_px * stretch * (1 + 4 * outline.roughness) + 3
    reach += max(0.0, outline.gap_px)
    y0, x0 = (max(0, int(c - reach)) for c in centre)
    y1, x1 = (min(side, int(c + reach) + 1) for side, c in zip(shape, centre, strict=True))
    y = (np.arange(y0, y1, dtype=np.float32) - np.float32(centre[0]))[:, None]
    x = np.arange(x0, x1, dtype=np.float32) - np.float32(centre[1])
    turn = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along = (x * cos + y * sin) / np.float32(stretch)
    across = (y * cos - x * sin) * np.float32(stretch)
    table = 0.5 * diameter_px * _wave(outline.roughness, rng)
    turn_share = np.arctan2(across, along) / np.float32(2 * np.pi)  # -0.5..0.5, a cyclic index
    outline_px = table[(turn_share * N_ANGLES).astype(np.intp)]
    return np.hypot(along, across) / outline_px, (slice(y0, y1), slice(x0, x1))


def _wave(roughness: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Relative radius of an outline at each of its angles, about 1."""
    order = np.arange(2, 2 + N_HARMONICS)[:, None]
    angle = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    amplitude = roughness * rng.standard_normal(order.shape) / np.sqrt(order - 1)
    phase = rng.uniform(0, 2 * np.pi, order.shape)
    wave = 1 + (amplitude * np.cos(order * angle + phase)).sum(axis=0)
    return np.clip(wave, 0.4, 1.8).astype(np.float32)


def _is_one_piece(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a mask is connected, so that one label is one cell."""
    n_components: int = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0]
    return n_components == 2
