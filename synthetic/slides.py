"""Make slides of any size with exact labels: ``python -m synthetic.slides --size Y X -o FILE``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imaging.image import ImageError
from imaging.writing import write_labels
from synthetic.generator import KINDS
from synthetic.mosaic import Mosaic, Tile, blank_colour, make_tile
from synthetic.slide_formats import WRITERS, SlideSettings

__all__ = ["WRITERS", "Mosaic", "SlideSettings", "Tile", "make_slide", "write_slide"]

logger = logging.getLogger("synthetic")

TILE_PX = 512
N_TILES = 8


def make_slide(
    kind: str,
    shape: tuple[int, int],
    tissue: float = 1.0,
    seed: int = 0,
    dtype: DTypeLike = np.uint8,
    tile_px: int = TILE_PX,
) -> Mosaic:
    """Make a slide of synthetic cells.

    Parameters
    ----------
    kind : str
        A name in :data:`synthetic.generator.KINDS`.
    shape : (int, int)
        Rows and columns, in pixels.
    tissue : float in [0, 1]
        Share that holds cells; the rest is blank.
    seed : int
        The same arguments give the same slide.
    dtype : dtype
        uint8 or uint16.
    tile_px : int
        Side of the :data:`N_TILES` different tiles it is made of.

    Returns
    -------
    Mosaic

    Raises
    ------
    ValueError
        If the kind is unknown, or a size does not fit.
    """
    first = seed * N_TILES
    tiles = [make_tile(kind, tile_px, n, dtype) for n in range(first, first + N_TILES)]
    white = 255 if np.dtype(dtype) == np.uint8 else 4095
    blank = np.rint(blank_colour(kind) * white)
    return Mosaic(tiles, shape, tissue, blank.tolist(), seed)


def write_slide(
    path: Path,
    mosaic: Mosaic,
    form: str,
    settings: SlideSettings | None = None,
    labels: Path | None = None,
) -> None:
    """Write a slide, and its labels if wanted, tile after tile.

    Parameters
    ----------
    path : Path
        File, or folder of an OME-Zarr. The folder around it must exist.
    mosaic : Mosaic
        The slide.
    form : str
        A name in :data:`synthetic.slide_formats.WRITERS`.
    settings : SlideSettings, optional
        How it is stored; by default uncompressed strips, JPEG in SVS, otherwise Deflate.
    labels : Path, optional
        Label image to write, a zlib-compressed TIFF.

    Raises
    ------
    ValueError
        If the form is unknown.
    ImageError
        If something cannot be written.
    """
    if form not in WRITERS:
        raise ValueError(f"unknown form {form!r}, known: {sorted(WRITERS)}")
    WRITERS[form](path, mosaic, settings or default_settings(form))
    if labels is not None:
        rows = cast("NDArray[np.integer[Any]]", LabelRows(mosaic))
        write_labels(labels, rows, mosaic.n_labels)


def default_settings(form: str) -> SlideSettings:
    """Return how files of a form are usually stored."""
    compression = {"strips": None, "svs": "jpeg"}.get(form, "zlib")
    return SlideSettings(compression=compression)


class LabelRows:
    """The labels of a slide as an array of which rows are made when they are asked for.

    It has what `imaging.writing.write_labels` uses of an array: shape, size, dtype, and slices of
    rows.
    """

    def __init__(self, mosaic: Mosaic) -> None:
        self._mosaic = mosaic
        self.shape: tuple[int, int] = mosaic.shape[:2]
        self.ndim = 2
        self.size: int = mosaic.shape[0] * mosaic.shape[1]
        self.dtype: np.dtype[np.int32] = np.dtype(np.int32)

    def __getitem__(self, rows: slice) -> NDArray[np.int32]:
        start, stop, _ = rows.indices(self.shape[0])
        return self._mosaic.read_labels((start, 0, stop, self.shape[1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit code: 0, or 1 if something cannot be written. Wrong usage exits with 2.
    """
    parser = argparse.ArgumentParser(prog="python -m synthetic.slides", description=__doc__)
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="slide to write")
    add("--labels", type=Path, metavar="FILE", help="label image to write as well")
    add("--size", type=int, nargs=2, default=(8192, 8192), metavar=("Y", "X"), help="in pixels")
    add("--kind", choices=sorted(WRITERS), default="ome-tiff", help="of file (default: ome-tiff)")
    add("--cells", choices=sorted(KINDS), default="fluorescence_rgb", help="what it shows")
    add("--tissue", type=float, default=1.0, metavar="SHARE", help="of the slide, 0 to 1")
    add("--compression", metavar="CODEC", help="zlib, lzw, jpeg, jpeg2000, zstd, webp, none")
    add("--mpp", type=float, default=0.5, help="micrometres a pixel (default: 0.5)")
    add("--stored-tile", type=int, default=256, metavar="PX", help="side (default: 256)")
    add("--seed", type=int, default=0)
    add("--16-bit", dest="dtype", action="store_const", const=np.uint16, default=np.uint8)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    codec = options.compression or default_settings(options.kind).compression
    settings = SlideSettings(options.stored_tile, None if codec == "none" else codec, options.mpp)
    try:
        mosaic = make_slide(
            options.cells, tuple(options.size), options.tissue, options.seed, options.dtype
        )
        write_slide(options.output, mosaic, options.kind, settings, options.labels)
    except ValueError as error:
        parser.error(str(error))
    except ImageError as error:
        logger.error("%s", error)
        return 1
    logger.info("%s: %s, %d cells", options.output, mosaic.shape, mosaic.n_labels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
