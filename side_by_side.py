"""Label small images side by side: while one is read, decoded or written, another is computed."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from imaging.listing import ImageError
from stopwatch import WAITING, Stopwatch
from tiling.settings import TilingSettings

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

SMALL_PX = 2048 * 2048
"""Pixels of an image that may share the memory with others."""


def label_side_by_side(
    images: Iterable[Path],
    label: Callable[[Path], T],
    is_small: Callable[[Path], bool],
    n_threads: int,
    watch: Stopwatch,
) -> Generator[tuple[Path, Callable[[], T]]]:
    """Label small images in threads, the others alone and in this one.

    Parameters
    ----------
    images : iterable of Path
    label : callable
        Labels an image; called from several threads.
    is_small : callable
        Tells whether others may be labelled beside an image.
    n_threads : int
        Images in work at a time, at least 1; 1 works in this thread.
    watch : Stopwatch
        Made by this thread; counts what the others do, and how long this one waits for them.

    Yields
    ------
    (Path, callable)
        In the order of the images, and what gives the result of each, or raises what `label` did.
        When the generator is closed, images that were begun are finished, no others begun.
    """

    def label_followed(path: Path) -> T:
        with watch.follow():
            return label(path)

    def wait_for(future: "Future[T]") -> T:
        with watch.stage(WAITING):
            return future.result()

    def label_here(path: Path) -> tuple[Path, Callable[[], T]]:
        return path, lambda: label(path)

    def give_first() -> tuple[Path, Callable[[], T]]:
        path, future = coming.popleft()
        return path, lambda: wait_for(future)

    if n_threads == 1:
        yield from map(label_here, images)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - one image needs none

    coming: deque[tuple[Path, Future[T]]] = deque()
    with ThreadPoolExecutor(n_threads, "image") as threads:
        try:
            for path in images:
                small = is_small(path)
                while coming and not (small and len(coming) < n_threads):
                    yield give_first()
                if small:
                    coming.append((path, threads.submit(label_followed, path)))
                else:
                    yield label_here(path)
            while coming:
                yield give_first()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def count_image_threads(n_images: int, tiling: TilingSettings) -> int:
    """Choose how many small images are in work at a time: one has the network, others do not."""
    has_limit = tiling.max_memory_bytes is not None  # which is that of one image
    return 1 if has_limit else max(1, min(n_images, 1 + tiling.n_decoders))


def is_small_image(path: Path, level: int | None = None, mpp: float | None = None) -> bool:
    """Tell whether other images may be labelled beside one, from its header.

    Parameters
    ----------
    path, level, mpp
        As `imaging.reading.open_image` takes them.

    Returns
    -------
    bool
        True for a damaged file too: that it is damaged is told when it is labelled.
    """
    from imaging.reading import measure_image  # noqa: PLC0415 - brings NumPy

    try:
        height, width = measure_image(path, level, mpp)
    except (ImageError, OSError):
        return True
    return height * width <= SMALL_PX
