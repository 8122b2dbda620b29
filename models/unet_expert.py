"""The U-Net expert: inside and boundary of small brightfield cells."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from models.arrays import Array
from models.mask_classes import decode_mask, mask_foreground
from models.placement import come_back, send
from models.segmenter import FloatArray, LabelArray, Runtime, Segmenter, WindowSpec
from stopwatch import Stopwatch

N_MAPS = 3  # background, inside, boundary logits
WINDOWS = WindowSpec(
    tile_px=512,
    side_multiple=32,
    halo_px=64,
    object_px=256,
    n_maps=N_MAPS,
    normalisation="joint",
)


class UNetSegmenter(Segmenter):
    """The U-Net expert."""

    def _decode(self, maps: FloatArray) -> LabelArray:
        """Turn raw maps (3, Y, X) into labels."""
        return decode_unet(maps, self.runtime.device)

    def foreground(self, maps: FloatArray) -> FloatArray:
        """Give a score (Y, X) above 0 where background does not win."""
        return mask_foreground(maps)


def build_expert(
    runtime: Runtime, state: Mapping[str, NDArray[Any]], watch: Stopwatch | None = None
) -> UNetSegmenter:
    """Build the expert on the runtime that computes its network."""
    del state
    return UNetSegmenter(runtime, WINDOWS, watch)


def decode_unet(maps: Array, device: str = "cpu") -> Array:
    """Decode the U-Net's maps.

    Parameters
    ----------
    maps : (3, Y, X) ndarray or tensor of float32
        Class logits. A tensor is decoded where it lies.
    device : str
        Where an ndarray is decoded: on the CPU without torch, on a CUDA device by it.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps. Of the same kind as the maps, on the same device.
    """
    labels = decode_mask(send(maps, device))  # the largest logit is the largest probability
    return come_back(labels, maps)
