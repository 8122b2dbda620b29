"""CDNet's raw maps to instances: directions sharpen the boundary, then insides are labelled."""

from models.arrays import Array, arrays_for
from models.directions import N_DIRECTIONS, raise_boundary, strongest_direction
from models.mask_classes import decode_mask
from models.placement import come_back, send

N_MASK = 3
N_MAPS = N_MASK + 1 + N_DIRECTIONS + 1  # mask, point, direction with its background


def decode_cdnet(maps: Array, device: str = "cpu") -> Array:
    """Decode CDNet's maps.

    Parameters
    ----------
    maps : (13, Y, X) ndarray or tensor of float32
        Mask logits (3), point map (1), direction logits (9). A tensor is decoded where it lies.
    device : str
        Where an ndarray is decoded: on the CPU without torch, on a CUDA device by it.

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps. Of the same kind as the maps, on the same device.

    Raises
    ------
    ValueError
        If there are not 13 maps.

    Notes
    -----
    The background direction's probability counts times the background's in the mask (He et
    al. 2021). Only which direction is the strongest matters, so its softmax is not computed:
    the background's score is its logit plus the logarithm of that factor.
    """
    if maps.shape[0] != N_MAPS:
        raise ValueError(f"wanted {N_MAPS} maps, got {maps.shape[0]}")
    return come_back(_decode(send(maps, device)), maps)


def _decode(maps: Array) -> Array:
    """Decode maps (13, Y, X) where they lie."""
    arrays = arrays_for(maps)
    logits, point, directions = maps[:N_MASK], maps[N_MASK], maps[N_MASK + 1 :]
    highest = arrays.where(logits[0] > logits[1], logits[0], logits[1])
    highest = arrays.where(logits[2] > highest, logits[2], highest)
    powers = [arrays.exp(logit - highest) for logit in logits]
    total = powers[0] + powers[1] + powers[2]
    background, inside, boundary = (power / total for power in powers)
    log_background = logits[0] - highest - arrays.log(total)
    direction = strongest_direction(directions[0] + log_background, directions[1:])
    raised = raise_boundary(boundary, direction, point)
    return decode_mask((background, inside, raised), split=True)
