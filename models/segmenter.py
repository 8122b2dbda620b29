"""An expert ready to run: a network behind NumPy arrays, whatever runtime computes it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stopwatch import SCALE, Stopwatch

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.int32]

Output = Literal["maps", "spread"]

_turn = threading.Lock()  # one network computes at a time: it has all cores, or the GPU, to itself


class Runtime(Protocol):
    """What an expert needs of the library that computes its network."""

    @property
    def device(self) -> str:
        """Where it computes, ``cpu`` or a CUDA device."""

    def run(self, output: Output, batch: FloatArray) -> FloatArray:
        """Compute an output of the network.

        Parameters
        ----------
        output : {"maps", "spread"}
            The raw maps (N, K, Y, X), or what the network has besides them.
        batch : (N, Y, X, 3) ndarray of float32
            Normalised windows, sides multiples of the expert's ``side_multiple``.

        Returns
        -------
        ndarray of float32
            One entry a window along the first axis, whatever the others are.
        """
        ...


@dataclass(frozen=True)
class WindowSpec:
    """What tiling needs to know of an expert; lengths in network pixels.

    Attributes
    ----------
    tile_px : int
        Side of a window, a multiple of 32.
    side_multiple : int
        Sides of smaller windows are multiples of this.
    halo_px : int
        Context on each side of a window whose output is not used.
    object_px : int
        Longest cell that a block must be able to hold around its core.
    n_maps : int
        Channels of the output.
    normalisation : {"grey", "joint", "per_channel"}
        How the image's channels are normalised.
    """

    tile_px: int
    side_multiple: int
    halo_px: int
    object_px: int
    n_maps: int
    normalisation: Literal["grey", "joint", "per_channel"]


class Segmenter:
    """Base of the experts: runs the network; decoding is the subclass's.

    Parameters
    ----------
    runtime : Runtime
        Computes the network.
    spec : WindowSpec
        Its windows.
    watch : Stopwatch, optional
        Counts the seconds of network and decoding.
    """

    def __init__(self, runtime: Runtime, spec: WindowSpec, watch: Stopwatch | None = None) -> None:
        self.runtime, self.spec, self.watch = runtime, spec, watch or Stopwatch()

    @property
    def tile_px(self) -> int:
        """Side of a window in network pixels."""
        return self.spec.tile_px

    @property
    def halo_px(self) -> int:
        """Context thrown away on each side of a window."""
        return self.spec.halo_px

    @property
    def object_px(self) -> int:
        """Longest cell that a block must hold around its core."""
        return self.spec.object_px

    @property
    def side_multiple(self) -> int:
        """What the sides of its windows are multiples of."""
        return self.spec.side_multiple

    @property
    def n_maps(self) -> int:
        """Channels of the output."""
        return self.spec.n_maps

    @property
    def normalisation(self) -> Literal["grey", "joint", "per_channel"]:
        """How the image's channels are normalised."""
        return self.spec.normalisation

    def forward(self, batch: FloatArray) -> FloatArray:
        """Run the network over a batch of windows.

        Parameters
        ----------
        batch : (N, Y, X, 3) ndarray of float32
            Normalised windows, sides multiples of :attr:`side_multiple`.

        Returns
        -------
        (N, K, Y, X) ndarray of float32
            Raw maps.
        """
        return self.compute("maps", batch)

    def compute(self, output: Output, batch: FloatArray) -> FloatArray:
        """Run the network for one of its outputs; see :meth:`Runtime.run`."""
        with self.watch.stage("waiting"):
            _turn.acquire()
        try:
            with self.watch.stage("network"):
                return self.runtime.run(output, batch)
        finally:
            _turn.release()

    def choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose network pixels a native pixel; 1 for the networks that see native pixels.

        Parameters
        ----------
        views : sequence of (Y, X, 3) ndarray of float32
            Normalised native crops of the image.

        Returns
        -------
        float
            Positive.
        """
        with self.watch.stage(SCALE):
            return self._choose_scale(views)

    def scale_for(self, diameter_px: float) -> float | None:
        """Give the scale at which the network wants cells of a known size.

        Parameters
        ----------
        diameter_px : float
            Their median diameter in native pixels, positive.

        Returns
        -------
        float or None
            Network pixels a native pixel; None for the networks that do not bring cells to one
            size, whose scale :meth:`choose_scale` tells.
        """
        del diameter_px
        return None

    def decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps into labels.

        Parameters
        ----------
        maps : (K, Y, X) ndarray of float32
            Of a region of any size.

        Returns
        -------
        (Y, X) ndarray of int32
            Ids 1..N without gaps, the same for the same maps.
        """
        with self.watch.stage("decoding"):
            return self._decode(maps)

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give a smooth score (Y, X) that is above 0 inside cells, from raw maps (K, Y, X)."""
        raise NotImplementedError

    def _choose_scale(self, views: Sequence[FloatArray]) -> float:
        """Choose the scale; the subclass's if it has a size model."""
        del views
        return 1.0

    def _decode(self, maps: FloatArray) -> LabelArray:
        """Decode maps; the subclass's."""
        raise NotImplementedError
