import numpy as np
import pytest

from tiling.cover import build_lattice, cover

SHAPES = [(1, 1), (63, 200), (64, 64), (65, 64), (256, 256), (511, 300)]
TILES = [(64, 0), (64, 8), (97, 16), (96, 24)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile_px", "halo_px"), TILES)
def test_cores_partition_the_image(shape, tile_px, halo_px):
    hits = np.zeros(shape, int)
    for tile in cover(shape, tile_px, halo_px):
        y0, x0, y1, x1 = tile.core
        hits[y0:y1, x0:x1] += 1
    assert (hits == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile_px", "halo_px"), TILES)
def test_windows_lie_inside_and_keep_the_halo(shape, tile_px, halo_px):
    for tile in cover(shape, tile_px, halo_px):
        for axis, side in enumerate(shape):
            start, end = tile.window[axis], tile.window[axis + 2]
            core_start, core_end = tile.core[axis], tile.core[axis + 2]
            assert 0 <= start < end <= side
            assert end - start == min(tile_px, side)
            assert core_start - start >= halo_px or start == core_start == 0
            assert end - core_end >= halo_px or end == core_end == side


@pytest.mark.parametrize("shape", [(1, 1), (64, 65), (63, 200), (130, 511), (720, 1000)])
@pytest.mark.parametrize(("tile_px", "halo_px"), [(64, 0), (96, 8), (96, 24), (128, 32)])
def test_fitted_windows_are_as_few_and_read_less(shape, tile_px, halo_px):
    fitted = build_lattice(shape, tile_px, halo_px, multiple=32)
    full = build_lattice(shape, tile_px, halo_px)
    hits = np.zeros(shape, int)
    whole = (0, 0, *shape)
    tiles = fitted.tiles_over(whole)
    assert len(tiles) == len(full.tiles_over(whole))
    for tile in tiles:
        y0, x0, y1, x1 = tile.core
        hits[y0:y1, x0:x1] += 1
        for axis, side in enumerate(shape):
            start, end = tile.window[axis], tile.window[axis + 2]
            assert 0 <= start < end <= side
            assert end - start == fitted.window_shape[axis]
            assert tile.core[axis] - start >= halo_px or start == tile.core[axis] == 0
            assert end - tile.core[axis + 2] >= halo_px or end == tile.core[axis + 2] == side
    assert (hits == 1).all()
    axes = zip(shape, (fitted.rows, fitted.columns), (full.rows, full.columns), strict=True)
    for side, spans, full_spans in axes:
        window_px = spans[0][1] - spans[0][0]
        assert window_px <= full_spans[0][1] - full_spans[0][0]
        if window_px < side:  # the next smaller multiple would leave a gap
            assert window_px % 32 == 0
            assert len(spans) * (window_px - 32 - 2 * halo_px) + 2 * halo_px < side


def test_an_image_slightly_larger_than_a_window_is_not_read_twice():
    lattice = build_lattice((558, 558), 512, 64, multiple=32)
    assert lattice.window_shape == (352, 352)
    assert len(lattice.tiles_over((0, 0, 558, 558))) == 4


def test_tiles_over_a_box_are_those_of_the_whole_cover():
    lattice = build_lattice((300, 200), 64, 8)
    box = (100, 50, 180, 51)
    wanted = [
        tile
        for tile in cover((300, 200), 64, 8)
        if tile.core[0] < box[2]
        and tile.core[2] > box[0]
        and tile.core[1] < box[3]
        and tile.core[3] > box[1]
    ]
    assert lattice.tiles_over(box) == wanted
    assert lattice.tiles_over((10, 10, 10, 20)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (64, 500), (500, 64)])
def test_groups_partition_the_tiles_whichever_box_asks(shape, size):
    lattice = build_lattice(shape, 64, 8)
    whole = (0, 0, *shape)
    groups = lattice.groups_over(whole, size)
    assert all(1 <= len(group) <= size for group in groups)
    tiles = [tile for group in groups for tile in group]
    assert sorted(tiles, key=lambda tile: tile.core) == lattice.tiles_over(whole)
    box = (30, 40, 63, 64)
    wanted = set(lattice.tiles_over(box))
    assert lattice.groups_over(box, size) == [group for group in groups if wanted & set(group)]
    assert lattice.groups_over((10, 10, 10, 20), size) == []


def test_groups_are_about_equal():
    lattice = build_lattice((64, 64 + 48 * 8), 64, 8)  # nine windows in a row
    groups = lattice.groups_over((0, 0, 64, 64 + 48 * 8), 4)
    assert [len(group) for group in groups] == [3, 3, 3]


@pytest.mark.parametrize(("tile_px", "halo_px"), [(16, 8), (64, -1), (0, 0)])
def test_a_tile_without_core_is_refused(tile_px, halo_px):
    with pytest.raises(ValueError, match="tile_px must exceed"):
        cover((10, 10), tile_px, halo_px)


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        cover((0, 10), 64, 8)
