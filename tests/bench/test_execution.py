import sys
from dataclasses import replace

import pytest

from bench.execution import (
    BenchmarkError,
    Execution,
    execute,
    execute_well,
    median_of,
    predict_command,
)
from tests.eval.runtime_fakes import fake_nvml, install_nvml

HOLD_40_MIB = "b = bytes([1]) * (40 << 20); "


def python(code, name="test"):
    return execute(name, [sys.executable, "-c", code], n_threads=1)


def test_a_command_is_measured_from_start_to_exit():
    code = "import time; time.sleep(0.2); b = bytes([1]) * (80 << 20); sum(range(10**6))"
    run, said = python(code)
    quick, _ = python("pass", "quick")
    assert (run.command, run.exit_code, said, run.stages) == ("test", 0, "", None)
    assert 0.2 < run.real_s < 20
    assert 0 < run.cpu_s < run.real_s + 1
    assert run.peak_mib > quick.peak_mib + 60
    assert quick.peak_mib < 60  # this process holds more


def test_the_profile_of_a_command_is_read():
    line = 'PROFILE {"total_s": 1.5, "stages": {"start": 0.5, "network": 1.0}}'
    run, said = python(f"import sys; sys.stderr.write('INFO x\\n' + {line!r} + '\\n'); sys.exit(3)")
    assert run.stages == {"start": 0.5, "network": 1.0}
    assert run.exit_code == 3
    assert said.startswith("INFO x")


def test_both_systems_may_use_as_many_threads():
    _, said = python("import os, sys; sys.stderr.write(os.environ['OMP_NUM_THREADS'])")
    assert said == "1"


def test_the_median_of_each_figure_is_its_own():
    runs = [
        Execution("a", 1.0, 5.0, 30.0, 0, {"network": 1.0}),
        Execution("a", 3.0, 4.0, 10.0, 0, {"network": 7.0}),
        Execution("a", 2.0, 9.0, 20.0, 0, {"network": 4.0}),
    ]
    assert median_of(runs) == Execution("a", 2.0, 5.0, 20.0, 0, {"network": 4.0})
    assert median_of([Execution("b", 1.0, 1.0, 1.0, 0)]).stages is None


def test_the_memory_of_the_gpu_is_watched_where_it_computes(monkeypatch):
    install_nvml(monkeypatch, fake_nvml(*[1000] * 2, *[1400] * 50))
    command = [sys.executable, "-c", "pass"]
    assert execute("test", command)[0].peak_gpu_mib is None
    run, _ = execute("test", command, device="cuda")
    assert run.peak_gpu_mib == 400
    assert median_of([run, replace(run, peak_gpu_mib=200.0)]).peak_gpu_mib == 300


def test_memory_is_that_of_the_whole_tree():
    child = f"{HOLD_40_MIB}import time; time.sleep(1)"
    code = (
        f"import subprocess, sys; {HOLD_40_MIB}"
        f"subprocess.run([sys.executable, '-S', '-c', {child!r}], check=True)"
    )
    run, _ = python(code)
    assert run.exit_code == 0
    assert run.peak_mib > 85  # either process alone holds about 50


def test_a_command_that_fails_is_an_error_where_it_must_not():
    command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    assert execute("test", command)[0].exit_code == 1
    with pytest.raises(BenchmarkError, match="no such luck"):
        execute_well("test", command)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(BenchmarkError, match="no-such-program"):
        execute("test", ["/no-such-program"])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_predict_runs_on_the_device_and_tells_its_stages(tmp_path, device):
    command = predict_command(tmp_path / "in", tmp_path / "out", "-v", device=device)
    assert command[0] == sys.executable
    assert command[command.index("--device") + 1] == device
    assert {"--profile", "-v", str(tmp_path / "in"), str(tmp_path / "out")} <= set(command)
