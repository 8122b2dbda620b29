import numpy as np
import pytest
import torch

from models.gpu_memory import limit_gpu_memory
from models.torch_runtime import TorchRuntime

WINDOW = np.ones((1, 32, 32, 3), np.float32)


class FullNetwork(torch.nn.Module):
    """Give the image back, once memory was found; keep a record of what is asked."""

    def __init__(self, error, n_failing):
        super().__init__()
        self.error, self.n_failing, self.asked = error, n_failing, []

    def forward(self, x):
        self.asked.append("maps")
        if self.asked.count("maps") <= self.n_failing:
            raise self.error
        return x


def run_full(monkeypatch, error, n_failing):
    """Run a network on a GPU that is full; give its maps and what was done on the way."""
    network = FullNetwork(error, n_failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: network.asked.append("free"))
    try:
        return TorchRuntime(network, "cpu").run("maps", WINDOW), network.asked
    except RuntimeError as caught:
        return caught, network.asked


GPU_IS_FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", GPU_IS_FULL)
def test_where_a_gpu_is_full_its_cache_is_freed_for_one_more_try(monkeypatch, error):
    maps, asked = run_full(monkeypatch, error, n_failing=1)
    assert maps.shape == (1, 3, 32, 32)
    assert asked == ["maps", "free", "maps"]
    caught, asked = run_full(monkeypatch, error, n_failing=9)
    assert caught is error
    assert asked == ["maps", "free", "maps"]


def test_other_errors_of_a_network_are_not_tried_again(monkeypatch):
    error = RuntimeError("shapes differ")
    assert run_full(monkeypatch, error, n_failing=1) == (error, ["maps"])


def test_the_cpu_has_no_limit():
    assert limit_gpu_memory("cpu", 1.0) == 0.0


@pytest.mark.parametrize(("limit_gib", "share"), [(2, 0.25), (100, 1.0)])
def test_the_limit_is_a_share_of_the_device(monkeypatch, limit_gib, share):
    asked = []

    class Properties:
        total_memory = 8 * 2**30

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *given: asked.append(given)
    )
    assert limit_gpu_memory("cuda", limit_gib) == share
    assert asked == [(share, 0)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_beyond_the_limit_memory_runs_out():
    limit_gpu_memory("cuda", 0.25)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            torch.empty(2**30, dtype=torch.uint8, device="cuda")
    finally:
        limit_gpu_memory("cuda", 1e6)
