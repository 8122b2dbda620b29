"""The size model of the Cellpose experts: how large cells are, by a window's spread vector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.segmenter import FloatArray

SPREAD_LEVELS = (2, 3)  # of CPnet's four resolutions, whose features it is told of: the deepest
KERNEL = 16.0  # how fast what one window tells fades with the distance of another's spread
N_CENTRES = 2000  # spreads that a size model remembers at most


@dataclass(frozen=True, eq=False)
class SizeModel:
    """Kernel ridge regression on the spread vector.

    Attributes
    ----------
    centres : (M, 384) ndarray of float32
        Spreads of windows with cells of known size.
    weight : (M,) ndarray of float32
        What each adds to the answer for its own spread; 0 where a row holds none.
    bias : float
        The answer far from all of them.

    Notes
    -----
    The natural logarithm of the cell diameter over 30 px is
    ``sum_m weight[m] * exp(-KERNEL * |spread - centres[m]|^2) + bias``. The spread vector holds how
    much each deep feature varies over the window. Cellpose's own size model (Stringer et al. 2021)
    is linear in the style, the mean of the deepest features, which says more about what kind of
    cells there are than about their size.
    """

    centres: FloatArray
    weight: FloatArray
    bias: float

    def scale_step(self, spread: FloatArray) -> float:
        """Give the factor that brings the cells of a window to 30 px.

        Parameters
        ----------
        spread : (384,) ndarray of float32
            Not finite where no feature of the network varies.

        Returns
        -------
        float
            Positive; 1 if the spread tells nothing.
        """
        if not np.isfinite(spread).all():
            return 1.0
        distance = np.square(self.centres - spread).sum(axis=1)
        return float(np.exp(-(np.exp(-KERNEL * distance) @ self.weight + self.bias)))


def read_size_model(state: Mapping[str, NDArray[Any]]) -> SizeModel:
    """Take the size model out of an expert's weights; ValueError if it is of another version."""
    if is_earlier_version(state):
        raise ValueError("size model of another version")
    centres, weight = (state[name].astype(np.float32) for name in ("size_centres", "size_weight"))
    return SizeModel(centres, weight, float(state["size_bias"][0]))


def is_earlier_version(state: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether weights hold a size model that asks for something else than the spread."""
    if "size_weight" not in state:
        return False
    features = (state[f"net.downsample.down.res_down_{k}.proj.1.bias"] for k in SPREAD_LEVELS)
    return state.get("size_centres", np.empty(0)).shape[1:] != (sum(map(len, features)),)
