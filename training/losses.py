"""Losses of the mask and direction heads."""

import torch
from torch.nn import functional as F

SMOOTH = 1.0  # added to both sides of a Dice ratio (CDNet)


def dice_per_class(prob: torch.Tensor, onehot: torch.Tensor, trusted: torch.Tensor) -> torch.Tensor:
    """Compute the soft Dice coefficient of each class over a batch.

    Parameters
    ----------
    prob, onehot : (N, K, Y, X) float tensors
        Probabilities and targets.
    trusted : (N, Y, X) float tensor
        1 where the pixel counts.

    Returns
    -------
    (K,) float tensor
        (2 |A B| + 1) / (|A| + |B| + 1).
    """
    weight = trusted[:, None]
    both = (prob * onehot * weight).sum((0, 2, 3))
    each = ((prob + onehot) * weight).sum((0, 2, 3))
    return (2.0 * both + SMOOTH) / (each + SMOOTH)


def dice_and_entropy(
    logits: torch.Tensor, target: torch.Tensor, trusted: torch.Tensor
) -> torch.Tensor:
    """Compute Dice loss plus cross-entropy (paper, equation 1).

    Parameters
    ----------
    logits : (N, K, Y, X) float tensor
    target : (N, Y, X) int64 tensor
    trusted : (N, Y, X) float tensor
        1 where the pixel counts.

    Returns
    -------
    () float tensor
        Sum over classes of 1 - Dice, plus the mean cross-entropy.
    """
    entropy = F.cross_entropy(logits, target, reduction="none")
    mean_entropy = (entropy * trusted).sum() / trusted.sum().clamp(min=1.0)
    onehot = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
    dice = dice_per_class(logits.softmax(1), onehot, trusted)
    return mean_entropy + (1.0 - dice).sum()


def direction_dice(
    logits: torch.Tensor, target: torch.Tensor, trusted: torch.Tensor
) -> torch.Tensor:
    """Compute CDNet's direction Dice, which credits the two neighbouring directions.

    Parameters
    ----------
    logits : (N, 9, Y, X) float tensor
        Background and eight cyclic directions.
    target : (N, Y, X) int64 tensor
    trusted : (N, Y, X) float tensor

    Returns
    -------
    () float tensor
        The Dice loss of the background counts twice, that of each direction less the Dice
        with its two neighbours' targets; divided by the nine classes.
    """
    prob = logits.softmax(1)
    onehot = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
    own = 1.0 - dice_per_class(prob, onehot, trusted)
    total = 2.0 * own[0] + own[1:].sum()
    for shift in (1, -1):
        neighbour = torch.roll(onehot[:, 1:], shift, dims=1)
        total = total - dice_per_class(prob[:, 1:], neighbour, trusted).sum()
    return total / logits.shape[1]
