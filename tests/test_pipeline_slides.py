"""Large images through the pipeline: resumed after a kill, at a chosen resolution."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from imaging.listing import ImageError
from pipeline import process_image
from synthetic.slides import SlideSettings, make_slide, write_slide
from tests.fakes import DiscNetwork, fake_job, scatter_discs
from tiling.settings import TilingSettings

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = TilingSettings(block_px=100)
KILLED_RUN = """
import dataclasses, os, signal, sys
from pathlib import Path
from pipeline import process_image
from tests.fakes import DiscNetwork, fake_job
from tests.test_pipeline_slides import SETTINGS

def kill(progress):
    if progress.n_done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

job = fake_job(Path(sys.argv[2]), DiscNetwork(style=0.1))
process_image(Path(sys.argv[1]), dataclasses.replace(job, tiling=SETTINGS, report=kill))
"""


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "in" / "slide.png"
    path.parent.mkdir()
    pixels = scatter_discs((310, 257), spacing=24, radius=7)
    iio.imwrite(path, (200 * pixels).astype(np.uint8))
    (tmp_path / "out").mkdir()
    return path


def slide_job(output, network=None, **changes):
    job = fake_job(output, network or DiscNetwork(style=0.1))
    return dataclasses.replace(job, tiling=SETTINGS, **changes)


def kill_after(slide, output, n_blocks):
    """Label a slide in a process that kills itself when some blocks are done."""
    finished = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, str(slide), str(output), str(n_blocks)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert finished.returncode == -9


def test_after_a_kill_the_finished_blocks_are_skipped_and_labels_are_identical(
    slide, tmp_path, caplog
):
    output = tmp_path / "out"
    whole = DiscNetwork(style=0.1)
    process_image(slide, slide_job(tmp_path, whole))
    expected = (tmp_path / "slide_label.tiff").read_bytes()
    kill_after(slide, output, 7)
    assert [path.name for path in output.iterdir()] == [".slide_label.blocks"]
    network = DiscNetwork(style=0.1)
    with caplog.at_level("INFO"):
        result = process_image(slide, slide_job(output, network))
    assert 7 <= result.done.n_stored < result.done.n_blocks == 12
    assert network.calls < whole.calls
    assert "blocks were there already" in caplog.text
    assert (output / "slide_label.tiff").read_bytes() == expected
    assert [path.name for path in output.iterdir()] == ["slide_label.tiff"]


def touch(slide, job):
    os.utime(slide, ns=(1, 1))
    return job


def change_weights(slide, job):
    return dataclasses.replace(job, identify=lambda _: "other weights")


def change_settings(slide, job):
    return dataclasses.replace(job, tiling=dataclasses.replace(SETTINGS, tile_px=96))


@pytest.mark.parametrize("change", [touch, change_weights, change_settings])
def test_blocks_of_another_file_expert_or_setting_are_dropped(slide, tmp_path, change, caplog):
    output = tmp_path / "out"

    def stop(progress):
        if progress.n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_image(slide, slide_job(output, report=stop))
    with caplog.at_level("INFO"):
        result = process_image(slide, change(slide, slide_job(output)))
    assert result.done.n_stored == 0
    assert "dropped" in caplog.text
    assert [path.name for path in output.iterdir()] == ["slide_label.tiff"]


def test_the_scale_of_a_resumed_slide_is_not_chosen_again(slide, tmp_path):
    class Undecided(DiscNetwork):
        def choose_scale(self, views):
            raise AssertionError("asked again")

    def stop(progress):
        if progress.n_done == 5:
            raise KeyboardInterrupt

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        process_image(slide, slide_job(output, DiscNetwork(scale=0.9), report=stop))
    assert process_image(slide, slide_job(output, Undecided())).done.n_stored >= 5


def test_an_image_of_few_blocks_stores_nothing(slide, tmp_path):
    output, seen = tmp_path / "out", []
    job = slide_job(output, report=lambda _: seen.append(sorted(output.iterdir())))
    job = dataclasses.replace(job, tiling=TilingSettings(block_px=200))
    assert process_image(slide, job).done.n_blocks == 4
    assert seen == [[]] * 4


@pytest.fixture
def pyramid(tmp_path):
    path = tmp_path / "pyramid.ome.tiff"
    mosaic = make_slide("fluorescence", (1100, 1500), tile_px=128)
    write_slide(path, mosaic, "ome-tiff", SlideSettings(128, "zlib", 0.5))
    return path


@pytest.mark.parametrize(
    ("choice", "shape"),
    [
        ({}, (1100, 1500)),
        ({"level": 0}, (1100, 1500)),
        ({"level": 1}, (550, 750)),
        ({"mpp": 1.0}, (550, 750)),
        ({"mpp": 0.7}, (1100, 1500)),
    ],
)
def test_labels_have_the_size_of_the_chosen_level(pyramid, tmp_path, choice, shape):
    result = process_image(pyramid, dataclasses.replace(fake_job(tmp_path), **choice))
    assert result.shape[:2] == shape
    assert tifffile.imread(tmp_path / "pyramid_label.tiff").shape == shape


@pytest.mark.parametrize(("choice", "said"), [({"level": 9}, "level 9"), ({"mpp": 1}, "size of")])
def test_a_resolution_that_a_file_does_not_have_is_its_error(slide, tmp_path, choice, said):
    with pytest.raises(ImageError, match=said):
        process_image(slide, dataclasses.replace(fake_job(tmp_path), **choice))
    assert list((tmp_path / "out").iterdir()) == []
