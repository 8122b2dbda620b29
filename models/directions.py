"""CDNet's centripetal directions: targets, and the direction difference map.

He et al., CDNet: Centripetal Direction Network for Nuclear Instance Segmentation, ICCV 2021.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, arrays_for

LabelArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

N_DIRECTIONS = 8
# Weight of the direction difference map. The reference has 2; with networks trained as briefly as
# the shipped ones that splits large cells: mean F1 on 17 validation images was 0.574 with 2 and
# 0.626 with 1, best of a handful of values.
DIFFERENCE_GAIN = 1.0
POINT_SIGMA_PX = 2.0  # width of the Gaussian at each centre
_RAYS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))
# class -> unit vector (y, x); class 0 is the background, class 1 + i points at -180 + 45 i degrees
VECTORS = np.array([(0, 0), *_RAYS], np.float32)
CENTRE_HEIGHT = 0.2  # of the point map: centres above it, and their neighbours, are left alone


def _bits_at(*turns: int) -> NDArray[np.uint8]:
    """Give for each class the byte with a bit for each direction that many times 45 degrees off."""
    bits = [sum(1 << (i + turn) % N_DIRECTIONS for turn in turns) for i in range(N_DIRECTIONS)]
    return np.array([0, *bits], np.uint8)


_OWN_BIT, _SQUARE_BITS, _WIDE_BITS = _bits_at(0), _bits_at(2, 6), _bits_at(3, 4, 5)


def ray_lengths(labels: LabelArray) -> NDArray[np.int32]:
    """Measure how far each pixel's cell reaches along eight rays, 45 degrees apart.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        0 is background.

    Returns
    -------
    (8, Y, X) ndarray of int32
        Steps along each ray up to the last pixel of the same cell, counting the pixel itself.
    """
    height, width = labels.shape
    lengths = np.ones((len(_RAYS), height, width), np.int32)
    for length, (dy, dx) in zip(lengths, _RAYS, strict=True):
        if dy == 0:  # along the row: scan the transposed image
            _scan(length.T, labels.T, dx, 0)
        else:
            _scan(length, labels, dy, dx)
    return lengths


def _scan(length: NDArray[np.int32], labels: LabelArray, dy: int, dx: int) -> None:
    """Fill one ray's lengths, row after row, from the side it points to."""
    n_rows, n_columns = labels.shape
    rows = range(1, n_rows) if dy < 0 else range(n_rows - 2, -1, -1)
    here = slice(max(0, -dx), n_columns - max(0, dx))
    there = slice(max(0, dx), n_columns - max(0, -dx))
    for y in rows:
        same = labels[y, here] == labels[y + dy, there]
        length[y, here] += same * length[y + dy, there]


def find_ray_centres(labels: LabelArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pixel of each cell from which the contour is most evenly far.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Ids 1..N without gaps.

    Returns
    -------
    y, x : (N,) ndarrays of int64

    Notes
    -----
    Centerness is the shortest over the longest of eight rays. Ties, which long cells have
    many of, go to the pixel nearest to the centroid.
    """
    y, x = np.nonzero(labels)
    ids = labels[y, x]
    rays = ray_lengths(labels)[:, y, x].astype(np.float32)
    diagonal = np.array([2**0.5 if dy and dx else 1.0 for dy, dx in _RAYS], np.float32)
    rays *= diagonal[:, None]
    centerness = rays.min(0) / rays.max(0)
    n = int(labels.max(initial=0)) + 1
    area = np.maximum(np.bincount(ids, minlength=n), 1)
    dy = y - (np.bincount(ids, weights=y, minlength=n) / area)[ids]
    dx = x - (np.bincount(ids, weights=x, minlength=n) / area)[ids]
    order = np.lexsort((dy * dy + dx * dx, -centerness, ids))
    _, first = np.unique(ids[order], return_index=True)
    return y[order[first]], x[order[first]]


def encode_directions(labels: LabelArray) -> tuple[NDArray[np.uint8], FloatArray]:
    """Compute the direction classes and the point map of a label image.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Ids 1..N without gaps.

    Returns
    -------
    direction : (Y, X) ndarray of uint8
        0 outside; 1 + i where the centre lies at -180 + 45 i degrees (atan2 of y and x).
    point : (Y, X) ndarray of float32
        Gaussians of height 1 and sigma 2 px at the centres.

    Notes
    -----
    The reference takes the gradient of 1 - distance / largest distance; it points at the
    centre, so the angle is computed directly.
    """
    point = np.zeros(labels.shape, np.float32)
    if not labels.any():
        return np.zeros(labels.shape, np.uint8), point
    centre_y, centre_x = find_ray_centres(labels)
    point[centre_y, centre_x] = 1.0
    point = cv2.GaussianBlur(point, (0, 0), POINT_SIGMA_PX, borderType=cv2.BORDER_CONSTANT)
    point *= np.float32(2 * np.pi * POINT_SIGMA_PX**2)
    row = np.concatenate([[0], centre_y])[labels]
    column = np.concatenate([[0], centre_x])[labels]
    y, x = np.indices(labels.shape)
    angle = np.degrees(np.arctan2(row - y, column - x))
    sector = np.round((angle + 180.0) / 45.0).astype(np.int64) % N_DIRECTIONS
    return np.where(labels > 0, sector + 1, 0).astype(np.uint8), np.minimum(point, 1.0)


def direction_difference(direction: Array) -> Array:
    """Compute CDNet's direction difference map.

    Parameters
    ----------
    direction : (Y, X) ndarray or tensor of int
        Classes 0..8.

    Returns
    -------
    (Y, X) ndarray or tensor of float32
        0 where all eight neighbours point within 45 degrees of the pixel, 0.5 where one
        differs by 90 degrees or is background, 1 from 135 degrees on; 0 on background.

    Notes
    -----
    1 - round(smallest cosine to a neighbour), over its range 2 so that the map does not
    depend on what else is in the image. Directions being multiples of 45 degrees, each is a bit
    of a byte, and the byte of all neighbours tells which differences occur. Outside the image
    is background.
    """
    arrays = arrays_for(direction)
    tables = (arrays.table(values, direction) for values in (_OWN_BIT, _SQUARE_BITS, _WIDE_BITS))
    own, square, wide = (table[arrays.cast(direction, "int64")] for table in tables)
    height, width = direction.shape
    padded = arrays.zeros((height + 2, width + 2), like=own)
    padded[1:-1, 1:-1] = own
    around = arrays.zeros((height, width), like=own)
    all_cell = own > 0
    for dy, dx in _RAYS:
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        around |= neighbour
        all_cell &= neighbour > 0
    differs = ((around & square) > 0) | (~all_cell & (own > 0))
    differs_much = (around & wide) > 0
    return (arrays.cast(differs | differs_much, "float32") + differs_much) / 2.0


def strongest_direction(background: Array, directions: Array) -> Array:
    """Choose the direction class of each pixel.

    Parameters
    ----------
    background : (Y, X) ndarray or tensor of float32
        Score of class 0, on the scale of the others.
    directions : (8, Y, X) ndarray or tensor of float32
        Scores of the classes 1..8.

    Returns
    -------
    (Y, X) ndarray or tensor of uint8
        The class of the highest score, the lowest such class.
    """
    arrays = arrays_for(background)
    best = background
    winner = arrays.cast(arrays.zeros(background.shape, like=background), "uint8")
    for i, score in enumerate(directions):
        wins = score > best
        best = arrays.where(wins, score, best)
        winner = arrays.where(wins, i + 1, winner)
    return winner


def raise_boundary(boundary: Array, direction: Array, point: Array) -> Array:
    """Raise the boundary's score where directions part.

    Parameters
    ----------
    boundary : (Y, X) ndarray or tensor of float32
        Probability P.
    direction : (Y, X) ndarray or tensor of uint8
        Direction classes, 0 the background.
    point : (Y, X) ndarray or tensor of float32
        Point map, 1 at centres.

    Returns
    -------
    (Y, X) ndarray or tensor of float32
        No longer a probability: (P + E / 2) (1 + E) with E = gain x DDM away from centres.

    Notes
    -----
    The reference divides the point map by its largest value in the image; here its height is
    1 by training, so that the answer does not depend on the block.
    """
    is_centre = point > CENTRE_HEIGHT
    near_centre = is_centre | False
    near_centre[1:] |= is_centre[:-1]
    near_centre[:-1] |= is_centre[1:]
    near_centre[:, 1:] |= is_centre[:, :-1]
    near_centre[:, :-1] |= is_centre[:, 1:]
    extra = DIFFERENCE_GAIN * direction_difference(direction) * ~near_centre
    return (boundary + 0.5 * extra) * (1.0 + extra)


def refine_boundary(
    mask_prob: FloatArray, direction_prob: FloatArray, point: FloatArray
) -> FloatArray:
    """Raise the boundary probability where directions part.

    Parameters
    ----------
    mask_prob : (3, Y, X) ndarray of float32
        Background, inside and boundary probabilities.
    direction_prob : (9, Y, X) ndarray of float32
        Direction class probabilities, 0 the background.
    point : (Y, X) ndarray of float32
        Point map, 1 at centres.

    Returns
    -------
    (3, Y, X) ndarray of float32
        Scores; the boundary's as :func:`raise_boundary` has it.
    """
    direction = strongest_direction(direction_prob[0] * mask_prob[0], direction_prob[1:])
    refined = mask_prob.copy()
    refined[2] = raise_boundary(mask_prob[2], direction, point)
    return refined
