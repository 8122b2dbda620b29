"""U-Net and CDNet, the networks on a VGG16 encoder, as graphs with all batch norms folded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.graphs.layers import convolve, deconvolve, pool_largest, window_input
from models.graphs.library import Model, Node, ops
from models.graphs.reader import WeightReader

N_LEVELS = 5  # halvings of the encoder


def build_unet_graphs(state: Mapping[str, NDArray[Any]]) -> dict[str, Model]:
    """Build the graph of the U-Net.

    Parameters
    ----------
    state : mapping of str to ndarray
        Of ``models.unet_vgg16.UNet``.

    Returns
    -------
    dict of str to Model
        ``maps``: windows (N, Y, X, 3) with sides that are multiples of 32 to (N, 3, Y, X) float32.

    Raises
    ------
    ValueError
        If the tensors are not those of the network.
    """
    reader = WeightReader(state)
    windows, x = window_input()
    maps = convolve(_body(reader, x), reader.linear("head", 4))
    reader.expect_all_used()
    return {"maps": Model([maps], [windows])}


def build_cdnet_graphs(state: Mapping[str, NDArray[Any]]) -> dict[str, Model]:
    """Build the graph of CDNet.

    Parameters
    ----------
    state : mapping of str to ndarray
        Of ``models.cdnet.CDNet``.

    Returns
    -------
    dict of str to Model
        ``maps``: windows (N, Y, X, 3) with sides that are multiples of 32 to (N, 13, Y, X)
        float32.

    Raises
    ------
    ValueError
        If the tensors are not those of the network.
    """
    reader = WeightReader(state)
    windows, x = window_input()
    f1 = _residual(reader, "mask_features", _body(reader, x))
    f2 = _residual(reader, "direction_features", f1)
    point = convolve(_residual(reader, "point_features", f2), reader.linear("point", 4))
    direction = convolve(_gated(reader, "point_gate", f2, point), reader.linear("direction", 4))
    mask = convolve(_gated(reader, "direction_gate", f1, direction), reader.linear("mask", 4))
    reader.expect_all_used()
    return {"maps": Model([ops.concat([mask, point, direction], 1)], [windows])}


def _body(reader: WeightReader, x: Node) -> Node:
    """Add the encoder and the decoder: features at full resolution."""
    skips = []
    for level in range(N_LEVELS):
        layer = 0
        while layer == 0 or f"body.encoder.{level}.{layer}.weight" in reader:
            x = _conv_bn_relu(reader, f"body.encoder.{level}", layer, x)
            layer += 3  # convolution, batch norm, ReLU
        skips.append(x)
        x = pool_largest(x)
    for stage, skip in enumerate(reversed(skips)):
        up = deconvolve(x, reader.linear(f"body.decoder.{stage}.up", 4, transposed=True))
        x = _conv_bn_relu(reader, f"body.decoder.{stage}.join", 0, ops.concat([up, skip], 1))
    return x


def _conv_bn_relu(reader: WeightReader, name: str, layer: int, x: Node) -> Node:
    """Add a convolution with its batch norm folded in, and a ReLU."""
    norm = reader.batch_norm(f"{name}.{layer + 1}")
    return ops.relu(convolve(x, reader.linear(f"{name}.{layer}", 4).then(norm)))


def _residual(reader: WeightReader, name: str, x: Node) -> Node:
    """Add two convolutions beside a 1 x 1 convolution."""
    second = reader.linear(f"{name}.body.3", 4).then(reader.batch_norm(f"{name}.body.4"))
    inner = convolve(_conv_bn_relu(reader, f"{name}.body", 0, x), second)
    return ops.relu(ops.add(inner, convolve(x, reader.linear(f"{name}.skip", 4))))


def _gated(reader: WeightReader, gate: str, features: Node, maps: Node) -> Node:
    """Multiply features by 1 + sigmoid of a 1 x 1 convolution of maps."""
    weight = ops.sigmoid(convolve(maps, reader.linear(gate, 4)))
    return ops.multiply(features, ops.add(weight, np.float32(1.0)))
