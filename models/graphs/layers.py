"""Layers of the graphs as OpenVINO operations."""

import numpy as np
from numpy.typing import NDArray

from models.graphs.library import Node, Type, ops
from models.graphs.reader import Affine, Linear

FloatArray = NDArray[np.float32]
IN_CHANNELS = 3


def window_input() -> tuple[Node, Node]:
    """Make the input: windows (N, Y, X, 3) float32 of any number and size.

    Returns
    -------
    parameter, x : Node
        The model's parameter, and the windows as (N, 3, Y, X).
    """
    parameter = ops.parameter([-1, -1, -1, IN_CHANNELS], Type.f32, name="windows")
    return parameter, ops.transpose(parameter, np.array([0, 3, 1, 2]))


def convolve(x: Node, linear: Linear) -> Node:
    """Convolve (N, I, Y, X) with an odd kernel, zeros around the window: (N, O, Y, X)."""
    pads = [side // 2 for side in linear.weight.shape[2:]]
    weight = _constant(linear.weight)
    product = ops.convolution(x, weight, [1, 1], pads, pads, [1, 1])
    return ops.add(product, _per_channel(linear.bias))


def deconvolve(x: Node, linear: Linear) -> Node:
    """Double the sides by a transposed convolution of kernel 4, stride 2, padding 1.

    Parameters
    ----------
    x : Node
        (N, I, Y, X).
    linear : Linear
        With weight (I, O, 4, 4): a transposed convolution has its inputs first.

    Returns
    -------
    Node
        (N, O, 2 Y, 2 X).
    """
    weight = _constant(linear.weight)
    product = ops.convolution_backprop_data(
        x, weight, [2, 2], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 1]
    )
    return ops.add(product, _per_channel(linear.bias))


def multiply(x: Node, linear: Linear) -> Node:
    """Multiply vectors (N, I) with a matrix and add the bias: (N, O)."""
    weight = _constant(linear.weight)
    product = ops.matmul(x, weight, transpose_a=False, transpose_b=True)
    return ops.add(product, ops.constant(linear.bias[None]))


def transform(x: Node, affine: Affine) -> Node:
    """Scale and shift each channel of (N, C, Y, X)."""
    return ops.add(ops.multiply(x, _per_channel(affine.scale)), _per_channel(affine.shift))


def scale_channels(x: Node, scale: FloatArray) -> Node:
    """Scale each channel of (N, C, Y, X)."""
    return ops.multiply(x, _per_channel(scale))


def pool_largest(x: Node) -> Node:
    """Halve the sides of (N, C, Y, X): the largest of each 2 x 2 pixels."""
    return ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)


def repeat_pixels(x: Node) -> Node:
    """Double the sides of (N, C, Y, X): each pixel four times."""
    return ops.interpolate(
        x,
        ops.constant(np.array([2.0, 2.0], np.float32)),
        "nearest",
        "scales",
        axes=ops.constant(np.array([2, 3])),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def as_maps(vectors: Node) -> Node:
    """Give vectors (N, C) two more axes: (N, C, 1, 1)."""
    return ops.unsqueeze(vectors, np.array([2, 3]))


def _per_channel(values: FloatArray) -> Node:
    """Make a constant (1, C, 1, 1)."""
    return ops.constant(values.reshape(1, -1, 1, 1))


def _constant(weight: NDArray[np.floating]) -> Node:
    """Make a float32 constant that shares the array's memory."""
    return ops.constant(np.ascontiguousarray(weight, np.float32), shared_memory=True)
