"""Progress bars, on a terminal only."""

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tiling.engine import SlideProgress

T = TypeVar("T")


def with_progress_bar(outcomes: Iterable[T], n_images: int) -> Iterable[T]:
    """Show a progress bar on a terminal."""
    if not sys.stderr.isatty():
        return outcomes
    from tqdm import tqdm  # noqa: PLC0415 - takes as long to import as argparse and logging

    bar: Iterable[T] = tqdm(outcomes, total=n_images, unit="image")
    return bar


class SlideBar:
    """Show how far an image of several blocks is: pixels, cells, time left.

    Images that other threads label have none: the bar of the folder tells of them.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, progress: "SlideProgress") -> None:
        """Show progress; the bar of an image goes with its last block."""
        is_beside = threading.current_thread() is not threading.main_thread()
        if progress.n_blocks == 1 or is_beside:
            return
        if progress.n_done == 1 or self._bar is None:
            self._open(progress)
        self._bar.set_postfix_str(
            f"block {progress.n_done}/{progress.n_blocks}, {progress.n_cells} cells", refresh=False
        )
        self._bar.update(progress.n_pixels_done - self._bar.n)
        self._bar.refresh()
        if progress.n_done == progress.n_blocks:
            self._bar.close()

    def _open(self, progress: "SlideProgress") -> None:
        """Begin the bar of an image; that of one that failed goes."""
        from tqdm import tqdm  # noqa: PLC0415 - takes as long to import as argparse and logging

        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(
            desc=progress.name, total=progress.n_pixels, unit="px", unit_scale=True, leave=False
        )
