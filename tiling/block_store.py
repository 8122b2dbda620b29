"""Results of finished blocks in a folder that outlives the process."""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tiling.block_result import BlockResult
from tiling.blocks import Instances

logger = logging.getLogger(__name__)

FORMAT = 3
"""Part of every key: raise it when results mean something else, or decoding changes."""

HEAD_NAME = "slide.json"
DIGEST_BYTES = hashlib.sha256().digest_size


class FolderStore:
    """Keeps results in files of a folder; several processes may write to one.

    Parameters
    ----------
    folder : Path
        Made on first use. A later run finds the results there, after a kill too.
    key : str
        Stands for everything that the results depend on (`digest_key`). What is found under another
        key is dropped, with a line in the log.

    Notes
    -----
    A file appears under its name when it is complete, and carries the SHA-256 of its content: what
    is cut short or changed is dropped and computed again.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._head = self._read_head()

    @property
    def scale(self) -> float | None:
        """Network pixels per native pixel that the stored results were found at; None if none."""
        scale = self._head.get("scale")
        return scale if isinstance(scale, float) and scale > 0 else None

    def begin(self, scale: float) -> None:
        """Note the scale, before results are kept.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._head = {"key": self._key, "scale": scale}
        self._write(HEAD_NAME, json.dumps(self._head).encode())

    def finished(self) -> set[int]:
        """Give the numbers of the blocks that have a file, intact or not."""
        if not self._head:
            return set()
        return {int(path.stem) for path in self._folder.glob("*.block") if path.stem.isdigit()}

    def save(self, index: int, result: BlockResult) -> None:
        """Keep a result; OSError if it cannot be written."""
        content = encode_result(result)
        self._write(f"{index}.block", hashlib.sha256(content).digest() + content)

    def load(self, index: int) -> BlockResult | None:
        """Give a result; None if it is not there, or damaged, in which case it is dropped."""
        path = self._folder / f"{index}.block"
        try:
            data = path.read_bytes()
        except OSError:
            return None
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            with contextlib.suppress(ValueError, KeyError, zipfile.BadZipFile):
                return decode_result(content)
        logger.warning("%s: a stored block is damaged, it is computed again", path)
        path.unlink(missing_ok=True)
        return None

    def _read_head(self) -> dict[str, Any]:
        """Read what the folder holds; empty it if that is of no use."""
        if not self._folder.is_dir():
            return {}
        try:
            head = json.loads((self._folder / HEAD_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            head = None
        if isinstance(head, dict) and head.get("key") == self._key:
            return head
        logger.info("%s: stored blocks of another image or setting are dropped", self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        return {}

    def _write(self, name: str, data: bytes) -> None:
        """Write a file under a hidden name and rename it when complete; OSError names the file."""
        path = self._folder / name
        hidden = path.with_name(f".{name}.{os.getpid()}.part")
        try:
            hidden.write_bytes(data)
            hidden.replace(path)
        except OSError as error:  # a full disk's tells no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            hidden.unlink(missing_ok=True)


def digest_key(facts: dict[str, Any]) -> str:
    """Make a key of everything that results depend on.

    Parameters
    ----------
    facts : dict
        JSON-ready.

    Returns
    -------
    str
        Hexadecimal; another one if any fact differs, or :data:`FORMAT`.
    """
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encode_result(result: BlockResult) -> bytes:
    """Write a result as bytes (a compressed NPZ of plain arrays)."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        labels=result.labels,
        outline=result.outline,
        ids=result.owned.ids,
        cut=result.owned.cut,
        boxes=np.array([result.region, result.owned.box], np.int64),
        counts=np.array([result.n_windows, result.n_empty], np.int64),
    )
    return buffer.getvalue()


def decode_result(content: bytes) -> BlockResult:
    """Read what `encode_result` wrote; ValueError, KeyError or BadZipFile if it is none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        region, owned_box = (
            (int(y0), int(x0), int(y1), int(x1)) for y0, x0, y1, x1 in arrays["boxes"]
        )
        n_windows, n_empty = (int(count) for count in arrays["counts"])
        owned = Instances(arrays["ids"], arrays["cut"], owned_box)
        return BlockResult(region, arrays["labels"], arrays["outline"], owned, n_windows, n_empty)
