"""How the work on an image is cut up; imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

SIDE_MULTIPLE = 32
"""A named window side is a multiple of this: five halvings in the deepest network (VGG16)."""

DEFAULT_BLOCK_PX = 2048
DEFAULT_BATCH_SIZE = 4
DEFAULT_CACHE_BYTES = 2**29

DEFAULT_MEMORY_GIB = 3.0
"""What a large image takes on the CPU, at most about, where no other limit is named."""

DEFAULT_GPU_MEMORY_GIB = 8.5
"""What PyTorch takes of a GPU where no other limit is named: with CUDA's own context, some 0.5 GiB,
less than the 10 GB (9.3 GiB) that the challenge allows."""

GroundTone = Literal["dark", "bright", "any"]
"""Where in an image's range its empty ground lies."""

GROUND_OF: dict[str, GroundTone] = {"fluorescence": "dark", "brightfield": "bright"}
"""By modality; in others it may have any tone."""


@dataclass(frozen=True)
class TilingSettings:
    """How the work on an image is cut up, and what is known of it.

    None of it but `tile_px` and `diameter_px` changes which cells are found.

    Attributes
    ----------
    batch_size : int
        Windows that the network sees at once.
    tile_px : int or None
        Side of a window in network pixels, a multiple of 32; None for the network's own. This one
        does change what the network sees.
    block_px : int
        Largest side of a block core in network pixels: what is decoded at once, without its halo.
    skip_empty : bool
        Leave out windows that show nothing but empty ground, in images of more than one block.
    ground : {"dark", "bright", "any"}
        Where in the range of this modality the empty ground lies.
    diameter_px : float or None
        Median diameter of the cells in native pixels, for networks that want them at one size;
        None lets the network estimate it.
    cache_bytes : int
        Largest memory for maps that later blocks will need again.
    n_ahead : int
        Batches that are read while the network is busy, in images of more than one block.
    n_decoders : int
        Blocks that are decoded while the network is busy with the next; 0 for none.
    max_memory_bytes : int or None
        What large images may take of the host's memory, about (`tiling.memory`); also keeps small
        ones from being labelled side by side.
    usual_memory_bytes : int or None
        What large images may take where `max_memory_bytes` names no limit; None for any amount.
    max_decoded_px : int or None
        Pixels that are decoded at once where a halo had to grow; a larger block is decoded in
        parts. None for any number.
    """

    batch_size: int = DEFAULT_BATCH_SIZE
    tile_px: int | None = None
    block_px: int = DEFAULT_BLOCK_PX
    skip_empty: bool = True
    ground: GroundTone = "any"
    diameter_px: float | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    n_ahead: int = 2
    n_decoders: int = 1
    max_memory_bytes: int | None = None
    usual_memory_bytes: int | None = None
    max_decoded_px: int | None = None
