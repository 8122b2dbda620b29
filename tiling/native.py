"""Bring labels from network pixels back to native pixels."""

import numpy as np
import numpy.typing as npt

from imaging.image import Box
from tiling.sampling import Float32, Geometry

Labels = npt.NDArray[np.int32]


def labels_to_native(
    labels: Labels, foreground: Float32, region: Box, geometry: Geometry, box: Box
) -> Labels:
    """Resample a region's labels to a box of native pixels.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        In network pixels.
    foreground : (Y, X) ndarray of float32
        Network output that crosses zero at outlines; only its magnitude is used.
    region : Box
        Where both lie, in network pixels.
    geometry : Geometry
    box : Box
        Native pixels wanted, with centres inside the region.

    Returns
    -------
    (Y, X) ndarray of int32
        Equal to `labels` at scale 1 and the nearest label where the network saw more pixels than
        there are. Where it saw fewer, an outline lies where the foreground, interpolated linearly
        between pixel centres, is zero, and inside it the nearest id holds.

    Notes
    -----
    The decoder has the last word on which network pixels are cell (it fills holes and drops
    specks), so the foreground's magnitude is used with the sign that the labels give it.
    """
    y0, x0, y1, x1 = box
    if geometry.is_identity:
        return labels[y0 - region[0] : y1 - region[0], x0 - region[1] : x1 - region[1]]
    lower_y, weight_y = _positions(geometry, (y0, y1), region[0], labels.shape[0], axis=0)
    lower_x, weight_x = _positions(geometry, (x0, x1), region[1], labels.shape[1], axis=1)
    nearest: Labels = labels[np.ix_(lower_y + (weight_y >= 0.5), lower_x + (weight_x >= 0.5))]
    if not geometry.shrinks:
        return nearest
    magnitude = np.maximum(np.abs(foreground), np.float32(1e-6))
    signed = np.where(labels > 0, magnitude, -magnitude)
    inside = _interpolate(signed, lower_y, weight_y, lower_x, weight_x) > 0
    native = np.where(inside, nearest, 0).astype(np.int32, copy=False)
    rows, columns = np.nonzero(inside & (native == 0))
    native[rows, columns] = _nearest_labelled(
        labels, lower_y[rows], weight_y[rows], lower_x[columns], weight_x[columns]
    )
    return native


def _positions(
    geometry: Geometry, span: tuple[int, int], origin: int, side: int, axis: int
) -> tuple[npt.NDArray[np.intp], Float32]:
    """Find the network pixel before each native pixel and the weight of the one after it."""
    position = geometry.network_coordinates(*span, axis) - origin
    position = np.clip(position, 0, side - 1)
    lower = np.minimum(np.floor(position).astype(np.intp), max(0, side - 2))
    return lower, (position - lower).astype(np.float32)


def _interpolate(
    values: Float32,
    lower_y: npt.NDArray[np.intp],
    weight_y: Float32,
    lower_x: npt.NDArray[np.intp],
    weight_x: Float32,
) -> Float32:
    """Interpolate (Y, X) values bilinearly on a grid of positions."""
    upper_y = np.minimum(lower_y + 1, values.shape[0] - 1)
    upper_x = np.minimum(lower_x + 1, values.shape[1] - 1)
    rows = values[lower_y] * (1 - weight_y)[:, None] + values[upper_y] * weight_y[:, None]
    blended: Float32 = rows[:, lower_x] * (1 - weight_x) + rows[:, upper_x] * weight_x
    return blended


def _nearest_labelled(
    labels: Labels,
    lower_y: npt.NDArray[np.intp],
    weight_y: Float32,
    lower_x: npt.NDArray[np.intp],
    weight_x: Float32,
) -> Labels:
    """Return the nearest id among the four network pixels around each position."""
    best = np.zeros(len(lower_y), np.int32)
    best_distance = np.full(len(lower_y), np.inf, np.float32)
    for step_y in (0, 1):
        for step_x in (0, 1):
            y = np.minimum(lower_y + step_y, labels.shape[0] - 1)
            x = np.minimum(lower_x + step_x, labels.shape[1] - 1)
            distance = (weight_y - step_y) ** 2 + (weight_x - step_x) ** 2
            nearer = (labels[y, x] > 0) & (distance < best_distance)
            best[nearer], best_distance[nearer] = labels[y[nearer], x[nearer]], distance[nearer]
    return best
