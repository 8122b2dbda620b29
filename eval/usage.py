"""Memory of a running program, host and GPU, sampled from outside while it runs.

Host memory is the sum of the resident sets of the program and all its descendants, so pages that
processes share count once for each; the largest peak of a single process, which the kernel keeps,
covers what falls between two samples. GPU memory is what NVML reports for the whole GPU, above its
level at the start, so nothing else should be using it.
"""

import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL_S = 0.1  # at which the organisers sample GPU memory in their FLARE challenges
MIB = 2**20
KIB_A_MIB = 1024
PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Memory of one run; None where it is not known.

    Attributes
    ----------
    peak_host_mib : float or None
        Largest sum of resident sets over the process tree.
    peak_gpu_mib : float or None
        Largest GPU memory above the level at the start.
    gpu_mib_s : float or None
        Area under the curve of GPU memory above that level.
    """

    peak_host_mib: float | None = None
    peak_gpu_mib: float | None = None
    gpu_mib_s: float | None = None


class Gpu:
    """One NVIDIA GPU as NVML sees it.

    Parameters
    ----------
    nvml : module
        ``pynvml``, initialised.
    handle : object
        NVML's handle of the device.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @property
    def name(self) -> str:
        """What the maker calls it."""
        return str(self._nvml.nvmlDeviceGetName(self._handle))

    def used_mib(self) -> float | None:
        """Memory in use by all programs; None when NVML cannot tell."""
        try:
            return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / MIB
        except self._nvml.NVMLError:
            return None


def open_gpu(device: str | None) -> Gpu | None:
    """Open a GPU for watching.

    Parameters
    ----------
    device : str or None
        Index in PCI order or UUID, as in ``CUDA_VISIBLE_DEVICES``; None for no GPU.

    Returns
    -------
    Gpu or None
        None without such a device, without NVIDIA's driver or without the package nvidia-ml-py.
    """
    if device is None:
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        if device.isdecimal():
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(device)))
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(device))
    except nvml.NVMLError:
        return None


def find_visible_gpu() -> str | None:
    """Find the first GPU that CUDA may see, as :func:`open_gpu` takes it; None if it may see none.

    Returns
    -------
    str or None
        ``"0"`` where ``CUDA_VISIBLE_DEVICES`` is not set, whether or not there is a GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "0"
    first = visible.split(",")[0].strip()
    return None if first in ("", "-1") else first


def has_nvidia_gpu(gpu: Gpu | None) -> bool:
    """Tell whether containers can be given a GPU; the driver's own tool tells without NVML."""
    return gpu is not None or shutil.which("nvidia-smi") is not None


def read_tree_mib(pid: int) -> float | None:
    """Measure the host memory of a process and its descendants.

    Parameters
    ----------
    pid : int
        Root of the tree.

    Returns
    -------
    float or None
        Sum of the resident sets, or the largest peak of a single process so far if that is more
        [1]_. None once the root is gone, or where the kernel does not list children.

    References
    ----------
    .. [1] ``VmRSS`` and ``VmHWM`` in proc_pid_status(5), ``children`` in proc_pid_task(5).
    """
    if not (PROC / "thread-self" / "children").exists():
        return None
    resident = peak = 0.0
    waiting = [pid]
    while waiting:
        folder = PROC / str(waiting.pop())
        with suppress(OSError):  # it ended meanwhile
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
            resident += _field_mib(status, "VmRSS:")
            peak = max(peak, _field_mib(status, "VmHWM:"))
            for task in (folder / "task").iterdir():
                with suppress(OSError):
                    waiting += map(int, (task / "children").read_text().split())
    return max(resident, peak) or None


def _field_mib(status: str, field: str) -> float:
    """Read a size in kB of /proc/PID/status; 0 where it is missing, as with zombies."""
    _, found, rest = status.partition(f"\n{field}")
    return int(rest.split(maxsplit=1)[0]) / KIB_A_MIB if found else 0.0


class UsageSampler:
    """Samples memory in a thread of its own, from :meth:`start` to :meth:`stop`.

    Make it before the program starts: that is when the GPU's level is taken.

    Parameters
    ----------
    gpu : Gpu or None
        GPU to watch.
    interval_s : float
        Pause between samples.
    """

    def __init__(self, gpu: Gpu | None, interval_s: float = INTERVAL_S) -> None:
        self._gpu = gpu
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._peak_host_mib: float | None = None
        self._gpu_base_mib = gpu.used_mib() if gpu else None
        self._peak_gpu_mib = self._area_mib_s = 0.0
        self._level_mib, self._level_at_s = 0.0, time.perf_counter()

    def start(self, find_pid: Callable[[], int | None]) -> None:
        """Begin to sample.

        Parameters
        ----------
        find_pid : callable
            Root of the process tree. None as long as there is none: it is asked again then.
            OSError if it cannot be seen from here: host memory is not known then.
        """
        self._thread = threading.Thread(target=self._run, args=(find_pid,), daemon=True)
        self._thread.start()

    def stop(self) -> Usage:
        """End sampling and tell what was seen; all None without :meth:`start`."""
        if self._thread is None:
            return Usage()
        self._ended.set()
        self._thread.join()
        if self._gpu_base_mib is None:
            return Usage(self._peak_host_mib)
        return Usage(self._peak_host_mib, self._peak_gpu_mib, self._area_mib_s)

    def _run(self, find_pid: Callable[[], int | None]) -> None:
        """Sample until ended, and the GPU once more then."""
        pid, may_come = None, True
        while not self._ended.is_set():
            try:
                pid = find_pid() if pid is None and may_come else pid
            except OSError:
                may_come = False
            if pid is not None:
                self._sample_host(pid)
            self._sample_gpu()
            self._ended.wait(self._interval_s)
        self._sample_gpu()

    def _sample_host(self, pid: int) -> None:
        """Keep the largest host memory."""
        now_mib = read_tree_mib(pid)
        if now_mib is not None:
            self._peak_host_mib = max(now_mib, self._peak_host_mib or 0.0)

    def _sample_gpu(self) -> None:
        """Add the area since the last sample, by its level, and take the level anew."""
        used = self._gpu.used_mib() if self._gpu else None
        if used is None or self._gpu_base_mib is None:
            return
        now = time.perf_counter()
        self._area_mib_s += self._level_mib * (now - self._level_at_s)
        self._level_mib, self._level_at_s = max(0.0, used - self._gpu_base_mib), now
        self._peak_gpu_mib = max(self._peak_gpu_mib, self._level_mib)
