"""What a measurement depends on besides the program: machine, versions, other load."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.device import name_gpu, name_precision
from eval.runtime_file import read_machine

PACKAGES = ("cellpose", "numpy", "opencv-python-headless", "openvino", "scipy", "torch")
ABSENT = "not installed"


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine and the packages that the program computes with.

    Parameters
    ----------
    device : str
        That the networks compute on, from :func:`bench.device.prepare_device`.

    Returns
    -------
    dict
        JSON-ready: ``processor``, ``cores`` that this process may use, ``precision`` of the
        networks on the device (``"bf16"`` or ``"f32"``), ``gpu``, the name of that device (empty
        for the CPU), ``memory_gib``,
        ``load`` (programs that wanted a core during the last minute, on average), ``python``,
        and ``versions`` by package.
    """
    machine = read_machine(name_gpu(device))
    return {
        "processor": machine.processor,
        "cores": machine.cores,
        "precision": name_precision(device),
        "gpu": machine.gpu,
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
