import pytest
import torch

from models.gpu_memory import limit_gpu_memory


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
