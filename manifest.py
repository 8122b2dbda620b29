"""The weights folder's manifest: which files belong to it, and proof that they are intact."""

import hashlib
import json
from pathlib import Path
from typing import Any

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
MANIFEST_NAME = "manifest.json"


class WeightsError(Exception):
    """A weight file is missing, unknown or not the one that was shipped."""


def read_manifest(weights_dir: Path) -> dict[str, dict[str, Any]]:
    """Read the entries of ``manifest.json``.

    Parameters
    ----------
    weights_dir : Path
        Folder that holds the weight files and the manifest.

    Returns
    -------
    dict
        File name to its entry; an entry has at least ``sha256`` and ``bytes``.

    Raises
    ------
    WeightsError
        If the manifest is missing or is not what :func:`write_entry` writes.
    """
    path = weights_dir / MANIFEST_NAME
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): dict(entry) for name, entry in files.items()}
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no manifest here; point --weights at a folder that has one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a readable manifest ({error}); restore it") from error


def verified_path(name: str, weights_dir: Path = WEIGHTS_DIR) -> Path:
    """Give the path of a weight file after checking it as :func:`verified_bytes` does."""
    verified_bytes(name, weights_dir)
    return weights_dir / name


def verified_bytes(name: str, weights_dir: Path = WEIGHTS_DIR) -> bytes:
    """Read a weight file and check its size and SHA-256.

    Parameters
    ----------
    name : str
        File name as the manifest lists it.
    weights_dir : Path
        Folder of the weights.

    Returns
    -------
    bytes
        The very bytes that were checked, those that the manifest describes.

    Raises
    ------
    WeightsError
        If the file is not listed, missing, unreadable, or differs from its entry.
    """
    entry = read_manifest(weights_dir).get(name)
    path = weights_dir / name
    if entry is None:
        raise WeightsError(f"{path}: not listed in {MANIFEST_NAME}; restore the weights folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"{path}: {reason}; restore the weights folder") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if len(content) != entry.get("bytes") or sha256 != entry.get("sha256"):
        raise WeightsError(
            f"{path}: differs from {MANIFEST_NAME} (sha256 {sha256[:12]}..., "
            f"{len(content)} bytes); restore the file, it will not be read"
        )
    return content


def write_entry(weights_dir: Path, name: str, metadata: dict[str, Any]) -> None:
    """Describe a weight file in the manifest, replacing an earlier entry of that name.

    Parameters
    ----------
    weights_dir : Path
        Folder that holds the file; the manifest is made when there is none.
    name : str
        The file's name.
    metadata : dict
        JSON-ready facts: what it was trained on, steps, scores.

    Raises
    ------
    WeightsError
        If a manifest exists and cannot be read.
    OSError
        If the weight file or the manifest cannot be read or written.
    """
    path = weights_dir / MANIFEST_NAME
    files = read_manifest(weights_dir) if path.exists() else {}
    weight_file = weights_dir / name
    proof = {"sha256": sha256_of(weight_file), "bytes": weight_file.stat().st_size}
    files[name] = proof | {k: v for k, v in metadata.items() if k not in proof}
    text = json.dumps({"format": 1, "files": dict(sorted(files.items()))}, indent=2)
    partial = path.with_suffix(".json.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
