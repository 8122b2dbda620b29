"""Packing, parts, holes and sizes against a plain loop over cells."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from models import packing
from models.arrays import arrays_for
from models.instances import clean_instances, fill_label_holes, renumber
from models.packing import find_runs, locate, pack_cells
from tests.cells import draw_touching_pairs

KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


def draw_rags(shape=(70, 90), n_ids=9, seed=0):
    """Draw ragged labels: with parts, holes, nests and crumbs."""
    rng = np.random.default_rng(seed)
    score = [ndimage.gaussian_filter(rng.normal(size=shape), 2.0) for _ in range(n_ids)]
    labels = np.argmax(score, axis=0) * (np.max(score, axis=0) > 0.12)
    return labels.astype(np.int32)


def clean_plainly(labels, min_area_px):
    """Clean one id after the other; the innermost cell that encloses a pixel has it."""
    clean = np.zeros_like(labels)
    holes = []
    for i in range(1, labels.max() + 1):
        if np.count_nonzero(labels == i) < max(1, min_area_px):
            continue
        parts, _ = ndimage.label(labels == i, np.ones((3, 3)))
        area = np.bincount(parts.ravel())[1:]
        if area.max() < min_area_px:
            continue
        mask = parts == 1 + np.argmax(area)
        clean[mask] = i
        y, x = np.nonzero(labels == i)
        holes.append((np.ptp(y) + np.ptp(x), i, ndimage.binary_fill_holes(mask) & ~mask))
    for _, i, hole in sorted(holes, key=lambda entry: entry[0]):
        clean[hole & (clean == 0)] = i
    return renumber(clean)


@KINDS
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_area_px", [0, 15])
def test_cleaning_is_what_a_loop_over_cells_does(kind, seed, min_area_px):
    labels = draw_rags(seed=seed)
    found = np.asarray(clean_instances(kind(labels), min_area_px))
    np.testing.assert_array_equal(found, clean_plainly(labels, min_area_px))
    assert found.dtype == np.int32


@KINDS
@pytest.mark.parametrize("seed", range(4))
def test_filled_seeds_are_what_a_loop_over_seeds_gives(kind, seed):
    seeds, n = ndimage.label(draw_rags(seed=seed) % 2)
    expected = np.zeros_like(seeds)
    for i in range(1, n + 1):
        mask = ndimage.binary_fill_holes(seeds == i)
        if np.count_nonzero(mask) >= 20:
            expected[mask] = i  # an inner seed comes later
    found = np.asarray(fill_label_holes(kind(seeds.astype(np.int32)), 20))
    np.testing.assert_array_equal(found, renumber(expected))


@KINDS
@pytest.mark.parametrize("atlas_px", [2**25, 500])
def test_a_packed_cell_is_the_cell_and_touches_no_other(kind, atlas_px, monkeypatch):
    monkeypatch.setattr(packing, "ATLAS_PX", atlas_px)
    labels = draw_touching_pairs()
    values = kind(labels)
    arrays = arrays_for(values)
    runs = find_runs(arrays, values)
    atlases = list(pack_cells(arrays, runs, arrays.arange(runs.n_ids) > 2))
    assert (len(atlases) > 1) == (atlas_px == 500)
    taken = [int(i) for atlas in atlases for i in atlas.cells]
    assert sorted(taken) == list(range(3, labels.max() + 1))
    for atlas in atlases:
        _, n_parts = arrays.components(atlas.mask, 8)
        assert n_parts == len(atlas.cells)
        places, pixels, ids = (np.asarray(a) for a in (atlas.places, atlas.pixels, atlas.ids))
        np.testing.assert_array_equal(labels.ravel()[pixels], ids)
        assert np.asarray(atlas.mask).sum() == len(np.unique(places)) == len(places)
        assert not np.asarray(atlas.mask)[[0, -1]].any()
        box, back = locate(arrays, atlas, atlas.places)
        np.testing.assert_array_equal(np.asarray(back), pixels)
        np.testing.assert_array_equal(np.asarray(atlas.cells[box]), ids)


@KINDS
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 4)])
@pytest.mark.parametrize("value", [0, 1])
def test_images_of_one_value(kind, shape, value):
    labels = kind(np.full(shape, 7 * value, np.int32))
    for found in (clean_instances(labels, 1), fill_label_holes(labels // 7, 1), renumber(labels)):
        np.testing.assert_array_equal(np.asarray(found), np.full(shape, value))
