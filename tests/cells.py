"""Exact label images for tests: discs and ellipses at known places."""

import numpy as np


def draw_discs(shape, discs):
    """Draw discs (y, x, radius) as ids 1..N, later ones only on free pixels."""
    labels = np.zeros(shape, np.int32)
    y, x = np.indices(shape)
    for i, (cy, cx, radius) in enumerate(discs, start=1):
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
        labels[inside & (labels == 0)] = i
    return labels


def draw_touching_pairs(shape=(96, 128), radius=10):
    """Draw a grid of discs of which each touches its right neighbour."""
    step = 2 * radius + 4
    discs = []
    for row, cy in enumerate(range(radius + 3, shape[0] - radius, step)):
        for column, cx in enumerate(range(radius + 3, shape[1] - 3 * radius, 2 * step)):
            discs += [(cy, cx, radius), (cy + row % 2, cx + 2 * radius - 2 + column % 2, radius)]
    return draw_discs(shape, discs)
