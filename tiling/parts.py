"""Put together what the parts of a block own, where the block was too large to decode at once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imaging.image import Box
from tiling.block_result import BlockResult, beside_outlines, pack_result
from tiling.blocks import Instances, bounding_boxes, enclose_boxes
from tiling.native import Labels
from tiling.raster import LabelRaster
from tiling.sampling import build_geometry


def join_results(parts: Sequence[BlockResult], counts: tuple[int, int]) -> BlockResult:
    """Make one result of those of a block's parts.

    Parameters
    ----------
    parts : sequence of BlockResult
        At least one; of cores that partition the block's.
    counts : (int, int)
        `n_windows` and `n_empty` of the block.

    Returns
    -------
    BlockResult
        What the block would give in one piece. Pieces of an object that even the widest halo cuts
        are one instance, as they are where blocks meet (`tiling.raster.LabelRaster`).
    """
    shown = [part for part in parts if len(part.owned.ids)]
    if not shown:
        return replace(parts[0], n_windows=counts[0], n_empty=counts[1])
    region = enclose_boxes(np.array([part.region for part in shown]))
    shape = region[2] - region[0], region[3] - region[1]
    labels, foreground = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    raster = LabelRaster(labels, build_geometry(shape, 1.0))
    for part in shown:
        raster.add(part.labels, part.foreground(), _inside(part.region, region), part.owned)
    owned = _list_instances(labels, raster.cut_ids)
    for part in shown:  # cells of other blocks, on which the outlines of their neighbours depend
        y0, x0, y1, x1 = _inside(part.region, region)
        there = labels[y0:y1, x0:x1]
        np.copyto(there, raster.n_ids + 1, where=(there == 0) & (part.labels > 0))
        beside = beside_outlines(part.labels)
        np.copyto(foreground[y0:y1, x0:x1], part.foreground(), where=beside)
    is_refined = any(part.outline.size for part in shown)
    return pack_result(labels, foreground if is_refined else None, region, owned, counts)


def _list_instances(labels: Labels, cut_ids: frozenset[int]) -> Instances:
    """List all instances of a label image (Y, X), and which of them are cut."""
    ids, boxes = bounding_boxes(labels)
    return Instances(ids, np.isin(ids, list(cut_ids)), enclose_boxes(boxes))


def _inside(box: Box, region: Box) -> Box:
    """Move a box to where it lies in a region."""
    y0, x0 = region[:2]
    return box[0] - y0, box[1] - x0, box[2] - y0, box[3] - x0
