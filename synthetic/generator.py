"""One synthetic image of any kind: cells placed, rendered, and stored in an integer dtype."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from synthetic.brightfield import render_smear
from synthetic.cells import Cell, Outline, place_cells
from synthetic.fluorescence import render_cells, render_nuclei
from synthetic.optics import Float
from synthetic.transmitted import render_dic, render_phase

Renderer = Callable[[tuple[int, int], list[Cell], np.random.Generator], Float]


@dataclass(frozen=True)
class Kind:
    """What one kind of image looks like.

    Attributes
    ----------
    modality : str
        The router's name of it.
    outline : Outline
        Size and form of its cells.
    area_per_cell : float
        Image area for each cell, in squares of the diameter, when no number is given.
    render : callable
        ``(shape, cells, rng)`` to (Y, X, C) float32 in [0, 1].
    """

    modality: str
    outline: Outline
    area_per_cell: float
    render: Renderer


KINDS: dict[str, Kind] = {
    "fluorescence": Kind(
        "fluorescence",
        Outline(24, spread=0.2, elongation=(1.0, 1.6), roughness=0.025, gap_px=0.5),
        4,
        render_nuclei,
    ),
    "fluorescence_rgb": Kind(
        "fluorescence",
        Outline(36, spread=0.15, elongation=(1.0, 1.5), roughness=0.08, gap_px=0.5),
        2.2,
        render_cells,
    ),
    "phase": Kind(
        "phase",
        Outline(30, spread=0.2, elongation=(1.0, 3.2), roughness=0.10, gap_px=2),
        3,
        render_phase,
    ),
    "dic": Kind(
        "dic",
        Outline(52, spread=0.15, elongation=(1.0, 1.6), roughness=0.07, gap_px=0.0),
        1.3,
        render_dic,
    ),
    "brightfield": Kind(
        "brightfield",
        Outline(88, spread=0.08, elongation=(1.0, 1.2), roughness=0.03),
        4.5,
        render_smear,
    ),
    "brightfield_small": Kind(
        "brightfield",
        Outline(22, spread=0.08, elongation=(1.0, 1.2), roughness=0.03),
        16,
        render_smear,
    ),
}


@dataclass(frozen=True)
class SyntheticImage:
    """An image with its exact labels.

    Attributes
    ----------
    image : (Y, X, C) ndarray of uint8 or uint16
        C is 1, or 3 for colour (RGB).
    labels : (Y, X) ndarray of int32
        0 is background, ids 1..n.
    modality : str
        ``"brightfield"``, ``"phase"``, ``"dic"`` or ``"fluorescence"``.
    """

    image: NDArray[Any]
    labels: NDArray[np.int32]
    modality: str


def make_image(
    kind: str,
    shape: tuple[int, int] = (256, 256),
    n_cells: int | None = None,
    seed: int = 0,
    diameter_px: float | None = None,
    dtype: DTypeLike = np.uint8,
) -> SyntheticImage:
    """Make a synthetic microscope image with exact labels.

    Parameters
    ----------
    kind : str
        A name in :data:`KINDS`: a modality; ``"fluorescence_rgb"`` for whole cells in colour;
        ``"brightfield"`` has large white cells, ``"brightfield_small"`` small ones, both with
        red cells as background.
    shape : (int, int)
        Rows and columns, in pixels.
    n_cells : int, optional
        Cells wanted; fewer are placed where there is no room. By default as many as is
        typical of the kind.
    seed : int
        The same arguments give the same image.
    diameter_px : float, optional
        Mean diameter of the cells; by default typical of the kind.
    dtype : dtype
        uint8 or uint16; the latter uses the range of a 12-bit camera, 0..4095.

    Returns
    -------
    SyntheticImage
        Without cells, an empty field and labels that are all 0.

    Raises
    ------
    ValueError
        If the kind is unknown, the shape is empty, or the dtype is another one.

    Notes
    -----
    Memory is about 40 bytes for each pixel of the image.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}, known: {sorted(KINDS)}")
    if min(shape) < 1:
        raise ValueError(f"wanted a shape of at least (1, 1), got {shape}")
    if np.dtype(dtype) not in (np.uint8, np.uint16):
        raise ValueError(f"wanted uint8 or uint16, got {np.dtype(dtype)}")
    look = KINDS[kind]
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    outline = look.outline
    if diameter_px is not None:
        outline = replace(outline, diameter_px=diameter_px)
    if n_cells is None:
        area = shape[0] * shape[1]
        n_cells = max(1, round(area / (look.area_per_cell * outline.diameter_px**2)))
    labels, cells = place_cells(shape, n_cells, outline, rng)
    white = 255 if np.dtype(dtype) == np.uint8 else 4095
    image = np.rint(look.render(shape, cells, rng) * white).astype(dtype)
    return SyntheticImage(image, labels, look.modality)
