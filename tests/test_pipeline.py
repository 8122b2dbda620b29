import dataclasses

import numpy as np
import pytest
import tifffile

from imaging.reading import ImageError
from pipeline import process_image
from router.names import stand_ins
from stopwatch import STAGES
from tests.fakes import DiscNetwork, fake_job, write_discs


class BlindNetwork(DiscNetwork):
    """Find nothing."""

    def decode(self, maps):
        return np.zeros(maps.shape[1:], np.int32)


def test_an_image_becomes_a_label_image(tmp_path):
    path = write_discs(tmp_path / "a.b.png", n_discs=5)
    result = process_image(path, fake_job(tmp_path))
    labels = tifffile.imread(tmp_path / "a_label.tiff")
    assert labels.dtype == np.uint16
    assert labels.shape == (40, 100)
    np.testing.assert_array_equal(np.unique(labels), range(6))
    assert (result.name, result.shape, result.n_cells) == ("a.b.png", (40, 100, 1), 5)
    assert (result.modality, result.expert) == ("fluorescence", "cdnet_fluorescence")
    assert {"routing", "writing", "other"} <= set(result.seconds) <= set(STAGES)
    assert all(seconds > 0 for seconds in result.seconds.values())


def test_the_seconds_of_an_image_are_its_own(tmp_path):
    job = fake_job(tmp_path)
    job.watch.add("routing", 1000.0)  # of the images before
    result = process_image(write_discs(tmp_path / "a.png", n_discs=1), job)
    assert result.seconds["routing"] < 500
    assert sum(result.seconds.values()) < sum(job.watch.seconds().values())


@pytest.mark.parametrize("expert", ["cellpose_phase", "cellpose_dic"])
@pytest.mark.parametrize(
    ("n_cells", "general", "kept"),
    [
        (9, DiscNetwork(), "cellpose_general"),
        (9, BlindNetwork(), None),  # fewer cells: the first answer stands
        (10, DiscNetwork(), None),  # enough cells: not asked
    ],
)
def test_few_cells_in_phase_or_dic_ask_the_general_expert(tmp_path, expert, n_cells, general, kept):
    path = write_discs(tmp_path / "cells.png", n_cells)
    job = fake_job(tmp_path, modality="phase", expert=expert, cellpose_general=general)
    result = process_image(path, job)
    assert result.expert == (kept or expert)
    assert result.n_cells == n_cells
    assert (general.calls > 0) == (n_cells < 10)


@pytest.mark.parametrize("expert", ["cellpose_brightfield", "unet_brightfield"])
@pytest.mark.parametrize(("n_cells", "is_asked"), [(0, True), (1, False)])
def test_a_brightfield_image_without_any_cell_asks_it_too(tmp_path, expert, n_cells, is_asked):
    path = write_discs(tmp_path / "cells.png", n_cells)
    general = DiscNetwork()
    job = fake_job(tmp_path, modality="brightfield", expert=expert, cellpose_general=general)
    assert process_image(path, job).n_cells == n_cells
    assert (general.calls > 0) == is_asked


def test_few_cells_elsewhere_ask_nobody(tmp_path):
    path = write_discs(tmp_path / "cells.png", n_discs=2)
    assert process_image(path, fake_job(tmp_path)).expert == "cdnet_fluorescence"


def test_an_expert_for_all_images_has_the_only_say(tmp_path):
    path = write_discs(tmp_path / "cells.png", n_discs=2)
    dic = DiscNetwork()
    job = fake_job(tmp_path, modality="phase", expert="cellpose_phase", cellpose_dic=dic)
    result = process_image(path, dataclasses.replace(job, instead=stand_ins("cellpose_dic")))
    assert (result.expert, result.n_cells) == ("cellpose_dic", 2)
    assert job.load("cellpose_phase").calls == 0  # of the general expert there is none here


def test_an_overlay_has_the_size_of_the_image(tmp_path):
    path = write_discs(tmp_path / "in" / "cells.png", n_discs=3)
    job = dataclasses.replace(fake_job(tmp_path), overlays=tmp_path)
    process_image(path, job)
    assert (tmp_path / "cells_label.png").read_bytes().startswith(b"\x89PNG")


def test_a_bad_image_leaves_nothing_behind(tmp_path):
    path = tmp_path / "in" / "bad.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(ImageError, match=r"bad\.png"):
        process_image(path, fake_job(output))
    assert list(output.iterdir()) == []


def test_the_label_file_of_an_earlier_run_survives_a_failure(tmp_path):
    class BrokenNetwork(DiscNetwork):
        def forward(self, batch):
            raise RuntimeError("broken")

    path = write_discs(tmp_path / "cells.png", n_discs=3)
    process_image(path, fake_job(tmp_path))
    before = (tmp_path / "cells_label.tiff").read_bytes()
    with pytest.raises(RuntimeError, match="broken"):
        process_image(path, fake_job(tmp_path, BrokenNetwork()))
    assert (tmp_path / "cells_label.tiff").read_bytes() == before


def test_another_expert_stands_in_for_the_one_routed_to(tmp_path):
    path = write_discs(tmp_path / "cells.png", n_discs=3)
    better = DiscNetwork()
    job = fake_job(tmp_path, BlindNetwork(), cellpose_fluorescence=better)
    job = dataclasses.replace(job, instead={"cdnet_fluorescence": "cellpose_fluorescence"})
    result = process_image(path, job)
    assert (result.expert, result.n_cells) == ("cellpose_fluorescence", 3)
    assert better.calls > 0
