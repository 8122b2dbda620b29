"""Weights by name for building a graph, and batch norms folded into their neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

EPSILON = 1e-5  # PyTorch's batch norm adds it to the variance


@dataclass(frozen=True, eq=False)
class Affine:
    """``scale * x + shift`` of each channel.

    Attributes
    ----------
    scale, shift : (C,) ndarray of float32
    """

    scale: FloatArray
    shift: FloatArray


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution's or a matrix product's parameters.

    Attributes
    ----------
    weight : (O, I, ...) ndarray of float16 or float32
        Channels out, channels in, then the kernel if there is one. What is folded in makes it
        float32: one pass over the file's float16, no copy before it.
    bias : (O,) ndarray of float32
    """

    weight: NDArray[np.floating]
    bias: FloatArray

    def then(self, affine: Affine) -> "Linear":
        """Fold an affine map of the output in.

        Parameters
        ----------
        affine : Affine
            Of the O channels out.

        Returns
        -------
        Linear
        """
        scaled = self.scaled(affine.scale)
        return Linear(scaled.weight, scaled.bias + affine.shift)

    def scaled(self, scale: FloatArray) -> "Linear":
        """Fold a scale (O,) of each channel of the output in."""
        rows = scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        return Linear(self.weight * rows, self.bias * scale)

    def after(self, affine: Affine) -> "Linear":
        """Fold an affine map of the input in; exact only where no padding meets the kernel.

        Parameters
        ----------
        affine : Affine
            Of the I channels in.

        Returns
        -------
        Linear
        """
        flat = self.weight.reshape(*self.weight.shape[:2], -1).sum(2, dtype=np.float32)
        scale = affine.scale.reshape(-1, *[1] * (self.weight.ndim - 2))
        return Linear(self.weight * scale, self.bias + flat @ affine.shift)

    def on_repeated_pixels(self) -> "Linear":
        """Let a 3 x 3 convolution see each pixel of its input four times.

        Returns
        -------
        Linear
            The transposed convolution of kernel 4, stride 2, padding 1 and weight (I, O, 4, 4)
            that gives what this one gives (padded by 1) of an input with doubled sides, each pixel
            repeated: four products for each output instead of nine, and no doubled input.

        Notes
        -----
        Along one axis, tap ``t`` meets the two copies ``d`` of a pixel: ``K[2 - t] + K[3 - t]``.
        """
        weight = np.einsum("ta,oiab,sb->iots", _TAPS, self.weight, _TAPS, optimize=True)
        return Linear(weight.astype(np.float32), self.bias)


_TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)


class WeightReader:
    """Gives out the tensors of a network's state, each checked to be there and none forgotten.

    Parameters
    ----------
    state : mapping of str to ndarray
        Names and tensors as PyTorch's ``state_dict`` has them.
    """

    def __init__(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._state = state
        self._unused = {name for name in state if not name.endswith(".num_batches_tracked")}

    def __contains__(self, name: str) -> bool:
        return name in self._state

    def take(self, name: str, n_dims: int) -> NDArray[np.floating]:
        """Give a tensor in the type it has.

        Parameters
        ----------
        name : str
            As in the state.
        n_dims : int
            Its number of axes.

        Returns
        -------
        ndarray of float16 or float32

        Raises
        ------
        ValueError
            If there is none of that name and number of axes.
        """
        tensor = self._state.get(name)
        if tensor is None or tensor.ndim != n_dims or tensor.dtype.kind != "f":
            found = "nothing" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
            raise ValueError(f"wanted real numbers {name} with {n_dims} axes, found {found}")
        self._unused.discard(name)
        return tensor

    def linear(self, name: str, n_dims: int, *, transposed: bool = False) -> Linear:
        """Give the parameters of a convolution (four axes) or a matrix product (two).

        Parameters
        ----------
        name : str
            Prefix of ``.weight`` and ``.bias``.
        n_dims : int
            Axes of the weight.
        transposed : bool
            Whether the weight has its inputs first, as transposed convolutions have.

        Returns
        -------
        Linear
            The weight's axes as they are in the state.

        Raises
        ------
        ValueError
            If one is missing or they do not fit each other.
        """
        weight, bias = self.take(f"{name}.weight", n_dims), self.take(f"{name}.bias", 1)
        if weight.shape[transposed] != len(bias):
            raise ValueError(f"{name}: weight {weight.shape} and bias {bias.shape} do not fit")
        return Linear(weight, bias.astype(np.float32))

    def batch_norm(self, name: str) -> Affine:
        """Give a batch norm in evaluation mode as an affine map.

        Raises
        ------
        ValueError
            If a part is missing or they do not fit each other.
        """
        weight, bias, mean, variance = (
            self.take(f"{name}.{part}", 1).astype(np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if len({len(part) for part in (weight, bias, mean, variance)}) > 1:
            raise ValueError(f"the parts of {name} have different lengths")
        scale = weight / np.sqrt(variance + np.float32(EPSILON))
        return Affine(scale, bias - mean * scale)

    def expect_all_used(self) -> None:
        """Raise ValueError if the state holds a tensor that the graph did not take."""
        if self._unused:
            raise ValueError(f"unknown tensors: {', '.join(sorted(self._unused)[:3])}")
