"""Where the seconds of a run go, stage by stage; imports nothing heavy."""

import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAGES = (
    "start",
    "imports",
    "routing",
    "weights",
    "scale",
    "network",
    "decoding",
    "writing",
    "waiting",
    "other",
)
SCALE, WAITING, OTHER = "scale", "waiting", "other"


class Stopwatch:
    """Adds up seconds by stage; at any moment one stage runs, at first :data:`OTHER`.

    Stages are those of the thread that made the watch and of threads that :meth:`follow` it, each
    on a page of its own. What other threads do beside them is not counted.
    """

    def __init__(self) -> None:
        self._page = threading.local()
        self._own = self._page.of_thread = _Page()
        self._turned: dict[str, float] = dict.fromkeys(STAGES, 0.0)  # pages of ended followers
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time in this context for a stage; that of inner contexts is theirs alone.

        Parameters
        ----------
        name : str
            One of :data:`STAGES`. What is computed and decoded inside "scale", to choose one,
            counts for that.
        """
        page = self._find_page()
        if page is None or (page.stage == SCALE and name != WAITING):
            yield
            return
        outer = page.switch(name)
        try:
            yield
        finally:
            page.switch(outer)

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Count the stages of this thread too, from zero, as long as the context lasts."""
        outer, page = self._find_page(), _Page()
        self._page.of_thread = page
        try:
            yield
        finally:
            self._page.of_thread = outer
            page.switch(OTHER)
            with self._lock:
                for stage, seconds in page.seconds.items():
                    self._turned[stage] += seconds

    def add(self, name: str, seconds: float) -> None:
        """Add time that passed before there was a watch."""
        self._own.seconds[name] += seconds

    def seconds(self) -> dict[str, float]:
        """Give the seconds of this thread's stages until now, in the order of :data:`STAGES`.

        Those of the thread that made the watch add up to all the time there was, waiting for
        followers included.
        """
        page = self._find_page() or self._own
        page.switch(page.stage)
        return dict(page.seconds)

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Give the seconds of the stages that ran since :meth:`seconds` gave some."""
        after = self.seconds()
        return {stage: s - before[stage] for stage, s in after.items() if s > before[stage]}

    def all_seconds(self) -> dict[str, float]:
        """Give the seconds of this thread's stages and those of followers that have ended.

        Where threads worked side by side they add up to more than the time that passed. That this
        thread waited for followers is left out.
        """
        own = self.seconds() | {WAITING: 0.0}
        with self._lock:
            return {stage: own[stage] + self._turned[stage] for stage in STAGES}

    def _find_page(self) -> "_Page | None":
        """Give the page of this thread, if its stages are counted."""
        page: _Page | None = getattr(self._page, "of_thread", None)
        return page


class _Page:
    """The stages of one thread."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.stage, self._since = OTHER, time.perf_counter()

    def switch(self, name: str) -> str:
        """End the running stage and begin another; return the one that ran."""
        if name not in self.seconds:
            raise ValueError(f"unknown stage {name!r}, known: {', '.join(STAGES)}")
        now = time.perf_counter()
        self.seconds[self.stage] += now - self._since
        self._since, outer = now, self.stage
        self.stage = name
        return outer


def seconds_since_process_start() -> float:
    """Measure how long this process has run, to the kernel's clock tick (10 ms).

    Returns
    -------
    float
        0 where the system does not tell (no ``/proc``).
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        start_ticks = int(fields[19])  # field 22 of proc(5), 1-based; the name went before
        return max(
            0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
        )
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def describe_profile(seconds: dict[str, float], elapsed: float | None = None) -> str:
    """Write what a run cost as a table and one line that a program can read.

    Parameters
    ----------
    seconds : dict of str to float
        By stage, from :meth:`Stopwatch.all_seconds`.
    elapsed : float, optional
        Seconds that passed, if stages of several threads ran side by side; by default their sum.

    Returns
    -------
    str
        Lines; the last is ``PROFILE`` and a JSON object of ``total_s``, ``peak_rss_mib`` and
        ``stages``.
    """
    total = sum(seconds.values()) if elapsed is None else elapsed
    peak_mib = peak_resident_mib()
    rows = [
        f"{name:<10}{value:9.3f} s{_share(value, total):6.1f} %" for name, value in seconds.items()
    ]
    rows += [f"{'total':<10}{total:9.3f} s", f"{'peak':<10}{peak_mib:9.1f} MiB"]
    record = {
        "total_s": round(total, 4),
        "peak_rss_mib": round(peak_mib, 1),
        "stages": {name: round(value, 4) for name, value in seconds.items()},
    }
    return "\n".join([*rows, f"PROFILE {json.dumps(record)}"])


def peak_resident_mib() -> float:
    """Measure the largest memory that this process has held.

    Returns
    -------
    float
        MiB. From the kernel's status file where there is one: what ``getrusage`` tells may be
        the memory of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _share(part: float, whole: float) -> float:
    """Give a part of a whole in per cent."""
    return 100 * part / whole if whole else 0.0
