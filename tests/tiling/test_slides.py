"""However a slide is cut up, ordered, interrupted or shared, the labels are the same."""

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from eval.seams import count_cut_instances
from imaging.image import ArraySource, ImageError, SourceImage
from imaging.normalise import fit_normaliser
from synthetic.slides import make_slide
from tests.fakes import (
    UNCHANGED,
    DiscNetwork,
    array_image,
    assert_same_instances,
    draw_discs,
    scatter_discs,
)
from tiling.block_job import plan_slide, run_block, run_blocks
from tiling.block_store import FolderStore
from tiling.engine import SlideProgress, segment
from tiling.settings import TilingSettings

PIXELS = scatter_discs((310, 257), spacing=24, radius=7)


def discs_of_many_sizes(seed):
    """Draw discs of 3 to 30 px radius that do not touch, some wider than a narrow halo."""
    rng = np.random.default_rng(seed)
    places: list[tuple[int, int, int]] = []
    for _ in range(400):
        radius = int(rng.integers(3, 31))
        y, x = rng.integers(-5, 265), rng.integers(-5, 305)
        if all((y - b) ** 2 + (x - a) ** 2 > (radius + c + 4) ** 2 for b, a, c in places):
            places.append((y, x, radius))
    return draw_discs((260, 300), places)


def plan(pixels=PIXELS, network=None, scale=1.0, overview=None, **settings):
    settings = {"block_px": 64, **settings}
    network = network or DiscNetwork(style=0.1)
    image = array_image(pixels)
    return plan_slide(image, UNCHANGED, network, scale, TilingSettings(**settings), overview)


def label(job, **options):
    labels = np.zeros(job.reader.geometry.native, np.int32)
    return labels, segment(job, labels, **options)


def in_any_order(seed):
    """Make a runner whose blocks come in an order by chance."""

    def run(job, indices):
        shuffled = random.Random(seed).sample(list(indices), len(list(indices)))
        return ((index, run_block(job, index)) for index in shuffled)

    return run


def on_threads(job, indices):
    """Run blocks on several threads at once, each with maps of its own."""
    with ThreadPoolExecutor(4) as workers:
        tasks = {workers.submit(run_block, job, index): index for index in indices}
        yield from ((index, task.result()) for task, index in reversed(tasks.items()))


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("run", [in_any_order(1), in_any_order(2), on_threads])
def test_labels_and_ids_do_not_depend_on_the_order_of_the_blocks(scale, run):
    expected, _ = label(plan(scale=scale))
    assert expected.max() == 12 * 10
    found, _ = label(plan(scale=scale), run=run)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ahead": 0, "n_decoders": 0},
        {"n_ahead": 5, "n_decoders": 3},
        {"cache_bytes": 0},
        {"cache_bytes": 20_000},
        {"batch_size": 1},
        {"batch_size": 3},
        {"batch_size": 64},
    ],
)
def test_labels_and_ids_do_not_depend_on_what_runs_side_by_side(settings):
    network = DiscNetwork(style=0.1)
    expected, _ = label(plan())
    found, _ = label(plan(network=network, **settings))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("halo_px", [0, 8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_and_halos_do_not_change_cells_of_any_size(seed, halo_px):
    pixels = discs_of_many_sizes(seed)
    whole, _ = label(plan(pixels, DiscNetwork(style=0.1, halo_px=halo_px), block_px=1000))
    assert whole.max() > 20
    for block_px, object_px in [(37, 16), (64, 16), (90, 40), (64, 70)]:
        network = DiscNetwork(style=0.1, halo_px=halo_px, object_px=object_px)
        blocks, _ = label(plan(pixels, network, block_px=block_px))
        np.testing.assert_array_equal(whole > 0, blocks > 0)
        assert_same_instances(whole, blocks)


class BatchNetwork(DiscNetwork):
    """Round a window differently in every company, as GPUs do."""

    def forward(self, batch):
        return super().forward(batch) + np.float32(1e-3 * batch.mean())


@pytest.mark.parametrize("run", [in_any_order(3), on_threads])
def test_a_window_is_always_computed_in_the_same_company(run):
    expected, _ = label(plan(network=BatchNetwork(), cache_bytes=0))
    for scale_run in (run_blocks, run):
        found, _ = label(plan(network=BatchNetwork()), run=scale_run)
        np.testing.assert_array_equal(found, expected)


def test_windows_are_computed_once_if_the_cache_holds_them():
    network = DiscNetwork()
    job = plan(network=network, batch_size=1)
    label(job)
    # Windows of 64 px with a halo of 8: one every 48 px.
    assert network.calls == 7 * 6


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("n_done", [0, 1, 7, 19, 20])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, n_done):
    def store():
        return FolderStore(tmp_path / "blocks", "key")

    expected, whole = label(plan(scale=0.9))
    assert whole.n_blocks == 20

    def stop(progress):
        if progress.n_done == n_done:
            raise Killed

    store().begin(0.9)
    if n_done:
        with pytest.raises(Killed):
            label(plan(scale=0.9), store=store(), report=stop)
    network = DiscNetwork(style=0.1)
    found, result = label(plan(network=network, scale=0.9), store=store())
    np.testing.assert_array_equal(found, expected)
    assert result.n_stored >= n_done
    assert (result.n_windows, result.n_empty) == (whole.n_windows, whole.n_empty)
    if n_done == 20:
        assert network.calls == 0


def test_a_damaged_block_is_computed_again(tmp_path, caplog):
    store = FolderStore(tmp_path, "key")
    store.begin(1.0)
    expected, _ = label(plan(), store=store)
    (tmp_path / "4.block").write_bytes(b"no block")
    (tmp_path / "6.block").unlink()
    found, result = label(plan(), store=FolderStore(tmp_path, "key"))
    np.testing.assert_array_equal(found, expected)
    assert "damaged" in caplog.text
    assert result.n_stored == result.n_blocks - 1


def test_results_that_come_too_early_wait_in_the_store(tmp_path):
    store = FolderStore(tmp_path, "key")
    store.begin(1.0)
    expected, _ = label(plan())
    found, _ = label(plan(), store=store, run=in_any_order(5))
    np.testing.assert_array_equal(found, expected)
    assert len(store.finished()) == len(plan().plan)


class ThresholdNetwork(DiscNetwork):
    """Take what is clearly brighter, or darker, than the ground for a cell; see faint ones too."""

    def forward(self, batch):
        self.calls += len(batch)
        smooth = ndimage.uniform_filter(batch - self.style, (0, 3, 3, 0), mode="nearest")
        return np.abs(smooth).max(axis=3)[:, None] - 0.05


SLIDES = [("fluorescence", "dark"), ("brightfield", "bright"), ("phase", "any")]


@pytest.mark.parametrize(("kind", "where"), SLIDES)
def test_leaving_out_empty_ground_changes_nothing(kind, where):
    mosaic = make_slide(kind, (900, 1100), tissue=0.3, seed=1, tile_px=128)
    stored = array_image(mosaic.read((0, 0, 900, 1100)))
    normaliser = fit_normaliser(stored.overview(200), "joint")
    pixels = normaliser.apply(stored.read((0, 0, 900, 1100)))
    overview = array_image(pixels).overview(200)
    ground = np.median(pixels, axis=(0, 1))

    def run(skip):
        network = ThresholdNetwork(style=ground, object_px=70)
        settings = {"block_px": 300, "ground": where, "skip_empty": skip}
        labels, result = label(plan(pixels, network, overview=overview, **settings))
        return labels, result, network.calls

    everything, all_windows, all_calls = run(False)
    found, result, calls = run(True)
    assert everything.max() > 30
    np.testing.assert_array_equal(found, everything)
    assert all_windows.n_empty == 0
    assert result.n_windows == all_windows.n_windows == all_calls
    assert 0.2 < result.n_empty / result.n_windows < 0.9
    assert calls == result.n_windows - result.n_empty + 1  # one blank window


def test_nothing_is_left_out_if_the_network_sees_cells_in_empty_ground():
    class DreamingNetwork(DiscNetwork):
        def forward(self, batch):
            return 1 - super().forward(batch)

    pixels = draw_discs((300, 300), [(40, 40, 9)])
    settings = {"overview": pixels[..., None], "ground": "dark"}
    dreamt, result = label(plan(pixels, DreamingNetwork(), **settings))
    expected, _ = label(plan(pixels, DreamingNetwork(), skip_empty=False))
    np.testing.assert_array_equal(dreamt, expected)
    assert result.n_empty == 0


def test_an_image_without_any_cell_is_empty_and_nearly_free():
    pixels = np.zeros((400, 400), np.float32)
    network = DiscNetwork()
    labels, result = label(plan(pixels, network, overview=pixels[::4, ::4, None]))
    assert labels.max() == 0
    assert result.n_empty == result.n_windows
    assert network.calls == 1


def test_an_image_of_one_block_starts_no_thread_and_computes_everything():
    before = threading.active_count()
    pixels = np.zeros((100, 100), np.float32)
    network = DiscNetwork()
    job = plan(pixels, network, overview=pixels[..., None], block_px=100)
    labels = np.zeros((100, 100), np.int32)
    during = []
    segment(job, labels, report=lambda _: during.append(threading.active_count()))
    assert during == [before]
    assert network.calls > 0


class CrampedNetwork(DiscNetwork):
    """Run out of memory in some decodings of more than a window."""

    def __init__(self, failing):
        super().__init__(style=0.1)
        self.failing, self.n_decoded = failing, 0

    def decode(self, maps):
        self.n_decoded += 1
        if self.n_decoded in self.failing:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return super().decode(maps)


def test_a_block_that_found_no_memory_is_decoded_alone(caplog):
    expected, _ = label(plan())
    found, _ = label(plan(network=CrampedNetwork({2, 3, 7}), n_decoders=2))
    np.testing.assert_array_equal(found, expected)
    assert "decoded alone" in caplog.text


@pytest.mark.parametrize("n_decoders", [0, 2])
def test_a_block_that_never_finds_memory_is_an_error_with_a_remedy(n_decoders):
    with pytest.raises(MemoryError, match="--max-memory"):
        label(plan(network=CrampedNetwork(range(1000)), n_decoders=n_decoders))


def test_no_cell_has_a_straight_edge_on_the_grid_of_blocks():
    pixels = scatter_discs((256, 320), spacing=32, radius=12, seed=4)
    one, _ = label(plan(pixels, DiscNetwork(), block_px=2000))
    blocks, result = label(plan(pixels, DiscNetwork(), block_px=64))
    assert result.n_blocks == 20
    assert count_cut_instances(blocks, 64) == count_cut_instances(one, 64)


def test_progress_counts_blocks_pixels_and_cells():
    seen: list[SlideProgress] = []
    labels, result = label(plan(scale=0.7), report=seen.append)
    assert [progress.n_done for progress in seen] == list(range(1, result.n_blocks + 1))
    assert seen[-1].n_pixels_done == seen[-1].n_pixels == labels.size
    assert seen[-1].n_cells == result.n_cells == labels.max()
    for before, after in itertools.pairwise(seen):
        assert before.n_pixels_done < after.n_pixels_done
        assert before.n_cells <= after.n_cells


def test_an_error_while_reading_ahead_stops_the_image_and_its_threads():
    class BrokenSource(ArraySource):
        def read(self, box):
            if box[0] > 100:
                raise ImageError("fake.png: unplugged; plug it in")
            return super().read(box)

    before = threading.active_count()
    job = plan_slide(
        SourceImage(Path("fake.png"), BrokenSource(PIXELS[..., None])),
        UNCHANGED,
        DiscNetwork(),
        1.0,
        TilingSettings(block_px=64, n_ahead=3),
    )
    with pytest.raises(ImageError, match="unplugged"):
        label(job)
    assert threading.active_count() == before
