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


def masks_of(labels):
    return [labels == i for i in ids_of(labels)]


def iou_of(a, b):
    return (a & b).sum() / (a | b).sum()


def aggregated_jaccard(labels_true, labels_pred):
    """Kumar 2017, algorithm 1; of predictions with equal IoU the larger one."""
    predicted = masks_of(labels_pred)
    taken, intersection, union = set(), 0, 0
    for true in masks_of(labels_true):
        scores = [(iou_of(true, pred), pred.sum(), -j) for j, pred in enumerate(predicted)]
        if not scores or max(scores)[0] == 0:
            union += true.sum()
            continue
        j = -max(scores)[2]
        taken.add(j)
        intersection += (true & predicted[j]).sum()
        union += (true | predicted[j]).sum()
    union += sum(pred.sum() for j, pred in enumerate(predicted) if j not in taken)
    return intersection / union if union else 0.0


def panoptic_quality(labels_true, labels_pred):
    """Kirillov 2019: sum of IoU over matches / (TP + FP/2 + FN/2)."""
    true, pred = masks_of(labels_true), masks_of(labels_pred)
    matched = [iou for a in true for b in pred if (iou := iou_of(a, b)) > 0.5]
    n_half = (len(true) + len(pred)) / 2
    return sum(matched) / n_half if n_half else 0.0


def object_dice(labels_true, labels_pred):
    """Sirinukunwattana 2017: both ways, weighted by area, by the largest overlap."""

    def one_way(own, others):
        total = sum(mask.sum() for mask in own)
        score = 0.0
        for mask in own:
            shared = [((mask & other).sum(), -other.sum(), j) for j, other in enumerate(others)]
            if shared and max(shared)[0] > 0:
                n_shared, minus_area, _ = max(shared)
                score += mask.sum() / total * 2 * n_shared / (mask.sum() - minus_area)
        return score

    true, pred = masks_of(labels_true), masks_of(labels_pred)
    return (one_way(true, pred) + one_way(pred, true)) / 2


def count_errors(labels_true, labels_pred):
    """Split, merged, missed, invented, in words of masks."""
    true, pred = masks_of(labels_true), masks_of(labels_pred)

    def lies_in(a, b):
        return (a & b).sum() > a.sum() / 2

    split = [sum(lies_in(p, t) for p in pred) > 1 for t in true]
    merged = [sum(lies_in(t, p) for t in true) > 1 for p in pred]
    missed = [
        not any(iou_of(t, p) >= 0.5 for p in pred)
        and not split[i]
        and not any(merged[j] and lies_in(t, p) for j, p in enumerate(pred))
        for i, t in enumerate(true)
    ]
    invented = [
        not any(iou_of(t, p) >= 0.5 for t in true)
        and not merged[j]
        and not any(split[i] and lies_in(p, t) for i, t in enumerate(true))
        for j, p in enumerate(pred)
    ]
    return sum(split), sum(merged), sum(missed), sum(invented)


def similar_pair(seed, shape=(40, 50), n_cells=40, noise=0.15):
    """Draw a label image and a noisy copy of it."""
    rng = np.random.default_rng(seed)
    labels_true = random_labels(rng, shape, n_cells)
    other = random_labels(rng, shape, n_cells)
    return labels_true, np.where(rng.random(shape) < noise, other, labels_true)


def permute_ids(labels, seed=0):
    """Rename the instances, with gaps and large ids."""
    ids = np.array(ids_of(labels), np.int64)
    new = np.random.default_rng(seed).permutation(ids.size).astype(np.int64) * 70_001 + 5
    renamed = np.zeros(labels.shape, np.int64)
    for old, name in zip(ids, new, strict=True):
        renamed[labels == old] = name
    return renamed
