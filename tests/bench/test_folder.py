import pytest

from bench import folder, programs
from bench.computing import Pace
from bench.execution import BenchmarkError, Execution
from bench.folder import Passes, measure_folder, read_passes
from bench.programs import measure_cold_start, measure_whole
from bench.suite import Plan

LOG = """DEBUG a.png: 0.5 network pixels a pixel
DEBUG a.png: 2 network pixels a pixel
INFO a.png: 512 x 512 x 1, phase, cellpose_general, 95 cells, network 1.00 s
WARNING something else
DEBUG b.png: 1 network pixels a pixel
INFO b.png: 512 x 512 x 1, fluorescence, cdnet_fluorescence, 5 cells (4 tiles empty), network 1.00 s
DEBUG c.png: 1 network pixels a pixel
INFO c.png: 512 x 512 x 1, phase, cellpose_general, 9 cells, network 1.00 s
"""


class Programs:
    """Stands in for running a program: one second an image, half of it in the network."""

    def __init__(self, said=""):
        self.commands, self.said = [], said

    def __call__(self, name, command):
        self.commands.append(command)
        stages = {"start": 0.1, "network": 4.0}
        return Execution(name, 8.0, 6.0, 500.0, 0, stages), self.said


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


def test_a_folder_is_compared_with_the_bare_network(plan, monkeypatch):
    run = Programs(LOG)
    monkeypatch.setattr(folder, "execute_well", run)
    monkeypatch.setattr(programs, "execute_well", run)
    monkeypatch.setattr(folder, "load_network", lambda expert: expert)
    monkeypatch.setattr(folder, "make_windows", lambda *_, **__: None)
    monkeypatch.setattr(folder, "time_forward", lambda *_: Pace(2.0, 3.0))
    rows = {row.name.rpartition(": ")[2]: row for row in measure_folder(plan)}
    assert len(list((plan.folder / "phase").iterdir())) == folder.QUICK_IMAGES
    assert len(run.commands) == 1 + plan.n_repeats
    assert rows["elapsed an image"].values == (4.0, 4.0)
    bare_s = 2.0 * 6 * 512**2 / 1e6
    assert rows["bare network / whole call"].values == pytest.approx([bare_s / 8.0] * 2)
    assert rows["share in the network"].values == (0.5, 0.5)
    assert rows["share in the network"].more_is_better


def test_a_whole_image_is_measured_a_megapixel(plan, monkeypatch):
    run = Programs()
    monkeypatch.setattr(programs, "execute_well", run)
    elapsed, cpu, memory = measure_whole(plan)
    mpx = programs.QUICK_PX**2 / 1e6
    assert elapsed.unit == cpu.unit == "s / Mpx"
    assert elapsed.values == (8.0 / mpx, 8.0 / mpx)
    assert memory.values == (500.0, 500.0)


def test_a_cold_start_tells_its_stages_and_leaves_out_the_first_run(plan, monkeypatch):
    run = Programs()
    monkeypatch.setattr(programs, "execute_well", run)
    rows = {row.name: row for row in measure_cold_start(plan)}
    assert len(run.commands) == plan.n_repeats + 1
    assert rows["stage: network"].values == (4.0, 4.0)
    assert rows["predict.py, 512 x 512: peak memory"].unit == "MiB"
