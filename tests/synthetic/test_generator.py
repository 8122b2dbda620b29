"""Synthetic images: exact labels, the same for the same seed, and the look of their modality."""

import cv2
import numpy as np
import pytest

from synthetic import KINDS, make_image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(256, 256), (65, 130)])
def test_labels_are_consecutive_connected_instances(kind, shape):
    made = make_image(kind, shape, seed=3)
    n_labels = made.labels.max()
    assert made.labels.shape == shape
    assert made.labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(made.labels), np.arange(n_labels + 1))
    for label in range(1, n_labels + 1):
        mask = (made.labels == label).astype(np.uint8)
        assert cv2.connectedComponents(mask, connectivity=4)[0] == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_have_the_promised_shape_and_dtype(kind, dtype):
    made = make_image(kind, (90, 70), seed=1, dtype=dtype)
    n_channels = 3 if "rgb" in kind or "brightfield" in kind else 1
    assert made.image.shape == (90, 70, n_channels)
    assert made.image.dtype == dtype
    assert made.modality in ("brightfield", "phase", "dic", "fluorescence")
    assert made.image.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    first, again, other = (make_image(kind, (96, 96), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("kind", KINDS)
def test_bit_depth_changes_neither_labels_nor_look(kind):
    coarse = make_image(kind, (96, 96), seed=2)
    fine = make_image(kind, (96, 96), seed=2, dtype=np.uint16)
    np.testing.assert_array_equal(coarse.labels, fine.labels)
    np.testing.assert_allclose(coarse.image / 255, fine.image / 4095, atol=0.51 / 255 + 1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_cells", [0, 1, 3])
def test_as_many_cells_as_wanted(kind, n_cells):
    made = make_image(kind, (300, 300), n_cells, diameter_px=30)
    assert made.labels.max() == n_cells


@pytest.mark.parametrize("kind", KINDS)
def test_cells_have_the_wanted_size(kind):
    made = make_image(kind, (500, 500), 25, diameter_px=40)
    areas = np.bincount(made.labels.ravel())[1:]
    assert 0.75 * 40 < np.median(np.sqrt(4 / np.pi * areas)) < 1.25 * 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 2)])
def test_tiny_images(kind, shape):
    assert make_image(kind, shape).image.shape[:2] == shape


def test_full_images_take_fewer_cells():
    assert 1 <= make_image("phase", (64, 64), 1000).labels.max() < 50


def mean_inside_and_outside(made, seed_channel=slice(None)):
    grey = made.image[..., seed_channel].astype(float).mean(axis=2)
    return grey[made.labels > 0].mean(), grey[made.labels == 0].mean()


@pytest.mark.parametrize("seed", range(3))
def test_each_modality_looks_like_itself(seed):
    for kind in ("fluorescence", "fluorescence_rgb"):
        inside, outside = mean_inside_and_outside(make_image(kind, seed=seed))
        assert outside < 50
        assert inside > 2 * outside
    inside, outside = mean_inside_and_outside(make_image("phase", seed=seed))
    assert 80 < outside < 190
    assert inside < outside - 10
    inside, outside = mean_inside_and_outside(make_image("dic", seed=seed))
    assert 80 < outside < 190
    assert abs(inside - outside) < 8  # a relief: bright and dark flanks cancel
    for kind in ("brightfield", "brightfield_small"):
        made = make_image(kind, seed=seed)
        inside, outside = mean_inside_and_outside(made)
        assert outside > 150
        assert inside < outside - 30
        red, green, blue = made.image[made.labels > 0].mean(axis=0)
        assert green < min(red, blue)  # purple


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "xray"}, "unknown kind"),
        ({"kind": "dic", "shape": (0, 5)}, "shape"),
        ({"kind": "dic", "dtype": np.float32}, "uint8 or uint16"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_image(**arguments)
