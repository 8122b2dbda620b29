"""Slides made of tiles: exact labels wherever a region lies, pyramids of true means, any size."""

import logging
import tracemalloc

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from imaging.image import ImageError
from imaging.reading import open_image
from synthetic.generator import KINDS
from synthetic.mosaic import MARGIN_PX, Mosaic, Tile, make_tile
from synthetic.slides import WRITERS, SlideSettings, main, make_slide, write_slide

RNG = np.random.default_rng(0)
SIDE = 64


def random_tiles(n_tiles=3, n_channels=3):
    """Make tiles of noise, with labels that have gaps and touch the edges."""
    return [
        Tile(
            RNG.integers(0, 256, (SIDE, SIDE, n_channels), np.uint8),
            np.kron(RNG.choice([0, 3, 4, 70], (8, 8)), np.ones((8, 8), int)),
        )
        for _ in range(n_tiles)
    ]


def whole(mosaic):
    box = (0, 0, *mosaic.shape[:2])
    return mosaic.read(box), mosaic.read_labels(box)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_has_whole_cells_and_a_blank_edge(kind):
    side = 384 if kind == "brightfield" else 160  # the former's cells are large
    tile = make_tile(kind, side, seed=1)
    assert tile.labels.max() > 0
    edge = np.ones(tile.labels.shape, bool)
    edge[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = False
    assert not tile.labels[edge].any()
    border = np.concatenate([tile.image[0], tile.image[-1], tile.image[:, 0], tile.image[:, -1]])
    assert (border == border[0]).all()
    ids = np.unique(tile.labels)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    again = make_tile(kind, side, seed=1)
    np.testing.assert_array_equal(tile.image, again.image)
    assert (make_tile(kind, side, seed=2).image != tile.image).any()


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (63, 200), (300, 129)])
@pytest.mark.parametrize("tissue", [0.0, 0.4, 1.0])
def test_a_slide_is_its_tiles_with_ids_of_their_own(shape, tissue):
    tiles = random_tiles()
    mosaic = Mosaic(tiles, shape, tissue, blank=(9, 8, 7), seed=3)
    image, labels = whole(mosaic)
    assert image.shape == mosaic.shape == (*shape, 3)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), np.arange(mosaic.n_labels) + 1)
    used = 0
    for y in range(0, shape[0], SIDE):
        for x in range(0, shape[1], SIDE):
            piece = image[y : y + SIDE, x : x + SIDE]
            ids = labels[y : y + SIDE, x : x + SIDE]
            height, width = ids.shape
            fitting = [t for t in tiles if (t.image[:height, :width] == piece).all()]
            if not fitting:
                assert (piece == (9, 8, 7)).all()
                assert not ids.any()
                continue
            used += 1
            pairs = np.stack((fitting[0].labels[:height, :width].ravel(), ids.ravel()))
            pairs = np.unique(pairs, axis=1)
            assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
            assert ((pairs[0] == 0) == (pairs[1] == 0)).all()
    n_places = -(-shape[0] // SIDE) * -(-shape[1] // SIDE)
    assert used == n_places - round((1 - tissue) * n_places)


def test_regions_are_cut_from_the_whole():
    mosaic = Mosaic(random_tiles(), (200, 330), 0.7)
    image, labels = whole(mosaic)
    for _ in range(30):
        y0, y1 = sorted(RNG.choice(201, 2, replace=False))
        x0, x1 = sorted(RNG.choice(331, 2, replace=False))
        np.testing.assert_array_equal(mosaic.read((y0, x0, y1, x1)), image[y0:y1, x0:x1])
        np.testing.assert_array_equal(mosaic.read_labels((y0, x0, y1, x1)), labels[y0:y1, x0:x1])


@pytest.mark.parametrize("factor", [2, 4, 64])
def test_levels_are_means_of_squares(factor):
    mosaic = Mosaic(random_tiles(), (200, 330), 0.7)
    image, _ = whole(mosaic)
    height, width, _ = mosaic.level_shape(factor)
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    level = mosaic.read((0, 0, height, width), factor)
    np.testing.assert_array_equal(level, np.rint(squares.mean(axis=(1, 3))))


def test_the_pyramid_ends_at_the_size_of_a_screen():
    mosaic = Mosaic(random_tiles(1), (9000, 20000))
    assert mosaic.factors(2) == [2, 4, 8, 16, 32]
    assert mosaic.factors(4) == [4, 16, 64]
    assert Mosaic(random_tiles(1), (900, 1000)).factors(2) == []


def test_wrong_slides_are_refused():
    tiles = random_tiles(2)
    other = random_tiles(1, n_channels=1)
    for arguments in (
        ([], (5, 5)),
        ([*tiles, *other], (5, 5)),
        (tiles, (0, 5)),
        (tiles, (5, 5), 1.5),
        ([Tile(tiles[0].image, tiles[0].labels[:5])], (5, 5)),
        ([Tile(tiles[0].image[:9], tiles[0].labels[:9])], (5, 5)),
    ):
        with pytest.raises(ValueError, match="wanted"):
            Mosaic(*arguments)
    with pytest.raises(ValueError, match="factor"):
        Mosaic(tiles, (90, 90)).read((0, 0, 5, 5), 3)
    with pytest.raises(ValueError, match="unknown kind"):
        make_tile("film", 64, 0)
    with pytest.raises(ValueError, match="side"):
        make_tile("phase", 2 * MARGIN_PX, 0)


def test_cells_of_a_slide_are_in_one_piece_and_bright():
    mosaic = make_slide("fluorescence", (300, 500), tile_px=128)
    image, labels = whole(mosaic)
    assert mosaic.n_labels > 20
    for label in range(1, mosaic.n_labels + 1):
        assert ndimage.label(labels == label)[1] <= 2  # the slide's edge may part one
    assert image[labels > 0].mean() > 1.5 * image[labels == 0].mean()


@pytest.mark.parametrize("form", WRITERS)
def test_the_command_line_writes_a_slide_and_its_labels(tmp_path, form, caplog, monkeypatch):
    monkeypatch.setattr("synthetic.slides.N_TILES", 1)
    path, labels_path = tmp_path / "slide", tmp_path / "slide_label.tiff"
    arguments = ["--kind", form, "--size", "300", "1300", "-o", str(path), "--tissue", "0.5"]
    arguments += ["--labels", str(labels_path), "--cells", "fluorescence", "--mpp", "0.4"]
    with caplog.at_level(logging.INFO):
        assert main(arguments) == 0
    mosaic = make_slide("fluorescence", (300, 1300), 0.5)
    image, labels = whole(mosaic)
    assert f"{mosaic.n_labels} cells" in caplog.text
    np.testing.assert_array_equal(tifffile.imread(labels_path), labels)
    with open_image(path) as opened:
        assert opened.shape == image.shape
        assert opened.mpp == pytest.approx(0.4)
        stored = opened.read((0, 0, 300, 1300)).astype(int)
    assert np.abs(stored - image).max() <= (40 if form == "svs" else 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["slide", "slide_label.tiff"]


def test_what_cannot_be_written_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("synthetic.slides.N_TILES", 1)
    mosaic = Mosaic(random_tiles(), (70, 70))
    for form in WRITERS:
        with pytest.raises(ImageError, match="cannot be written"):
            write_slide(tmp_path / "missing" / "slide", mosaic, form)
    (tmp_path / "there").mkdir()
    with pytest.raises(ImageError, match="exists already"):
        write_slide(tmp_path / "there", mosaic, "ome-zarr-0.5")
    with pytest.raises(ValueError, match="unknown form"):
        write_slide(tmp_path / "slide", mosaic, "film")
    with pytest.raises(ValueError, match="strips are stored"):
        write_slide(tmp_path / "slide", mosaic, "strips", SlideSettings(compression="lzw"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]
    size = ["--size", "64", "64", "--cells", "fluorescence"]
    assert main([*size, "-o", str(tmp_path / "missing" / "a")]) == 1
    assert "cannot be written" in caplog.text
    with pytest.raises(SystemExit):
        main([*size, "-o", str(tmp_path / "a"), "--tissue", "7"])


@pytest.mark.parametrize("form", WRITERS)
def test_memory_does_not_grow_with_the_slide(tmp_path, form):
    tile = Tile(RNG.integers(0, 256, (512, 512, 3), np.uint8), np.zeros((512, 512), int))
    mosaic = Mosaic([tile], (2048, 6144), tissue=0.02)  # 38 MB as an array
    settings = SlideSettings(512, "zlib")
    tracemalloc.start()
    write_slide(tmp_path / "slide", mosaic, form, settings, tmp_path / "slide_label.tiff")
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak_mib < 30
