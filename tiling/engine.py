"""Segment an image of any size with one network, block by block, as if it were one piece."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tiling.block_job import SlideJob, run_block, run_blocks
from tiling.block_result import BlockResult
from tiling.raster import LabelRaster
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from tiling.block_store import FolderStore

__all__ = ["SlideProgress", "SlideResult", "TilingSettings", "segment"]

logger = logging.getLogger(__name__)

RunBlocks = Callable[[SlideJob, Iterable[int]], Iterator[tuple[int, BlockResult]]]
"""Runs the blocks of some numbers and gives each result once, in any order."""


@runtime_checkable
class RemoteBlocks(Protocol):
    """A network that is in other processes, and computes the blocks of an image there."""

    def run_blocks(
        self, job: SlideJob, indices: Iterable[int]
    ) -> Iterator[tuple[int, BlockResult]]:
        """Do what `tiling.block_job.run_blocks` does, in any order."""
        ...


@dataclass(frozen=True)
class SlideProgress:
    """How far an image is.

    Attributes
    ----------
    name : str
        Of its file.
    n_blocks, n_done : int
        Blocks, and those of them that are in the label image.
    n_pixels, n_pixels_done : int
        The same in native pixels, about.
    n_cells : int
        Instances so far.
    """

    name: str
    n_blocks: int
    n_done: int
    n_pixels: int
    n_pixels_done: int
    n_cells: int


@dataclass(frozen=True)
class SlideResult:
    """What was done in one image.

    Attributes
    ----------
    n_cells : int
        Ids are 1..n_cells.
    n_windows, n_empty : int
        Windows, and those of them that were left out as empty ground.
    n_blocks, n_stored : int
        Blocks, and those of them that an earlier run had finished.
    """

    n_cells: int
    n_windows: int = 0
    n_empty: int = 0
    n_blocks: int = 1
    n_stored: int = 0


def segment(
    job: SlideJob,
    labels: npt.NDArray[np.int32],
    store: "FolderStore | None" = None,
    report: Callable[[SlideProgress], None] | None = None,
    run: RunBlocks | None = None,
) -> SlideResult:
    """Segment an image into a label image of its own size.

    Parameters
    ----------
    job : SlideJob
        The image and how it is cut into blocks (`tiling.block_job.plan_slide`).
    labels : (Y, X) ndarray of int32
        Zeros of the image's size (`tiling.raster.new_raster`); filled in place with 0 for
        background and ids 1..N.
    store : FolderStore, optional
        Blocks found here are not computed; those that are computed are kept here. By default in
        memory, as long as they wait for those before them.
    report : callable, optional
        Called whenever a block is in the label image.
    run : callable, optional
        Computes blocks; by default the network does if it can (`RemoteBlocks`), else they are run
        one after another in this process.

    Returns
    -------
    SlideResult

    Raises
    ------
    ValueError
        If the label image does not fit.
    MemoryError
        If not even one window fits in the device's memory.
    OSError
        If the store cannot be written.

    Notes
    -----
    Windows lie on one lattice fixed to the image; blocks of them are decoded with a halo, and every
    instance is written by the one block whose core holds its canonical point. Results are settled
    in the order of the blocks' numbers, whatever the order in which they come, so that ids do not
    depend on it. Memory depends on the block, the tile and the batch, not on the image.

    An object larger than its block's halo makes that block try again with a halo two and four times
    as wide. Beyond that (a warning says so) its parts are joined under one id, never counted twice,
    but its outline may depend on the blocks.
    """
    geometry, plan = job.reader.geometry, job.plan
    if labels.shape != geometry.native:
        raise ValueError(
            f"labels must have the image's shape {geometry.native}, got {labels.shape}"
        )
    raster, name = LabelRaster(labels, geometry), job.reader.image.path.name
    if run is None:
        run = job.network.run_blocks if isinstance(job.network, RemoteBlocks) else run_blocks
    found = store.finished() & set(range(len(plan))) if store else set()
    n_cut = n_windows = n_empty = n_pixels = 0
    for index, result in enumerate(_in_order(job, store, found, run)):
        raster.add(result.labels, result.foreground(), result.region, result.owned)
        n_cut += result.n_cut
        n_windows, n_empty = n_windows + result.n_windows, n_empty + result.n_empty
        y0, x0, y1, x1 = geometry.native_box(plan.core(index))
        n_pixels += (y1 - y0) * (x1 - x0)
        if report is not None:
            done = index + 1, labels.size, n_pixels, raster.n_ids
            report(SlideProgress(name, len(plan), *done))
    if n_cut:
        logger.warning(
            "%s: %d parts of objects larger than a block's halo were joined, their outlines may be"
            " rough",
            name,
            n_cut,
        )
    return SlideResult(raster.close_gaps(), n_windows, n_empty, len(plan), len(found))


def _in_order(
    job: SlideJob, store: "FolderStore | None", found: set[int], run: RunBlocks
) -> Iterator[BlockResult]:
    """Give the results of all blocks in the order of their numbers; keep new ones in the store.

    With a store, what comes before its turn waits there and takes no memory.
    """
    indices = range(len(job.plan))
    coming = run(job, [index for index in indices if index not in found])
    waiting: dict[int, BlockResult | None] = dict.fromkeys(found)  # None: it is in the store
    for index in indices:
        while index not in waiting:
            arrived, result = next(coming)
            if store is not None:
                store.save(arrived, result)
            waiting[arrived] = result if store is None or arrived == index else None
        settled = waiting.pop(index)
        if settled is None and store is not None:
            settled = store.load(index)
            if settled is None:  # damaged
                settled = run_block(job, index)
                store.save(index, settled)
        assert settled is not None
        yield settled
