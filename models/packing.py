"""Cells taken out of a label image and laid side by side, so that none touches another.

In such an atlas a filter or a connected-component labelling of the whole works on every cell
at once and on each as if it were alone; no loop over cells is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.arrays import Array, Arrays

SHELF_PX = 1024  # width of an atlas unless a cell is wider: a shelf of it stays in a core's cache
ATLAS_PX = 2**25  # largest atlas in pixels, unless one cell's box alone is larger


@dataclass(frozen=True)
class Runs:
    """The cell pixels of a label image as horizontal runs of one id, in raster order.

    Attributes
    ----------
    y, x : (R,) arrays of int64
        First pixel of each run.
    length : (R,) array of int64
    ids : (R,) array of int64
        Above 0.
    shape : (int, int)
        Of the label image.
    """

    y: Array
    x: Array
    length: Array
    ids: Array
    shape: tuple[int, int]

    @property
    def n_ids(self) -> int:
        """One more than the highest id; 1 if there is no cell."""
        return 1 + int(self.ids.max()) if len(self.ids) else 1


def find_runs(arrays: Arrays, labels: Array) -> Runs:
    """Find the runs of a label image (Y, X)."""
    height, width = labels.shape
    flat = labels.reshape(-1)
    starts_here = arrays.zeros(flat.shape, like=flat == 0)
    starts_here[1:] = flat[1:] != flat[:-1]
    starts_here[::width] = True
    start = arrays.nonzero(starts_here)
    length = arrays.zeros(start.shape, like=start)
    length[:-1] = start[1:] - start[:-1]
    length[-1] = height * width - start[-1]
    ids = arrays.cast(flat[start], "int64")
    start, length, ids = start[ids > 0], length[ids > 0], ids[ids > 0]
    y = start // width
    return Runs(y, start - y * width, length, ids, (height, width))


@dataclass(frozen=True)
class Atlas:
    """Cells side by side, at least one pixel of background around each.

    Cells are in the order of their size (height plus width), largest first, on shelves from top
    to bottom and from left to right.

    Attributes
    ----------
    mask : (H, W) array of uint8
        1 in cells.
    cells : (N,) array of int64
        Their ids.
    extent : (N,) array of int64
        Height plus width of each cell's box.
    corner, origin : (N,) arrays of int64
        Flat index of the box's first pixel, in the atlas and in the image.
    right : (N,) array of int64
        Column of the atlas after each box.
    shelf : (N,) array of int64
        Which shelf each cell lies on.
    shelf_y, shelf_height : (S,) arrays of int64
        First row and number of rows of each shelf.
    places, pixels : (P,) arrays of int64
        Flat index of every cell pixel, in the atlas and in the image.
    ids : (P,) array of int64
        Id of every cell pixel.
    image_width : int
        Of the image that the cells come from.
    """

    mask: Array
    cells: Array
    extent: Array
    corner: Array
    origin: Array
    right: Array
    shelf: Array
    shelf_y: Array
    shelf_height: Array
    places: Array
    pixels: Array
    ids: Array
    image_width: int


def pack_cells(arrays: Arrays, runs: Runs, wanted: Array) -> Iterator[Atlas]:
    """Lay cells side by side.

    Parameters
    ----------
    arrays : Arrays
    runs : Runs
        Of the label image.
    wanted : (runs.n_ids,) array of bool
        Which ids to take; those without pixels are left out.

    Yields
    ------
    Atlas
        One, unless the cells' boxes together are larger than an atlas may be.
    """
    taken = wanted[runs.ids]
    runs = Runs(runs.y[taken], runs.x[taken], runs.length[taken], runs.ids[taken], runs.shape)
    if len(runs.ids) == 0:
        return
    n = runs.n_ids
    top = arrays.lowest(runs.ids, runs.y, n)
    left = arrays.lowest(runs.ids, runs.x, n)
    height = arrays.highest(runs.ids, runs.y, n) + 1 - top
    width = arrays.highest(runs.ids, runs.x + runs.length, n) - left
    cells = arrays.nonzero(height > 0)
    cells = cells[arrays.order(-(height + width)[cells])]
    boxes = _Boxes(cells, top[cells], left[cells], height[cells], width[cells])
    areas = (boxes.height + 1) * (boxes.width + 1)
    sheet = (arrays.cumsum(areas) - areas) // ATLAS_PX
    for i in range(int(sheet[-1]) + 1):
        here = boxes.select(sheet == i)
        if len(here.cells):
            yield _lay_out(arrays, runs, here)


@dataclass(frozen=True)
class _Boxes:
    """Ids, first pixels and sizes of cells' boxes in the image, (N,) arrays of int64."""

    cells: Array
    top: Array
    left: Array
    height: Array
    width: Array

    def select(self, chosen: Array) -> "_Boxes":
        """Give the boxes where an array (N,) of bool is true."""
        columns = (self.cells, self.top, self.left, self.height, self.width)
        return _Boxes(*(column[chosen] for column in columns))


def _lay_out(arrays: Arrays, runs: Runs, boxes: _Boxes) -> Atlas:
    """Fill shelves with the boxes in turn, and copy the cells' pixels there."""
    cells, top, left = boxes.cells, boxes.top, boxes.left
    height, width = boxes.height, boxes.width
    widest = int(width.max())
    shelf_px = max(SHELF_PX, 2 * widest)
    start = arrays.cumsum(width + 1) - (width + 1)
    # boxes that begin on a shelf may end beyond it: the atlas is wider by the widest
    shelf = start // shelf_px
    x = start - shelf * shelf_px + 1
    n_shelves = int(shelf[-1]) + 1
    shelf_height = arrays.highest(shelf, height, n_shelves)
    shelf_height = arrays.where(shelf_height > 0, shelf_height, 0)
    shelf_y = arrays.cumsum(shelf_height + 1) - shelf_height
    atlas_shape = (int(shelf_y[-1] + shelf_height[-1]) + 1, shelf_px + widest + 2)
    corner = shelf_y[shelf] * atlas_shape[1] + x
    rank = arrays.zeros(runs.n_ids, like=cells)
    rank[cells] = arrays.arange(len(cells)) + 1
    taken = rank[runs.ids] > 0
    box = rank[runs.ids[taken]] - 1
    length = runs.length[taken]
    run_y, run_x = runs.y[taken], runs.x[taken]
    place = corner[box] + (run_y - top[box]) * atlas_shape[1] + run_x - left[box]
    before = arrays.cumsum(length) - length
    count = arrays.arange(int(length.sum()))
    places = arrays.repeat(place - before, length) + count
    pixels = arrays.repeat(run_y * runs.shape[1] + run_x - before, length) + count
    mask = arrays.cast(arrays.zeros(atlas_shape, like=cells > 0), "uint8")
    mask.reshape(-1)[places] = 1
    return Atlas(
        mask,
        cells,
        height + width,
        corner,
        top * runs.shape[1] + left,
        x + width,
        shelf,
        shelf_y,
        shelf_height,
        places,
        pixels,
        arrays.repeat(runs.ids[taken], length),
        runs.shape[1],
    )


def locate(arrays: Arrays, atlas: Atlas, places: Array) -> tuple[Array, Array]:
    """Tell which cell's box a place of the atlas lies in, and which image pixel it is.

    Parameters
    ----------
    arrays : Arrays
    atlas : Atlas
    places : (K,) array of int64
        Flat indices inside boxes.

    Returns
    -------
    box : (K,) array of int64
        Index into ``atlas.cells``.
    pixels : (K,) array of int64
        Flat indices in the image.
    """
    width = atlas.mask.shape[1]
    y, x = places // width, places % width
    shelf = arrays.rank(atlas.shelf_y, y)
    # boxes in order, by shelf and then by column
    key = atlas.shelf * width + atlas.corner % width
    box = arrays.rank(key, shelf * width + x)
    corner = atlas.corner[box]
    dy, dx = y - corner // width, x - corner % width
    return box, atlas.origin[box] + dy * atlas.image_width + dx
