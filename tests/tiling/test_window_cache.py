import math

import numpy as np
import pytest

from tiling.cover import Tile
from tiling.window_cache import WindowCache

CORE = np.zeros((1, 4, 5), np.float32)  # 80 bytes


def group(number):
    """Make a group of one tile that lies at a row of its own."""
    box = (number, 0, number + 1, 1)
    return (Tile(box, box),)


def cache_of(uses, budget_bytes):
    """Keep a core for every entry: the blocks that need it."""

    def next_use(box, first):
        return min((use for use in uses[box[0]] if use >= first), default=math.inf)

    cache = WindowCache(next_use, budget_bytes)
    for number in range(len(uses)):
        cache[group(number)] = (CORE,)
    return cache


def kept(cache, n):
    return [number for number in range(n) if group(number) in cache]


@pytest.mark.parametrize(
    ("budget_bytes", "expected"),
    [(1000, [1, 2, 3, 4]), (160, [1, 2, 3]), (80, [1, 2]), (0, [1])],
)
def test_what_is_needed_last_goes_first_and_blocks_at_work_keep_theirs(budget_bytes, expected):
    uses = [{0}, {1, 9}, {2}, {3}, {7}]  # blocks that need each
    cache = cache_of(uses, budget_bytes)
    cache.trim(first=1, working=1)
    assert kept(cache, 5) == expected


def test_empty_ground_takes_no_memory():
    cache = cache_of([{5}], 0)
    cache[group(0)] = (None,)
    cache.trim(first=1, working=1)
    assert cache[group(0)] == (None,)
