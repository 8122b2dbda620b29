"""Instances in a label image, whatever decoded them: ids, parts, holes."""

import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, Arrays, arrays_for
from models.packing import Atlas, find_runs, locate, pack_cells

LabelArray = NDArray[np.int32]


def renumber(labels: Array) -> Array:
    """Give ids 1..N without gaps, keeping their order.

    Parameters
    ----------
    labels : (Y, X) ndarray or tensor of int
        0 is background.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        The same instances.
    """
    arrays = arrays_for(labels)
    present = arrays.bincount(labels.reshape(-1), 1) > 0
    present[0] = False
    return number_ids(arrays, present)[labels]


def number_ids(arrays: Arrays, kept: Array) -> Array:
    """Give new ids, int32, 1..N to the kept old ones in order, 0 to the others."""
    return arrays.cast(arrays.cumsum(arrays.cast(kept, "int64")) * kept, "int32")


def clean_instances(labels: Array, min_area_px: int) -> Array:
    """Drop small instances, keep the largest part of each and fill its holes.

    Parameters
    ----------
    labels : (Y, X) ndarray or tensor of int
        0 is background.
    min_area_px : int
        Instances with fewer pixels go.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps, each one 8-connected region; a hole in it is filled as far as no
        other instance lies there.
    """
    arrays = arrays_for(labels)
    runs = find_runs(arrays, labels)
    area = arrays.bincount(runs.ids, runs.n_ids, runs.length)
    kept = area >= max(1, min_area_px)
    crumbs, holes = [], []
    for atlas in pack_cells(arrays, runs, kept):
        crumbs.append(_drop_crumbs(arrays, atlas, kept, min_area_px))
        holes.append(_find_holes(arrays, atlas))
    kept[0] = False
    new_id = number_ids(arrays, kept)
    clean = new_id[labels]
    for pixels in crumbs:
        clean.reshape(-1)[pixels] = 0
    for pixels, owners in holes:
        _fill(clean, pixels, new_id[owners])
    return clean


def fill_label_holes(seeds: Array, min_area_px: int) -> Array:
    """Fill the holes of each connected seed and drop the small ones.

    Parameters
    ----------
    seeds : (Y, X) ndarray or tensor of int
        4-connected regions of one mask with ids 1..N.
    min_area_px : int
        Smaller regions, holes filled, go.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps; an instance inside another one's hole stays.
    """
    arrays = arrays_for(seeds)
    runs = find_runs(arrays, seeds)
    area = arrays.bincount(runs.ids, runs.n_ids, runs.length)
    holes = []
    for atlas in pack_cells(arrays, runs, _beside_pockets(arrays, seeds, runs.n_ids)):
        holes.append(_find_holes(arrays, atlas))
        area = area + arrays.bincount(holes[-1][1], runs.n_ids)
    kept = area >= max(1, min_area_px)
    kept[0] = False
    new_id = number_ids(arrays, kept)
    filled = new_id[seeds]
    for pixels, owners in holes:
        _fill(filled, pixels, new_id[owners])
    return filled


def _fill(labels: Array, pixels: Array, ids: Array) -> None:
    """Write ids at flat pixels where there is background, in place."""
    flat = labels.reshape(-1)
    free = flat[pixels] == 0
    flat[pixels[free]] = ids[free]


def _drop_crumbs(arrays: Arrays, atlas: Atlas, kept: Array, min_area_px: int) -> Array:
    """Find the pixels outside each cell's largest part; clear them in the atlas.

    Cells whose largest part is too small are no longer ``kept``, in place.
    """
    parts, n_parts = arrays.components(atlas.mask, 8)
    if n_parts == len(atlas.cells):
        return atlas.pixels[:0]
    part = arrays.cast(parts.reshape(-1)[atlas.places], "int64")
    n = n_parts + 1
    area = arrays.bincount(part, n)
    owner = arrays.highest(part, atlas.ids, n)
    owner[0] = 0
    # of equally large parts the one that comes first in the image stays
    first = arrays.lowest(part, atlas.pixels, n)
    largest = arrays.highest(owner, area, len(kept))
    leads = area == largest[owner]
    leading = arrays.lowest(owner[leads], first[leads], len(kept))
    is_main = leads & (first == leading[owner])
    kept[atlas.cells] = largest[atlas.cells] >= max(1, min_area_px)
    lost = ~is_main[part]
    atlas.mask.reshape(-1)[atlas.places[lost]] = 0
    return atlas.pixels[lost]


def _find_holes(arrays: Arrays, atlas: Atlas) -> tuple[Array, Array]:
    """Find the pixels that a cell encloses, and the id of the innermost cell that does."""
    outside, n_outside = arrays.components(atlas.mask == 0, 4)
    if n_outside == 1:
        return atlas.pixels[:0], atlas.pixels[:0]
    enclosed = (outside != outside[0, 0]) & (outside > 0)
    box, pixels = locate(arrays, atlas, arrays.nonzero(enclosed))
    # boxes are sorted by size: in a nest of cells the innermost has the last box
    in_order = arrays.order(-box)
    pixels, box = pixels[in_order], box[in_order]
    in_order = arrays.order(pixels)
    pixels, box = pixels[in_order], box[in_order]
    is_first = arrays.zeros(pixels.shape, like=pixels == 0)
    is_first[:1] = True
    is_first[1:] = pixels[1:] != pixels[:-1]
    return pixels[is_first], atlas.cells[box[is_first]]


def _beside_pockets(arrays: Arrays, seeds: Array, n_ids: int) -> Array:
    """Tell which seeds (n_ids,) touch background that does not reach the image's frame.

    All others have no hole.
    """
    ground, n_ground = arrays.components(seeds == 0, 4)
    is_pocket = arrays.bincount(ground[:0].reshape(-1), n_ground + 1) == 0
    for edge in (ground[0], ground[-1], ground[:, 0], ground[:, -1]):
        is_pocket[edge] = False
    is_pocket[0] = False
    found = arrays.bincount(seeds[:0].reshape(-1), n_ids) > 0
    if not bool(is_pocket.any()):
        return found
    width = seeds.shape[1]
    pocket = arrays.nonzero(is_pocket[ground])
    for step in (-width, width, -1, 1):  # a pocket never lies on the frame
        found[seeds.reshape(-1)[pocket + step]] = True
    found[0] = False
    return found
