import cv2
import numpy as np
import pytest
from scipy import ndimage

import training.augment
from models.flows import encode_flows, renumber
from tests.cells import draw_discs
from tests.training.folders import make_field
from training.augment import (
    GeometrySettings,
    blank_patch,
    draw_patch,
    lay_mosaic,
    turn_field,
    zoom_field,
)
from training.sampling import FieldSampler


def draw_beans(shape=(100, 140)):
    """Draw cells without symmetry: discs with a bite, on different sides."""
    labels = draw_discs(shape, [(25, 25, 16), (70, 35, 20), (40, 80, 22), (75, 115, 16)])
    labels[draw_discs(shape, [(25, 35, 8), (55, 35, 9), (48, 66, 8)]) > 0] = 0
    return labels


@pytest.fixture(scope="module")
def field():
    return make_field(draw_beans())


def cosines(flow, labels):
    """Compare a flow with the one of its labels, where both are: cosine a pixel."""
    expected = encode_flows(labels)
    both = (labels > 0) & (np.linalg.norm(flow, axis=0) > 0.5)
    return (flow * expected).sum(0)[both]


def inner_cells(labels):
    """Keep the cells that the crop does not cut."""
    rim = np.ones(labels.shape, bool)
    rim[1:-1, 1:-1] = False
    return renumber(np.where(np.isin(labels, labels[rim]), 0, labels))


def same_patch(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("n_quarters", range(4))
def test_a_turned_field_is_the_field_of_the_turned_labels(field, n_quarters, mirror):
    turned = turn_field(field, n_quarters, mirror)
    labels = np.rot90(field.labels[:, ::-1] if mirror else field.labels, n_quarters)
    np.testing.assert_array_equal(turned.labels, labels)
    np.testing.assert_array_equal(turned.image[:, :, 0] > 0.5, labels > 0)
    assert turned.trusted.shape == labels.shape
    assert turned.flow.shape == (2, *labels.shape)
    cosine = cosines(turned.flow.astype(np.float32), labels)
    # the pixel nearest to a centroid is drawn by lot where two are as near
    assert cosine.mean() > 0.98
    assert np.mean(cosine > 0.9) > 0.97


def test_four_quarters_and_two_mirrors_change_nothing(field):
    for again in (
        turn_field(field, 4, mirror=False),
        turn_field(turn_field(field, 0, True), 0, True),
    ):
        np.testing.assert_array_equal(again.flow, field.flow)
        np.testing.assert_array_equal(again.image, field.image)


def test_a_field_without_flow_can_be_turned():
    turned = turn_field(make_field(draw_beans(), with_flow=False), 1, mirror=True)
    assert turned.flow.size == 0
    assert turned.labels.shape == (140, 100)


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_the_flow_of_a_patch_is_that_of_its_labels(field, seed, rotate):
    settings = GeometrySettings(128, scale=(0.55, 1.4), rotate=rotate)
    patch = draw_patch(field, [field], settings, np.random.default_rng(seed))
    labels = inner_cells(patch.labels)
    assert labels.any()
    cosine = cosines(patch.flow, labels)
    assert cosine.mean() > 0.95
    assert np.mean(cosine > 0.8) > 0.95  # nearest sampling is off by half a pixel at centres
    length = np.linalg.norm(patch.flow, axis=0)
    assert length.max() < 1.01
    assert not length[patch.labels == 0].any()


@pytest.mark.parametrize("seed", range(4))
def test_image_and_labels_move_together(field, seed):
    settings = GeometrySettings(96, scale=(0.5, 2.0))
    patch = draw_patch(field, [field], settings, np.random.default_rng(seed))
    agree = (patch.image[:, :, 0] > 0.5) == (patch.labels > 0)
    assert np.mean(agree[patch.trusted]) > 0.97
    assert set(np.unique(patch.labels)) <= set(range(5))


def test_zooms_cover_their_range_and_nothing_else():
    disc = make_field(draw_discs((200, 200), [(100, 100, 20)]), with_flow=False)
    settings = GeometrySettings(160, scale=(0.5, 1.5))
    rng = np.random.default_rng(0)
    patches = [draw_patch(disc, [disc], settings, rng) for _ in range(60)]
    inner = [inner_cells(patch.labels) for patch in patches]
    zooms = [np.sqrt((labels > 0).sum() / np.pi) / 20 for labels in inner if labels.any()]
    assert 0.49 < min(zooms) < 0.65
    assert 1.2 < max(zooms) < 1.52


def test_a_patch_depends_on_the_seed_alone(field):
    settings = GeometrySettings(160)  # larger than the field: a mosaic
    first, again, other = (
        draw_patch(field, [field, field], settings, np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert same_patch(first, again)
    assert not same_patch(first, other)


def test_nothing_outside_of_the_field_is_trusted(field):
    settings = GeometrySettings(256, scale=(1.0, 1.0), mosaic=0.0)
    patch = draw_patch(field, [field, field], settings, np.random.default_rng(0))
    assert patch.image.shape == (256, 256, 3)
    assert np.count_nonzero(patch.trusted) == pytest.approx(100 * 140, rel=0.02)
    assert not patch.labels[~patch.trusted].any()
    assert not patch.flow[:, ~patch.trusted].any()
    assert (patch.image[~patch.trusted] > 0.5).any()  # mirrored cells, of which no loss knows


def test_a_patch_without_flow_has_zeros(field):
    bare = make_field(draw_beans(), with_flow=False)
    for peers in ([bare], [bare, bare]):
        settings = GeometrySettings(160, mosaic=1.0)
        patch = draw_patch(bare, peers, settings, np.random.default_rng(0))
        assert patch.flow.shape == (2, 160, 160)
        assert not patch.flow.any()
        assert patch.labels.any()


def test_what_a_field_does_not_trust_no_patch_trusts():
    labels = draw_beans()
    field = make_field(labels, trusted=labels > 0)
    settings = GeometrySettings(160, mosaic=1.0)
    patch = draw_patch(field, [field, field], settings, np.random.default_rng(1))
    np.testing.assert_array_equal(patch.trusted, patch.labels > 0)


def test_the_cells_of_a_mosaic_are_all_different():
    fields = [
        make_field(draw_discs((48, 64), [(12, 12, 8), (30, 40, 9)]), name="a"),
        make_field(draw_discs((64, 48), [(20, 20, 10)]), name="b"),
    ]
    mosaic = lay_mosaic(fields[0], fields, 200, np.random.default_rng(0))
    assert mosaic.labels.shape == (200, 200)
    regions, n_regions = ndimage.label(mosaic.labels > 0)
    ids = {i: set(np.unique(mosaic.labels[regions == i])) for i in range(1, n_regions + 1)}
    assert all(len(found) == 1 for found in ids.values())
    # cells are apart in their fields: an id in two regions stands for two cells
    assert len(np.unique(mosaic.labels)) - 1 == n_regions > 12
    cosine = cosines(mosaic.flow.astype(np.float32), inner_cells(renumber(mosaic.labels)))
    assert np.mean(cosine > 0.9) > 0.9  # cells that stick out of the square keep their own flow


def test_a_mosaic_is_trusted_where_a_field_lies():
    square = make_field(draw_discs((50, 50), [(25, 25, 10)]))
    assert lay_mosaic(square, [square], 150, np.random.default_rng(0)).trusted.all()
    flat = make_field(draw_discs((20, 50), [(10, 25, 8)]))
    ragged = lay_mosaic(square, [square, flat], 150, np.random.default_rng(0))
    assert not ragged.trusted.all()
    assert not ragged.labels[~ragged.trusted].any()
    assert ragged.trusted[:20].all()


def test_small_fields_fill_a_patch_together():
    small = make_field(draw_discs((40, 40), [(20, 20, 9)]))
    settings = GeometrySettings(128, scale=(1.0, 1.0), mosaic=1.0)
    rng = np.random.default_rng(0)
    together = draw_patch(small, [small, small], settings, rng)
    alone = draw_patch(small, [small], settings, rng)  # there is nothing to lay beside it
    assert together.trusted.mean() > 0.8
    assert alone.trusted.mean() < 0.15


def test_a_wide_share_zooms_beyond_the_recipe():
    disc = make_field(draw_discs((400, 400), [(200, 200, 40)]), with_flow=False)
    settings = GeometrySettings(400, scale=(1.0, 1.0), wide_share=0.5, wide_scale=(0.25, 0.5))
    rng = np.random.default_rng(0)
    areas = [(draw_patch(disc, [disc], settings, rng).labels > 0).sum() for _ in range(40)]
    zooms = np.sqrt(np.array(areas) / np.pi) / 40
    usual = np.abs(zooms - 1.0) < 0.03
    assert 10 < usual.sum() < 30
    assert 0.23 < zooms[~usual].min() < 0.3
    assert 0.4 < zooms[~usual].max() < 0.52


@pytest.mark.parametrize("zoom", [0.3, 0.5, 1.0, 2.5])
def test_cutting_before_warping_changes_nothing(zoom, monkeypatch):
    rng = np.random.default_rng(1)
    labels = draw_discs(
        (600, 500), [(y, x, 14) for y in range(20, 600, 40) for x in (60, 250, 430)]
    )
    image = cv2.GaussianBlur(rng.random((600, 500, 3), np.float32), (0, 0), 2).astype(np.float16)
    field = make_field(labels, image=image)
    settings = GeometrySettings(64, scale=(zoom, zoom))
    cut = [draw_patch(field, [field], settings, np.random.default_rng(k)) for k in range(6)]
    monkeypatch.setattr(training.augment, "REACH_MARGIN_PX", 1e6)
    whole = [draw_patch(field, [field], settings, np.random.default_rng(k)) for k in range(6)]
    for one, other in zip(cut, whole, strict=True):
        # warpAffine rounds coordinates to 1/32 px, from another corner to another side
        np.testing.assert_allclose(one.image, other.image, atol=0.02)
        assert np.mean(one.labels != other.labels) < 0.005
        assert np.mean(one.trusted != other.trusted) < 0.005


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_a_zoomed_field_is_the_field_of_zoomed_cells(field, factor):
    zoomed = zoom_field(field, factor)
    assert zoomed.labels.shape == (round(100 * factor), round(140 * factor))
    assert zoomed.image.shape[:2] == zoomed.trusted.shape == zoomed.labels.shape
    assert zoomed.scale == factor
    areas = np.bincount(zoomed.labels.ravel())[1:] / np.bincount(field.labels.ravel())[1:]
    np.testing.assert_allclose(areas, factor**2, rtol=0.1)
    assert np.mean((zoomed.image[:, :, 0] > 0.5) == (zoomed.labels > 0)) > 0.97
    assert np.mean(cosines(zoomed.flow.astype(np.float32), zoomed.labels) > 0.9) > 0.9
    assert zoom_field(make_field(draw_beans(), with_flow=False), factor).flow.size == 0


def test_the_pieces_of_a_mosaic_can_differ_in_scale():
    disc = make_field(draw_discs((40, 40), [(20, 20, 12)]))

    def spread(zoom):
        mosaic = lay_mosaic(disc, [disc], 300, np.random.default_rng(0), zoom)
        areas = np.bincount(inner_cells(mosaic.labels).ravel())[1:]
        return np.sqrt(areas.max() / areas.min())

    assert spread(1.0) == 1.0
    assert 1.5 < spread(2.0) < 4.1


@pytest.mark.parametrize("seed", range(6))
def test_a_blank_patch_is_noise_without_cells(seed):
    patch = blank_patch(48, np.random.default_rng(seed))
    assert patch.image.shape == (48, 48, 3)
    assert patch.image.dtype == np.float32
    assert patch.image.min() >= -0.5
    assert patch.image.max() <= 2
    assert patch.image.std() > 0
    np.testing.assert_array_equal(patch.image[:, :, 0], patch.image[:, :, 2])
    assert patch.trusted.all()
    assert not patch.labels.any()
    assert patch.flow.shape == (2, 48, 48)
    assert not patch.flow.any()


def test_data_sets_are_drawn_by_the_root_of_their_size():
    labels = np.zeros((4, 4), np.int32)
    sizes = {"large": 36, "small": 4, "rare": 16}
    fields = [make_field(labels, dataset=name) for name, n in sizes.items() for _ in range(n)]
    sampler = FieldSampler(fields, {"rare": 0.5})
    np.testing.assert_allclose(sampler.share, [0.6, 0.2, 0.2])
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(rng) for _ in range(1000)]
    for name, share in zip(sizes, sampler.share, strict=True):
        assert np.mean([f.dataset == name for f, _ in drawn]) == pytest.approx(share, abs=0.06)
    assert all({p.dataset for p in peers} == {f.dataset} for f, peers in drawn[:50])


def test_guests_share_what_they_are_given():
    labels = np.zeros((4, 4), np.int32)
    sizes = {"own": 16, "rare": 4, "guest": 100}
    fields = [make_field(labels, dataset=name) for name, n in sizes.items() for _ in range(n)]
    shares = FieldSampler(fields, {}, {"guest"}, 0.25).share
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25])
    guests_only = [field for field in fields if field.dataset == "guest"]
    np.testing.assert_allclose(FieldSampler(guests_only, {}, {"guest"}, 0.25).share, [1.0])


def test_no_field_at_all_is_refused():
    with pytest.raises(ValueError, match="--data"):
        FieldSampler([], {})
