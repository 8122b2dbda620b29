import numpy as np
import pytest
import torch
from cellpose import dynamics
from scipy import ndimage

from bench.tissue import draw_tissue, render_flow_maps
from eval.matching import match_instances
from models.flows import (
    FlowThresholds,
    clean_instances,
    decode_and_check,
    decode_flows,
    encode_flows,
    find_centres,
    flow_errors,
    follow_flows,
    renumber,
)
from tests.cells import draw_discs, draw_touching_pairs


def perfect_maps(labels):
    cell = np.where(labels > 0, 6.0, -6.0)[None]
    return np.concatenate([5 * encode_flows(labels), cell]).astype(np.float32)


def test_flows_are_unit_vectors_inside_and_zero_outside():
    labels = draw_touching_pairs()
    length = np.linalg.norm(encode_flows(labels), axis=0)
    assert not length[labels == 0].any()
    inside = length[labels > 0]
    # a centre has no direction of its own
    assert np.mean(np.abs(inside - 1) < 1e-3) > 0.98


def test_flows_point_to_the_centre_of_a_disc():
    labels = draw_discs((41, 41), [(20, 20, 14)])
    flow = encode_flows(labels)
    y, x = np.nonzero(labels)
    towards = np.stack([20 - y, 20 - x]).astype(float)
    distance = np.linalg.norm(towards, axis=0)
    far = distance > 3
    cosine = (flow[:, y, x] * towards).sum(0)[far] / distance[far]
    assert cosine.min() > 0.95


def test_a_cell_does_not_feel_its_neighbour():
    pair = draw_discs((40, 60), [(20, 18, 12), (20, 41, 12)])
    alone = np.where(pair == 1, 1, 0).astype(np.int32)
    left = pair == 1
    np.testing.assert_allclose(encode_flows(pair)[:, left], encode_flows(alone)[:, left], atol=0.15)


@pytest.mark.parametrize("radius", [5, 10, 22])
def test_perfect_maps_give_the_labels_back(radius):
    labels = draw_touching_pairs((120, 160), radius)
    found = decode_flows(perfect_maps(labels))
    assert found.max() == labels.max()
    assert match_instances(labels, found, 0.9).f1 == 1.0


def test_a_crescent_is_one_cell():
    labels = draw_discs((60, 60), [(30, 30, 24)])
    labels[draw_discs((60, 60), [(30, 40, 20)]) > 0] = 0
    assert decode_flows(perfect_maps(labels)).max() == 1


def test_nothing_gives_nothing():
    maps = np.zeros((3, 32, 48), np.float32) - 1
    assert not decode_flows(maps).any()
    assert not encode_flows(np.zeros((32, 48), np.int32)).any()


def test_decoding_is_local():
    labels = draw_touching_pairs((96, 200), 10)
    maps = perfect_maps(labels)
    whole, part = decode_flows(maps), decode_flows(maps[:, :, 40:])
    inner = (slice(None), slice(80, None))
    a, b = whole[inner], part[:, 40:]
    np.testing.assert_array_equal(a > 0, b > 0)
    pairs = set(zip(a[a > 0].tolist(), b[b > 0].tolist(), strict=True))
    assert len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("corner", [(3, 0), (31, 50)])
def test_a_pixel_ends_at_the_same_place_in_every_crop(kind, corner):
    maps, (y, x) = draw_maps((150, 170), n_cells=40, noise=0.25), corner
    crop = np.ascontiguousarray(maps[:, y:, x:])
    ends = []
    for seen in (maps, crop):
        inside = seen[2] > 0
        end = np.full((2, *inside.shape), np.nan, np.float32)
        end[:, inside] = np.asarray(follow_flows(kind(seen[:2] / 5), kind(inside)))
        ends.append(end)
    whole = ends[0][:, y:, x:] - np.array(corner)[:, None, None]
    # beside the new edges the flow differs: what lies beyond counts as none
    margin = tuple(slice(48 if at else 0, None) for at in corner)
    np.testing.assert_array_equal(ends[1][:, *margin], whole[:, *margin])


def test_an_instance_against_the_flow_is_dropped():
    labels = draw_discs((60, 120), [(30, 30, 14), (30, 88, 14)])
    maps = perfect_maps(labels)
    # the right cell's flow turns around its centre instead of pointing there
    right = labels == 2
    maps[0, right], maps[1, right] = maps[1, right].copy(), -maps[0, right].copy()
    errors = flow_errors(labels, maps[:2] / 5)
    assert errors[1] < 0.01
    assert errors[2] > 0.4
    assert decode_flows(maps).max() == 1


def test_centres_are_pixels_of_their_cell():
    labels = draw_discs((60, 60), [(30, 30, 24)])
    labels[draw_discs((60, 60), [(30, 38, 20)]) > 0] = 0  # the centroid lies outside
    y, x = find_centres(labels)
    assert labels[y[0], x[0]] == 1


def test_renumber_closes_gaps_in_order():
    labels = np.array([[0, 7, 7], [3, 0, 900]])
    np.testing.assert_array_equal(renumber(labels), [[0, 2, 2], [1, 0, 3]])


def test_cleaning_keeps_the_largest_part_and_fills_it():
    labels = np.zeros((30, 30), np.int32)
    labels[2:12, 2:12] = 5
    labels[5:8, 5:8] = 0  # a hole
    labels[20:23, 20:23] = 5  # a crumb of the same id
    labels[26:28, 2:4] = 8  # too small
    clean = clean_instances(labels, 15)
    assert clean.max() == 1
    assert np.count_nonzero(clean) == 100


def draw_maps(shape=(256, 320), n_cells=100, noise=0.1, stretch=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return render_flow_maps(draw_tissue(shape, n_cells, rng, stretch), rng, noise)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("max_flow_error", [0.0, 0.4])
@pytest.mark.parametrize(
    ("n_cells", "noise", "stretch"), [(100, 0.1, 1.0), (100, 0.2, 2.5), (18, 0.15, 1.0)]
)
def test_labels_are_cellposes_own(n_cells, noise, stretch, max_flow_error):
    maps = draw_maps(n_cells=n_cells, noise=noise, stretch=stretch)
    expected = dynamics.resize_and_compute_masks(
        maps[:2], maps[2], flow_threshold=max_flow_error, max_size_fraction=1.0
    ).astype(np.int32)
    found = decode_flows(maps, thresholds=FlowThresholds(flow_error=max_flow_error))
    assert found.max() == expected.max() > 0.8 * n_cells
    assert match_instances(expected, found, 0.9).f1 >= 0.995


def test_following_equals_two_hundred_single_steps():
    maps = draw_maps((90, 110), n_cells=12, noise=0.3)
    inside = maps[2] > 0
    flow = np.where(inside, maps[:2] / 5, 0).astype(np.float32)
    start = np.stack(np.nonzero(inside)).astype(float)
    expected, limit = start.copy(), np.array(inside.shape)[:, None] - 1
    for _ in range(200):
        step = [ndimage.map_coordinates(axis, expected, order=1) for axis in flow]
        expected = np.clip(expected + step, 0, limit)
    distance = np.hypot(*(follow_flows(maps[:2] / 5, inside) - expected))
    assert np.hypot(*(expected - start)).max() > 8
    # a pixel between two cells may go either way
    assert np.mean(distance < 0.1) > 0.99


@pytest.mark.parametrize("max_flow_error", [0.0, 0.4])
def test_tensors_give_the_labels_of_arrays(max_flow_error):
    maps = draw_maps((120, 150), n_cells=20, noise=0.2)
    expected = decode_flows(maps, thresholds=FlowThresholds(flow_error=max_flow_error))
    found = decode_flows(
        torch.from_numpy(maps), thresholds=FlowThresholds(flow_error=max_flow_error)
    )
    assert found.dtype == torch.int32
    assert expected.max() > 10
    np.testing.assert_array_equal(found.numpy(), expected)


def test_an_array_decoded_on_another_device_comes_back_as_an_array():
    maps = draw_maps((60, 60), n_cells=4)
    found = decode_flows(maps, device="cpu:0")  # a device of torch's, as "cuda" is
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, decode_flows(maps))


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_one_decoding_gives_what_the_check_is_given_and_what_it_keeps(device):
    labels = draw_discs((60, 120), [(30, 30, 14), (30, 88, 14)])
    maps = perfect_maps(labels)
    # the right cell's flow winds inwards: its pixels meet at the centre, yet not on a cell's flow
    turn = np.array([[0.5, -0.87], [0.87, 0.5]], np.float32)
    maps[:2, labels == 2] = turn @ maps[:2, labels == 2]
    both = decode_and_check(maps, device)
    assert (both.found.max(), both.kept.max()) == (2, 1)
    np.testing.assert_array_equal(
        both.found, decode_flows(maps, thresholds=FlowThresholds(flow_error=0.0))
    )
    np.testing.assert_array_equal(both.kept, decode_flows(maps))


def test_thresholds_decide_what_is_found_and_kept_but_not_what_is_sound():
    labels = draw_discs((60, 120), [(30, 30, 14), (30, 88, 14)])
    maps = perfect_maps(labels)
    maps[2, labels == 2] = -0.5
    assert decode_flows(maps).max() == 1
    assert decode_flows(maps, thresholds=FlowThresholds(cell_logit=-1.0)).max() == 2
    maps[:2, labels == 1] *= 0.2  # an error of 0.64
    lax, strict = (
        decode_and_check(maps, thresholds=FlowThresholds(-1.0, error)) for error in (0.8, 0.4)
    )
    assert (lax.kept.max(), strict.kept.max()) == (2, 1)
    assert lax.sound == strict.sound == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(
    ("turned", "sound"),
    [((), 1.0), ((1,), 1.0), ((2,), 0.0), ((1, 2), 0.0)],  # 1 is cut by the edge, 2 is whole
)
def test_cells_that_the_edge_cuts_do_not_tell_whether_flows_are_sound(kind, turned, sound):
    labels = draw_discs((60, 120), [(30, 4, 14), (30, 88, 14)])
    maps = perfect_maps(labels)
    maps[:2, np.isin(labels, turned)] *= 0.2
    assert decode_and_check(kind(maps)).sound == sound


@pytest.mark.parametrize(("length", "sound"), [(1.0, 1.0), (0.2, 0.0)])
def test_where_no_cell_is_whole_all_tell(length, sound):
    maps = perfect_maps(draw_discs((60, 60), [(30, 2, 14), (30, 58, 14)]))
    maps[:2] *= length
    assert decode_and_check(maps).sound == sound


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_flow_of_the_instances_is_as_long_as_the_network_is_sure(kind):
    labels = draw_discs((60, 120), [(30, 30, 14), (30, 88, 14)])
    maps = perfect_maps(labels)
    whole = decode_and_check(kind(maps)).flow
    maps[:2, labels == 2] *= 0.5
    maps[:2, labels == 0] = 9.0  # counts for nothing
    assert whole == pytest.approx(1.0, abs=0.02)
    assert decode_and_check(kind(maps)).flow == pytest.approx(0.75, abs=0.02)
    maps[2] = -6.0
    assert decode_and_check(kind(maps)).flow == 0.0


def test_tensors_have_the_flow_errors_of_arrays():
    maps = draw_maps((120, 150), n_cells=20, noise=0.3, stretch=2.0)
    labels = decode_flows(maps, thresholds=FlowThresholds(flow_error=0.0))
    expected = flow_errors(labels, maps[:2] / 5)
    found = flow_errors(torch.from_numpy(labels), torch.from_numpy(maps[:2]) / 5)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def encode_plainly(labels):
    """Diffuse each cell alone, in float64, on an image of its own."""
    target = np.zeros((2, *labels.shape))
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = np.pad(labels[box] == i, 1)
        y, x = np.nonzero(mask)
        centre = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
        heat = np.zeros(mask.shape)
        for _ in range(2 * (sum(mask.shape) - 4)):
            heat[y[centre], x[centre]] += 1
            heat = ndimage.uniform_filter(heat, 3, mode="constant") * mask
        heat = np.log1p(heat)

        def at(dy, dx, heat=heat, mask=mask, y=y, x=x):
            return np.where(mask[y + dy, x + dx], heat[y + dy, x + dx], heat[y, x])

        vector = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)])
        vector /= np.hypot(*vector) + 1e-20
        target[:, y - 1 + box[0].start, x - 1 + box[1].start] = vector
    return target


@pytest.mark.parametrize("stretch", [1.0, 3.0])
def test_targets_match_a_plain_diffusion(stretch):
    labels = draw_tissue((80, 100), 14, np.random.default_rng(0), stretch)
    wrong = (np.abs(encode_flows(labels) - encode_plainly(labels)) > 2e-3).any(0)
    wrong[find_centres(labels)] = False  # a centre has no direction of its own
    assert not wrong.any()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3), (33, 17)])
@pytest.mark.parametrize("logit", [-1.0, 1.0])
def test_images_of_any_size_are_decoded(kind, shape, logit):
    maps = np.zeros((3, *shape), np.float32)
    maps[2] = logit
    y, x = np.indices(shape)
    middle = np.array(shape)[:, None, None] // 2
    maps[:2] = np.clip(5 * (middle - np.stack([y, x])), -5, 5)
    labels = np.asarray(decode_flows(kind(maps), thresholds=FlowThresholds(flow_error=0.0)))
    assert labels.shape == shape
    assert labels.dtype == np.int32
    is_found = logit > 0 and labels.size >= 15
    np.testing.assert_array_equal(labels, np.full(shape, int(is_found)))


def test_ids_are_without_gaps_and_the_same_each_time():
    maps = draw_maps(noise=0.4)
    first, second = (decode_flows(maps) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.unique(first), np.arange(first.max() + 1))
