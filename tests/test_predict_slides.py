"""Slides through the command line: bad ones are a line each, and the others are done."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tifffile

import predict
from tests.fakes import DiscNetwork, fake_job, scatter_discs, write_discs
from tiling.settings import TilingSettings

SHAPE = (1600, 500)  # so long that fields of it are looked at first, not all of it
CUT = TilingSettings(block_px=270, diameter_px=14.0)  # a known size, so that no views are looked at


def run(source, output, network=None):
    """Run the command line with a fake job that cuts slides into blocks."""

    def build_job(options, watch):
        job = fake_job(options.output_path, network or DiscNetwork(tile_px=256, wanted_px=14.0))
        return dataclasses.replace(job, tiling=CUT, watch=watch)

    return predict.main(["-i", str(source), "-o", str(output)], build_job)


def write_pyramid(path):
    """Write a slide with cells along its upper edge, and one smaller level."""
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[:300] = 200 * scatter_discs((300, SHAPE[1]), spacing=24, radius=7)
    layout: dict[str, Any] = {"tile": (128, 128), "compression": "zlib"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, subifds=1, **layout)
        writer.write(pixels[::2, ::2], subfiletype=1, **layout)


def damage_middle_tile(path):
    """Overwrite a tile in the middle of the full level."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        middle = len(page.dataoffsets) // 2
        offset, n_bytes = page.dataoffsets[middle], page.databytecounts[middle]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(n_bytes))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    write_discs(folder / "good.png", n_discs=2)
    return folder


def test_bad_slides_are_a_line_each_and_the_others_are_done(source, tmp_path, caplog):
    write_pyramid(source / "damaged.tif")
    damage_middle_tile(source / "damaged.tif")
    write_pyramid(source / "truncated.tif")
    whole = (source / "truncated.tif").read_bytes()
    (source / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    assert run(source, output) == 1
    visible = [path.name for path in output.iterdir() if not path.name.startswith(".")]
    assert visible == ["good_label.tiff"]
    assert not list(output.rglob("*.part"))
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info for record in errors] == [None, None]
    damaged, truncated = (record.getMessage() for record in errors)
    assert damaged.startswith("damaged.tif: cannot be decoded (")
    assert truncated.startswith("truncated.tif: is truncated (")
    for line in (damaged, truncated):
        assert "copy or export it again" in line
        assert "\n" not in line


def test_a_tile_is_found_to_be_damaged_when_its_blocks_turn_comes(source, tmp_path):
    write_pyramid(source / "damaged.tif")
    damage_middle_tile(source / "damaged.tif")
    run(source, tmp_path / "out")
    blocks = list((tmp_path / "out" / ".damaged_label.blocks").rglob("*.block"))
    assert 0 < len(blocks) < 12


def test_a_full_gpu_while_the_scale_is_chosen_is_a_line_with_a_remedy(source, tmp_path, caplog):
    class FullNetwork(DiscNetwork):
        def choose_scale(self, views):
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    assert run(source, tmp_path / "out", FullNetwork()) == 1
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.getMessage().startswith("good.png: out of memory while the scale was chosen; ")
    assert record.exc_info is None
