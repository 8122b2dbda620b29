import numpy as np
import pytest

from eval.matching import match_instances
from models.flows import (
    clean_instances,
    decode_flows,
    encode_flows,
    find_centres,
    flow_errors,
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
