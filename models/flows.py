"""Cellpose's flow representation: labels to flows, and flows back to labels.

The representation is that of Stringer et al., *Cellpose*, Nature Methods 2021: every pixel of
a cell holds the unit vector of the gradient of heat that diffuses from the cell's centre.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels
from torch.nn import functional as F

LabelArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

N_STEPS = 200  # Euler steps of one pixel each (Cellpose's default at a diameter of 30 px)
SEED_WINDOW_PX = 5  # side of the window in which a seed is the maximum (Cellpose)
SEED_MIN_HITS = 10  # pixels that must end on a seed (Cellpose)
GROW_PX = 5.0  # how far around a seed end points still belong to it (Cellpose: 11 x 11)
GROW_MIN_HITS = 2  # end points a pixel needs to count around a seed (Cellpose)
MIN_AREA_PX = 15  # smaller instances are noise (Cellpose's min_size)
MAX_FLOW_ERROR = 0.4  # mean squared difference of flows (Cellpose's flow_threshold)


def find_centres(labels: LabelArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find, for every instance, its pixel nearest to its centroid.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Label image with ids 1..N without gaps.

    Returns
    -------
    y, x : (N,) ndarrays of int64
        Pixel coordinates, in the order of the ids; empty for an empty label image.
    """
    y, x = np.nonzero(labels)
    ids = labels[y, x]
    n = int(labels.max(initial=0)) + 1
    area = np.maximum(np.bincount(ids, minlength=n), 1)
    dy = y - (np.bincount(ids, weights=y, minlength=n) / area)[ids]
    dx = x - (np.bincount(ids, weights=x, minlength=n) / area)[ids]
    order = np.lexsort((dy * dy + dx * dx, ids))
    _, first = np.unique(ids[order], return_index=True)
    chosen = order[first]
    return y[chosen], x[chosen]


def encode_flows(labels: LabelArray) -> FloatArray:
    """Compute the flow target of a label image.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Label image with ids 1..N without gaps, 0 = background.

    Returns
    -------
    (2, Y, X) ndarray of float32
        Unit vectors (y, x) towards the centre inside cells, 0 outside.

    Notes
    -----
    Heat is added at the centre of each cell in every step and averaged over the 3 x 3
    neighbours of the same cell; the flow is the direction of the gradient of its logarithm.
    All cells of an image diffuse at once, over their own pixels only.
    """
    flow = np.zeros((2, *labels.shape), np.float32)
    if not labels.any():
        return flow
    padded = np.pad(labels, 1)
    y, x = np.nonzero(padded)
    steps = 2 * _extents(labels)
    # cells that need most steps come first, so that those still diffusing are a prefix
    order = np.argsort(-steps[padded[y, x]], kind="stable")
    y, x = y[order], x[order]
    index = np.zeros(padded.shape, np.int64)
    index[y, x] = np.arange(1, y.size + 1)
    neighbours = np.stack(
        [
            np.where(padded[y + dy, x + dx] == padded[y, x], index[y + dy, x + dx], 0)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    )
    centre_y, centre_x = find_centres(labels)
    source = index[centre_y + 1, centre_x + 1]
    log_heat = np.log1p(_diffuse(neighbours, source, steps[padded[y, x]]))
    own = log_heat[1:]
    up, down, left, right = (
        np.where(neighbours[k] > 0, log_heat[neighbours[k]], own) for k in (1, 7, 3, 5)
    )
    vector = np.stack([down - up, right - left])
    vector /= np.sqrt((vector**2).sum(0)) + 1e-20
    flow[:, y - 1, x - 1] = vector
    return flow


def _extents(labels: LabelArray) -> NDArray[np.int64]:
    """Measure height plus width of every id's bounding box, 0 for the background."""
    extents = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            extents[i] = sum(side.stop - side.start for side in box)
    return extents


def _diffuse(
    neighbours: NDArray[np.int64], source: NDArray[np.int64], steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Diffuse heat, each cell for its own number of steps, so that none depends on another.

    ``neighbours`` (9, N) are 1-based pixel indices, 0 for none; ``steps`` (N,) never rise.
    """
    heat = torch.zeros(steps.size + 1, dtype=torch.float64)
    first, done = np.unique(-steps, return_index=True)[1], 0
    bounds = [*first[1:], steps.size]
    for n_active, until in sorted(zip(bounds, steps[first], strict=True), reverse=True):
        gather = torch.from_numpy(np.ascontiguousarray(neighbours[:, :n_active]))
        hot = torch.from_numpy(source[source <= n_active])
        for _ in range(done, int(until)):
            heat[hot] += 1.0
            heat[1 : n_active + 1] = heat[gather].sum(0) / 9.0
        done = int(until)
    return heat.numpy()


def follow_flows(
    flow: torch.Tensor, inside: torch.Tensor, n_steps: int = N_STEPS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move every inside pixel along the flow by Euler steps.

    Parameters
    ----------
    flow : (2, Y, X) float tensor
        Vectors (y, x) in pixels a step.
    inside : (Y, X) bool tensor
        The pixels to move.
    n_steps : int
        Number of steps.

    Returns
    -------
    start, end : (N, 2) int64 tensors
        Pixel coordinates (y, x) before and after, on the tensors' device.
    """
    start = torch.nonzero(inside)
    size = torch.tensor(flow.shape[1:], device=flow.device)
    # grid_sample wants (x, y) in [-1, 1]; work in those units throughout
    # and in float64, so that a pixel ends at the same place whatever region it is seen in
    to_unit = (2.0 / (size - 1).clamp(min=1)).flip(0).double()
    position = start.flip(1) * to_unit - 1.0
    field = (flow * inside).flip(0)[None].double() * to_unit[None, :, None, None]
    position = position[None, None]
    for _ in range(n_steps):
        step = F.grid_sample(field, position, align_corners=True)
        position = (position + step[0].permute(1, 2, 0)[None]).clamp(-1.0, 1.0)
    end = ((position[0, 0] + 1.0) / to_unit).round().to(torch.int64).flip(1)
    return start, torch.minimum(end, size - 1)


def decode_flows(
    maps: FloatArray, device: str = "cpu", max_flow_error: float = MAX_FLOW_ERROR
) -> LabelArray:
    """Turn Cellpose's raw maps into instances.

    Parameters
    ----------
    maps : (3, Y, X) ndarray of float32
        Flow y and x times 5, and the cell logit, as the network gives them.
    device : str
        Torch device that follows the flows.
    max_flow_error : float
        Instances whose own flow differs more from the predicted one are dropped;
        0 or less keeps all.

    Returns
    -------
    (Y, X) ndarray of int32
        Ids 1..N without gaps, in raster order of their seeds; all 0 if nothing is found.

    Notes
    -----
    End points pile up at the centres of cells; their local maxima are seeds, and a pixel
    belongs to the seed near which it ends (Stringer et al. 2021, Methods).
    """
    labels = np.zeros(maps.shape[1:], np.int32)
    tensor = torch.from_numpy(np.ascontiguousarray(maps)).to(device)
    inside = tensor[2] > 0
    if not bool(inside.any()):
        return labels
    start, end = (t.cpu().numpy() for t in follow_flows(tensor[:2] / 5.0, inside))
    hits = np.zeros(labels.shape, np.int32)
    np.add.at(hits, (end[:, 0], end[:, 1]), 1)
    peak = (hits == ndimage.maximum_filter(hits, SEED_WINDOW_PX)) & (hits > SEED_MIN_HITS)
    seeds, n_seeds = ndimage.label(ndimage.binary_dilation(peak), structure=np.ones((3, 3)))
    if n_seeds == 0:
        return labels
    basin = expand_labels(seeds, GROW_PX)
    basin[hits <= GROW_MIN_HITS] = 0
    labels[start[:, 0], start[:, 1]] = basin[end[:, 0], end[:, 1]]
    labels = clean_instances(labels, MIN_AREA_PX)
    if max_flow_error > 0 and labels.any():
        error = flow_errors(labels, maps[:2] / 5.0)
        labels = renumber(np.where((error > max_flow_error)[labels], 0, labels))
    return labels


def flow_errors(labels: LabelArray, flow_yx: FloatArray) -> NDArray[np.float64]:
    """Compare each instance's own flow with the predicted flow.

    Parameters
    ----------
    labels : (Y, X) ndarray of int32
        Ids 1..N without gaps.
    flow_yx : (2, Y, X) ndarray of float32
        Predicted flow, unit vectors where the network is sure.

    Returns
    -------
    (N + 1,) ndarray of float64
        Mean squared difference over the pixels of each id; 0 for the background.
    """
    difference = ((encode_flows(labels) - flow_yx) ** 2).sum(0)
    flat = labels.ravel()
    total = np.bincount(flat, weights=difference.ravel())
    error: NDArray[np.float64] = total / np.maximum(np.bincount(flat), 1)
    error[0] = 0.0
    return error


def renumber(labels: NDArray[np.integer]) -> LabelArray:
    """Give ids 1..N without gaps, keeping their order.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.

    Returns
    -------
    (Y, X) ndarray of int32
        The same instances.
    """
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    new_id = np.cumsum(present) * present
    return new_id[labels].astype(np.int32)


def clean_instances(labels: NDArray[np.integer], min_area_px: int) -> LabelArray:
    """Drop small instances, keep the largest part of each and fill its holes.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.
    min_area_px : int
        Instances with fewer pixels go.

    Returns
    -------
    (Y, X) ndarray of int32
        Ids 1..N without gaps, each one 8-connected region without holes.
    """
    labels = renumber(labels)
    clean = np.zeros_like(labels)
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == i
        if np.count_nonzero(mask) < min_area_px:
            continue
        parts, n_parts = ndimage.label(mask, structure=np.ones((3, 3)))
        if n_parts > 1:
            mask = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        if np.count_nonzero(mask) < min_area_px:
            continue
        view = clean[box]
        filled = ndimage.binary_fill_holes(mask)
        view[filled & ((view == 0) | mask)] = i
    return renumber(clean)
