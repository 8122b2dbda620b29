"""Dense tissue with exact labels, and maps such as a network would give for it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.directions import encode_directions
from models.flow_targets import encode_flows
from models.instances import renumber
from models.mask_classes import BOUNDARY, INSIDE, encode_mask

LabelArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

FLOW_GAIN = 5.0
JITTER, RADII = 0.16, (0.36, 0.6)  # in units of the distance between neighbours
MERGED_SHARE = 0.15  # of the area: there a network sees no boundary between cells
LOGIT = 4.0  # between the right class and the others


def draw_tissue(
    shape: tuple[int, int], n_cells: int, rng: np.random.Generator, stretch: float = 1.0
) -> LabelArray:
    """Draw cells around the points of a jittered hexagonal grid, many of them touching.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    n_cells : int
        About how many; the grid settles how many exactly.
    rng : Generator
    stretch : float
        Length over width of the grid, and so of the cells on average.

    Returns
    -------
    (Y, X) ndarray of int32
        Ids 1..N; about 70 % of the image is cell.
    """
    height, width = shape[0], max(1, round(shape[1] / stretch))
    spacing = float(np.sqrt(height * width / n_cells * 2 / np.sqrt(3)))
    rows = np.arange(spacing * 0.43, height, spacing * np.sqrt(3) / 2)
    columns = np.arange(spacing * 0.25, width, spacing)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=2)
    points[1::2, :, 1] += spacing / 2
    points += rng.normal(scale=JITTER * spacing, size=points.shape)
    y, x = np.clip(points.reshape(-1, 2).round().astype(int), 0, [height - 1, width - 1]).T
    elsewhere = np.ones((height, width), np.uint8)
    elsewhere[y, x] = 0
    distance, nearest = cv2.distanceTransformWithLabels(
        elsewhere, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    radius = rng.uniform(*RADII, int(nearest.max()) + 1) * spacing
    cells = np.where(distance < radius[nearest], nearest, 0).astype(np.float32)
    stretched = cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return renumber(stretched.astype(np.int32))


def render_flow_maps(labels: LabelArray, rng: np.random.Generator, noise: float) -> FloatArray:
    """Give maps like CPnet's (3, Y, X): targets blurred, with fine and with coarse noise.

    ``noise`` is the standard deviation of a flow of length 1.
    """
    flows = [cv2.GaussianBlur(axis, (0, 0), 1.0) for axis in encode_flows(labels)]
    flows = [axis + noise * _fine(labels, rng) + noise * _coarse(labels, rng) for axis in flows]
    logit = cv2.GaussianBlur(np.where(labels > 0, 6.0, -6.0), (0, 0), 1.0)
    logit += 5 * noise * _fine(labels, rng)
    return np.stack([FLOW_GAIN * flows[0], FLOW_GAIN * flows[1], logit]).astype(np.float32)


def render_class_maps(labels: LabelArray, rng: np.random.Generator, noise: float) -> FloatArray:
    """Give maps like CDNet's (13, Y, X), the U-Net's being the first 3, with merged cells.

    ``noise`` is the standard deviation of a logit, the classes being 4 apart.
    """
    direction, point = encode_directions(labels)
    mask = encode_mask(labels)
    fog = _coarse(labels, rng, 10.0)
    merged = (fog > np.quantile(fog, 1 - MERGED_SHARE)) & (mask == BOUNDARY) & (labels > 0)
    mask[merged] = INSIDE
    maps = [
        *_render_classes(mask, 3, rng, noise),
        cv2.GaussianBlur(point, (0, 0), 0.7),
        *_render_classes(direction, 9, rng, noise),
    ]
    return np.stack(maps).astype(np.float32)


def _render_classes(
    classes: NDArray[np.uint8], n: int, rng: np.random.Generator, noise: float
) -> list[FloatArray]:
    """Give one blurred, noisy logit (Y, X) a class."""
    return [
        LOGIT * cv2.GaussianBlur((classes == i).astype(np.float32), (0, 0), 0.8)
        + noise * _fine(classes, rng)
        for i in range(n)
    ]


def _fine(like: NDArray[np.integer], rng: np.random.Generator) -> FloatArray:
    """Give noise of deviation 1, independent at each pixel."""
    return rng.standard_normal(like.shape, np.float32)


def _coarse(
    like: NDArray[np.integer], rng: np.random.Generator, sigma_px: float = 4.0
) -> FloatArray:
    """Give smooth noise of deviation 1, far from edges."""
    blurred: FloatArray = cv2.GaussianBlur(_fine(like, rng), (0, 0), sigma_px)
    return blurred * np.float32(2 * np.sqrt(np.pi) * sigma_px)
