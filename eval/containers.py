"""What the runtime harness asks of a container engine that takes Docker's command line."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CALL_S = 10.0  # longest wait for a short command of the engine
CREATION_S = 2.0  # in which an engine creates a container, generously
POLL_S = 0.05


def call_engine(engine: str, *arguments: str) -> str | None:
    """Call an engine for a short answer.

    Parameters
    ----------
    engine : str
        Program on PATH, or its path.
    *arguments : str
        Its arguments.

    Returns
    -------
    str or None
        Standard output; None when the engine refuses, is missing or does not answer in time.
    """
    try:
        done = subprocess.run(
            [engine, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def has_image(engine: str, image: str) -> bool:
    """Tell whether the engine holds an image, so that it need not look for it in a registry."""
    return call_engine(engine, "image", "inspect", image) is not None


def has_container(engine: str, name: str) -> bool:
    """Tell whether there is a container of this name, running or not."""
    return call_engine(engine, "container", "inspect", name) is not None


@dataclass(frozen=True)
class Container:
    """The container of one run, known by the id that ``run --cidfile`` leaves.

    Attributes
    ----------
    engine : str
        Program that made it.
    cid_file : Path
        Where the engine writes the container's id once it has made it.
    """

    engine: str
    cid_file: Path

    def read_cid(self) -> str:
        """Read the id; empty as long as there is no container."""
        try:
            return self.cid_file.read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def find_pid(self) -> int | None:
        """Find the container's first process among those of this machine.

        Returns
        -------
        int or None
            None before it starts.

        Raises
        ------
        ProcessLookupError
            If it is none of this machine's, or has ended. An engine in a virtual machine counts
            processes of its own; the control group of ours names the container.
        """
        cid = self.read_cid()
        if not cid:
            return None
        answer = call_engine(self.engine, "container", "inspect", "-f", "{{.State.Pid}}", cid)
        pid = (answer or "").strip()
        if not pid.isdecimal() or int(pid) == 0:
            return None
        groups = Path("/proc", pid, "cgroup")
        if not groups.exists() or cid not in groups.read_text(encoding="utf-8"):
            raise ProcessLookupError(f"process {pid} is not of container {cid}")
        return int(pid)

    def remove(self, may_come: Callable[[], bool]) -> bool:
        """Kill and remove the container if there is one.

        Parameters
        ----------
        may_come : callable
            Whether the engine may still be about to make it; then it is waited for, shortly.

        Returns
        -------
        bool
            Whether there was one.
        """
        give_up_s = time.monotonic() + CREATION_S
        while not (cid := self.read_cid()) and may_come() and time.monotonic() < give_up_s:
            time.sleep(POLL_S)
        if cid:
            call_engine(self.engine, "kill", cid)  # podman's rm alone would wait for a clean end
            call_engine(self.engine, "rm", "-f", cid)
        return bool(cid)
