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


@pytest.mark.parametrize(("tile_px", "halo_px"), [(16, 8), (64, -1), (0, 0)])
def test_a_tile_without_core_is_refused(tile_px, halo_px):
    with pytest.raises(ValueError, match="tile_px must exceed"):
        cover((10, 10), tile_px, halo_px)


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        cover((0, 10), 64, 8)
