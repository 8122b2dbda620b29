"""Stock Cellpose as a peer: an environment of its own, and a checkpoint that it can read.

Its packages are pinned as this project's are, so that both systems compute with the same PyTorch
and NumPy; only ``cellpose`` itself is the release named here.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.execution import ROOT, BenchmarkError
from manifest import WEIGHTS_DIR
from models.cpnet import build_cpnet
from models.torch_runtime import fill_network
from models.weights import read_weights

PEER = "cellpose"
PEER_VERSION = "3.1.1.3"  # the last release with CPnet
REQUIREMENTS = ROOT / "requirements.txt"
STAMP = "installed.txt"  # in the environment: what it was made from
HAS_GPU = "import sys, torch; sys.exit(not torch.cuda.is_available())"
REPORTED = (PEER, "torch", "numpy")
N_LAST_LINES = 5


def name_folder(device: str) -> str:
    """Name the folder of an environment: PyTorch is another one where a GPU computes."""
    return "peer" if device == "cpu" else f"peer-{device}"


def prepare_peer(folder: Path, torch_index_url: str = "", device: str = "cpu") -> Path:
    """Make the environment of stock Cellpose, or take the one that is there.

    Parameters
    ----------
    folder : Path
        Of the environment; replaced if it was made from other versions or left unfinished.
    torch_index_url : str
        Index of PyTorch's CPU wheels; empty for pip's default, the CUDA build.
    device : str
        That stock Cellpose is to compute on.

    Returns
    -------
    Path
        Its interpreter.

    Raises
    ------
    BenchmarkError
        If pip cannot install the packages, or these see no GPU that is to be used.
    """
    python = _install_peer(folder, torch_index_url)
    if device != "cpu":
        expect_gpu(python)
    return python


def expect_gpu(python: Path) -> None:
    """Check that an environment can use a GPU: stock Cellpose would take the CPU, and not say so.

    Raises
    ------
    BenchmarkError
        If its PyTorch sees none.
    """
    done = subprocess.run([str(python), "-c", HAS_GPU], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(
            f"{python}: its PyTorch sees no GPU; remove that environment, and leave out "
            f"--torch-index-url or give an index of CUDA wheels {_last_lines(done.stderr)}".rstrip()
        )


def _install_peer(folder: Path, torch_index_url: str) -> Path:
    """Make the environment, unless one of the same versions is there; give its interpreter."""
    python = folder / "bin" / "python"
    pins = pin_packages(REQUIREMENTS.read_text(encoding="utf-8"))
    made_from = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True, with_pip=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
    if torch_index_url:
        torch = next(pin for pin in pins if pin.startswith("torch=="))
        _install(python, ["--no-deps", "--index-url", torch_index_url, torch])
    _install(python, ["--constraint", str(constraints), f"{PEER}=={PEER_VERSION}"])
    stamp.write_text(made_from, encoding="utf-8")
    return python


def pin_packages(requirements: str) -> list[str]:
    """Give the pins of the peer's environment: this project's, with the peer's own release.

    Parameters
    ----------
    requirements : str
        Text of a requirements file, each package as ``NAME==VERSION``.

    Returns
    -------
    list of str
        As pip takes them for constraints.
    """
    pins = re.findall(r"^[\w.-]+==[\w.+!-]+", requirements, re.MULTILINE)
    return [pin for pin in pins if not pin.startswith(f"{PEER}==")] + [f"{PEER}=={PEER_VERSION}"]


def read_versions(python: Path) -> dict[str, str]:
    """Ask an environment for the versions of the packages that matter.

    Raises
    ------
    BenchmarkError
        If one of them is not installed.
    """
    code = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [str(python), "-c", code, *REPORTED], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{python}: {_last_lines(done.stderr)}")
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def write_checkpoint(expert: str, folder: Path) -> Path:
    """Write the weights of a Cellpose expert as stock Cellpose reads them.

    Parameters
    ----------
    expert : str
        One of the four on CPnet.
    folder : Path
        Gets ``EXPERT.pth``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    WeightsError
        If the weights are missing or changed.
    """
    path = folder / f"{expert}.pth"
    state = read_weights(f"{expert}.safetensors", WEIGHTS_DIR)
    fill_network(build_cpnet(), state).net.save_model(str(path))
    return path


def _install(python: Path, arguments: Sequence[str]) -> None:
    """Install packages into an environment by its own pip."""
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"pip install {' '.join(arguments)}: {_last_lines(done.stderr)}")


def _last_lines(text: str) -> str:
    """Quote the end of what a program said, on one line."""
    return " | ".join(text.strip().splitlines()[-N_LAST_LINES:])
