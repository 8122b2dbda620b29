"""What workers are sent and given, without starting any."""

import dataclasses
import functools
import itertools
import logging
import sys
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from distributed import Client

import predict
from imaging.normalise import fit_normaliser
from imaging.reading import ImageError, open_image
from manifest import MANIFEST_NAME
from options import parse_options
from stopwatch import Stopwatch
from tests.test_predict import run_in_process
from tests.workers.fakes import SETTINGS, build_job, contents, run, write_inputs
from tiling.block_job import plan_slide
from tiling.block_store import decode_result
from tiling.engine import segment
from tiling.expert import apply_expert
from tiling.plan import plan_blocks
from tiling.survey import survey_image
from workers import pool as pool_of
from workers.chunks import CHUNKS_PER_WORKER, cut_into_chunks
from workers.cluster import share_out
from workers.recipe import build_recipe, name_function
from workers.remote import RemoteNetwork
from workers.tasks import (
    WorkerMismatchError,
    ask_expert,
    check_worker,
    describe_expert,
    fit_cores,
    label_image,
    run_chunk,
)

DASK = {"dask", "distributed", "workers", "workers.door", "workers.pool"}
ROOMS = ("tiling",)


@pytest.fixture
def recipe(tmp_path):
    source = write_inputs(tmp_path / "in", n_small=1)
    for name in ("out", "weights"):
        (tmp_path / name).mkdir()
    places = ("-i", source, "-o", tmp_path / "out", "--weights", tmp_path / "weights")
    return build_recipe(build_job, parse_options([str(part) for part in places]), ROOMS)


class Pool:
    """Run tasks here and now, the last first."""

    def __init__(self, recipe):
        self.recipe, self.calls = recipe, []

    def count_workers(self):
        return 2

    def call(self, function, *arguments):
        self.calls.append(arguments)
        return function(self.recipe, *arguments).value

    def spread(self, function, calls):
        for arguments in reversed(list(calls)):
            value = self.call(function, *arguments)
            yield SimpleNamespace(value=functools.partial(dict.get, {"value": value}, "value"))


@pytest.mark.parametrize("shape", [(100, 100), (950, 430), (1000, 1000), (100, 1900)])
@pytest.mark.parametrize("n_workers", [1, 2, 7, 1000])
def test_chunks_hold_each_block_once_and_their_first_ones_ascend(shape, n_workers):
    plan = plan_blocks(shape, block_px=100, halo_px=20)
    wanted = [*range(0, len(plan), 3), 1]
    chunks = cut_into_chunks(plan, wanted, n_workers)
    assert sorted(itertools.chain(*chunks)) == sorted({*wanted})
    assert all(list(chunk) == sorted(chunk) for chunk in chunks)
    rows = [chunk[0] // len(plan.columns) for chunk in chunks]
    assert rows == sorted(rows)
    assert len(chunks) >= min(len(set(wanted)), CHUNKS_PER_WORKER * n_workers)


def test_chunks_of_a_large_slide_are_squares():
    plan = plan_blocks((900, 900), block_px=100, halo_px=20)
    assert cut_into_chunks(plan, range(81), 2)[0] == (0, 1, 2, 9, 10, 11, 18, 19, 20)
    assert cut_into_chunks(plan, range(81), 3)[0] == (0, 1, 9, 10)


def test_no_blocks_are_no_chunks():
    assert cut_into_chunks(plan_blocks((90, 90), 100, 20), [], 2) == []


@pytest.mark.parametrize("n_workers", [1, 2, 3, 5])
def test_cores_are_given_once_and_gpus_in_turn(n_workers):
    shares = share_out(n_workers, [0, 2, 4, 6, 8], ["3", "1"])
    assert sorted(itertools.chain(*(share.cores for share in shares))) == [0, 2, 4, 6, 8]
    sizes = [len(share.cores) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert [share.gpu for share in shares] == ["3", "1", "3", "1", "3"][:n_workers]


def test_more_workers_than_cores_share_them():
    shares = share_out(3, [4, 5], [])
    assert [share.cores for share in shares] == [(4,), (5,), (4,)]
    assert {share.gpu for share in shares} == {None}


def test_a_function_of_the_program_itself_is_found_under_its_files_name(monkeypatch):
    assert name_function(build_job) == "tests.workers.fakes:build_job"
    monkeypatch.setattr(predict.build_trained_job, "__module__", "__main__")
    assert name_function(predict.build_trained_job) == "predict:build_trained_job"
    with pytest.raises(ValueError, match="own functions"):
        name_function(lambda: None)


def test_paths_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse_options(["-i", "in", "-o", "out", "--weights", "w", "--overlays", "o"])
    sent = build_recipe(build_job, options, ROOMS).options
    paths = (sent.input_path, sent.output_path, sent.weights, sent.overlays)
    assert paths == tuple(tmp_path / name for name in ("in", "out", "w", "o"))


def test_a_job_is_kept_until_the_weights_change(recipe):
    manifest = recipe.options.weights / MANIFEST_NAME
    manifest.write_text("one")
    first = recipe.get_job()
    assert recipe.get_job() is first
    manifest.write_text("another")
    second = recipe.get_job()
    assert second.watch is not first.watch  # so that networks are read again
    assert recipe.get_job() is second


def test_a_worker_that_cannot_build_the_job_says_why(recipe):
    assert check_worker(recipe) == ""
    broken = dataclasses.replace(recipe, builder="workers.no_such_module:build")
    assert "no_such_module" in check_worker(broken)


def test_small_images_are_labelled_and_messages_come_back(recipe):
    answer = label_image(recipe, recipe.options.input_path / "small1.png")
    assert answer.value is not None
    assert answer.value.n_cells == 1
    assert [note.level for note in answer.notes] == [logging.INFO]
    assert "at work" in answer.notes[0].text
    assert list(contents(recipe.options.output_path)) == ["small1_label.tiff"]


def test_a_large_image_is_left_for_all_workers(recipe):
    assert label_image(recipe, recipe.options.input_path / "slide.bmp").value is None
    assert not contents(recipe.options.output_path)


def plan_remotely(recipe):
    """Plan the slide with a remote network; give the job and its pool."""
    pool = Pool(recipe)
    network = RemoteNetwork(pool, describe_expert(recipe, "cdnet_fluorescence").value)
    image = open_image(recipe.options.input_path / "slide.bmp")
    overview = image.overview()
    normaliser = fit_normaliser(overview, network.normalisation)
    return plan_slide(image, normaliser, network, 1.0, SETTINGS, overview), pool


def test_a_remote_network_answers_like_the_one_it_stands_for(recipe):
    job, pool = plan_remotely(recipe)
    there, here = job.network, recipe.get_job().load("cdnet_fluorescence")
    window = job.reader.read((0, 0, 64, 64))
    maps = here.forward(window[None])[0]
    labels = here.decode(maps)
    assert (there.forward(window[None])[0] == maps).all()
    assert (there.decode(maps) == labels).all()
    assert (there.foreground(maps) == here.foreground(maps)).all()
    assert there.choose_scale([window]) == here.choose_scale([window])
    assert there.scale_for(10.0) == here.scale_for(10.0) == 1.4
    assert len(pool.calls) == 5  # one call each


def test_the_blocks_of_a_remote_network_are_run_in_chunks_in_any_order(recipe):
    job, pool = plan_remotely(recipe)
    labels, alone = (np.zeros(job.reader.geometry.native, np.int32) for _ in range(2))
    done = segment(job, labels)
    assert done.n_blocks == len(job.plan) == 12
    assert len(pool.calls) == 12  # chunks; no call for a window
    here = dataclasses.replace(job, network=recipe.get_job().load("cdnet_fluorescence"))
    segment(here, alone)
    np.testing.assert_array_equal(labels, alone)
    job.reader.image.close()


def test_a_known_diameter_reaches_workers_with_small_images_and_slides(recipe, tmp_path, caplog):
    options = dataclasses.replace(recipe.options, diameter=10.0, verbose=True)
    told = dataclasses.replace(recipe, options=options)
    small = label_image(told, told.options.input_path / "small1.png")
    assert "small1.png: 1.4 network pixels a pixel" in [note.text for note in small.notes]
    job = told.get_job()
    remote = RemoteNetwork(Pool(told), describe_expert(told, "cdnet_fluorescence").value)
    with (
        open_image(told.options.input_path / "slide.bmp") as image,
        caplog.at_level(logging.DEBUG, "tiling"),
    ):
        there, here = (
            apply_expert(network, image, survey_image(image), tmp_path, job.tiling)
            for network in (remote, job.load("cdnet_fluorescence"))
        )
    assert caplog.text.count("slide.bmp: 1.4 network pixels a pixel") == 2
    assert there.n_cells == 120
    np.testing.assert_array_equal(there.labels, here.labels)


def test_workers_that_compute_otherwise_or_see_another_file_are_refused(recipe):
    job, pool = plan_remotely(recipe)
    list(job.network.run_blocks(job, [0]))
    slide, indices = pool.calls[-1]
    ((index, content),) = run_chunk(recipe, slide, indices).value
    assert index == 0
    assert decode_result(content).labels.size
    older = dataclasses.replace(slide, stamp=(1, 2))
    with pytest.raises(WorkerMismatchError, match="version of the file"):
        run_chunk(recipe, older, indices)
    (recipe.options.weights / MANIFEST_NAME).write_text("others")
    with pytest.raises(WorkerMismatchError, match="'cdnet_fluorescence others'"):
        run_chunk(recipe, slide, indices)
    with pytest.raises(WorkerMismatchError):
        ask_expert(recipe, slide.expert, "decode", None)
    job.reader.image.close()


def test_a_worker_does_no_more_at_once_than_its_cores_allow():
    wanted = dataclasses.replace(SETTINGS, n_ahead=5, n_decoders=4)
    own = dataclasses.replace(SETTINGS, n_ahead=2, n_decoders=1)
    assert fit_cores(wanted, own) == dataclasses.replace(SETTINGS, n_ahead=2, n_decoders=1)
    alone = dataclasses.replace(SETTINGS, n_ahead=0, n_decoders=0)
    assert fit_cores(alone, own) == alone


def test_without_dask_workers_are_wrong_usage(tmp_path, monkeypatch, caplog):
    source = write_inputs(tmp_path / "in", n_small=1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    for choice in (("--workers", 2), ("--dask", "tcp://127.0.0.1:1")):
        caplog.clear()
        assert run(source, tmp_path / "out", tmp_path / "weights", *choice) == 2
        assert "pip install" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    "choice", [["--workers", "0"], ["--workers", "2", "--dask", "tcp://127.0.0.1:1"]]
)
def test_workers_are_chosen_in_one_way(choice, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse_options(["-i", "in", "-o", "out", *choice])
    assert exit_info.value.code == 2
    assert "--workers" in capsys.readouterr().err


def test_nothing_of_dask_is_imported_unless_it_is_asked_for(tmp_path):
    source = write_inputs(tmp_path / "in", n_small=1)
    (tmp_path / "weights").mkdir()
    places = ("-i", source, "-o", tmp_path / "out", "--weights", tmp_path / "weights")
    finished = run_in_process(*places, "--device", "cpu")
    assert "weights" in finished.stderr  # there are none: it came as far as the images
    modules = set(finished.stdout.split())
    assert "pipeline" in modules
    assert not modules & DASK


def test_a_job_for_workers_is_what_the_trained_one_is(tmp_path):
    options = parse_options(["-i", str(tmp_path), "-o", str(tmp_path), "--device", "cpu"])
    recipe = build_recipe(predict.build_trained_job, options, predict.ROOMS)
    job, own = recipe.get_job(), predict.build_trained_job(options, Stopwatch())
    assert job.tiling == own.tiling
    assert job.identify("cdnet_fluorescence") == own.identify("cdnet_fluorescence")


@pytest.mark.parametrize("status", ["running", "connecting"])
def test_without_its_scheduler_every_image_left_has_an_error(recipe, status):
    def nthreads():
        raise OSError("timed out")

    client = cast("Client", SimpleNamespace(status=status, nthreads=nthreads))
    pool = pool_of.Pool(client, recipe)
    paths = [recipe.options.input_path / name for name in ("small1.png", "slide.bmp")]
    for path, outcome in pool.label_images(paths, lambda _: pytest.fail("labelled here")):
        with pytest.raises(ImageError, match=rf"{path.name}: the scheduler is gone; "):
            outcome()
        paths.remove(path)
    assert not paths
