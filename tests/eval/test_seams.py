import numpy as np
import pytest

from eval.seams import SeamCounts, count_cut_at, count_cut_instances, summarise_seams
from tests.cells import draw_discs


def random_discs(seed, shape=(300, 330), n=60, radii=(6, 16)):
    rng = np.random.default_rng(seed)
    discs = [
        (rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(*radii))
        for _ in range(n)
    ]
    return draw_discs(shape, discs)


def cut_at(labels, tile_px):
    """Give every instance another id in each tile."""
    y, x = np.indices(labels.shape)
    tile = (y // tile_px) * 1000 + x // tile_px
    return np.where(labels, labels + 10_000 * tile, 0)


def cut_ids(labels, tile_px):
    """Instances that reach over a line by at least a fifth of their width on both sides."""
    found = set()
    for i in np.unique(labels[labels > 0]):
        y, x = np.nonzero(labels == i)
        for at in (y, x):
            line = tile_px * round((at.min() + at.max()) / 2 / tile_px)
            margin = 0.2 * (at.max() - at.min())
            if line and at.min() + margin < line < at.max() - margin:
                found.add(int(i))
    return found


def test_random_discs_stay_near_zero():
    counts = [count_cut_instances(random_discs(seed), 64) for seed in range(4)]
    found = summarise_seams(counts, 64)
    assert found.n > 150
    assert found.share < 0.05
    assert abs(found.share - found.expected) < 0.04


@pytest.mark.parametrize("tile_px", [50, 64])
def test_cells_cut_at_the_grid_are_found(tile_px):
    # Discs on free ground, so that only the grid makes straight edges.
    grid = [(y, x, 9) for y in range(14, 290, 23) for x in range(14, 320, 23)]
    labels = draw_discs((300, 330), grid)
    whole, cut = (count_cut_instances(one, tile_px) for one in (labels, cut_at(labels, tile_px)))
    n_over_line = len(cut_ids(labels, tile_px))
    assert n_over_line > 20
    assert whole.n_cut <= 0.1 * n_over_line
    assert cut.n_cut >= 2 * 0.9 * n_over_line  # both halves
    assert cut.n_by_chance < 0.1 * cut.n_cut


def test_a_half_that_was_dropped_leaves_a_cut_cell():
    labels = draw_discs((100, 100), [(30, 50, 12)])
    labels[:, 50:] = 0
    assert count_cut_instances(labels, 50) == SeamCounts(n=1, n_cut=1, n_by_chance=0)
    assert count_cut_instances(labels.T.copy(), 50) == SeamCounts(n=1, n_cut=1, n_by_chance=0)
    assert count_cut_instances(labels, 40).n_cut == 0


def test_lines_may_lie_anywhere():
    labels = draw_discs((100, 100), [(30, 50, 12), (70, 20, 12)])
    labels[:, 50:] = 0
    labels[75:] = 0
    assert count_cut_at(labels, [], [50]) == count_cut_at(labels, [75], [49]) == 1
    assert count_cut_at(labels, [75], [50]) == 2
    assert count_cut_at(labels, [50], [75]) == count_cut_at(labels, [], []) == 0
    assert count_cut_at(np.zeros((9, 9), int), [5], [5]) == 0


@pytest.mark.parametrize("tile_px", [50, 64])
def test_lines_of_a_grid_cut_what_the_grid_does(tile_px):
    labels = cut_at(random_discs(0), tile_px)
    rows, columns = (range(tile_px, side, tile_px) for side in labels.shape)
    assert count_cut_at(labels, rows, columns) == count_cut_instances(labels, tile_px).n_cut > 10


def test_edges_off_the_grid_are_chance():
    labels = np.zeros((200, 200), int)
    labels[20:45, 12:25] = 5  # ends at x = 25, a quarter of the tile
    found = count_cut_instances(labels, 100)
    assert (found.n, found.n_cut) == (1, 0)
    assert found.n_by_chance > 0


def test_images_without_lines_or_cells_say_nothing():
    assert count_cut_instances(random_discs(0), 400) == SeamCounts()
    assert count_cut_instances(np.zeros((50, 50), np.uint16), 16) == SeamCounts()
    assert count_cut_instances(np.zeros((0, 0), np.uint16), 16) == SeamCounts()
    assert summarise_seams([], 16).share == 0


def test_large_ids_and_unsigned_types():
    labels = np.zeros((64, 64), np.uint64)
    labels[20:40, 20:32] = 2**60
    assert count_cut_instances(labels, 32).n_cut == 1


def test_tiny_tiles_are_refused():
    with pytest.raises(ValueError, match="tile_px"):
        count_cut_instances(np.zeros((9, 9), int), 3)
