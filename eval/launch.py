"""How a system is started for one image: a fresh process or container, timed from outside."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import stopwatch
from eval.containers import Container
from eval.usage import Gpu, Usage, UsageSampler

PREDICT = Path(__file__).resolve().parent.parent / "predict.py"
MEMORY_LIMIT = "28G"  # the organisers' limit
PROFILE_VARIABLE = "CELLSEG_PROFILE"
PROFILE_MARK = "PROFILE "
STAGES = tuple(stage for stage in stopwatch.STAGES if stage != stopwatch.WAITING)
TERMINATION_S = 3.0  # for a process to end by itself
N_LAST_LINES = 5


@dataclass(frozen=True)
class Places:
    """Folders of one run, all its own.

    Attributes
    ----------
    folder : Path
        Absolute; holds the others, what the program says, and the container's id.
    image : Path
        The one file in ``inputs``.
    """

    folder: Path
    image: Path

    @property
    def inputs(self) -> Path:
        """Folder with the one image."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """Folder for the label image."""
        return self.folder / "outputs"

    @property
    def cid_file(self) -> Path:
        """File to which the container engine writes the id of the container it made."""
        return self.folder / "cid"


@dataclass(frozen=True)
class System:
    """A program that labels a folder with one image.

    Attributes
    ----------
    name : str
        In tables and files.
    template : tuple of str
        Arguments, with ``{input}`` and ``{output}`` for the folders, ``{image}`` for the file
        and ``{cid}`` for the file of the container's id.
    engine : str
        Container engine that the template calls; empty for a plain process.
    any_label_name : bool
        Whether the label image may be named otherwise than this project names it.
    environment : mapping
        Variables beside those of this process.
    """

    name: str
    template: tuple[str, ...]
    engine: str = ""
    any_label_name: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, places: Places) -> list[str]:
        """Fill the places of one run into the template; no shell reads the result."""
        values = {
            "{input}": str(places.inputs),
            "{image}": str(places.image),
            "{output}": str(places.outputs),
            "{cid}": str(places.cid_file),
        }
        pattern = re.compile("|".join(map(re.escape, values)))
        return [pattern.sub(lambda found: values[found.group()], word) for word in self.template]


@dataclass(frozen=True)
class Execution:
    """One run of a system on one image.

    Attributes
    ----------
    real_s : float
        Wall clock from starting the program to its end.
    exit_code : int
        Negative for a signal, as with subprocess.
    usage : Usage
        Memory.
    stages : dict or None
        Seconds by :data:`STAGES`; None when the program did not tell.
    last_lines : str
        End of what it said, on one line.
    timed_out : bool
        Whether it was stopped for taking too long.
    """

    real_s: float
    exit_code: int
    usage: Usage
    stages: dict[str, float] | None
    last_lines: str
    timed_out: bool


def local_system(name: str, options: str, environment: Mapping[str, str]) -> System:
    """Describe this project's predict.py, run by the interpreter that runs this.

    Parameters
    ----------
    name : str
        In tables and files.
    options : str
        Further options of predict.py, quoted as for a shell.
    environment : mapping
        Variables to set.

    Returns
    -------
    System
        A plain process.

    Raises
    ------
    ValueError
        If a quotation is not closed.
    """
    arguments = (sys.executable, str(PREDICT), "-i", "{input}", "-o", "{output}")
    return System(name, (*arguments, *shlex.split(options)), environment=environment)


def peer_system(name: str, command: str, environment: Mapping[str, str]) -> System:
    """Describe another program by its command line.

    Parameters
    ----------
    name : str
        In tables and files.
    command : str
        Quoted as for a shell, with ``{output}`` and one of ``{input}`` and ``{image}``.
    environment : mapping
        Variables to set.

    Returns
    -------
    System
        A plain process that may name its label image as it likes.

    Raises
    ------
    ValueError
        If a quotation is not closed or a place is missing.
    """
    if "{output}" not in command or not ("{input}" in command or "{image}" in command):
        raise ValueError(f"wanted {{output}} and one of {{input}} and {{image}} in: {command}")
    template = tuple(shlex.split(command))
    return System(name, template, any_label_name=True, environment=environment)


def container_system(name: str, image: str, engine: str, gpu: str | None, options: str) -> System:
    """Describe a container image, run by the organisers' command line.

    Parameters
    ----------
    name : str
        In tables and files, and of the container.
    image : str
        With its tag, which the organisers want to be ``latest``.
    engine : str
        ``docker``, ``podman`` or what else takes Docker's command line.
    gpu : str or None
        Device for ``--gpus``, which is left out with None.
    options : str
        Further options of predict.py, quoted as for a shell.

    Returns
    -------
    System
        A container.

    Raises
    ------
    ValueError
        If a quotation is not closed.

    Notes
    -----
    To the organisers' arguments come two that change nothing about the run: the variable that asks
    for the stages, and a file for the container's id, so that what is removed is surely ours.
    """
    script = " ".join(["sh predict.sh", *map(shlex.quote, shlex.split(options))])
    template = (
        *(engine, "container", "run"),
        *(("--gpus", f"device={gpu}") if gpu is not None else ()),
        *("-m", MEMORY_LIMIT, "--name", name, "--rm"),
        *("--cidfile", "{cid}", "-e", f"{PROFILE_VARIABLE}=1"),
        *("-v", "{input}/:/workspace/inputs/", "-v", "{output}/:/workspace/outputs/"),
        *(image, "/bin/bash", "-c", script),
    )
    return System(name, template, engine)


def execute(
    system: System, places: Places, gpu: Gpu | None = None, limit_s: float | None = None
) -> Execution:
    """Run a system on one image and measure it.

    Parameters
    ----------
    system : System
        What to run.
    places : Places
        Folders, made; ``outputs`` empty.
    gpu : Gpu or None
        GPU to watch.
    limit_s : float or None
        Seconds after which it is stopped.

    Returns
    -------
    Execution
        Whatever the program did; its label image is not looked at.

    Raises
    ------
    OSError
        If the program cannot be started.

    Notes
    -----
    Whether it ends well, fails or is interrupted: neither a process of its group nor its container
    is left. It runs in a session of its own, so that Ctrl-C reaches this process only.
    """
    run = _Run(Container(system.engine, places.cid_file) if system.engine else None)
    sampler = UsageSampler(gpu)
    try:
        start_s = time.perf_counter()
        process = run.start(system, places)
        sampler.start(run.find_pid)
        with _stopping_after(limit_s, run) as stopped:
            exit_code = process.wait()
            real_s = time.perf_counter() - start_s
    finally:
        usage = sampler.stop()
        run.clear()
    out, err = (_read(places.folder / name) for name in ("stdout", "stderr"))
    lines = [line.strip() for line in f"{out}\n{err}".splitlines() if line.strip()]
    last_lines = " | ".join(lines[-N_LAST_LINES:])
    return Execution(real_s, exit_code, usage, read_stages(err), last_lines, stopped.is_set())


def read_stages(said: str) -> dict[str, float] | None:
    """Read the stages from what predict.py wrote to standard error.

    Parameters
    ----------
    said : str
        Any text; of several lines that begin with ``PROFILE`` the last counts.

    Returns
    -------
    dict or None
        Seconds by :data:`STAGES`, 0 for one that is not named; None without such a line, or when
        it does not hold what was agreed.
    """
    lines = [line for line in said.splitlines() if line.startswith(PROFILE_MARK)]
    if not lines:
        return None
    try:
        stages = json.loads(lines[-1].removeprefix(PROFILE_MARK))["stages"]
        return {stage: float(stages.get(stage, 0.0)) for stage in STAGES}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class _Run:
    """The process of one run, and its container if it has one."""

    def __init__(self, container: Container | None) -> None:
        self._container = container
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, system: System, places: Places) -> subprocess.Popen[bytes]:
        """Start the program; what it says goes to files."""
        with (
            (places.folder / "stdout").open("wb") as out,
            (places.folder / "stderr").open("wb") as err,
        ):
            self._process = subprocess.Popen(
                system.command(places),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, PROFILE_VARIABLE: "1", **system.environment},
                start_new_session=True,
            )
        return self._process

    def find_pid(self) -> int | None:
        """Find the root of the process tree that does the work."""
        if self._container is not None:
            return self._container.find_pid()
        return self._process.pid if self._process else None

    def clear(self) -> None:
        """Remove the container unless it ended well, and end every process of the group."""
        went_well = self._process is not None and self._process.poll() == 0
        if self._container is None:
            self._send(signal.SIGTERM)
            self._end_group()
        elif went_well:  # --rm has removed it
            self._end_group()
        else:
            removed = self._container.remove(self._may_create)
            self._end_group()
            if not removed:
                self._container.remove(lambda: False)  # made at the last moment

    def _may_create(self) -> bool:
        """Tell whether the engine's client still runs, or may: its start was interrupted."""
        return self._process is None or self._process.poll() is None

    def _end_group(self) -> None:
        """Wait for the process, not for long, and kill what is left of its group."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(TERMINATION_S)
            self._send(signal.SIGKILL)
            self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the group, which outlives its leader."""
        with suppress(ProcessLookupError, PermissionError):  # gone, or no longer ours
            if self._process is not None:
                os.killpg(self._process.pid, number)


@contextmanager
def _stopping_after(limit_s: float | None, run: _Run) -> Iterator[threading.Event]:
    """Stop a run that takes longer than a limit; the event tells whether that happened."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        run.clear()

    timer = threading.Timer(limit_s, stop) if limit_s is not None else None
    if timer is not None:
        timer.start()
    try:
        yield stopped
    finally:
        if timer is not None:
            timer.cancel()
            timer.join()


def _read(path: Path) -> str:
    """Read what a program said; empty where it was never started."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
