"""Batch norms folded into the convolutions before them, for a PyTorch network that only infers."""

import itertools
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def fold_batch_norms(network: NetworkT) -> NetworkT:
    """Fold each batch norm that directly follows a convolution into it.

    Parameters
    ----------
    network : Module
        In evaluation mode, weights loaded in float32; changed. It cannot be trained afterwards.

    Returns
    -------
    Module
        The network itself; what it computes differs by the rounding of float32 alone.

    Notes
    -----
    Of U-Net and CDNet that is every batch norm. CPnet's go before a ReLU and that before the
    convolution: no convolution precedes them within their block, and what does outside is mostly a
    sum. The few that :mod:`models.graphs.cpnet` folds lie across Cellpose's own blocks, and stay.
    """
    for block in network.modules():
        if isinstance(block, nn.Sequential):
            for i, (layer, norm) in enumerate(itertools.pairwise(block)):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    block[i] = fuse_conv_bn_eval(layer, norm)
                    block[i + 1] = nn.Identity()
    return network
