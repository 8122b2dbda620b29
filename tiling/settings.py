"""How the work on an image is cut up; imports nothing heavy."""

from dataclasses import dataclass

SIDE_MULTIPLE = 32
"""Sides of every batch are multiples of this: five halvings in the deepest network (VGG16)."""

DEFAULT_BLOCK_PX = 2048
DEFAULT_BATCH_SIZE = 4


@dataclass(frozen=True)
class TilingSettings:
    """How the work on an image is cut up; none of it changes which cells are found.

    Attributes
    ----------
    batch_size : int
        Windows that the network sees at once.
    tile_px : int or None
        Side of a window in network pixels, a multiple of 32; None for the network's own. This one
        does change what the network sees.
    block_px : int
        Largest side of a block core in network pixels: what is decoded at once, without its halo.
    """

    batch_size: int = DEFAULT_BATCH_SIZE
    tile_px: int | None = None
    block_px: int = DEFAULT_BLOCK_PX
