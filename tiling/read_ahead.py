"""Read what is needed next in threads while the network is busy, a bounded number ahead."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


def start_threads(n_threads: int, name: str) -> "ThreadPoolExecutor":
    """Make a pool of threads; small images never do, and are spared the import."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(n_threads, name)


class ReadAhead(Generic[KeyT, ValueT]):
    """Values by key, read in threads before they are asked for.

    Parameters
    ----------
    read : callable
        Gives the value of a key; thread-safe. What it raises is raised where the value is taken.
    n_ahead : int
        Values that are read or waiting at any time, besides the one that was taken; 0 reads in the
        calling thread, on demand, and starts no thread.
    n_threads : int
        Threads that read.
    """

    def __init__(
        self, read: Callable[[KeyT], ValueT], n_ahead: int = 0, n_threads: int = 1
    ) -> None:
        self._read, self._n_ahead = read, n_ahead
        self._threads = start_threads(n_threads, "read") if n_ahead else None
        self._coming: dict[KeyT, Future[ValueT]] = {}

    def take(self, queue: Sequence[KeyT]) -> ValueT:
        """Give the value of the first key, and begin to read those after it.

        Parameters
        ----------
        queue : sequence of key
            What is needed now and then next, not empty; what was begun and is not in it any more
            is given up.
        """
        if self._threads is None:
            return self._read(queue[0])
        wanted = queue[: self._n_ahead + 1]
        for key in self._coming.keys() - set(wanted):
            self._coming.pop(key).cancel()
        for key in wanted:
            if key not in self._coming:
                self._coming[key] = self._threads.submit(self._read, key)
        return self._coming.pop(queue[0]).result()

    def close(self) -> None:
        """Give up what was begun, and wait for the threads to end."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()
