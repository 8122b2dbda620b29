"""What a measurement depends on besides the program: machine, versions, other load."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from eval.runtime_file import read_machine
from models.openvino_runtime import cpu_settings

PACKAGES = ("cellpose", "numpy", "opencv-python-headless", "openvino", "scipy", "torch")
ABSENT = "not installed"


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the packages that the program computes with.

    Returns
    -------
    dict
        JSON-ready: ``processor``, ``cores`` that this process may use, ``precision`` of the
        networks on it (``"bf16"`` or ``"f32"``), ``memory_gib``,
        ``load`` (programs that wanted a core during the last minute, on average), ``python``,
        and ``versions`` by package.
    """
    machine = read_machine(gpu_name="")
    return {
        "processor": machine.processor,
        "cores": machine.cores,
        "precision": cpu_settings()["INFERENCE_PRECISION_HINT"],
        "memory_gib": machine.memory_gib,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: find_version(name) for name in PACKAGES},
    }


def find_version(package: str) -> str:
    """Find the version of an installed package, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT
