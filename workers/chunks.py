"""Cut the blocks of a slide into the pieces that workers take one at a time."""

from collections import defaultdict
from collections.abc import Iterable

from tiling.plan import BlockPlan

CHUNK_SIDES = (3, 2, 1)
"""In blocks, widest first. Blocks side by side share windows: with 2048 pixels a block and cells of
at most 256, a lone block computes about 1.56 times its windows, one of 3 x 3 about 1.17 times."""

CHUNKS_PER_WORKER = 4
"""At least so many where possible: the last ones then end at about the same time, and a worker that
is lost takes little with it."""


def cut_into_chunks(
    plan: BlockPlan, indices: Iterable[int], n_workers: int
) -> list[tuple[int, ...]]:
    """Group blocks into squares of neighbours.

    Parameters
    ----------
    plan : BlockPlan
    indices : iterable of int
        Numbers of the blocks that are to be computed.
    n_workers : int
        Workers that they are for, at least 1.

    Returns
    -------
    list of tuple of int
        Each number once, ascending in each square; squares in raster order, so that the blocks
        that are settled first come first.
    """
    wanted = sorted(indices)
    chunks: list[tuple[int, ...]] = []
    for side in CHUNK_SIDES:
        squares: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index in wanted:
            row, column = divmod(index, len(plan.columns))
            squares[row // side, column // side].append(index)
        chunks = [tuple(squares[square]) for square in sorted(squares)]
        if len(chunks) >= CHUNKS_PER_WORKER * n_workers:
            break
    return chunks
