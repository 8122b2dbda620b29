import numpy as np
import pytest

from tests.fakes import draw_discs
from tiling.native import labels_to_native
from tiling.sampling import build_geometry


def to_native(labels, foreground, native_shape, scale):
    geometry = build_geometry(native_shape, scale)
    assert geometry.network == labels.shape
    region = (0, 0, *labels.shape)
    return labels_to_native(labels, foreground, region, geometry, (0, 0, *native_shape))


def test_scale_1_is_the_same_labels():
    labels = np.random.default_rng(0).integers(0, 5, (9, 7)).astype(np.int32)
    np.testing.assert_array_equal(to_native(labels, labels.astype(np.float32), (9, 7), 1), labels)


@pytest.mark.parametrize("scale", [0.2, 0.25, 0.37])
def test_a_disc_is_round_again(scale):
    centre, radius, side = 60.0, 33.3, 120
    n_network = round(side * scale)
    y, x = (np.indices((n_network, n_network)) + 0.5) * side / n_network - 0.5
    foreground = (radius - np.hypot(y - centre, x - centre)).astype(np.float32)
    labels = (foreground > 0).astype(np.int32)
    native = to_native(labels, foreground, (side, side), scale)
    true = draw_discs((side, side), [(centre, centre, radius)]) > 0
    iou = (true & (native > 0)).sum() / (true | (native > 0)).sum()
    assert iou > 0.98  # nearest-neighbour labels reach 0.9 at these scales


def test_the_decoder_has_the_last_word_on_network_pixels():
    labels = np.zeros((6, 6), np.int32)
    labels[1:4, 1:4] = 3
    foreground = np.where(labels > 0, 1, -1).astype(np.float32)
    foreground[2, 2] = -1  # a hole that the decoder has filled
    foreground[5, 5] = 1  # a speck that it has dropped
    native = to_native(labels, foreground, (30, 30), 0.2)
    centres = native[2::5, 2::5]
    np.testing.assert_array_equal(centres, labels)
    assert (native[10:15, 10:15] == 3).all()


def test_touching_cells_keep_their_ids_and_leave_no_gap():
    labels = np.repeat([[1, 1, 2, 2]], 4, axis=0).astype(np.int32)
    native = to_native(labels, np.ones((4, 4), np.float32), (20, 20), 0.2)
    np.testing.assert_array_equal(native, np.repeat([[1] * 10 + [2] * 10], 20, axis=0))
