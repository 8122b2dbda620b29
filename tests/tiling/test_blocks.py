import numpy as np
import pytest
from scipy import ndimage

from tiling.blocks import bounding_boxes, find_owned
from tiling.plan import plan_blocks


@pytest.mark.parametrize("shape", [(1, 1), (100, 33), (64, 65)])
def test_cores_partition_the_image_in_raster_order(shape):
    hits = np.zeros(shape, int)
    plan = plan_blocks(shape, 32, 0)
    cores = [plan.core(index) for index in range(len(plan))]
    for y0, x0, y1, x1 in cores:
        assert max(y1 - y0, x1 - x0) <= 32
        hits[y0:y1, x0:x1] += 1
    assert (hits == 1).all()
    assert cores == sorted(cores)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (60, 47)])
def test_boxes_are_those_of_scipy(shape):
    rng = np.random.default_rng(3)
    for n_ids in (1, 5, 300):  # touching, in parts, with gaps between the ids
        labels = (rng.integers(0, n_ids, shape) * (rng.random(shape) < 0.6)).astype(np.int32)
        ids, boxes = bounding_boxes(labels)
        found = enumerate(ndimage.find_objects(labels), start=1)
        expected = {i: (*(s.start for s in at), *(s.stop for s in at)) for i, at in found if at}
        assert dict(zip(ids.tolist(), map(tuple, boxes.tolist()), strict=True)) == expected


def test_every_instance_has_one_owner():
    rng = np.random.default_rng(1)
    shape = (120, 120)
    labels = np.zeros(shape, np.int32)
    for index in range(1, 40):
        y, x = rng.integers(0, 110, 2)
        labels[y : y + rng.integers(1, 10), x : x + rng.integers(1, 10)] = index
    present = np.unique(labels[labels > 0])
    owners = []
    plan = plan_blocks(shape, 25, 20)
    for index in range(len(plan)):
        core, region = plan.core(index), plan.region(index)
        part = labels[region[0] : region[2], region[1] : region[3]]
        owners += find_owned(part, region, core, shape).ids.tolist()
    np.testing.assert_array_equal(np.sort(owners), present)


def test_an_instance_at_a_cut_edge_is_marked_and_one_at_the_image_edge_is_not():
    labels = np.zeros((40, 40), np.int32)
    labels[0:30, 10:20] = 1
    labels[10:40, 22:32] = 2
    owned = find_owned(labels, (0, 0, 40, 40), (0, 0, 40, 40), (80, 80))
    np.testing.assert_array_equal(owned.ids, [1, 2])
    np.testing.assert_array_equal(owned.cut, [False, True])
    assert owned.box == (0, 10, 40, 32)


def test_no_instance_is_an_empty_box():
    owned = find_owned(np.zeros((4, 4), np.int32), (0, 0, 4, 4), (0, 0, 4, 4), (4, 4))
    assert owned.box == (0, 0, 0, 0)
    assert owned.ids.size == 0


def test_a_block_of_nothing_is_refused():
    with pytest.raises(ValueError, match="block_px"):
        plan_blocks((4, 4), 0, 8)
