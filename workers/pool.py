"""The workers of a run, as the process that reads the command line sees them."""
# mypy: allow-untyped-calls
# (Dask is typed in part.)

import functools
import itertools
import logging
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, KilledWorker
from distributed.comm.core import CommClosedError

from imaging.reading import ImageError
from workers.recipe import Expert, Recipe
from workers.remote import RemoteNetwork
from workers.tasks import Answer, WorkerMismatchError, describe_expert, label_image

if TYPE_CHECKING:
    from pipeline import ImageResult, Job

logger = logging.getLogger(__name__)

TASKS_PER_WORKER = 2
"""One at work and one at hand: a worker need not wait, and nothing piles up."""

POLL_S = 20.0
"""How often is looked whether there are still workers while none of them answers."""


class SchedulerLostError(Exception):
    """The scheduler does not answer any more."""


LOST = (KilledWorker, CancelledError, CommClosedError, SchedulerLostError)
"""What tells that workers, or the scheduler, are gone."""

Outcome = Callable[[], "ImageResult"]


@dataclass(frozen=True)
class Finished:
    """A task that ended.

    Attributes
    ----------
    arguments : tuple
        Those it was called with.
    future : Future
    """

    arguments: tuple[Any, ...]
    future: Future

    def value(self) -> Any:
        """Give what the task gave, or raise what it raised; log what it had to say."""
        return _unpack(self.future.result())


class Pool:
    """Sends work to the workers of a Dask scheduler.

    Parameters
    ----------
    client : Client
        Connected.
    recipe : Recipe
        How workers build their job.
    """

    def __init__(self, client: Client, recipe: Recipe) -> None:
        self._client, self._recipe = client, recipe
        self._describe = functools.cache(self._ask_about)

    def adapt(self, job: "Job") -> "Job":
        """Let a job of this process have its networks computed by the workers."""
        return replace(job, load=self.load, identify=self.identify)

    def load(self, expert: str) -> RemoteNetwork:
        """Give a network that the workers compute; WeightsError if they cannot load it."""
        return RemoteNetwork(self, self._describe(expert))

    def identify(self, expert: str) -> str:
        """Tell an expert's weights, and what computes it on the workers."""
        return self._describe(expert).identity

    def count_workers(self) -> int:
        """Count the workers there are now; at least 1, since another may come."""
        return max(1, self._count())

    def label_images(
        self, paths: Sequence[Path], label_here: Callable[[Path], "ImageResult"]
    ) -> Iterator[tuple[Path, Outcome]]:
        """Label images, each on one worker; the blocks of a large one on all of them.

        Parameters
        ----------
        paths : sequence of Path
        label_here : callable
            Labels a large image with a job that `adapt` gave.

        Yields
        ------
        Path, callable
            Each image once, in any order; the callable gives its result or raises its error.
        """
        left = dict.fromkeys(paths)
        try:
            for finished in self.spread(label_image, ((path,) for path in paths)):
                (path,) = finished.arguments
                del left[path]
                yield path, functools.partial(self._conclude, path, finished, label_here)
        except LOST as error:
            for path in left:
                yield path, functools.partial(_raise, _describe_loss(path, error))

    def call(self, function: Callable[..., Answer[Any]], *arguments: Any) -> Any:
        """Run one task on any worker and wait for it."""
        (finished,) = self.spread(function, [arguments])
        return finished.value()

    def spread(
        self, function: Callable[..., Answer[Any]], calls: Iterable[tuple[Any, ...]]
    ) -> Iterator[Finished]:
        """Run tasks on all workers.

        Parameters
        ----------
        function : callable
            Of `workers.tasks`; takes the recipe and then what `calls` hold.
        calls : iterable of tuple
            Taken as workers become free.

        Yields
        ------
        Finished
            In any order. A task whose worker is lost is given to another one; those that are not
            wanted any more when this generator is closed are cancelled.
        """
        waiting, running = iter(calls), dict[Future, tuple[Any, ...]]()
        ended = queue.SimpleQueue[Future]()
        try:
            while True:
                n_free = TASKS_PER_WORKER * self.count_workers() - len(running)
                for arguments in itertools.islice(waiting, max(0, n_free)):
                    future = self._client.submit(function, self._recipe, *arguments, pure=False)
                    running[future] = arguments
                    future.add_done_callback(ended.put)
                if not running:
                    return
                future = self._wait_for_one(ended)
                yield Finished(running.pop(future), future)
        finally:
            if running and self._client.status == "running":
                self._client.cancel(list(running))

    def _wait_for_one(self, ended: "queue.SimpleQueue[Future]") -> Future:
        """Wait until a task has ended."""
        is_warned = False
        while True:
            try:
                return ended.get(timeout=POLL_S)
            except queue.Empty:
                if not is_warned and not self._count():
                    logger.warning("no worker is left; the work goes on as soon as one comes")
                    is_warned = True

    def _count(self) -> int:
        """Ask the scheduler how many workers it has."""
        if self._client.status != "running":
            raise SchedulerLostError
        try:
            return len(self._client.nthreads())
        except OSError as error:
            raise SchedulerLostError from error

    def _ask_about(self, expert: str) -> Expert:
        """Ask a worker about an expert."""
        described: Expert = self.call(describe_expert, expert)
        return described

    def _conclude(
        self, path: Path, finished: Finished, label_here: Callable[[Path], "ImageResult"]
    ) -> "ImageResult":
        """Give the result of an image, or get it by spreading its blocks."""
        try:
            done: ImageResult | None = finished.value()
            return label_here(path) if done is None else done
        except (*LOST, WorkerMismatchError) as error:
            raise _describe_loss(path, error) from None


def _unpack(answer: Answer[Any]) -> Any:
    """Log what a worker had to say, as if it had been said here; give the rest."""
    for note in answer.notes:
        logging.getLogger(note.logger).log(note.level, "%s", note.text)
    return answer.value


def _describe_loss(path: Path, error: Exception) -> ImageError:
    """Say in one line what became of an image."""
    if isinstance(error, WorkerMismatchError):
        remedy = "give all workers the same clone, weights and kind of device, and run again"
        return ImageError.about(path, error, remedy)
    if isinstance(error, KilledWorker):
        return ImageError.about(
            path,
            "every worker that took a part of it ended; their logs tell why",
            "most often memory runs out: give them more, or set --max-memory",
        )
    return ImageError.about(
        path, "the scheduler is gone", "start it and its workers, and run again: it goes on there"
    )


def _raise(error: Exception) -> "ImageResult":
    """Raise an error where the result is asked for."""
    raise error
