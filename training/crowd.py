"""Lay the cells of one crop beside and over those of another: crowds with exact labels.

Nuclei that touch are what fluorescence experts lose most often, and few of those in a data set do.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.mask_classes import disc
from training.augment import Patch

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]

SLACK_PX = 48  # the second crop is larger by this, to be moved until its cells touch the first's
N_PLACES = 12  # of the second crop that are tried
MOST_COVERED = 0.2  # of a cell that may lie under or over another
HALO_PX = 2  # around a cell, for the glow that its outline leaves out
FEATHER_PX = 1.0  # blur of the edge along which a cell is cut out
ADD_SHARE = 0.6  # of the crowds whose light adds up, as in a widefield image; else the upper hides


def crowd_patch(below: Patch, above: Patch, rng: np.random.Generator) -> Patch:
    """Add the cells of a second crop where many of them touch those of the first.

    Parameters
    ----------
    below : Patch
        (Y, X) pixels.
    above : Patch
        Of the same kind of image, at least as large; what is larger is room to move it.
    rng : Generator
        Places tried, brightness, and whether light adds up.

    Returns
    -------
    Patch
        As large as ``below``. Cells of which more than a fifth would be covered, or that would
        cover as much of another, or whose outline is not trusted, are not added. The flow of a
        partly covered cell still leads to the centre that it had.
    """
    corner, keep = _choose_place(below, above, rng)
    if not keep.any():
        return below
    upper = _cut(above, corner, below.labels.shape)
    kept = keep[upper.labels]
    image = _blend(below.image, upper, kept, rng)
    labels = np.where(kept, upper.labels + below.labels.max(initial=0), below.labels)
    flow = np.where(kept, upper.flow, below.flow)
    return replace(below, image=image, labels=labels.astype(np.int32), flow=flow)


def _choose_place(
    below: Patch, above: Patch, rng: np.random.Generator
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Find the corner of ``above`` with most touching cells, and which ids may be added there."""
    near = cv2.dilate((below.labels > 0).astype(np.uint8), disc(1)) > 0
    slack = [up - low for up, low in zip(above.labels.shape, below.labels.shape, strict=True)]
    best, corner = np.zeros(1, bool), (0, 0)
    most = 0
    for _ in range(N_PLACES):
        place = (int(rng.integers(slack[0] + 1)), int(rng.integers(slack[1] + 1)))
        upper = _cut(above, place, below.labels.shape)
        keep = choose_cells(below.labels, upper.labels, upper.trusted & below.trusted)
        touching = np.unique(upper.labels[near & keep[upper.labels]]).size
        if touching > most:
            best, corner, most = keep, place, touching
    return corner, best


def choose_cells(below: IntArray, above: IntArray, trusted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose the cells of ``above`` that leave all cells mostly visible.

    Parameters
    ----------
    below, above : (Y, X) ndarray of int32
        0 is background.
    trusted : (Y, X) ndarray of bool

    Returns
    -------
    (1 + largest id of ``above``,) ndarray of bool
        False for the background.
    """
    n_above, n_below = int(above.max(initial=0)) + 1, int(below.max(initial=0)) + 1
    pair = above.astype(np.int64) * n_below + below
    shared = np.bincount(pair.ravel(), minlength=n_above * n_below).reshape(n_above, n_below)
    area_above, area_below = shared.sum(1), shared.sum(0)
    covered = shared[:, 1:]
    keep = covered.sum(1) <= MOST_COVERED * area_above
    keep &= (covered <= MOST_COVERED * area_below[1:]).all(1)
    keep &= area_above > 0
    keep &= np.bincount(above[~trusted], minlength=n_above) == 0
    keep[0] = False
    return keep


def _cut(patch: Patch, corner: tuple[int, int], shape: tuple[int, ...]) -> Patch:
    """Cut a box of ``shape`` (Y, X) at a corner."""
    box = (slice(corner[0], corner[0] + shape[0]), slice(corner[1], corner[1] + shape[1]))
    return Patch(patch.image[box], patch.labels[box], patch.flow[:, *box], patch.trusted[box])


def _blend(
    image: FloatArray, upper: Patch, kept: NDArray[np.bool_], rng: np.random.Generator
) -> FloatArray:
    """Add the light of the kept cells, or let them hide what is below."""
    mask = cv2.dilate(kept.astype(np.float32), disc(HALO_PX))
    mask = cv2.GaussianBlur(mask, (0, 0), FEATHER_PX)[:, :, None]
    if rng.random() >= ADD_SHARE:
        hidden: FloatArray = image * (1 - mask) + upper.image * mask
        return hidden
    ground = (upper.labels == 0) & upper.trusted
    # the dark tenth where cells leave no ground
    dark = np.percentile(upper.image, 10, axis=(0, 1)) if ground.sum() < 50 else None
    level = np.median(upper.image[ground], axis=0) if dark is None else dark
    light = np.maximum(upper.image - level.astype(np.float32), 0)
    return image + mask * light * np.float32(np.exp(rng.normal(0, 0.3)))
