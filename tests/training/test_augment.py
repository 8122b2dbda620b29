import numpy as np
import pytest
from scipy import ndimage

from models.flows import encode_flows, renumber
from tests.cells import draw_discs
from tests.training.folders import make_field
from training.augment import (
    ColourSettings,
    GeometrySettings,
    blank_patch,
    draw_patch,
    lay_mosaic,
    turn_field,
    vary_intensity,
)
from training.sampling import FieldSampler

WILD = ColourSettings(invert=0.5, permute=0.5, jitter=0.3, grey=0.3, gain=0.5)


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


@pytest.mark.parametrize("seed", range(12))
def test_intensities_stay_in_the_range_of_images(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(0.5, 0.6, (20, 30, 3)).astype(np.float32).clip(-0.5, 2)
    before = image.copy()
    varied = vary_intensity(image, WILD, rng)
    np.testing.assert_array_equal(image, before)
    assert varied.shape == image.shape
    assert varied.dtype == np.float32
    assert varied.min() >= -0.5
    assert varied.max() <= 2
    assert np.isfinite(varied).all()
    assert varied.std() > 0


@pytest.mark.parametrize("seed", range(5))
def test_contrast_is_inverted_only_where_asked(seed):
    image = np.zeros((32, 32, 3), np.float32)
    image[8:24, 8:24] = 0.9
    for invert, sign in ((0.0, 1), (1.0, -1)):
        settings = ColourSettings(invert=invert, gain=0.1)
        varied = vary_intensity(image, settings, np.random.default_rng(seed))
        assert sign * np.corrcoef(image.ravel(), varied.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_colour_is_dropped_or_mixed_only_where_asked(seed):
    image = np.random.default_rng(0).random((16, 16, 3), np.float32) * [0.2, 0.5, 1.0]
    image = image.astype(np.float32)

    def vary(**settings):
        return vary_intensity(image, ColourSettings(**settings), np.random.default_rng(seed))

    assert np.ptp(vary(grey=1.0), axis=2).max() < 1e-5
    assert np.argmax(vary().mean((0, 1))) == 2
    means = vary(permute=1.0).mean((0, 1))
    assert np.ptp(means) > 0.1


def test_intensities_depend_on_the_seed_alone():
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    first, again, other = (
        vary_intensity(image, WILD, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


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


def test_no_field_at_all_is_refused():
    with pytest.raises(ValueError, match="--data"):
        FieldSampler([], {})
