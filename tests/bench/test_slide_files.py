import numpy as np
import pytest
import tifffile

from bench.slide_files import KINDS, Kind, Slide, make_plain, make_pyramid
from models.registry import SPECS
from router.names import BRIGHTFIELD_EXPERTS, EXPERT_OF, EXPERT_TABLES
from synthetic import KINDS as CELLS

SHAPE = (530, 700)  # four places, two of them blank


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_made_and_goes_to_its_expert(name):
    kind = KINDS[name]
    assert kind.cells in CELLS
    assert kind.expert in SPECS
    of_both = kind.modality == "brightfield"  # K-Means chooses between them
    asked = BRIGHTFIELD_EXPERTS if of_both else (EXPERT_OF[kind.modality],)
    assert kind.expert in asked or kind.expert in [EXPERT_TABLES["best"].get(e) for e in asked]


@pytest.mark.parametrize("name", ["brightfield", "fluorescence"])
def test_kinds_in_colour_go_to_the_experts_that_serve_them_by_default(tmp_path, monkeypatch, name):
    monkeypatch.setattr("synthetic.slides.N_TILES", 1)
    kind = KINDS[name]
    assert kind.modality == name
    assert kind.expert in EXPERT_TABLES["best"].values()
    assert tifffile.imread(make_pyramid(tmp_path, kind, SHAPE).path).shape == (*SHAPE, 3)


@pytest.mark.parametrize("cells", ["phase", "fluorescence_rgb"])
def test_both_files_hold_one_slide_and_the_plain_one_is_rgb(tmp_path, monkeypatch, cells):
    for module in ("synthetic.slides", "bench.slide_files"):
        monkeypatch.setattr(f"{module}.N_TILES", 2)
    pyramid, plain = (
        make(tmp_path / "new", Kind(cells), SHAPE) for make in (make_pyramid, make_plain)
    )
    with tifffile.TiffFile(plain.path) as file:
        (page,) = file.pages
        assert page.compression == tifffile.COMPRESSION.NONE
        pixels = file.asarray()  # as stock Cellpose reads it
    assert pixels.shape == (*SHAPE, 3)
    assert pixels.dtype == np.uint8
    scanned = tifffile.imread(pyramid.path)
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.atleast_3d(scanned), pixels.shape))
    assert len(np.unique(pixels[:512, :512].reshape(-1, 3), axis=0)) > 20  # not blank throughout


def test_a_slide_knows_its_size(tmp_path):
    slide = Slide(tmp_path, Kind("dic"), (1000, 2500))
    assert slide.mpx == 2.5
    assert slide.name == "1000 x 2500, dic"
    assert slide.kind.modality == "dic"
