"""Cellpose's flows back to labels: every pixel follows the flow, and where many end is a cell.

The representation is that of Stringer et al., *Cellpose*, Nature Methods 2021; its encoding is
in :mod:`models.flow_targets`.
"""

from dataclasses import dataclass

from models.arrays import Array, Arrays, arrays_for
from models.flow_targets import encode_flows, find_centres, flow_errors
from models.instances import clean_instances, number_ids, renumber
from models.placement import come_back, send

__all__ = [
    "CheckedInstances",
    "FlowThresholds",
    "clean_instances",
    "decode_and_check",
    "decode_flows",
    "encode_flows",
    "find_centres",
    "flow_errors",
    "follow_flows",
    "renumber",
]

FLOW_GAIN = 5.0  # a network gives flows times this (Cellpose)
N_STEPS = 200  # Euler steps of one pixel each (Cellpose's default at a diameter of 30 px)
ROUND_STEPS = 10  # after as many, even in number, points that rest may be taken out
KEPT_SHARE = 0.9  # of the points; if more go on, all do: taking a few out costs more than they do
SEED_WINDOW_PX = 5  # side of the window in which a seed is the maximum (Cellpose)
SEED_MIN_HITS = 10  # pixels that must end on a seed (Cellpose)
GROW_STEPS = 5  # by one pixel each: end points there still belong to a seed (Cellpose)
GROW_MIN_HITS = 2  # end points a pixel needs to count around a seed (Cellpose)
MIN_AREA_PX = 15  # smaller instances are noise (Cellpose's min_size)
MAX_FLOW_ERROR = 0.4  # mean squared difference of flows (Cellpose's flow_threshold)


@dataclass(frozen=True)
class FlowThresholds:
    """What decides which pixels and which instances are cells; by default as Cellpose does.

    Attributes
    ----------
    cell_logit : float
        Pixels whose cell logit is above it follow the flow (Cellpose's cellprob_threshold).
    flow_error : float
        Instances whose own flow differs more from the predicted one are dropped; 0 keeps all.
    """

    cell_logit: float = 0.0
    flow_error: float = MAX_FLOW_ERROR


STOCK_THRESHOLDS = FlowThresholds()


@dataclass(frozen=True, eq=False)
class CheckedInstances:
    """Instances before and after the flow check.

    Attributes
    ----------
    found, kept : (Y, X) ndarray or tensor of int32
        All instances, and those that pass; ids 1..N without gaps in each.
    sound : float
        Share of the pixels of instances that lie in those which Cellpose's own threshold lets
        pass; 0 without instances. What the edge cuts does not count, as its centre may lie beyond,
        unless nothing is whole.
    flow : float
        Mean length of the flow in all instances: 1 where the network is as sure as it was taught
        to be, less where it wavers between directions; 0 without instances.
    """

    found: Array
    kept: Array
    sound: float
    flow: float


def follow_flows(flow_yx: Array, inside: Array) -> Array:
    """Move every inside pixel along the flow by 200 Euler steps.

    Parameters
    ----------
    flow_yx : (2, Y, X) ndarray or tensor of float32
        Vectors (y, x) in pixels a step, interpolated bilinearly and rounded to 1/512 px.
    inside : (Y, X) ndarray or tensor of bool
        The pixels to move; the flow elsewhere counts as 0.

    Returns
    -------
    (2, N) ndarray or tensor of float32
        Where the inside pixels, in raster order, end (y, x), inside the image.

    Notes
    -----
    Most points have come to rest at the centre of their cell after a sixth of the steps, or
    swing there between two places. Those whose place two steps ago is their place now may stay
    out of all further steps, of which an even number remains: they would end where they are.

    Rounded steps make every sum exact, so that a point's way depends on the flow around it alone
    and is the same in every crop that holds it.
    """
    arrays = arrays_for(flow_yx)
    step = arrays.keep_inside(arrays.where(inside, flow_yx, 0.0))
    pixels = arrays.nonzero(inside)
    width = inside.shape[1]
    point = arrays.cast(arrays.stack([pixels // width, pixels % width]), "float32")
    end = arrays.zeros(point.shape, like=point)
    moving = arrays.arange(len(pixels))
    for _ in range(N_STEPS // ROUND_STEPS):
        for _ in range(ROUND_STEPS - 2):
            point = arrays.walk(step, point)
        before, point = point, arrays.walk(step, arrays.walk(step, point))
        moves = (point != before).any(0)
        end[:, moving] = point
        still = arrays.nonzero(moves)
        if len(still) < KEPT_SHARE * len(moving):
            moving, point = moving[still], point[:, still]
    return end


def decode_flows(
    maps: Array, device: str = "cpu", thresholds: FlowThresholds = STOCK_THRESHOLDS
) -> Array:
    """Turn Cellpose's raw maps into instances.

    Parameters
    ----------
    maps : (3, Y, X) ndarray or tensor of float32
        Flow y and x times 5, and the cell logit, as the network gives them. A tensor is decoded
        where it lies.
    device : str
        Where an ndarray is decoded: on the CPU without torch, on a CUDA device by it.
    thresholds : FlowThresholds

    Returns
    -------
    (Y, X) ndarray or tensor of int32
        Ids 1..N without gaps, those with the most end points last; all 0 if nothing is found.
        Of the same kind as the maps, on the same device.

    Notes
    -----
    End points pile up at the centres of cells; their local maxima are seeds, and a pixel
    belongs to the seed near which it ends (Stringer et al. 2021, Methods).
    """
    there = send(maps, device)
    found = _find(there, thresholds.cell_logit)
    if thresholds.flow_error > 0:
        found = _drop(found, _flow_errors(found, there), thresholds.flow_error)
    return come_back(found, maps)


def decode_and_check(
    maps: Array, device: str = "cpu", thresholds: FlowThresholds = STOCK_THRESHOLDS
) -> CheckedInstances:
    """Turn Cellpose's raw maps into instances; tell what the flow check drops.

    Parameters
    ----------
    maps, device, thresholds
        As for :func:`decode_flows`.

    Returns
    -------
    CheckedInstances
        What :func:`decode_flows` gives without and with its check, for the time of one.
    """
    there = send(maps, device)
    found = _find(there, thresholds.cell_logit)
    errors = _flow_errors(found, there)
    kept = _drop(found, errors, thresholds.flow_error) if thresholds.flow_error > 0 else found
    length = (there[0] ** 2 + there[1] ** 2) ** 0.5 / FLOW_GAIN
    flow = float(length[found > 0].mean()) if bool((found > 0).any()) else 0.0
    sound = _sound_share(found, _passes(errors, MAX_FLOW_ERROR))
    return CheckedInstances(come_back(found, maps), come_back(kept, maps), sound, flow)


def _find(maps: Array, cell_logit: float) -> Array:
    """Find all instances (Y, X), where the maps lie."""
    arrays = arrays_for(maps)
    inside = maps[2] > cell_logit
    found = _gather(arrays, follow_flows(maps[:2] / FLOW_GAIN, inside), inside)
    return clean_instances(found, MIN_AREA_PX)


def _flow_errors(found: Array, maps: Array) -> Array:
    """Measure how far each instance's own flow (N + 1,) is from that of the maps."""
    return flow_errors(found, maps[:2] / FLOW_GAIN)


def _drop(found: Array, errors: Array, flow_error: float) -> Array:
    """Keep the instances whose flow error is not above a threshold."""
    return number_ids(arrays_for(found), _passes(errors, flow_error))[found]


def _passes(errors: Array, flow_error: float) -> Array:
    """Tell which ids (N + 1,) are instances whose flow error is not above a threshold."""
    passes = errors <= flow_error
    passes[0] = False
    return passes


def _sound_share(found: Array, passes: Array) -> float:
    """Compute the share of passing instances (N + 1,) in the pixels of those that are whole."""
    areas = arrays_for(found).bincount(found.reshape(-1), len(passes))
    areas[0] = 0
    whole = areas > 0
    for edge in (found[0], found[-1], found[:, 0], found[:, -1]):
        whole[edge] = False
    counted = whole if bool(whole.any()) else areas > 0
    return float(areas[counted & passes].sum()) / max(float(areas[counted].sum()), 1.0)


def _gather(arrays: Arrays, reached: Array, inside: Array) -> Array:
    """Label (Y, X) inside pixels by the seed near which they end; places are cut to pixels."""
    height, width = inside.shape
    row, column = (arrays.cast(axis, "int64") for axis in reached)
    end = row * width + column
    hits = arrays.cast(arrays.bincount(end, height * width), "float32").reshape(height, width)
    is_seed = (hits == arrays.dilate(hits, SEED_WINDOW_PX)) & (hits > SEED_MIN_HITS)
    seeds = arrays.nonzero(is_seed)
    seeds = seeds[arrays.order(hits.reshape(-1)[seeds])]
    rank = arrays.zeros((height, width), like=hits)
    rank.reshape(-1)[seeds] = arrays.cast(arrays.arange(len(seeds)) + 1, "float32")
    is_dense = arrays.cast(hits > GROW_MIN_HITS, "float32")
    for _ in range(GROW_STEPS):  # where two seeds meet, the one with more hits has the pixel
        rank = arrays.dilate(rank, 3) * is_dense
    labels = arrays.cast(arrays.zeros(height * width, like=hits), "int32")
    labels[arrays.nonzero(inside)] = arrays.cast(rank.reshape(-1)[end], "int32")
    return labels.reshape(height, width)
