from pathlib import Path

import numpy as np
import pytest

from tiling import raster
from tiling.blocks import find_owned
from tiling.raster import LabelRaster, StreamedLabels, new_raster
from tiling.sampling import build_geometry


def test_a_large_raster_takes_space_on_disk_but_no_name(tmp_path):
    labels = new_raster((300, 200), tmp_path, in_memory_px=100)
    assert isinstance(labels, np.memmap)
    assert labels.shape == (300, 200)
    assert not labels.any()
    labels[299, 199] = 7
    assert labels[299, 199] == 7
    assert list(tmp_path.iterdir()) == []


def test_a_small_raster_is_an_array(tmp_path):
    assert not isinstance(new_raster((30, 20), tmp_path), np.memmap)


def mapped_mib():
    """Measure the memory that mapped files take of this process."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssFile", "RssShmem")) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_filling_and_reading_a_large_raster_takes_no_memory_for_its_pages(tmp_path):
    shape = (4000, 2000)  # 31 MiB
    labels = new_raster(shape, tmp_path, in_memory_px=100)
    target = LabelRaster(labels, build_geometry(shape, 1))
    before = mapped_mib()
    for top in range(0, 4000, 250):
        block = np.ones((250, 2000), np.int32)
        owned = find_owned(block, (top, 0, top + 250, 2000), (top, 0, top + 250, 2000), shape)
        target.add(block, np.ones((250, 2000), np.float32), (top, 0, top + 250, 2000), owned)
    assert target.close_gaps() == 16
    rows = StreamedLabels(labels)
    assert rows.shape == shape
    assert rows.dtype == labels.dtype
    assert all((rows[250 * n : 250 * n + 250] == n + 1).all() for n in range(16))
    assert mapped_mib() < before + 10


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(OSError, match="gone"):
        new_raster((300, 200), tmp_path / "gone", in_memory_px=100)


def add(target, labels):
    region = (0, 0, *labels.shape)
    owned = find_owned(labels, region, region, labels.shape)
    target.add(labels, labels.astype(np.float32), region, owned)


def test_an_instance_written_before_keeps_its_id_and_others_do_not_lose_pixels():
    labels = np.zeros((10, 20), np.int32)
    target = LabelRaster(labels, build_geometry((10, 20), 1))
    first, again = np.zeros_like(labels), np.zeros_like(labels)
    first[2:6, 2:10] = 1
    again[3:7, 2:10] = 5  # mostly the same
    again[2:6, 9:15] = 6  # a neighbour that claims one column of the first
    add(target, first)
    add(target, again)
    assert target.close_gaps() == 2
    assert (labels[2:6, 2:10] == 1).all()
    assert (labels[6, 2:9] == 1).all()
    assert (labels[2:6, 10:15] == 2).all()


def test_ids_without_pixels_are_closed(monkeypatch):
    monkeypatch.setattr(raster, "STRIP_PX", 15)
    labels = np.zeros((10, 10), np.int32)
    target = LabelRaster(labels, build_geometry((10, 10), 2))  # 20 x 20 network pixels
    found = np.zeros((20, 20), np.int32)
    found[2:4, 2:4] = 1
    found[6, 6] = 2  # between the centres of native pixels
    found[10:14, 10:14] = 3
    add(target, found)
    n_found = target.close_gaps()
    assert n_found == len(np.unique(labels)) - 1
    assert labels.max() == n_found
