"""What the runtime harness measured: its records, the organisers' CSV and the JSON file."""

import csv
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.run_file import name_commit, now_utc
from eval.usage import Usage

FORMAT = 1
CSV_SUFFIX = "_running_time.csv"  # the organisers' file name and columns
CSV_COLUMNS = ("Img Name", "Real Running Time", "Rank Running Time")
TOLERANCE_S = 10.0  # the organisers' rule: 10 s up to 1 Mpx, 10 s a Mpx beyond
TOLERANCE_PX = 1_000_000
DIGITS = 4
GIB = 2**30


@dataclass(frozen=True)
class SizedImage:
    """An image to be labelled.

    Attributes
    ----------
    path : Path
        The file.
    height, width : int
        In pixels.
    """

    path: Path
    height: int
    width: int

    @property
    def mpx(self) -> float:
        """Size in millions of pixels."""
        return self.height * self.width / TOLERANCE_PX


@dataclass(frozen=True)
class TimedRun:
    """One run of one system on one image.

    Attributes
    ----------
    system : str
        Its name.
    image : SizedImage
        What was labelled.
    repeat : int
        Round, from 0.
    real_s : float
        Wall clock from starting the program or the container to its end.
    exit_code : int
        The program's; 1 also when it ended with 0 and left no usable label image.
    usage : Usage
        Memory.
    stages : dict or None
        Seconds by stage, as the program told.
    problem : str
        Why the run does not count; empty when it does.
    """

    system: str
    image: SizedImage
    repeat: int
    real_s: float
    exit_code: int
    usage: Usage
    stages: dict[str, float] | None
    problem: str = ""

    @property
    def rank_s(self) -> float:
        """What the organisers rank by."""
        return rank_seconds(self.real_s, self.image)


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    Attributes
    ----------
    processor : str
        Model name.
    cores : int
        That this process may use.
    gpu : str
        Name of the GPU; empty without one, or where NVML cannot be asked.
    memory_gib : float
        Host memory.
    """

    processor: str
    cores: int
    gpu: str
    memory_gib: float


def rank_seconds(real_s: float, image: SizedImage) -> float:
    """Take the organisers' tolerance off a running time.

    Parameters
    ----------
    real_s : float
        Wall clock.
    image : SizedImage
        Its size decides: 10 s up to a million pixels, 10 s a million pixels beyond.

    Returns
    -------
    float
        At least 0.
    """
    return max(0.0, real_s - TOLERANCE_S * max(1.0, image.mpx))


def read_machine(gpu_name: str) -> Machine:
    """Describe this machine.

    Parameters
    ----------
    gpu_name : str
        Name of the GPU, empty for none.

    Returns
    -------
    Machine
        Of Linux.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return Machine(_read_processor(), cores, gpu_name, round(memory / GIB, 1))


def write_json(
    path: Path, machine: Machine, commands: Sequence[tuple[str, str]], runs: Iterable[TimedRun]
) -> None:
    """Write every run, for the report.

    Parameters
    ----------
    path : Path
        Replaced.
    machine : Machine
        Where it was measured.
    commands : sequence of (str, str)
        Name and command line of each system.
    runs : iterable of TimedRun
        In the order they were made.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    plain = {
        "format": FORMAT,
        "created": now_utc(),
        "commit": name_commit(),
        "machine": vars(machine),
        "systems": [{"name": name, "command": command} for name, command in commands],
        "runs": [_plain_run(run) for run in runs],
    }
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(folder: Path, system: str, runs: Iterable[TimedRun]) -> Path:
    """Write the organisers' table of one system.

    Parameters
    ----------
    folder : Path
        Gets ``SYSTEM_running_time.csv``; must exist.
    system : str
        Whose runs to write.
    runs : iterable of TimedRun
        Of any system. Several of one image become one line with their median, so that the table
        has a line an image as the organisers' has. As theirs it lists failed runs, too.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    real_s: dict[str, list[float]] = {}
    images: dict[str, SizedImage] = {}
    for run in runs:
        if run.system == system:
            real_s.setdefault(run.image.path.name, []).append(run.real_s)
            images[run.image.path.name] = run.image
    path = folder / (system + CSV_SUFFIX)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(CSV_COLUMNS)
        for name, seconds in real_s.items():
            median_s = statistics.median(seconds)
            rank_s = rank_seconds(median_s, images[name])
            rows.writerow([name, round(median_s, DIGITS), round(rank_s, DIGITS)])
    return path


def _plain_run(run: TimedRun) -> dict[str, Any]:
    """Turn a run into what JSON holds."""
    return {
        "system": run.system,
        "image": run.image.path.name,
        "height": run.image.height,
        "width": run.image.width,
        "repeat": run.repeat,
        "real_s": round(run.real_s, DIGITS),
        "rank_s": round(run.rank_s, DIGITS),
        "exit_code": run.exit_code,
        "problem": run.problem,
        **{name: _rounded(value) for name, value in vars(run.usage).items()},
        "stages": run.stages,
    }


def _rounded(value: float | None) -> float | None:
    """Round what is known."""
    return None if value is None else round(value, DIGITS)


def _read_processor() -> str:
    """Read the processor's name as Linux knows it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
