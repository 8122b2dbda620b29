import math

import numpy as np
import pytest

from tiling.plan import plan_blocks


def meets(first, second):
    return (
        first[0] < second[2]
        and first[2] > second[0]
        and first[1] < second[3]
        and first[3] > second[1]
    )


@pytest.mark.parametrize(("shape", "block_px", "halo_px"), [((90, 130), 32, 10), ((50, 9), 20, 40)])
def test_the_next_use_of_a_box_is_the_first_region_that_meets_it(shape, block_px, halo_px):
    plan = plan_blocks(shape, block_px, halo_px)
    for y in range(0, shape[0], 7):
        for x in range(0, shape[1], 7):
            box = (y, x, min(y + 9, shape[0]), min(x + 5, shape[1]))
            users = [index for index in range(len(plan)) if meets(plan.region(index), box)]
            for first in range(len(plan) + 1):
                expected = next((user for user in users if user >= first), math.inf)
                assert plan.next_use(box, first) == expected


def test_regions_grow_with_the_halo_and_stay_inside():
    plan = plan_blocks((100, 100), 50, 10)
    assert plan.core(3) == (50, 50, 100, 100)
    assert plan.region(3) == (40, 40, 100, 100)
    assert plan.region(3, growth=4) == (10, 10, 100, 100)


def test_a_block_is_cut_into_parts_that_partition_its_core():
    plan = plan_blocks((100, 90), 50, 10)
    parts = plan.split(3, 20)
    covered = np.zeros(plan.shape, int)
    for index in range(len(parts)):
        y0, x0, y1, x1 = parts.core(index)
        assert max(y1 - y0, x1 - x0) <= 20
        covered[y0:y1, x0:x1] += 1
    y0, x0, y1, x1 = plan.core(3)
    assert covered[y0:y1, x0:x1].min() == covered.max() == 1
    assert covered.sum() == (y1 - y0) * (x1 - x0)
    assert parts.region(0, growth=4) == (10, 5, 100, 90)
