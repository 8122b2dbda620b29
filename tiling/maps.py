"""Run a network over the windows that a region needs and assemble its maps."""

import logging
import math
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from imaging.image import Box
from tiling.cover import Tile, build_lattice
from tiling.ground import Ground
from tiling.read_ahead import ReadAhead
from tiling.sampling import Float32, ScaledImage
from tiling.settings import TilingSettings
from tiling.window_cache import Cores, Group, NextUse, WindowCache

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "_alloc_failed", "can't allocate memory")
"""What PyTorch says of its own memory on a GPU, of cuDNN's and cuBLAS's, and on the CPU."""


class TileNetwork(Protocol):
    """What the tiling needs to know of an expert.

    Attributes
    ----------
    tile_px, halo_px : int
        Side of a window and the context it loses at each side, in network pixels.
    object_px : int
        Largest usual extent of an object, in network pixels: the halo of a block.
    side_multiple : int
        Sides of the windows that it sees are multiples of this.
    n_maps : int
        Maps that `forward` gives.
    normalisation : {"grey", "joint", "per_channel"}
        How its images are normalised.
    """

    @property
    def tile_px(self) -> int: ...  # noqa: D102
    @property
    def halo_px(self) -> int: ...  # noqa: D102
    @property
    def object_px(self) -> int: ...  # noqa: D102
    @property
    def side_multiple(self) -> int: ...  # noqa: D102
    @property
    def n_maps(self) -> int: ...  # noqa: D102
    @property
    def normalisation(self) -> Literal["grey", "joint", "per_channel"]: ...  # noqa: D102

    def choose_scale(self, views: list[Float32]) -> float:
        """Choose network pixels per native pixel from (Y, X, 3) normalised native views."""
        ...

    def scale_for(self, diameter_px: float) -> float | None:
        """Give the scale for cells of a known median diameter in native pixels.

        None if the network has another way to its scale, which `choose_scale` then takes.
        """
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


@dataclass(frozen=True)
class _Windows:
    """What was read of a group: the windows (N, Y, X, 3) that show more than ground, and which."""

    batch: Float32
    is_empty: tuple[bool, ...]


class MapSource:
    """The maps of one image, computed window by window when a region asks for them.

    Parameters
    ----------
    reader : ScaledImage
        The image in network pixels.
    network : TileNetwork
    settings : TilingSettings
        `tile_px` is the largest side of a window; smaller ones are taken where as many of them
        cover the image. The batch is halved for good whenever memory runs out.
    ground : Ground, optional
        Windows that show nothing else are not computed: a single blank window stands for them, if
        the network finds no cell in that.
    next_use : callable, optional
        As for `WindowCache`; by default `trim` forgets everything.

    Notes
    -----
    Windows lie on one lattice fixed to the image and are computed in fixed groups, so the maps of a
    pixel do not depend on the region.
    """

    def __init__(
        self,
        reader: ScaledImage,
        network: TileNetwork,
        settings: TilingSettings,
        ground: Ground | None = None,
        next_use: NextUse | None = None,
    ) -> None:
        tile_px, batch_size = settings.tile_px, settings.batch_size
        tile_px = network.tile_px if tile_px is None else tile_px
        multiple = network.side_multiple
        if tile_px < 1 or tile_px % multiple or batch_size < 1:
            raise ValueError(
                f"tile_px must be a positive multiple of {multiple} and batch_size at least 1,"
                f" got {tile_px} and {batch_size}"
            )
        halo_px = min(network.halo_px, tile_px // 4)  # a small tile keeps half its side as core
        self._reader, self._network, self._ground = reader, network, ground
        self._group_size = self._batch_size = batch_size
        self._lattice = build_lattice(reader.geometry.network, tile_px, halo_px, multiple)
        self._cache = WindowCache(next_use or (lambda *_: math.inf), settings.cache_bytes)
        n_readers = max(1, settings.n_decoders)  # of the cores, as many as decoding has
        self._ahead = ReadAhead(self._read_group, settings.n_ahead, n_readers)
        self._blank: Float32 | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ahead.close()

    def read(self, box: Box, upcoming: Box | None = None) -> Float32 | None:
        """Assemble the maps of a region from the cores of its windows.

        Parameters
        ----------
        box : Box
            Inside the image, in network pixels.
        upcoming : Box, optional
            What will be asked for next: its pixels are read while the network is busy.

        Returns
        -------
        (K, Y, X) ndarray of float32, or None
            None if the region shows nothing but empty ground.

        Raises
        ------
        MemoryError
            If the memory does not even hold a batch of one window.
        """
        queue = self._missing(box)
        n_now = len(queue)
        if upcoming is not None:
            queue += [group for group in self._missing(upcoming) if group not in queue[:n_now]]
        for position in range(n_now):
            self._cache[queue[position]] = self._compute(queue[position:])
        cores = self._cores_over(box)
        if all(core is None for core in cores.values()):
            return None
        y0, x0, y1, x1 = box
        maps = np.empty((self._network.n_maps, y1 - y0, x1 - x0), np.float32)
        for tile, core in cores.items():
            shown = self._crop(self._blank_maps(), tile) if core is None else core
            _paste(maps, box, shown, tile.core)
        return maps

    def count_windows(self, core: Box) -> tuple[int, int]:
        """Count the windows whose cores begin in a block's, and those of them that are empty.

        Parameters
        ----------
        core : Box
            Part of the region that was read last.
        """
        y0, x0, y1, x1 = core
        begun = [
            maps
            for tile, maps in self._cores_over(core).items()
            if y0 <= tile.core[0] < y1 and x0 <= tile.core[1] < x1
        ]
        return len(begun), sum(maps is None for maps in begun)

    def trim(self, first: int, working: int) -> None:
        """Forget windows that no block needs; see `WindowCache.trim`."""
        self._cache.trim(first, working)

    def _missing(self, box: Box) -> list[Group]:
        """List the groups that a region needs and that are not there."""
        groups = self._lattice.groups_over(box, self._group_size)
        return [group for group in groups if group not in self._cache]

    def _cores_over(self, box: Box) -> dict[Tile, Float32 | None]:
        """Collect the computed cores that meet a region."""
        wanted = set(self._lattice.tiles_over(box))
        return {
            tile: core
            for group in self._lattice.groups_over(box, self._group_size)
            for tile, core in zip(group, self._cache[group], strict=True)
            if tile in wanted
        }

    def _read_group(self, group: Group) -> _Windows:
        """Read the windows of a group, padded to sides that the network takes."""
        ground = self._ground
        pixels = [self._reader.read(tile.window) for tile in group]
        is_empty = tuple(ground is not None and ground.fills(window) for window in pixels)
        shown = [window for window, empty in zip(pixels, is_empty, strict=True) if not empty]
        if not shown:
            height, width = self._lattice.window_shape
            return _Windows(np.zeros((0, height, width, 3), np.float32), is_empty)
        return _Windows(pad_windows(np.stack(shown), self._network.side_multiple), is_empty)

    def _compute(self, queue: list[Group]) -> Cores:
        """Run the network over the first group of a queue; None for windows of empty ground."""
        group, windows = queue[0], self._ahead.take(queue)
        if any(windows.is_empty) and not self._ground_is_blank():
            windows = self._read_group(group)
        maps = iter(self._forward(windows.batch))
        return tuple(
            None if empty else self._crop(next(maps), tile).copy()
            for tile, empty in zip(group, windows.is_empty, strict=True)
        )

    def _ground_is_blank(self) -> bool:
        """Tell whether the network finds no cell in a blank window; else nothing is left out."""
        is_untried = self._ground is not None and self._blank is None
        if is_untried and self._network.decode(self._blank_maps()).any():
            logger.debug("the network sees cells in empty ground, all windows are computed")
            self._ground = None
        return self._ground is not None

    def _blank_maps(self) -> Float32:
        """Give the maps (K, Y, X) of a window of empty ground."""
        if self._blank is None:
            assert self._ground is not None
            blank = np.full((1, *self._lattice.window_shape, 3), self._ground.tone, np.float32)
            self._blank = self._forward(pad_windows(blank, self._network.side_multiple))[0]
        return self._blank

    def _crop(self, window_maps: Float32, tile: Tile) -> Float32:
        """Cut the core out of the maps (K, Y, X) of a window."""
        (wy, wx, _, _), (y0, x0, y1, x1) = tile.window, tile.core
        return window_maps[:, y0 - wy : y1 - wy, x0 - wx : x1 - wx]

    def _forward(self, batch: Float32) -> list[Float32]:
        """Run the network over windows, in smaller batches where memory runs out."""
        maps: list[Float32] = []
        while len(maps) < len(batch):
            part = batch[len(maps) : len(maps) + self._batch_size]
            try:
                maps.extend(self._network.forward(part))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink_batch(len(part))
        return maps

    def _shrink_batch(self, n_tiles: int) -> None:
        """Halve the batch that did not fit."""
        if n_tiles == 1:
            raise MemoryError(
                f"out of memory with a single window of {self._lattice.window_shape} pixels; "
                "use a smaller --tile or --device cpu"
            )
        self._batch_size = n_tiles // 2
        logger.warning("out of memory, going on with batches of %d windows", self._batch_size)


def pad_windows(batch: Float32, multiple: int) -> Float32:
    """Mirror windows (N, Y, X, 3) up to sides that are multiples of a number."""
    height, width = batch.shape[1:3]
    padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
    return batch if not np.any(padding) else np.pad(batch, padding, mode="reflect")


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a runtime says that memory ran out (PyTorch: a kind of RuntimeError)."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY)


def _paste(target: Float32, target_box: Box, source: Float32, source_box: Box) -> None:
    """Copy what two boxes share from one (K, Y, X) array to another."""
    y0, x0 = max(target_box[0], source_box[0]), max(target_box[1], source_box[1])
    y1, x1 = min(target_box[2], source_box[2]), min(target_box[3], source_box[3])
    ty, tx, sy, sx = *target_box[:2], *source_box[:2]
    target[:, y0 - ty : y1 - ty, x0 - tx : x1 - tx] = source[
        :, y0 - sy : y1 - sy, x0 - sx : x1 - sx
    ]
