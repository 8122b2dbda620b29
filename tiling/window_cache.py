"""Maps of windows kept for the blocks that will need them again, within a budget of memory."""

import math
from collections.abc import Callable

from imaging.image import Box
from tiling.cover import Tile
from tiling.sampling import Float32

NextUse = Callable[[Box, int], float]
Group = tuple[Tile, ...]
Cores = tuple[Float32 | None, ...]


class WindowCache:
    """The cores of computed windows, by the group that was computed at once.

    Parameters
    ----------
    next_use : callable
        Gives the next block that needs a box, of those from a number on; infinity if none does.
    budget_bytes : int
        What may be kept beyond the blocks at work.

    Notes
    -----
    Blocks come row by row, so that the lower rows of windows are needed again by the next row of
    blocks. What does not fit is what is needed last (Belady's rule) and will be computed again.
    """

    def __init__(self, next_use: NextUse, budget_bytes: int) -> None:
        self._next_use, self._budget_bytes = next_use, budget_bytes
        self._cores: dict[Group, Cores] = {}

    def __contains__(self, group: Group) -> bool:
        return group in self._cores

    def __getitem__(self, group: Group) -> Cores:
        return self._cores[group]

    def __setitem__(self, group: Group, cores: Cores) -> None:
        """Keep (K, Y, X) maps of the cores of a group; None for one of empty ground."""
        self._cores[group] = cores

    def trim(self, first: int, working: int) -> None:
        """Drop what no block needs any more, then what exceeds the budget.

        Parameters
        ----------
        first : int
            Blocks before this one are done.
        working : int
            Blocks from `first` up to this one are at work: what they need stays.
        """
        uses = {group: self._next_use(_around(group), first) for group in self._cores}
        self._cores = {g: cores for g, cores in self._cores.items() if uses[g] < math.inf}
        waiting = [group for group in self._cores if uses[group] > working]
        n_bytes = sum(_size(self._cores[group]) for group in waiting)
        for group in sorted(waiting, key=uses.__getitem__, reverse=True):
            if n_bytes <= self._budget_bytes:
                break
            n_bytes -= _size(self._cores.pop(group))


def _around(group: Group) -> Box:
    """Return the box of a group's cores."""
    return *group[0].core[:2], *group[-1].core[2:]


def _size(cores: Cores) -> int:
    """Count the bytes of some cores."""
    return sum(core.nbytes for core in cores if core is not None)
