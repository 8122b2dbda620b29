"""Run one command and measure it from outside: seconds, and memory of its whole process tree."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.device import find_gpu
from eval.usage import UsageSampler

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"  # what git ignores: results, and the peer's environment
PREDICT = ROOT / "predict.py"
LAUNCHER = ROOT / "bench" / "launcher.py"
PROFILE_LINE = re.compile(r"^PROFILE (\{.*\})$", re.MULTILINE)
FIGURES = ("real_s", "cpu_s", "peak_mib")


class BenchmarkError(Exception):
    """A command that is measured did not do its work."""


@dataclass(frozen=True)
class Execution:
    """One run of one command.

    Attributes
    ----------
    command : str
        Its name in the table.
    real_s, cpu_s : float
        Elapsed, and user plus system time of the process and its children.
    peak_mib : float
        Largest resident memory of the process and its descendants together, sampled ten times a
        second; at least the largest of a single one, which the kernel keeps.
    exit_code : int
    stages : dict of str to float, optional
        Seconds by stage, if the command tells (``predict.py --profile``).
    peak_gpu_mib : float, optional
        Largest memory in use on the GPU above its level at the start, sampled ten times a second;
        None on the CPU, and where NVML cannot be asked.
    """

    command: str
    real_s: float
    cpu_s: float
    peak_mib: float
    exit_code: int
    stages: Mapping[str, float] | None = None
    peak_gpu_mib: float | None = None


def execute(
    name: str, command: Sequence[str], n_threads: int | None = None, device: str = "cpu"
) -> tuple[Execution, str]:
    """Run a command and measure it.

    Parameters
    ----------
    name : str
        For the table.
    command : sequence of str
        Program and arguments.
    n_threads : int or None
        Limit of OpenMP's threads; None leaves it alone.
    device : str
        On which the command's networks compute: the memory of a GPU is watched.

    Returns
    -------
    Execution
    str
        What it wrote on standard error.

    Raises
    ------
    BenchmarkError
        If it cannot be started.
    """
    threads = {} if n_threads is None else {"OMP_NUM_THREADS": str(n_threads)}
    sampler = UsageSampler(find_gpu(device))
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "taken.json"
        launcher = subprocess.Popen(
            [sys.executable, "-S", str(LAUNCHER), str(result), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | threads,
            cwd=ROOT,
        )
        sampler.start(lambda: _find_child(launcher.pid))
        try:
            _, said = launcher.communicate()
        finally:
            usage = sampler.stop()
        if launcher.returncode:
            raise BenchmarkError(f"{command[0]} cannot be started:\n{said}")
        taken = json.loads(result.read_text(encoding="utf-8"))
    taken["peak_mib"] = max(taken["peak_mib"], round(usage.peak_host_mib or 0.0, 1))
    gpu = usage.peak_gpu_mib
    taken["peak_gpu_mib"] = None if gpu is None else round(gpu, 1)
    profile = PROFILE_LINE.search(said)
    stages = json.loads(profile[1])["stages"] if profile else None
    return Execution(name, stages=stages, **taken), said


def predict_command(inputs: Path, outputs: Path, *options: str, device: str = "cpu") -> list[str]:
    """Label a file or a folder with this project's ``predict.py``, with a profile."""
    paths = ["-i", str(inputs), "-o", str(outputs)]
    return [sys.executable, str(PREDICT), *paths, "--device", device, "--profile", *options]


def execute_well(name: str, command: Sequence[str], device: str = "cpu") -> tuple[Execution, str]:
    """Run a command as :func:`execute` does; BenchmarkError if its exit code is not 0."""
    run, said = execute(name, command, device=device)
    if run.exit_code:
        raise BenchmarkError(f"{' '.join(command)} failed:\n{said}")
    return run, said


def median_of(runs: Sequence[Execution]) -> Execution:
    """Take the median of each figure of some runs of one command."""
    middle: dict[str, Any] = {
        key: round(statistics.median(getattr(run, key) for run in runs), 4) for key in FIGURES
    }
    gpu = [run.peak_gpu_mib for run in runs if run.peak_gpu_mib is not None]
    if gpu:
        middle["peak_gpu_mib"] = round(statistics.median(gpu), 1)
    stages = [run.stages for run in runs if run.stages is not None]
    if stages:
        middle["stages"] = {
            name: round(statistics.median(s[name] for s in stages), 4) for name in stages[0]
        }
    return replace(runs[0], **middle)


def _find_child(pid: int) -> int | None:
    """Find the first child of a process; None as long as, or once, there is none."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else None
    return None
