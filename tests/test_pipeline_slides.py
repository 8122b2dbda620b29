"""Large images through the pipeline: after a kill, on a full disk, at a chosen resolution."""

import dataclasses
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from imaging.listing import ImageError
from pipeline import process_image
from synthetic.slides import SlideSettings, make_slide, write_slide
from tests.fakes import DiscNetwork, fake_job, scatter_discs, write_discs
from tiling.raster import LabelRaster
from tiling.settings import TilingSettings

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = TilingSettings(block_px=100)
STRIP_BYTES = 2**14  # of a label file: ten of them in that of the slide below


@dataclasses.dataclass(frozen=True)
class Place:
    """A function of the program in which a run is killed, after some of its calls."""

    owner: Any
    name: str
    n_before: int
    counts: Callable[..., bool] = lambda *_, **__: True
    left: tuple[str, ...] = (".slide_label.blocks",)


PLACES = {
    "between blocks": Place(LabelRaster, "add", 7),
    "in the network": Place(DiscNetwork, "forward", 6),
    "before a block has its name": Place(
        Path, "replace", 5, lambda _, new: Path(new).suffix == ".block"
    ),
    "between the strips of labels": Place(
        zlib, "compress", 4, left=(".slide_label.blocks", ".slide_label.tiff.")
    ),
    "before the blocks are removed": Place(
        shutil,
        "rmtree",
        0,
        lambda folder, **_: Path(folder).suffix == ".blocks",
        left=(".slide_label.blocks", "slide_label.tiff"),
    ),
}
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import imaging.writing
from pipeline import process_image
from tests.test_pipeline_slides import PLACES, STRIP_BYTES, slide_job

place = PLACES[sys.argv[3]]
original, calls = getattr(place.owner, place.name), []

def spy(*arguments, **named):
    calls.append(place.counts(*arguments, **named))
    if sum(calls) > place.n_before:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(place.owner, place.name, spy)
imaging.writing.STRIP_BYTES = STRIP_BYTES
process_image(Path(sys.argv[1]), slide_job(Path(sys.argv[2])))
"""
FULL_DISK = """
import dataclasses, functools, resource, signal, sys
from pathlib import Path
import predict, tiling.expert, tiling.raster
from tests.test_pipeline_slides import slide_job

def build_job(options, watch):
    return slide_job(options.output_path, watch=watch)

in_memory_px, n_bytes = map(int, sys.argv[3:])
tiling.expert.new_raster = functools.partial(tiling.raster.new_raster, in_memory_px=in_memory_px)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
sys.exit(predict.main(["-i", sys.argv[1], "-o", sys.argv[2]], build_job))
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


def run_elsewhere(code, *arguments):
    """Run some code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_run_is_killed_the_next_gives_identical_labels(
    slide, tmp_path, monkeypatch, place
):
    monkeypatch.setattr("imaging.writing.STRIP_BYTES", STRIP_BYTES)
    process_image(slide, slide_job(tmp_path))
    expected = (tmp_path / "slide_label.tiff").read_bytes()
    output = tmp_path / "out"
    assert run_elsewhere(KILLED_RUN, slide, output, place).returncode == -9
    left = names_in(output)
    assert len(left) == len(PLACES[place].left)
    for name, wanted in zip(left, PLACES[place].left, strict=True):
        assert name.startswith(wanted)
    if "slide_label.tiff" in left:
        assert (output / "slide_label.tiff").read_bytes() == expected
    result = process_image(slide, slide_job(output))
    assert 0 < result.done.n_stored <= result.done.n_blocks == 12
    assert (output / "slide_label.tiff").read_bytes() == expected
    assert names_in(output) == ["slide_label.tiff"]


def test_after_a_kill_the_finished_blocks_are_skipped(slide, tmp_path, caplog):
    output, whole = tmp_path / "out", DiscNetwork(style=0.1)
    process_image(slide, slide_job(tmp_path, whole))
    assert run_elsewhere(KILLED_RUN, slide, output, "between blocks").returncode == -9
    network = DiscNetwork(style=0.1)
    with caplog.at_level("INFO"):
        result = process_image(slide, slide_job(output, network))
    assert 7 <= result.done.n_stored < 12
    assert network.calls < whole.calls
    assert "blocks were there already" in caplog.text


@pytest.mark.parametrize(
    ("in_memory_px", "n_bytes", "said"),
    [
        (10**6, 1000, ".blocks/cdnet_fluorescence/"),
        (10**6, 3000, "cannot be written (File too large)"),
        (10**4, 100_000, "File too large"),
    ],
    ids=["a block", "the label file", "the label raster"],
)
def test_on_a_full_disk_an_image_fails_in_one_line_and_the_next_is_done(
    slide, tmp_path, in_memory_px, n_bytes, said
):
    write_discs(slide.with_name("small.png"), n_discs=2)
    output = tmp_path / "out"
    finished = run_elsewhere(FULL_DISK, slide.parent, output, in_memory_px, n_bytes)
    assert finished.returncode == 1
    (line,) = (line for line in finished.stderr.splitlines() if not line.startswith("INFO"))
    assert line.startswith("ERROR slide")
    assert said in line
    assert [name for name in names_in(output) if name[0] != "."] == ["small_label.tiff"]
    assert not list(output.rglob("*.part"))


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
