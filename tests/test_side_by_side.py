import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from side_by_side import SMALL_PX, count_image_threads, is_small_image, label_side_by_side
from stopwatch import Stopwatch
from tests.fakes import write_discs
from tiling.settings import TilingSettings

PATHS = [Path(f"{k}.png") for k in range(6)]


def is_any_small(path):
    return True


def results(label, is_small=is_any_small, n_threads=2, paths=PATHS):
    given = label_side_by_side(paths, label, is_small, n_threads, Stopwatch())
    return [(path, outcome()) for path, outcome in given]


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_results_come_in_the_order_of_the_images(n_threads):
    def label(path):
        time.sleep(0.02 if path == PATHS[0] else 0)  # the first is overtaken
        return path.stem

    expected = [(path, path.stem) for path in PATHS]
    assert results(label, n_threads=n_threads) == expected


def test_small_images_are_in_work_at_the_same_time():
    met = threading.Barrier(2, timeout=20)

    def label(path):
        return met.wait()  # BrokenBarrierError if each waited for the one before

    results(label)


def test_no_more_are_in_work_than_there_are_threads():
    lock, inside, most = threading.Lock(), [], []

    def label(path):
        with lock:
            inside.append(path)
            most.append(len(inside))
        time.sleep(0.005)
        with lock:
            inside.remove(path)

    results(label, n_threads=3, paths=PATHS * 3)
    assert max(most) <= 3


def test_a_large_image_is_alone_and_in_the_calling_thread():
    large, inside, seen = PATHS[3], [], {}

    def label(path):
        inside.append(path)
        time.sleep(0.01)
        seen[path] = (threading.current_thread(), list(inside))
        inside.remove(path)

    results(label, is_small=lambda path: path != large)
    thread, with_it = seen[large]
    assert thread is threading.current_thread()
    assert with_it == [large]
    assert all(large not in with_it for path, (_, with_it) in seen.items() if path != large)


def test_an_error_comes_with_its_image_and_the_others_go_on():
    def label(path):
        if path == PATHS[2]:
            raise KeyError(path.stem)
        return path.stem

    for path, outcome in label_side_by_side(PATHS, label, is_any_small, 2, Stopwatch()):
        if path == PATHS[2]:
            with pytest.raises(KeyError, match="2"):
                outcome()
        else:
            assert outcome() == path.stem


def test_what_was_not_begun_is_given_up_when_nobody_wants_more():
    begun = []

    def label(path):
        begun.append(path)
        time.sleep(0.01)

    given = label_side_by_side(PATHS * 10, label, is_any_small, 2, Stopwatch())
    next(given)[1]()
    given.close()
    assert len(begun) <= 3
    time.sleep(0.05)
    assert len(begun) <= 3


def test_the_watch_knows_the_stages_of_all_threads():
    watch = Stopwatch()

    def label(path):
        with watch.stage("decoding"):
            time.sleep(0.01)

    for _, outcome in label_side_by_side(PATHS, label, is_any_small, 2, watch):
        outcome()
    assert watch.all_seconds()["decoding"] >= 0.01 * len(PATHS)
    assert watch.seconds()["waiting"] > 0


@pytest.mark.parametrize(
    ("n_images", "tiling", "expected"),
    [
        (10, TilingSettings(n_decoders=1), 2),
        (10, TilingSettings(n_decoders=4), 5),
        (3, TilingSettings(n_decoders=4), 3),
        (1, TilingSettings(n_decoders=4), 1),
        (0, TilingSettings(n_decoders=4), 1),
        (10, TilingSettings(n_decoders=4, usual_memory_bytes=2**30), 5),
        (10, TilingSettings(n_decoders=4, max_memory_bytes=2**30), 1),
    ],
)
def test_as_many_threads_as_there_is_work_and_memory_for(n_images, tiling, expected):
    assert count_image_threads(n_images, tiling) == expected


def test_an_image_is_small_by_its_pixels(tmp_path):
    assert is_small_image(write_discs(tmp_path / "small.png", n_discs=1))
    side = int(SMALL_PX**0.5)
    for name, height, expected in (("fits.tif", side, True), ("large.tif", side + 1, False)):
        tifffile.imwrite(tmp_path / name, np.zeros((height, side), np.uint8), compression="zlib")
        assert is_small_image(tmp_path / name) is expected


def test_a_file_that_is_damaged_or_gone_is_told_of_later(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert is_small_image(tmp_path / "broken.png")
    assert is_small_image(tmp_path / "gone.png")
