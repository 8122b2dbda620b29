import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from bench.plain_masks import decode_cdnet_plainly, decode_mask_plainly
from bench.tissue import draw_tissue, render_class_maps
from eval.matching import match_instances
from models import cdnet_expert, unet_expert
from models.arrays import arrays_for
from models.cdnet_decoding import decode_cdnet
from models.directions import (
    VECTORS,
    direction_difference,
    encode_directions,
    find_ray_centres,
    ray_lengths,
    refine_boundary,
)
from models.mask_classes import (
    decode_mask,
    encode_mask,
    find_touching,
    grow_seeds,
    mask_foreground,
)
from models.unet_expert import decode_unet
from models.waists import split_at_waists
from tests.cells import draw_discs, draw_touching_pairs


def as_logits(classes, n):
    return (8.0 * np.eye(n)[classes].transpose(2, 0, 1)).astype(np.float32)


def perfect_cdnet_maps(labels):
    direction, point = encode_directions(labels)
    return np.concatenate([as_logits(encode_mask(labels), 3), point[None], as_logits(direction, 9)])


@pytest.mark.parametrize("radius", [4, 8, 20])
def test_perfect_maps_give_the_labels_back(radius):
    labels = draw_touching_pairs((110, 160), radius)
    for found in (
        decode_unet(as_logits(encode_mask(labels), 3)),
        decode_cdnet(perfect_cdnet_maps(labels)),
    ):
        assert found.max() == labels.max()
        assert match_instances(labels, found, 0.7).f1 == 1.0


def test_insides_of_touching_cells_do_not_touch():
    labels = draw_touching_pairs()
    inside = encode_mask(labels) == 1
    for axis in (0, 1):
        a, b = (
            np.take(labels * inside, range(i, labels.shape[axis] - 1 + i), axis) for i in (0, 1)
        )
        assert not ((a > 0) & (b > 0) & (a != b)).any()


def test_a_waist_is_cut_and_a_dent_is_not():
    pair = draw_discs((40, 60), [(20, 18, 11), (20, 36, 11)])
    dented = draw_discs((40, 60), [(20, 24, 14), (20, 30, 14)])
    for labels, n_parts in ((pair, 2), (dented, 1)):
        merged = (labels > 0).astype(np.int32)
        parts = split_at_waists(merged)
        assert parts.max() == n_parts
        np.testing.assert_array_equal(parts > 0, merged > 0)


def test_separate_objects_stay_separate():
    labels = draw_discs((60, 90), [(20, 20, 3), (20, 60, 15), (45, 20, 9)])
    labels[50:52, 40:60] = 4  # thin
    parts = split_at_waists(labels)
    assert match_instances(labels, parts, 0.99).f1 == 1.0


def test_touching_is_where_two_cells_are_near():
    labels = draw_discs((40, 90), [(20, 15, 10), (20, 36, 10), (20, 70, 10)])
    touching = find_touching(labels)
    assert touching[20, 24:27].all()
    assert not touching[:, 45:].any()
    assert not touching[:, :15].any()
    assert not find_touching(np.zeros((8, 8), np.int32)).any()


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_the_smallest_cells_keep_an_inside(side):
    labels = np.zeros((12, 12), np.int32)
    labels[4 : 4 + side, 4 : 4 + side] = 3
    assert (encode_mask(labels)[labels > 0] == 1).any()


def test_a_cell_cut_by_the_frame_has_no_boundary_there():
    labels = np.zeros((20, 20), np.int32)
    labels[:, :10] = 1
    mask = encode_mask(labels)
    assert (mask[:, :8] == 1).all()
    assert (mask[:, 8:11] == 2).all()
    assert (mask[:, 11:] == 0).all()


def test_foreground_is_where_background_loses():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 20, 20)).astype(np.float32)
    np.testing.assert_array_equal(mask_foreground(logits) > 0, logits.argmax(0) != 0)


def slow_ray(labels, y, x, dy, dx):
    n, inside = 0, True
    while inside:
        n += 1
        yy, xx = y + n * dy, x + n * dx
        inside = (
            0 <= yy < labels.shape[0]
            and 0 <= xx < labels.shape[1]
            and labels[yy, xx] == labels[y, x]
        )
    return n


def test_rays_match_a_slow_walk():
    labels = draw_touching_pairs((40, 50), 6)
    lengths = ray_lengths(labels)
    for i, (dy, dx) in enumerate(VECTORS[1:].astype(int)):
        for y, x in zip(*np.nonzero(labels), strict=True):
            assert lengths[i, y, x] == slow_ray(labels, y, x, dy, dx)


def test_the_centre_of_a_disc_is_its_middle():
    labels = draw_discs((50, 50), [(24, 26, 15)])
    y, x = find_ray_centres(labels)
    assert (y[0], x[0]) == (24, 26)


def test_directions_match_the_angle_to_the_centre():
    labels = draw_touching_pairs()
    direction, point = encode_directions(labels)
    centres = np.stack(find_ray_centres(labels), 1)
    assert (direction[labels == 0] == 0).all()
    for y, x in zip(*np.nonzero(labels), strict=True):
        cy, cx = centres[labels[y, x] - 1]
        if (cy, cx) == (y, x):
            continue
        vector = VECTORS[direction[y, x]]
        cosine = vector @ (cy - y, cx - x) / np.linalg.norm(vector) / np.hypot(cy - y, cx - x)
        assert cosine > np.cos(np.radians(22.6))
    np.testing.assert_allclose(point[centres[:, 0], centres[:, 1]], 1, atol=0.05)


def test_direction_difference_matches_its_formula():
    rng = np.random.default_rng(1)
    direction = rng.integers(0, 9, (12, 15))
    expected = np.zeros(direction.shape)
    padded = np.pad(direction, 1)
    for y, x in zip(*np.nonzero(direction), strict=True):
        own = VECTORS[direction[y, x]] / np.linalg.norm(VECTORS[direction[y, x]])
        worst = 1.0
        for dy, dx in VECTORS[1:].astype(int):
            other = VECTORS[padded[1 + y + dy, 1 + x + dx]]
            worst = min(worst, own @ other / (np.linalg.norm(other) + 1e-6))
        expected[y, x] = (1 - np.round(worst)) / 2
    np.testing.assert_array_equal(direction_difference(direction), expected)


def test_directions_part_two_cells_that_the_mask_merges():
    labels = draw_discs((40, 64), [(20, 20, 11), (20, 40, 11)])
    merged = np.where(labels > 0, 1, 0).astype(np.int32)
    maps = perfect_cdnet_maps(labels)
    maps[:3] = as_logits(encode_mask(merged), 3)
    assert decode_unet(maps[:3]).max() == 1
    assert decode_cdnet(maps).max() == 2


def test_refinement_leaves_centres_and_background_alone():
    labels = draw_discs((40, 40), [(20, 20, 11)])
    maps = perfect_cdnet_maps(labels)
    prob = np.eye(3)[encode_mask(labels)].transpose(2, 0, 1).astype(np.float32)
    direction = np.eye(9)[encode_directions(labels)[0]].transpose(2, 0, 1).astype(np.float32)
    refined = refine_boundary(prob, direction, maps[3])
    assert refined[2, 20, 20] == prob[2, 20, 20]
    np.testing.assert_array_equal(refined[:, labels == 0], prob[:, labels == 0])


def test_wrong_number_of_maps_is_refused():
    with pytest.raises(ValueError, match="13"):
        decode_cdnet(np.zeros((12, 8, 8), np.float32))


KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


def draw_maps(shape=(200, 260), n_cells=70, noise=0.7, stretch=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return render_class_maps(draw_tissue(shape, n_cells, rng, stretch), rng, noise)


def assert_same(expected, found):
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    assert found.max() == len(np.unique(expected)) - 1
    assert match_instances(expected, found, 0.9).f1 >= 0.995


@KINDS
@pytest.mark.parametrize(
    ("n_cells", "noise", "stretch"), [(70, 0.7, 1.0), (70, 1.2, 2.0), (12, 0.7, 1.5)]
)
def test_labels_are_those_of_a_plain_decoder(kind, n_cells, noise, stretch):
    maps = draw_maps(n_cells=n_cells, noise=noise, stretch=stretch)
    expected = decode_cdnet_plainly(maps)
    assert expected.max() > n_cells / 2
    assert_same(expected, np.asarray(decode_cdnet(kind(maps))))
    expected = decode_mask_plainly(maps[:3], split=False)
    assert_same(expected, np.asarray(decode_mask(kind(maps[:3].copy()))))


def test_tensors_give_the_labels_of_arrays():
    maps = draw_maps(noise=1.0)
    found = decode_cdnet(torch.from_numpy(maps))
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found.numpy(), decode_cdnet(maps))


DECODERS = {"unet": (decode_unet, 3, unet_expert), "cdnet": (decode_cdnet, 13, cdnet_expert)}
PLACES = ["cpu", "cpu:0"]  # the second one is a device of torch's, as "cuda" is


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("device", PLACES)
def test_an_array_decoded_on_another_device_comes_back_as_an_array(name, device):
    decode, n_maps, _ = DECODERS[name]
    maps = draw_maps((90, 90), n_cells=12)[:n_maps]
    found = decode(maps, device)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.int32
    assert found.max() > 5
    np.testing.assert_array_equal(found, decode(maps))
    np.testing.assert_array_equal(found[:, 7:60].shape, decode(maps[:, :, 7:60], device).shape)


class FakeRuntime:
    """Stands in for a network: gives the maps it has, whatever it sees."""

    def __init__(self, maps, device):
        self.maps, self.device = maps, device

    def run(self, output, batch):
        return self.maps[None]


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("device", PLACES)
def test_an_expert_decodes_where_its_network_computes(name, device, monkeypatch):
    decode, n_maps, module = DECODERS[name]
    maps = draw_maps((64, 64), n_cells=8)[:n_maps]
    seen = []

    def look(values):
        seen.append(type(values))
        return arrays_for(values)

    monkeypatch.setattr("models.mask_classes.arrays_for", look)
    expert = module.build_expert(FakeRuntime(maps, device), {})
    np.testing.assert_array_equal(expert.decode(maps), decode(maps, device))
    expert.choose_scale([np.zeros((64, 64, 3), np.float32)])  # decodes there, too
    assert set(seen) == {np.ndarray if device == "cpu" else torch.Tensor}


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_parts_are_those_of_a_watershed_from_h_maxima(kind, seed):
    score = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(220, 240)), 6.0)
    objects, n = ndimage.label(score > 0)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(objects > 0), 1.0)
    deepest = ndimage.maximum(depth, objects, np.arange(n + 1))
    limit = np.maximum(0.2 * deepest, 1.0)[objects]
    relative = np.where(objects > 0, depth / limit, 0.0)
    markers, n_markers = ndimage.label(h_maxima(relative, 1.0) * (objects > 0), np.ones((3, 3)))
    expected = watershed(-relative, markers, mask=objects > 0)
    thin = (objects > 0) & (expected == 0)
    expected[thin] = objects[thin] + n_markers
    found = np.asarray(split_at_waists(kind(objects.astype(np.int32))))
    assert found.max() > n
    np.testing.assert_array_equal(found > 0, objects > 0)
    assert_same(expected, found)


@KINDS
def test_growth_reaches_the_nearest_seed_within_the_foreground(kind):
    rng = np.random.default_rng(0)
    seeds = np.where(rng.random((40, 50)) < 0.02, rng.integers(1, 9, (40, 50)), 0)
    foreground = rng.random((40, 50)) < 0.7
    distance = ndimage.distance_transform_edt(seeds == 0)
    expected_there = (seeds > 0) | (foreground & (distance <= 3))
    grown = np.asarray(grow_seeds(kind(seeds.astype(np.int32)), kind(foreground), 3))
    np.testing.assert_array_equal(grown > 0, expected_there)
    y, x = np.nonzero(seeds)
    for gy, gx in zip(*np.nonzero(grown), strict=True):
        near = np.hypot(y - gy, x - gx) <= distance[gy, gx] + 1e-9
        assert grown[gy, gx] in seeds[y[near], x[near]]


@KINDS
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (20, 9)])
@pytest.mark.parametrize("winner", [0, 1, 2])
def test_images_of_one_class_are_decoded(kind, shape, winner):
    maps = np.zeros((13, *shape), np.float32)
    maps[winner] = 8.0
    maps[4 + (winner > 0)] = 8.0
    is_cell = winner == 1 and np.prod(shape) >= 20
    labels = np.asarray(decode_mask(kind(maps[:3]), split=True))
    np.testing.assert_array_equal(labels, np.full(shape, int(is_cell)))
    assert np.asarray(decode_cdnet(kind(maps))).shape == shape
