"""Files read by position, from any thread, that must stay as they were when they were opened."""

import os
from pathlib import Path

from imaging.image import ImageError

READ_BYTES = 2**30  # Linux hands out a little less than 2 GiB at once


class WatchedFile:
    """One file, read by position.

    Parameters
    ----------
    path : Path
        An existing file; OSError if it cannot be opened.

    Notes
    -----
    Reading by position is preferred to mapping: several threads may do it at once, pages of a
    slide do not count as memory of this process, and a file that is cut meanwhile gives an error
    where a map would end the process (SIGBUS).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(self._descriptor)
        self.size: int = status.st_size
        self._stamp = _stamp(status)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read bytes at a position; ValueError if the file ends before."""
        if offset < 0 or n_bytes < 0 or offset + n_bytes > self.size:
            raise ValueError(f"the file ends before byte {offset + n_bytes}")
        data = bytearray(n_bytes)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a contiguous buffer of bytes from a position; ValueError if the file ends before."""
        done = 0
        while done < len(buffer):
            part = buffer[done : done + READ_BYTES]
            n_read = os.preadv(self._descriptor, [part], offset + done)
            if n_read == 0:
                raise ValueError(f"the file ends before byte {offset + len(buffer)}")
            done += n_read

    def check(self) -> None:
        """Raise ImageError if the file is another one, or of another size or time, than before."""
        try:
            same = _stamp(self.path.stat()) == self._stamp
        except OSError:
            same = False
        if not same:
            raise ImageError.about(
                self.path, "changed while it was being read", "wait until it is complete, run again"
            )

    def close(self) -> None:
        """Release the file; closing twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class WatchedFiles:
    """The files that one image lies in: mostly one, several for some OME-TIFFs.

    Parameters
    ----------
    path : Path
        The image's own file; OSError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.main = WatchedFile(path)
        self._files = {path.resolve(): self.main}

    def get(self, path: Path) -> WatchedFile:
        """Return one of the files, opened when it is first asked for."""
        key = path.resolve()
        if key not in self._files:
            self._files[key] = WatchedFile(path)
        return self._files[key]

    def check(self) -> None:
        """Raise ImageError if any of the files changed."""
        for file in self._files.values():
            file.check()

    def close(self) -> None:
        """Release all files."""
        for file in self._files.values():
            file.close()


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """Tell files and their versions apart."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
