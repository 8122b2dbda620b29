"""Networks computed by OpenVINO: on the CPU, without importing PyTorch."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.graphs.library import Core, Model
from models.segmenter import FloatArray, Output

GraphBuilder = Callable[[Mapping[str, NDArray[Any]]], dict[str, Model]]

PIXELS_AT_ONCE = 512 * 512  # more fill the memory, not the cores: measured, see ARCHITECTURE.md


class OpenvinoRuntime:
    """Graphs compiled for the CPU, behind NumPy arrays.

    Parameters
    ----------
    build : callable
        Makes the graphs of the network's outputs from its weights.
    state : mapping of str to ndarray
        The weights, in the types of their file.

    Raises
    ------
    ValueError
        If the weights are those of another network.

    Notes
    -----
    The graphs take windows of any size: compiled once, with about 0.08 s for the first window of
    a size that was not met before. A graph compiled for one size takes 0.3 s for each and is no
    faster afterwards.
    """

    device = "cpu"

    def __init__(self, build: GraphBuilder, state: Mapping[str, NDArray[Any]]) -> None:
        try:
            graphs = build(state)
        except RuntimeError as error:  # OpenVINO's word for shapes that do not fit
            raise ValueError(f"weights of another network: {error}") from error
        self._requests = {
            output: _core().compile_model(graph, "CPU", cpu_settings()).create_infer_request()
            for output, graph in graphs.items()
        }

    def run(self, output: Output, batch: FloatArray) -> FloatArray:
        """Compute an output of the network; see :class:`models.segmenter.Runtime`."""
        n_windows = max(1, PIXELS_AT_ONCE // (batch.shape[1] * batch.shape[2]))
        request = self._requests[output]
        results = []
        for first in range(0, len(batch), n_windows):
            windows = np.ascontiguousarray(batch[first : first + n_windows])
            results.append(request.infer([windows], share_inputs=True)[0])
        return results[0] if len(results) == 1 else np.concatenate(results)


@functools.cache
def _core() -> Core:
    """Start OpenVINO once a process."""
    return Core()


def cpu_settings() -> dict[str, Any]:
    """Choose how the CPU computes.

    bfloat16 where the processor has it in hardware (AMX or AVX-512). Never float16: deep features
    of the VGG16 networks come near its largest value. Threads may move between cores, since other
    programs may be busy on some of them.
    """
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {
        "PERFORMANCE_HINT": "LATENCY",  # all cores on one window
        "INFERENCE_PRECISION_HINT": "bf16" if "BF16" in capabilities else "f32",
        "ENABLE_CPU_PINNING": False,
    }
