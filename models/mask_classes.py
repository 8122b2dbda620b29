"""The three-class mask of the U-Net and CDNet: background, inside, boundary."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, arrays_for
from models.instances import fill_label_holes
from models.waists import split_at_waists

LabelArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

BACKGROUND, INSIDE, BOUNDARY = 0, 1, 2
INNER_PX = 2  # thickness of the boundary inside the cell (CDNet: eroded by a disc of 2)
OUTER_PX = 1  # and outside
SMALL_SHARE = 0.3  # a cell that would keep less of its area is eroded by 1 px only
MIN_AREA_PX = 20  # smaller insides are noise (CDNet)


def disc(radius_px: int) -> NDArray[np.uint8]:
    """Make a disc-shaped structuring element."""
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    return (y * y + x * x <= radius_px * radius_px + 0.5).astype(np.uint8)


def erode_labels(labels: LabelArray, radius_px: int) -> NDArray[np.bool_]:
    """Find the cell pixels whose disc lies within the same cell; the frame does not erode.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Ids below 2**24.
    radius_px : int
        Of the disc.

    Returns
    -------
    (Y, X) ndarray of bool
    """
    ids = labels.astype(np.float32)  # OpenCV's filters take no int32
    element = disc(radius_px)
    same = cv2.erode(ids, element) == cv2.dilate(ids, element)
    inside: NDArray[np.bool_] = same & (labels > 0)
    return inside


def encode_mask(labels: LabelArray) -> NDArray[np.uint8]:
    """Turn labels into the three-class mask.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        0 is background; ids may have gaps.

    Returns
    -------
    (Y, X) ndarray of uint8
        0 background, 1 inside, 2 boundary: the outer 2 px of each cell and 1 px around it.
        Cells that would lose most of their area keep all but 1 px.

    Notes
    -----
    He et al., CDNet, ICCV 2021: dilation less erosion.
    """
    inside = erode_labels(labels, INNER_PX)
    n = int(labels.max(initial=0)) + 1
    area = np.bincount(labels.ravel(), minlength=n)
    kept = np.bincount(labels[inside], minlength=n)
    is_small = kept < SMALL_SHARE * area
    is_small[0] = False
    if is_small.any():
        small = is_small[labels]
        thin = erode_labels(labels, 1)
        inside = np.where(small, thin, inside)
        lost = np.bincount(labels[inside], minlength=n) == 0
        inside |= lost[labels] & (labels > 0)
    grown = cv2.dilate((labels > 0).astype(np.uint8), disc(OUTER_PX)) > 0
    mask = np.where(grown, BOUNDARY, BACKGROUND).astype(np.uint8)
    mask[inside] = INSIDE
    return mask


def find_touching(labels: LabelArray, radius_px: int = INNER_PX) -> NDArray[np.bool_]:
    """Find the pixels that have two different cells within a disc.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Ids below 2**24, 0 is background.
    radius_px : int
        Of the disc.

    Returns
    -------
    (Y, X) ndarray of bool
    """
    ids = labels.astype(np.float32)
    element = disc(radius_px)
    highest = cv2.dilate(ids, element)
    lowest = cv2.erode(np.where(ids > 0, ids, np.float32(2**24)), element)
    touching: NDArray[np.bool_] = (highest > 0) & (lowest < highest)
    return touching


def decode_mask(prob: Array, grow_px: int = INNER_PX, *, split: bool = False) -> Array:
    """Turn class probabilities into instances.

    Parameters
    ----------
    prob : (3, Y, X) ndarray or tensor of float32, or a sequence of three
        Background, inside, boundary; probabilities, or any score that grows with them.
    grow_px : int
        How far instances grow back over the boundary class.
    split : bool
        Whether connected insides are cut at their waists.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps: the connected insides without holes and of at least 20 px,
        grown into the boundary class.
    """
    background, inside, boundary = prob
    arrays = arrays_for(inside)
    is_inside = (inside > background) & (inside >= boundary)
    foreground = is_inside | (boundary > background)
    connected, _ = arrays.components(is_inside, 4)
    seeds = fill_label_holes(connected, MIN_AREA_PX)
    if split:
        seeds = split_at_waists(seeds)
    return grow_seeds(seeds, foreground, grow_px)


def grow_seeds(seeds: Array, foreground: Array, grow_px: int) -> Array:
    """Grow seeds within the foreground.

    Parameters
    ----------
    seeds : (Y, X) ndarray or tensor of int32
        0 where there is none.
    foreground : (Y, X) ndarray or tensor of bool
        Where they may grow.
    grow_px : int
        How far, straight from the seed.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Each free pixel has the id of the nearest seed; of equally near ones, of the one that
        lies above it, then of the one to its left.
    """
    arrays = arrays_for(seeds)
    height, width = seeds.shape
    wide = width + 2 * grow_px
    padded = arrays.zeros((height + 2 * grow_px, wide), like=seeds)
    padded[grow_px : grow_px + height, grow_px : grow_px + width] = seeds
    free = arrays.nonzero(foreground & (seeds == 0))
    place = (free // width + grow_px) * wide + free % width + grow_px
    found = arrays.zeros(free.shape, like=seeds)
    for dy, dx in _nearest_first(grow_px):
        found = arrays.where(found > 0, found, padded.reshape(-1)[place + dy * wide + dx])
    grown = arrays.cast(seeds + 0, "int32")
    grown.reshape(-1)[free] = found
    return grown


def _nearest_first(radius_px: int) -> list[tuple[int, int]]:
    """List the offsets (y, x) within a disc, without the middle, by distance."""
    side = range(-radius_px, radius_px + 1)
    offsets = [(y, x) for y in side for x in side if 0 < y * y + x * x <= radius_px * radius_px]
    return sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset))


def mask_foreground(logits: FloatArray) -> FloatArray:
    """Give by how much the better of inside and boundary beats the background.

    Parameters
    ----------
    logits : (3, Y, X) ndarray of float32
        Background, inside, boundary.

    Returns
    -------
    (Y, X) ndarray of float32
    """
    score: FloatArray = np.maximum(logits[INSIDE], logits[BOUNDARY]) - logits[BACKGROUND]
    return score
