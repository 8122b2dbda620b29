"""CDNet's decoding written plainly: the slow reference that the fast one must equal.

One step of the definition after the other on whole arrays, by SciPy and scikit-image, objects
in a loop. Nothing is shared with :mod:`models`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import softmax
from skimage.morphology import h_maxima
from skimage.segmentation import expand_labels, watershed

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int32]

RAYS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))
CENTRE_HEIGHT = 0.2
MIN_AREA_PX = 20
GROW_PX = 2
WAIST_SHARE, WAIST_PX = 0.2, 1.0
GAIN = 1.0  # of the direction difference map; the paper has 2 (see models.directions)


def decode_cdnet_plainly(maps: FloatArray) -> LabelArray:
    """Decode CDNet's maps.

    Parameters
    ----------
    maps : (13, Y, X) ndarray of float32
        Mask logits (3), point map (1), direction logits (9).

    Returns
    -------
    (Y, X) ndarray of int32
        Ids, 0 is background.

    Notes
    -----
    He et al., CDNet, ICCV 2021, and the cut at waists that this project adds.
    """
    mask_prob = softmax(maps[:3], axis=0)
    direction_prob = softmax(maps[4:], axis=0)
    direction_prob[0] *= mask_prob[0]
    difference = difference_map(direction_prob.argmax(0))
    near_centre = ndimage.binary_dilation(maps[3] > CENTRE_HEIGHT)
    extra = GAIN * difference * ~near_centre
    mask_prob[2] = (mask_prob[2] + 0.5 * extra) * (1.0 + extra)
    return decode_mask_plainly(mask_prob, split=True)


def difference_map(direction: NDArray[np.integer]) -> FloatArray:
    """Compute the direction difference map (Y, X), 0 to 1, of direction classes 0..8."""
    vectors = np.array([(0, 0), *RAYS], np.float32)[direction]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True) + 1e-6
    padded = np.pad(vectors, ((1, 1), (1, 1), (0, 0)))
    height, width = direction.shape
    cosines = [
        (vectors * padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]).sum(2)
        for dy, dx in RAYS
    ]
    smallest = np.where(direction > 0, np.min(cosines, axis=0), 1.0)
    return ((1.0 - np.round(smallest)) / 2.0).astype(np.float32)


def decode_mask_plainly(prob: FloatArray, *, split: bool) -> LabelArray:
    """Decode scores (3, Y, X) of background, inside and boundary; cut waists if told."""
    winner = prob.argmax(0)
    connected, _ = ndimage.label(winner == 1)
    seeds = np.zeros(winner.shape, np.int32)
    for i, box in enumerate(ndimage.find_objects(connected), start=1):
        mask = ndimage.binary_fill_holes(connected[box] == i)
        if np.count_nonzero(mask) >= MIN_AREA_PX:
            seeds[box][mask] = i
    if split and seeds.any():
        seeds = _cut_waists(seeds)
    grown: LabelArray = expand_labels(seeds, GROW_PX)
    grown[(winner == 0) & (seeds == 0)] = 0
    return grown


def _cut_waists(seeds: LabelArray) -> LabelArray:
    """Part objects by a watershed of their depth, from h-maxima."""
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(seeds > 0), 1.0)
    deepest = np.zeros(int(seeds.max()) + 1)
    for i, box in enumerate(ndimage.find_objects(seeds), start=1):
        if box is not None:
            deepest[i] = depth[box][seeds[box] == i].max()
    limit = np.maximum(WAIST_SHARE * deepest, WAIST_PX)[seeds]
    relative = np.where(seeds > 0, depth / limit, 0.0)
    markers, _ = ndimage.label((h_maxima(relative, 1.0) > 0) & (seeds > 0), np.ones((3, 3)))
    parts: LabelArray = watershed(-relative, markers, mask=seeds > 0).astype(np.int32)
    whole = (seeds > 0) & (parts == 0)
    parts[whole] = seeds[whole] + parts.max()
    return parts
