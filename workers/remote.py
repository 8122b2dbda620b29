"""A network that is not in this process: workers have it."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import numpy.typing as npt

from tiling.block_job import SlideJob
from tiling.block_result import BlockResult
from tiling.block_store import decode_result
from tiling.sampling import Float32
from workers.chunks import cut_into_chunks
from workers.recipe import Expert, Slide, read_stamp
from workers.tasks import ask_expert, run_chunk

Labels = npt.NDArray[Any]


class Caller(Protocol):
    """What a remote network needs of the pool."""

    def call(self, function: Any, *arguments: Any) -> Any:
        """Run one task on any worker and wait for it."""
        ...

    def spread(self, function: Any, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Run tasks on all workers; give the arguments of each and what came of it."""
        ...

    def count_workers(self) -> int:
        """Count the workers there are now."""
        ...


class RemoteNetwork:
    """A `tiling.maps.TileNetwork` whose calls, and whose blocks, are computed by workers.

    Parameters
    ----------
    pool : Caller
    expert : Expert
        As a worker described it.
    """

    def __init__(self, pool: Caller, expert: Expert) -> None:
        self._pool, self._expert = pool, expert
        self.tile_px, self.halo_px = expert.tile_px, expert.halo_px
        self.object_px, self.n_maps = expert.object_px, expert.n_maps
        self.side_multiple, self.normalisation = expert.side_multiple, expert.normalisation

    def choose_scale(self, views: list[Float32]) -> float:
        """See `TileNetwork.choose_scale`."""
        return cast("float", self._ask("choose_scale", views))

    def scale_for(self, diameter_px: float) -> float | None:
        """See `TileNetwork.scale_for`."""
        return cast("float | None", self._ask("scale_for", diameter_px))

    def forward(self, batch: Float32) -> Float32:
        """See `TileNetwork.forward`."""
        return cast("Float32", self._ask("forward", batch))

    def decode(self, maps: Float32) -> Labels:
        """See `TileNetwork.decode`."""
        return cast("Labels", self._ask("decode", maps))

    def foreground(self, maps: Float32) -> Float32:
        """See `TileNetwork.foreground`."""
        return cast("Float32", self._ask("foreground", maps))

    def run_blocks(
        self, job: SlideJob, indices: Iterable[int]
    ) -> Iterator[tuple[int, BlockResult]]:
        """Run blocks on all workers.

        Parameters
        ----------
        job : SlideJob
            With this network.
        indices : iterable of int
            Numbers of blocks.

        Yields
        ------
        int, BlockResult
            In the order in which they are finished. No more than a few chunks a worker are under
            way while the caller keeps a result.
        """
        path = job.reader.image.path
        reader = job.reader.normaliser, job.reader.geometry
        stamp = read_stamp(path)
        slide = Slide(path, stamp, self._expert, *reader, job.plan, job.settings, job.ground)
        chunks = cut_into_chunks(job.plan, indices, self._pool.count_workers())
        for finished in self._pool.spread(run_chunk, ((slide, chunk) for chunk in chunks)):
            for index, content in finished.value():
                yield index, decode_result(content)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Let a worker call a method of its network."""
        return self._pool.call(ask_expert, self._expert, method, *arguments)
