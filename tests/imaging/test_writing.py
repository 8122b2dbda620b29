"""Label images: exact, compressed, named by the organisers' rule, whole or not at all."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from imaging.image import ImageError
from imaging.writing import find_name_clashes, output_name, write_labels

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
BEGUN = """
import os, signal, sys
from pathlib import Path
from imaging import writing

writing.BOOT_ID = Path(sys.argv[2])
with writing.replacing(Path(sys.argv[1])) as hidden:
    hidden.write_bytes(b"of the other process")
    print(hidden.name, flush=True)
    sys.stdin.read(1)
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cell_00101.tif", "cell_00101_label.tiff"),
        ("a.b.c.png", "a_label.tiff"),
        ("IMAGE.TIFF", "IMAGE_label.tiff"),
        ("plain", "plain_label.tiff"),
    ],
)
def test_output_name_ends_at_the_first_dot(name, expected):
    assert output_name(Path("/somewhere.else") / name) == expected


def test_name_clashes_name_both_images():
    paths = [Path(name) for name in ("a.png", "b.png", "a.tif", "A.bmp", "c.1.png", "c.2.png")]
    assert find_name_clashes(paths) == [
        (Path("a.png"), Path("a.tif")),
        (Path("a.png"), Path("A.bmp")),
        (Path("c.1.png"), Path("c.2.png")),
    ]
    assert find_name_clashes([]) == []


@pytest.mark.parametrize("shape", [(1, 1), (63, 200), (700, 511)])
@pytest.mark.parametrize("n_labels", [0, 255, 65535, 65536, 70000])
def test_labels_come_back(tmp_path, shape, n_labels):
    labels = RNG.integers(0, n_labels, shape, np.int32, endpoint=True)
    labels[-1, -1] = n_labels
    path = tmp_path / "a_label.tiff"
    write_labels(path, labels, n_labels)
    back = tifffile.imread(path)
    assert back.dtype == (np.uint16 if n_labels <= 65535 else np.uint32)
    np.testing.assert_array_equal(back, labels)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert len(tif.pages) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, ">i4"])
def test_any_integer_dtype_and_a_memmap_are_taken(tmp_path, dtype):
    labels = np.memmap(tmp_path / "raster", dtype, "w+", shape=(40, 50))
    labels[:] = RNG.integers(0, 100, labels.shape)
    write_labels(tmp_path / "a_label.tiff", labels, 100)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a_label.tiff"), labels)


@pytest.mark.parametrize(
    "labels",
    [np.zeros((3, 3)), np.zeros((3, 3, 1), int), np.zeros((0, 3), int), np.full((3, 3), -1)],
)
def test_other_arrays_are_refused(tmp_path, labels):
    with pytest.raises(ValueError, match="wanted"):
        write_labels(tmp_path / "a_label.tiff", labels, 5)
    assert list(tmp_path.iterdir()) == []


def test_an_id_beyond_the_number_of_labels_leaves_the_old_file(tmp_path):
    path = tmp_path / "a_label.tiff"
    write_labels(path, np.ones((500, 500), np.int32), 1)
    before = path.read_bytes()
    labels = np.ones((500, 500), np.int32)
    labels[-1, -1] = 65537  # would become 1 as uint16
    with pytest.raises(ValueError, match="65537"):
        write_labels(path, labels, 65535)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"a_label\.tiff: cannot be written"):
        write_labels(tmp_path / "missing" / "a_label.tiff", np.ones((3, 3), int), 1)


def test_nothing_is_seen_under_the_final_name_before_it_is_complete(tmp_path, monkeypatch):
    seen = []
    rename = Path.replace

    def spy(old, new):
        seen.append((old.name, new.exists()))
        return rename(old, new)

    monkeypatch.setattr(Path, "replace", spy)
    write_labels(tmp_path / "a_label.tiff", np.ones((3, 3), int), 1)
    ((name, existed),) = seen
    assert name.startswith(".")
    assert not existed


@pytest.fixture
def begin(tmp_path):
    """Let another process begin to write a file, and wait; it may be of another machine."""
    processes = []

    def start(name, boot_id="/proc/sys/kernel/random/boot_id"):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGUN, tmp_path / name, boot_id],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, tmp_path / process.stdout.readline().strip()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def write_some(path):
    write_labels(path, np.ones((3, 3), int), 1)


def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path, begin):
    path = tmp_path / "a_label.tiff"
    process, part = begin(path.name)
    other_process, other = begin("b_label.tiff")
    for one in (process, other_process):
        one.kill()
        one.wait()
    assert set(tmp_path.iterdir()) == {part, other}
    write_some(path)
    assert set(tmp_path.iterdir()) == {path, other}


def test_what_a_living_process_writes_is_left_alone(tmp_path, begin):
    path = tmp_path / "a_label.tiff"
    process, part = begin(path.name)
    os.utime(part, (0, 0))  # however long it has been at it
    write_some(path)
    assert set(tmp_path.iterdir()) == {path, part}
    process.communicate("x")
    assert process.returncode == 0
    assert path.read_bytes() == b"of the other process"
    assert set(tmp_path.iterdir()) == {path}


@pytest.mark.parametrize(("age_s", "is_left"), [(3600, True), (2 * 86400, False)])
def test_what_another_machine_left_must_be_a_day_old(tmp_path, begin, age_s, is_left):
    path = tmp_path / "a_label.tiff"
    process, part = begin(path.name, boot_id="no such file")
    process.kill()
    process.wait()
    os.utime(part, (time.time() - age_s,) * 2)
    write_some(path)
    assert part.exists() == is_left


@pytest.mark.parametrize("age_s", [0, 2 * 86400])
def test_where_there_are_no_locks_age_alone_tells(tmp_path, begin, monkeypatch, age_s):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "a_label.tiff"
    process, part = begin(path.name)
    process.kill()
    process.wait()
    os.utime(part, (time.time() - age_s,) * 2)
    write_some(path)
    assert part.exists() == (age_s == 0)


@pytest.mark.parametrize(
    "name", [".a_label.tiff.part", ".a_label.tiff.x.part", ".b_label.0.0.part"]
)
def test_other_hidden_files_are_nobodys_business(tmp_path, name):
    (tmp_path / name).write_bytes(b"kept")
    os.utime(tmp_path / name, (0, 0))
    write_some(tmp_path / "a_label.tiff")
    assert (tmp_path / name).exists()
