"""The work on one block as a function of the image, the network and the block's number alone.

`run_block` may be called in any process that has the image and the network, for any block and in
any order; what it returns is small, and can be sent or kept (`tiling.block_store`). `run_blocks`
does the same for many blocks in this process, with reading, network and decoding side by side.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imaging.image import Box, Image
from imaging.normalise import Normaliser
from tiling.block_result import BlockResult, pack_result
from tiling.blocks import GROWTHS, MIN_PART_PX, Instances, find_owned
from tiling.ground import Ground, find_ground
from tiling.maps import MapSource, TileNetwork, is_out_of_memory
from tiling.parts import join_results
from tiling.plan import BlockPlan, plan_blocks
from tiling.read_ahead import start_threads
from tiling.sampling import Float32, ScaledImage, build_geometry
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from concurrent.futures import Future


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlideJob:
    """What the blocks of an image share.

    Attributes
    ----------
    reader : ScaledImage
        The image in network pixels.
    network : TileNetwork
    plan : BlockPlan
    settings : TilingSettings
    ground : Ground or None
        Tone of the empty ground, if windows of it are left out.
    """

    reader: ScaledImage
    network: TileNetwork
    plan: BlockPlan
    settings: TilingSettings
    ground: Ground | None = None

    @property
    def is_one_window(self) -> bool:
        """Whether the network sees the whole image at once."""
        tile_px = self.settings.tile_px or self.network.tile_px
        return len(self.plan) == 1 and max(self.plan.shape) <= tile_px

    def open_maps(self) -> MapSource:
        """Open a source of the maps that several blocks may read from."""
        return MapSource(self.reader, self.network, self.settings, self.ground, self.plan.next_use)


@dataclass(frozen=True)
class _Decoded:
    """One decoded region and what its block owns of it."""

    region: Box
    labels: npt.NDArray[np.int32]
    foreground: Float32 | None
    owned: Instances


def plan_slide(
    image: Image,
    normaliser: Normaliser,
    network: TileNetwork,
    scale: float,
    settings: TilingSettings,
    overview: npt.NDArray[np.generic] | None = None,
) -> SlideJob:
    """Cut the work on an image into blocks.

    Parameters
    ----------
    image : Image
        Read region by region.
    normaliser : Normaliser
        Fitted to an overview of the whole image.
    network : TileNetwork
    scale : float
        Network pixels per native pixel, positive.
    settings : TilingSettings
    overview : (y, x, C) ndarray, optional
        The whole image, possibly reduced: tells the tone of its empty ground. Without it all
        windows are computed.

    Returns
    -------
    SlideJob

    Raises
    ------
    ValueError
        If the scale or a setting does not fit.
    """
    geometry = build_geometry(image.shape[:2], scale)
    plan = plan_blocks(geometry.network, settings.block_px, network.object_px)
    ground = None
    if len(plan) == 1:  # one block has nothing to do side by side, and starts no threads
        settings = replace(settings, n_ahead=0, n_decoders=0)
    elif settings.skip_empty and overview is not None:
        ground = find_ground(normaliser.apply(overview), settings.ground)
    return SlideJob(ScaledImage(image, normaliser, geometry), network, plan, settings, ground)


def run_block(job: SlideJob, index: int, maps: MapSource | None = None) -> BlockResult:
    """Find the instances that one block owns.

    Parameters
    ----------
    job : SlideJob
    index : int
        Number of the block in the plan.
    maps : MapSource, optional
        Opened by this job, to share windows with other blocks.

    Returns
    -------
    BlockResult
        The same whatever ran before, and where.

    Raises
    ------
    ImageError
        If the file's data cannot be decoded.
    MemoryError
        If not even one window fits in the device's memory.
    """
    if maps is None:
        with job.open_maps() as opened:
            return run_block(job, index, opened)
    read = maps.read(job.plan.region(index))
    counts = maps.count_windows(job.plan.core(index))
    decoded = [_decode_region(job, index, GROWTHS[0], read)]
    del read
    return _finish(job, index, maps, decoded, counts)


def pack_one_window(job: SlideJob, maps: Float32, labels: npt.NDArray[np.int32]) -> BlockResult:
    """Make the result of the only block of an image that is one window of the network.

    Parameters
    ----------
    job : SlideJob
        With `is_one_window`.
    maps : (K, Y, X) ndarray of float32
        Of the whole image.
    labels : (Y, X) ndarray of int32
        What the network decodes from them.

    Returns
    -------
    BlockResult
        What `run_block` gives.
    """
    region = job.plan.region(0)
    owned = find_owned(labels, region, job.plan.core(0), job.plan.shape)
    return pack_result(labels, _foreground(job, maps), region, owned, (1, 0))


def run_blocks(job: SlideJob, indices: Iterable[int]) -> Iterator[tuple[int, BlockResult]]:
    """Run blocks one after another, reading ahead and decoding while the network is busy.

    Parameters
    ----------
    job : SlideJob
    indices : iterable of int
        Numbers of blocks, best in ascending order: neighbours share windows.

    Yields
    ------
    int, BlockResult
        In the order of the numbers. No more than `settings.n_decoders` decoded blocks wait while
        the caller keeps a result.
    """
    queue = list(indices)
    with job.open_maps() as maps:
        if job.settings.n_decoders:
            yield from _run_side_by_side(job, queue, maps)
        else:
            for index in queue:
                yield index, run_block(job, index, maps)
                maps.trim(index + 1, index)


def _run_side_by_side(
    job: SlideJob, queue: list[int], maps: MapSource
) -> Iterator[tuple[int, BlockResult]]:
    """Run the network over a block while threads decode those before it."""
    pending: deque[tuple[int, Future[_Decoded], tuple[int, int]]] = deque()

    def settle() -> tuple[int, BlockResult]:
        index, task, counts = pending.popleft()
        others = [other for _, other, _ in pending]
        decoded = [_await(job, index, maps, task, others)]
        del task
        return index, _finish(job, index, maps, decoded, counts, others)

    with start_threads(job.settings.n_decoders, "decode") as decoders:
        for position, index in enumerate(queue):
            following = queue[position + 1 : position + 2]
            upcoming = job.plan.region(following[0]) if following else None
            region_maps = maps.read(job.plan.region(index), upcoming)
            counts = maps.count_windows(job.plan.core(index))
            # Always this late, however long decoding takes: what the network has seen when must
            # not depend on the clock.
            if len(pending) == job.settings.n_decoders:
                yield settle()
            task = decoders.submit(_decode_region, job, index, GROWTHS[0], region_maps)
            pending.append((index, task, counts))
            del region_maps
            maps.trim(pending[0][0], index)
        while pending:
            yield settle()


def _await(
    job: SlideJob,
    index: int,
    maps: MapSource,
    task: "Future[_Decoded]",
    others: "list[Future[_Decoded]]",
) -> _Decoded:
    """Wait for a decoded block; where memory ran out, wait for the others and decode it alone."""
    try:
        return task.result()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    logger.warning("out of memory while decoding, block %d is decoded alone", index)
    for other in others:
        other.exception()
    return _decode_region(job, index, GROWTHS[0], maps.read(job.plan.region(index)))


def _finish(
    job: SlideJob,
    index: int,
    maps: MapSource,
    narrow: list[_Decoded],
    counts: tuple[int, int],
    others: "Sequence[Future[_Decoded]]" = (),
) -> BlockResult:
    """Decode again with wider halos as long as an owned instance is cut; keep what is needed.

    A wide region takes as much memory as several others: they are waited for, and `narrow`, what
    was decoded with the narrowest halo, is taken out of its list so that nothing holds it.
    """
    decoded = narrow.pop()
    for growth in GROWTHS[1:]:
        if not decoded.owned.cut.any():
            break
        del decoded
        for other in others:
            other.exception()
        part_px = _choose_part(job, index, growth)
        if part_px is not None:
            parts = replace(job, plan=job.plan.split(index, part_px))
            results = [run_block(parts, number, maps) for number in range(len(parts.plan))]
            return join_results(results, counts)
        decoded = _decode_region(job, index, growth, maps.read(job.plan.region(index, growth)))
    return pack_result(decoded.labels, decoded.foreground, decoded.region, decoded.owned, counts)


def _choose_part(job: SlideJob, index: int, growth: int) -> int | None:
    """Choose the side of the parts in which a block is decoded; None if it can be at once."""
    limit_px = job.settings.max_decoded_px
    y0, x0, y1, x1 = job.plan.region(index, growth)
    if limit_px is None or (y1 - y0) * (x1 - x0) <= limit_px:
        return None
    part_px = max(MIN_PART_PX, math.isqrt(limit_px) - 2 * growth * job.plan.halo_px)
    y0, x0, y1, x1 = job.plan.core(index)
    return part_px if max(y1 - y0, x1 - x0) > part_px else None


def _decode_region(job: SlideJob, index: int, growth: int, maps: Float32 | None) -> _Decoded:
    """Decode a region and find what its block owns; None stands for maps of empty ground."""
    region, core = job.plan.region(index, growth), job.plan.core(index)
    if maps is None:
        nothing = np.zeros((0, 0), np.int32)
        return _Decoded(region, nothing, None, find_owned(nothing, region, core, job.plan.shape))
    try:
        labels = job.network.decode(maps)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory while decoding {maps.shape[1]} x {maps.shape[2]} pixels; "
            "make blocks smaller with --max-memory, or use --device cpu"
        ) from error
    return _Decoded(
        region,
        labels,
        _foreground(job, maps),
        find_owned(labels, region, core, job.plan.shape),
    )


def _foreground(job: SlideJob, maps: Float32) -> Float32 | None:
    """Give the foreground (Y, X) of maps where outlines are refined, else None."""
    return job.network.foreground(maps) if job.reader.geometry.shrinks else None
