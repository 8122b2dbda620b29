"""The slides that are measured: what they show, and the files that hold them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthetic import KINDS as CELLS
from synthetic.mosaic import make_tile
from synthetic.slides import (
    N_TILES,
    TILE_PX,
    Mosaic,
    SlideSettings,
    Tile,
    make_slide,
    write_slide,
)

MPX = 1e6
TISSUE = 0.6  # share of a slide
STORED_TILE_PX, PIXEL_UM = 256, 0.5


@dataclass(frozen=True)
class Kind:
    """What a slide shows, and what labels it.

    Attributes
    ----------
    cells : str
        A name in :data:`synthetic.KINDS`.
    expert : str or None
        Which must label it; None if any may.
    """

    cells: str
    expert: str | None = None

    @property
    def modality(self) -> str:
        """The router's name of what the slide shows."""
        return CELLS[self.cells].modality


KINDS = {
    "cellpose": Kind("phase", "cellpose_phase"),
    "cdnet": Kind("fluorescence", "cdnet_fluorescence"),
    "unet": Kind("brightfield_small", "unet_brightfield"),
    "brightfield": Kind("brightfield_small", "cellpose_brightfield"),
    "fluorescence": Kind("fluorescence_rgb", "cellpose_fluorescence"),
}
"""By the network, and in colour by the modality, with the expert that labels it by default."""


@dataclass(frozen=True)
class Slide:
    """A slide on disk.

    Attributes
    ----------
    path : Path
    kind : Kind
    shape : (Y, X) tuple of int
        In pixels.
    """

    path: Path
    kind: Kind
    shape: tuple[int, int]

    @property
    def mpx(self) -> float:
        """Millions of its pixels."""
        return self.shape[0] * self.shape[1] / MPX

    @property
    def name(self) -> str:
        """Its size and what it shows, as rows name it."""
        return f"{self.shape[0]} x {self.shape[1]}, {self.kind.cells}"


def make_pyramid(folder: Path, kind: Kind, shape: tuple[int, int], tissue: float = TISSUE) -> Slide:
    """Write a slide as scanners do: an OME-TIFF in tiles, zlib-compressed, with smaller levels.

    Parameters
    ----------
    folder : Path
        Gets the file; made if it is missing.
    kind : Kind
    shape : (Y, X) tuple of int
    tissue : float in [0, 1]
        Share that holds cells; the rest is blank ground.

    Returns
    -------
    Slide

    Raises
    ------
    ValueError
        If shape or tissue is out of range.
    ImageError
        If the file cannot be written.
    """
    path = _place(folder) / "slide.ome.tiff"
    settings = SlideSettings(STORED_TILE_PX, "zlib", PIXEL_UM)
    write_slide(path, make_slide(kind.cells, shape, tissue), "ome-tiff", settings)
    return Slide(path, kind, shape)


def make_plain(folder: Path, kind: Kind, shape: tuple[int, int], tissue: float = TISSUE) -> Slide:
    """Write the slide of :func:`make_pyramid` as stock Cellpose reads it: RGB, plain, one level.

    Parameters, errors and result are those of :func:`make_pyramid`; a grey slide gets three equal
    channels, as stock Cellpose builds the network of three channels for no other.
    """
    path = _place(folder) / "slide.tiff"
    tiles = [make_tile(kind.cells, TILE_PX, seed) for seed in range(N_TILES)]
    mosaic = Mosaic([_in_colour(tile) for tile in tiles], shape, tissue)
    write_slide(path, mosaic, "strips", SlideSettings(compression=None, mpp=PIXEL_UM))
    return Slide(path, kind, shape)


def _place(folder: Path) -> Path:
    """Make a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _in_colour(tile: Tile) -> Tile:
    """Give a tile three channels."""
    n_copies = 3 // tile.image.shape[2]
    return Tile(np.repeat(tile.image, n_copies, axis=2), tile.labels)
