"""Cellpose's CPnet as a graph, its batch norms folded where their place allows it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.graphs.layers import (
    as_maps,
    convolve,
    deconvolve,
    multiply,
    pool_largest,
    repeat_pixels,
    scale_channels,
    transform,
    window_input,
)
from models.graphs.library import Model, Node, ops
from models.graphs.reader import WeightReader
from models.size_model import SPREAD_LEVELS

N_LEVELS = 4  # resolutions, each half of the one before
# Cellpose's notes on diameters, and the size model, which the expert applies to the spread:
# names and numbers of axes
BESIDE_THE_NETWORK = {
    "net.diam_mean": 1, "net.diam_labels": 1, "size_centres": 2, "size_weight": 1, "size_bias": 1,
}  # fmt: skip


def build_graphs(state: Mapping[str, NDArray[Any]]) -> dict[str, Model]:
    """Build the graphs of the raw maps and of the spread vector.

    Parameters
    ----------
    state : mapping of str to ndarray
        Of ``models.cpnet.CellposeNet``.

    Returns
    -------
    dict of str to Model
        From windows (N, Y, X, 3) with sides that are multiples of 8: ``maps`` to (N, 3, Y, X)
        float32, ``spread`` to (N, 384) float32, as `models.cpnet.CellposeNet.spread` says.

    Raises
    ------
    ValueError
        If the tensors are not those of the network.

    Notes
    -----
    Every convolution of CPnet follows its batch norm and ReLU. A batch norm whose input is the
    output of one convolution is folded into that one, a batch norm without ReLU into its own
    1 x 1 convolution; those behind a sum stay a scale and a shift.
    """
    reader = WeightReader(state)
    for name, n_axes in BESIDE_THE_NETWORK.items():
        reader.take(name, n_axes)
    windows, x = window_input()
    levels: list[Node] = []
    for k in range(N_LEVELS):
        x = _down(reader, f"net.downsample.down.res_down_{k}", pool_largest(x) if k else x)
        levels.append(x)
    mean = ops.reduce_mean(x, np.array([2, 3]))
    style = _unit(mean)
    spread = ops.concat([_unit(_deviate(levels[k])) for k in SPREAD_LEVELS], 1)
    for k in reversed(range(N_LEVELS)):
        x = _up(reader, f"net.upsample.up.res_up_{k}", x, levels[k], style, k < N_LEVELS - 1)
    x = ops.relu(transform(x, reader.batch_norm("net.output.0")))
    maps = convolve(x, reader.linear("net.output.2", 4))
    reader.expect_all_used()
    return {"maps": Model([maps], [windows]), "spread": Model([spread], [windows])}


def _deviate(x: Node) -> Node:
    """Give the standard deviation (N, C) of maps (N, C, Y, X)."""
    apart = ops.subtract(x, ops.reduce_mean(x, np.array([2, 3]), True))
    return ops.sqrt(ops.reduce_mean(ops.multiply(apart, apart), np.array([2, 3])))


def _unit(vectors: Node) -> Node:
    """Divide vectors (N, C) by their lengths."""
    return ops.divide(vectors, ops.sqrt(ops.reduce_sum(ops.multiply(vectors, vectors), [1], True)))


def _down(reader: WeightReader, name: str, x: Node) -> Node:
    """Add a block of the encoder: two residual pairs of convolutions."""
    skip = reader.linear(f"{name}.proj.1", 4).after(reader.batch_norm(f"{name}.proj.0"))
    x = ops.add(convolve(x, skip), _pair(reader, f"{name}.conv", 0, x))
    return ops.add(x, _pair(reader, f"{name}.conv", 2, x))


def _pair(reader: WeightReader, name: str, first: int, x: Node) -> Node:
    """Add two convolutions; the second's batch norm is folded into the first."""
    one, two = f"{name}.conv_{first}", f"{name}.conv_{first + 1}"
    x = ops.relu(transform(x, reader.batch_norm(f"{one}.0")))
    inner = reader.linear(f"{one}.2", 4).then(reader.batch_norm(f"{two}.0"))
    return convolve(ops.relu(convolve(x, inner)), reader.linear(f"{two}.2", 4))


def _up(reader: WeightReader, name: str, x: Node, beside: Node, style: Node, is_half: bool) -> Node:
    """Add a block of the decoder: as the encoder's, with the style added before convolutions.

    With a batch norm ``s * z + t`` of ``z = convolution + beside + full(style)``, the scale ``s``
    goes into the convolution and into ``full``, and the shift into the latter's bias. Where the
    input has half the size (``is_half``), what the network computes on its repeated pixels is
    computed before repeating them.
    """
    skip = reader.linear(f"{name}.proj.1", 4).after(reader.batch_norm(f"{name}.proj.0"))
    conv = [f"{name}.conv.conv_{k}" for k in range(4)]
    norm = [reader.batch_norm(f"{c}.0" if k == 0 else f"{c}.conv.0") for k, c in enumerate(conv)]
    kernel = [reader.linear(f"{c}.2" if k == 0 else f"{c}.conv.2", 4) for k, c in enumerate(conv)]
    styled = [
        as_maps(multiply(style, reader.linear(f"{conv[k]}.full", 2).then(norm[k])))
        for k in (1, 2, 3)
    ]
    first = kernel[0].scaled(norm[1].scale)
    inner = ops.relu(transform(x, norm[0]))
    inner = deconvolve(inner, first.on_repeated_pixels()) if is_half else convolve(inner, first)
    inner = ops.add(ops.add(inner, scale_channels(beside, norm[1].scale)), styled[0])
    x = convolve(x, skip)
    x = ops.add(repeat_pixels(x) if is_half else x, convolve(ops.relu(inner), kernel[1]))
    inner = ops.relu(ops.add(scale_channels(x, norm[2].scale), styled[1]))
    inner = ops.add(convolve(inner, kernel[2].scaled(norm[3].scale)), styled[2])
    return ops.add(x, convolve(ops.relu(inner), kernel[3]))
