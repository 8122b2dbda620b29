"""The challenge's rules once more, slow and obvious: dense matrices, linear assignment, loops."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def ids_of(labels):
    return [i for i in np.unique(labels) if i != 0]


def count_matches(labels_true, labels_pred, iou_min):
    """Give tp, n_true, n_pred by the organisers' assignment over a dense IoU matrix."""
    true_ids, pred_ids = ids_of(labels_true), ids_of(labels_pred)
    iou = np.zeros((len(true_ids), len(pred_ids)))
    for i, true_id in enumerate(true_ids):
        for j, pred_id in enumerate(pred_ids):
            a, b = labels_true == true_id, labels_pred == pred_id
            iou[i, j] = (a & b).sum() / (a | b).sum()
    if iou.size == 0:
        return 0, len(true_ids), len(pred_ids)
    cost = -(iou >= iou_min).astype(float) - iou / (2 * min(iou.shape))
    rows, columns = linear_sum_assignment(cost)
    return int((iou[rows, columns] >= iou_min).sum()), len(true_ids), len(pred_ids)


def without_border(labels, border_px):
    """Erase instances with a pixel in the frame, pixel by pixel."""
    height, width = labels.shape
    out = labels.copy()
    for y in range(height):
        for x in range(width):
            if min(y, x, height - 1 - y, width - 1 - x) < border_px:
                out[out == labels[y, x]] = 0
    return out


def score(labels_true, labels_pred, iou_min=0.5, border_px=2):
    return count_matches(
        without_border(labels_true, border_px), without_border(labels_pred, border_px), iou_min
    )


def score_in_squares(labels_true, labels_pred, side_px, iou_min=0.5):
    """Score zero-padded squares one by one and add up."""
    height, width = labels_true.shape
    sums = np.zeros(3, int)
    for y in range(0, height, side_px):
        for x in range(0, width, side_px):
            squares = []
            for labels in (labels_true, labels_pred):
                square = np.zeros((side_px, side_px), labels.dtype)
                cut = labels[y : y + side_px, x : x + side_px]
                square[: cut.shape[0], : cut.shape[1]] = cut
                squares.append(square)
            sums += score(squares[0], squares[1], iou_min)
    return tuple(int(n) for n in sums)


def random_labels(rng, shape, n_cells, n_ids=None):
    """Draw boxes that overwrite one another; ids have gaps and may repeat."""
    labels = np.zeros(shape, np.int32)
    for _ in range(n_cells):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        h, w = rng.integers(1, 9, size=2)
        labels[y : y + h, x : x + w] = rng.integers(1, n_ids or 5 * n_cells)
    return labels
