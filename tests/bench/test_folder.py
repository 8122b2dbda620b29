from dataclasses import replace

import pytest

from bench import folder, programs
from bench.computing import Pace
from bench.execution import BenchmarkError, Execution
from bench.folder import Passes, measure_folder, read_passes, write_images
from bench.programs import measure_cold_start, measure_large, measure_whole
from bench.suite import Plan
from models.size_view import median_diameter
from synthetic import make_image

LOG = """DEBUG a.png: 0.5 network pixels a pixel
DEBUG a.png: 2 network pixels a pixel
INFO a.png: 512 x 512 x 1, phase, cellpose_general, 95 cells, network 1.00 s
WARNING something else
DEBUG b.png: 1 network pixels a pixel
INFO b.png: 512 x 512 x 1, fluorescence, cdnet_fluorescence, 5 cells (4 tiles empty), network 1.00 s
DEBUG c.png: 1 network pixels a pixel
INFO c.png: 512 x 512 x 1, phase, cellpose_general, 9 cells, network 1.00 s
"""
SIDE_PX = 128  # of images here: to make large ones takes seconds


class Programs:
    """Stands in for running a program that takes less time if it is told a diameter."""

    def __init__(self, said=""):
        self.commands, self.said = [], said

    def __call__(self, name, command, device):
        assert command[command.index("--device") + 1] == device
        self.commands.append(command)
        stages = {"start": 0.1, "scale": 1.0, "network": 4.0}
        real_s = 5.0 if "--diameter" in command else 8.0
        gpu = None if device == "cpu" else 2000.0
        return Execution(name, real_s, 6.0, 500.0, 0, stages, gpu), self.said


@pytest.fixture
def plan(tmp_path):
    return Plan(tmp_path, tmp_path, n_repeats=2, n_images=4, is_quick=True)


def test_the_pixels_of_each_expert_are_counted_at_the_scale_that_counted():
    passes = read_passes(LOG, side_px=1000)
    assert passes == Passes({"cellpose_general": 5.0, "cdnet_fluorescence": 1.0})
    assert passes.bare_seconds({"cellpose_general": 2.0, "cdnet_fluorescence": 3.0}) == 13.0


@pytest.mark.parametrize("said", ["", LOG.replace("DEBUG", "NOTE")])
def test_a_log_that_does_not_tell_is_an_error(said):
    with pytest.raises(BenchmarkError):
        read_passes(said, 512)


@pytest.fixture
def run(monkeypatch):
    """Replace programs and networks; the latter take two seconds a megapixel."""
    run = Programs(LOG)
    for module in (folder, programs):
        monkeypatch.setattr(module, "execute_well", run)
        monkeypatch.setattr(module, "SIDE_PX", SIDE_PX)
    monkeypatch.setattr(folder, "load_network", lambda expert, device: (expert, device))
    monkeypatch.setattr(folder, "make_windows", lambda *_, **__: None)
    monkeypatch.setattr(folder, "time_forward", lambda *_: Pace(2.0, 3.0))
    return run


def test_a_folder_is_compared_with_the_bare_network(plan, run):
    what = f"2 images of {SIDE_PX} x {SIDE_PX}, phase"
    rows = {row.name: row for row in measure_folder(plan)}
    bare_s = 2.0 * 6 * SIDE_PX**2 / 1e6
    for name, real_s in ((what, 8.0), (f"{what}, known diameter", 5.0)):
        assert rows[f"{name}: elapsed an image"].values == (real_s / 2, real_s / 2)
        ratios = rows[f"{name}: bare network / whole call"].values
        assert ratios == pytest.approx([bare_s / real_s] * 2)
        for stage, seconds in (("network", 4.0), ("scale", 1.0)):
            share = rows[f"{name}: share in stage {stage}"]
            assert share.values == (seconds / real_s, seconds / real_s)
            assert share.more_is_better == (stage == "network")
    assert rows[f"{what}: known / estimated diameter, elapsed"].values == (5 / 8, 5 / 8)


def test_a_folder_is_labelled_with_its_true_diameter_in_every_other_call(plan, run):
    list(measure_folder(plan))
    assert len(list((plan.folder / "phase").iterdir())) == folder.QUICK_IMAGES
    calls = run.commands[1:]  # after the one that warms up
    assert len(calls) == 2 * plan.n_repeats
    assert not any("--diameter" in command for command in calls[::2])
    true_px = write_images(plan.folder / "again", "phase", folder.QUICK_IMAGES)
    for command in calls[1::2]:
        told_px = float(command[command.index("--diameter") + 1])
        assert told_px == pytest.approx(true_px, abs=0.05)


@pytest.mark.parametrize("kind", ["phase", "brightfield_small"])
def test_the_diameter_of_a_folder_is_the_median_of_its_images(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(folder, "SIDE_PX", SIDE_PX)
    sides = (SIDE_PX, SIDE_PX)
    diameters = [median_diameter(make_image(kind, sides, seed=seed).labels) for seed in range(3)]
    assert write_images(tmp_path / "new", kind, 3) == sorted(diameters)[1]
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == [f"{kind}_00{seed}.png" for seed in range(3)]


def test_a_whole_image_is_measured_a_megapixel(plan, monkeypatch):
    run = Programs()
    monkeypatch.setattr(programs, "execute_well", run)
    elapsed, cpu, memory = measure_whole(plan)
    mpx = programs.QUICK_PX**2 / 1e6
    assert elapsed.unit == cpu.unit == "s / Mpx"
    assert elapsed.values == (8.0 / mpx, 8.0 / mpx)
    assert memory.values == (500.0, 500.0)


def test_a_larger_image_is_a_bench_of_its_own(plan, monkeypatch):
    monkeypatch.setattr(programs, "execute_well", Programs())
    monkeypatch.setattr(programs, "LARGE_PX", 640)
    names = [row.name for row in measure_large(replace(plan, is_quick=False))]
    assert names[0] == "640 x 640, phase: elapsed"
    assert names[-1] == "640 x 640, phase: peak memory"


def test_where_a_gpu_computes_its_memory_is_told(plan, run):
    rows = {row.name: row for row in measure_whole(replace(plan, device="cuda"))}
    side = programs.QUICK_PX
    assert rows[f"{side} x {side}, phase: peak GPU memory"].values == (2000.0, 2000.0)
    what = f"2 images of {SIDE_PX} x {SIDE_PX}, phase"
    rows = {row.name: row for row in measure_folder(replace(plan, device="cuda"))}
    assert rows[f"{what}: peak GPU memory"].values == (2000.0, 2000.0)
    assert all("cuda" in command for command in run.commands)


def test_a_cold_start_tells_its_stages_and_leaves_out_the_first_run(plan, monkeypatch):
    run = Programs()
    monkeypatch.setattr(programs, "execute_well", run)
    rows = {row.name: row for row in measure_cold_start(plan)}
    assert len(run.commands) == plan.n_repeats + 1
    assert rows["stage: network"].values == (4.0, 4.0)
    assert rows["predict.py, 512 x 512: peak memory"].unit == "MiB"
