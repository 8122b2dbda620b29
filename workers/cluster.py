"""Dask's scheduler and workers: started on this machine, or found elsewhere."""
# mypy: allow-untyped-calls
# (Dask is typed in part.)

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dask.config
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from models.registry import count_gpus
from options import Options, UsageError
from workers.recipe import Recipe
from workers.tasks import check_worker

CONNECT_S = 10.0
FIRST_WORKER_S = 30.0
"""How long a scheduler may take to answer, and to have its first worker."""

GPUS = "CUDA_VISIBLE_DEVICES"

SETTINGS = {
    # The views from which a scale is chosen are sent with the task: 48 MiB, once a slide.
    "distributed.admin.large-graph-warning-threshold": "1GiB",
}


LOG_LEVELS = {
    "distributed": logging.WARNING,  # the rest is about its own parts
    # Tracebacks of what this program says in one line:
    "distributed.client": logging.CRITICAL,
    "distributed.utils": logging.CRITICAL,
}


@dataclass(frozen=True)
class Share:
    """What one of several workers may use of a machine.

    Attributes
    ----------
    cores : tuple of int
        Numbers of processor cores.
    gpu : str or None
        As ``CUDA_VISIBLE_DEVICES`` names it; None if there is none.
    """

    cores: tuple[int, ...]
    gpu: str | None


def share_out(n_workers: int, cores: list[int], gpus: list[str]) -> tuple[Share, ...]:
    """Divide a machine among workers.

    Parameters
    ----------
    n_workers : int
        At least 1.
    cores : list of int
        Numbers of the cores this process may use.
    gpus : list of str

    Returns
    -------
    tuple of Share
        About equal numbers of cores, each core given once; with more workers than cores or GPUs
        several share one.
    """
    shares = []
    for number in range(n_workers):
        own = cores[number::n_workers] or [cores[number % len(cores)]]
        gpu = gpus[number % len(gpus)] if gpus else None
        shares.append(Share(tuple(own), gpu))
    return tuple(shares)


class ShareOut(WorkerPlugin):
    """Gives each worker its share before it takes a task, after a restart too.

    Libraries that compute start as many threads as their process has cores. The limit must be set
    in the worker's main thread, from which its others inherit it. A terminal's interrupt goes to
    workers too, but ending them is the business of the process that started them.
    """

    name = "share-out"

    def __init__(self, shares: tuple[Share, ...]) -> None:
        self._shares = shares

    def setup(self, worker: Worker) -> None:
        """Limit the worker's process."""
        share = self._shares[int(str(worker.name)) % len(self._shares)]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share.cores)
        if share.gpu is not None:
            os.environ[GPUS] = share.gpu


@contextmanager
def open_client(options: Options) -> Iterator[Client]:
    """Start workers or connect to them, as the command line says.

    Raises
    ------
    UsageError
        If the scheduler does not answer or has no workers.
    """
    with dask.config.set(SETTINGS), contextlib.ExitStack() as stack:
        for name, level in LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        if options.dask is None:
            client = stack.enter_context(_start(options.workers or 1))
        else:
            client = stack.enter_context(_connect(options.dask))
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except TimeoutError:
            raise UsageError(
                f"{options.dask or 'this machine'}: the scheduler has no workers; start some"
            ) from None
        yield client


def check_workers(client: Client, recipe: Recipe) -> None:
    """Let every worker prepare for the work.

    Raises
    ------
    UsageError
        If one cannot: the clone is not on its path, or the device asked for is not there.
    """
    try:
        said = client.run(check_worker, recipe, on_error="return")
    except OSError as error:
        raise UsageError(f"the workers do not answer: {error}") from None
    for address, problem in sorted(said.items()):
        if isinstance(problem, OSError):
            continue  # it has ended meanwhile; a new one may come
        if isinstance(problem, ModuleNotFoundError):
            problem = f"{problem}; start it in the clone: python -m dask worker ..."
        if problem:
            raise UsageError(f"worker {address}: {problem}")


@contextmanager
def _start(n_workers: int) -> Iterator[Client]:
    """Start a scheduler and workers, for this machine only."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    shares = share_out(n_workers, cores, _visible_gpus())
    threads = {"distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": len(shares[0].cores)}
    with (
        dask.config.set(threads),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # none to look at, but its port is taken
            memory_limit=0,  # tiling bounds memory itself; Dask would end workers at its guess
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(ShareOut(shares))
        yield client


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    """Connect to a scheduler."""
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{address}: no Dask scheduler answers there ({reason}); "
            "start one with: dask scheduler, and give its address, tcp://HOST:PORT"
        ) from None
    with client:
        yield client


def _visible_gpus() -> list[str]:
    """List this machine's GPUs as ``CUDA_VISIBLE_DEVICES`` names them."""
    chosen = os.environ.get(GPUS)
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    return [str(number) for number in range(count_gpus())]
