"""Run a network over the windows that a region needs and assemble its maps."""

import logging
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from imaging.image import Box
from tiling.cover import Tile, build_lattice
from tiling.sampling import Float32
from tiling.settings import SIDE_MULTIPLE

logger = logging.getLogger(__name__)


class TileNetwork(Protocol):
    """What the tiling needs to know of an expert.

    Attributes
    ----------
    tile_px, halo_px : int
        Side of a window and the context it loses at each side, in network pixels.
    object_px : int
        Largest usual extent of an object, in network pixels: the halo of a block.
    n_maps : int
        Maps that `forward` gives.
    normalisation : {"joint", "per_channel"}
        How its images are normalised.
    """

    @property
    def tile_px(self) -> int: ...  # noqa: D102
    @property
    def halo_px(self) -> int: ...  # noqa: D102
    @property
    def object_px(self) -> int: ...  # noqa: D102
    @property
    def n_maps(self) -> int: ...  # noqa: D102
    @property
    def normalisation(self) -> Literal["joint", "per_channel"]: ...  # noqa: D102

    def choose_scale(self, views: list[Float32]) -> float:
        """Choose network pixels per native pixel from (Y, X, 3) normalised native views."""
        ...

    def forward(self, batch: Float32) -> Float32:
        """Map (N, Y, X, 3) normalised windows to (N, K, Y, X) raw maps."""
        ...

    def decode(self, maps: Float32) -> npt.NDArray[np.int32]:
        """Turn (K, Y, X) maps into (Y, X) labels, ids 1..n, the same for the same maps."""
        ...

    def foreground(self, maps: Float32) -> Float32:
        """Give (Y, X), positive inside cells and smooth across their outlines."""
        ...


class RegionReader(Protocol):
    """An image as the network sees it (`tiling.sampling.ScaledImage`)."""

    def read(self, box: Box) -> Float32:
        """Return (Y, X, 3) float32 of a region in network pixels."""
        ...


class MapSource:
    """The maps of one image, computed window by window when a region asks for them.

    Parameters
    ----------
    reader : RegionReader
        The image in network pixels.
    shape : (Y, X) tuple of int
        Its size in network pixels.
    network : TileNetwork
    tile_px : int
        Largest side of a window, a multiple of 32; smaller ones are taken where as many of them
        cover the image.
    batch_size : int
        Windows that the network sees at once; halved for good whenever memory runs out.

    Notes
    -----
    Windows lie on one lattice fixed to the image, so the maps of a pixel do not depend on the
    region. Those of the last region are kept, as its neighbour needs some of them again.
    """

    def __init__(
        self,
        reader: RegionReader,
        shape: tuple[int, int],
        network: TileNetwork,
        tile_px: int,
        batch_size: int,
    ) -> None:
        if tile_px < 1 or tile_px % SIDE_MULTIPLE or batch_size < 1:
            raise ValueError(
                f"tile_px must be a positive multiple of {SIDE_MULTIPLE} and batch_size at least 1,"
                f" got {tile_px} and {batch_size}"
            )
        halo_px = min(network.halo_px, tile_px // 4)  # a small tile keeps half its side as core
        self._reader = reader
        self._network = network
        self._batch_size = batch_size
        self._lattice = build_lattice(shape, tile_px, halo_px, SIDE_MULTIPLE)
        self._cores: dict[Tile, Float32] = {}

    def read(self, box: Box) -> Float32:
        """Assemble the maps of a region from the cores of its windows.

        Parameters
        ----------
        box : Box
            Inside the image, in network pixels.

        Returns
        -------
        (K, Y, X) ndarray of float32

        Raises
        ------
        MemoryError
            If the memory does not even hold a batch of one window.
        """
        tiles = self._lattice.tiles_over(box)
        self._cores = {tile: self._cores[tile] for tile in tiles if tile in self._cores}
        missing = [tile for tile in tiles if tile not in self._cores]
        while missing:
            done = missing[: self._batch_size]
            if self._predict(done):
                missing = missing[len(done) :]
            else:
                self._shrink_batch(len(done))
        y0, x0, y1, x1 = box
        maps = np.empty((self._network.n_maps, y1 - y0, x1 - x0), np.float32)
        for tile in tiles:
            _paste(maps, box, self._cores[tile], tile.core)
        return maps

    def _predict(self, tiles: list[Tile]) -> bool:
        """Run one batch and keep the cores; return False if memory ran out."""
        batch = np.stack([self._reader.read(tile.window) for tile in tiles])
        height, width = self._lattice.window_shape
        padding = ((0, 0), (0, -height % SIDE_MULTIPLE), (0, -width % SIDE_MULTIPLE), (0, 0))
        if padding != ((0, 0),) * 4:
            batch = np.pad(batch, padding, mode="reflect")
        try:
            maps = self._network.forward(batch)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            return False
        for tile, window_maps in zip(tiles, maps, strict=True):
            (wy, wx, _, _), (y0, x0, y1, x1) = tile.window, tile.core
            self._cores[tile] = window_maps[:, y0 - wy : y1 - wy, x0 - wx : x1 - wx].copy()
        return True

    def _shrink_batch(self, n_tiles: int) -> None:
        """Halve the batch that did not fit."""
        if n_tiles == 1:
            raise MemoryError(
                f"out of memory with a single window of {self._lattice.window_shape} pixels; "
                "use a smaller --tile or --device cpu"
            )
        self._batch_size = n_tiles // 2
        logger.warning("out of memory, going on with batches of %d windows", self._batch_size)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether a runtime says that memory ran out (PyTorch: a kind of RuntimeError)."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def _paste(target: Float32, target_box: Box, source: Float32, source_box: Box) -> None:
    """Copy what two boxes share from one (K, Y, X) array to another."""
    y0, x0 = max(target_box[0], source_box[0]), max(target_box[1], source_box[1])
    y1, x1 = min(target_box[2], source_box[2]), min(target_box[3], source_box[3])
    ty, tx, sy, sx = *target_box[:2], *source_box[:2]
    target[:, y0 - ty : y1 - ty, x0 - tx : x1 - tx] = source[
        :, y0 - sy : y1 - sy, x0 - sx : x1 - sx
    ]
