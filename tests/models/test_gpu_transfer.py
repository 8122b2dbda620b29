"""What the runtime does on CUDA only: page-locked copies, folded batch norms."""

import numpy as np
import pytest
import torch

from models import pinned
from models.cdnet import build_cdnet
from models.cpnet import build_cpnet
from models.folding import fold_batch_norms
from models.pinned import fetch_pinned, send_pinned
from models.torch_runtime import TorchRuntime
from models.unet_vgg16 import build_unet
from tests.models.test_graphs import random_state

BUILD = {"unet": build_unet, "cdnet": build_cdnet, "cpnet": build_cpnet}
HAS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def ordinary(monkeypatch):
    """Let ordinary memory stand in for page-locked one; gives what was taken and waited for."""
    done: list[object] = []

    def make(shape, dtype):
        done.append((tuple(shape), dtype))
        return torch.empty(shape, dtype=dtype)

    monkeypatch.setattr(pinned, "_make_pinned", make)
    monkeypatch.setattr(pinned, "_wait", lambda _: done.append("waited"))
    return done


def make_network(name):
    """Build a network whose batch norms change what they see."""
    network = BUILD[name]()
    random_state(network)
    return network.eval()


def test_an_array_arrives_whatever_its_strides(ordinary):
    image = np.random.default_rng(0).random((1, 40, 50, 3), np.float32)
    flipped = image[:, ::-1, ::2]
    sent = send_pinned(flipped, "cpu")
    assert ordinary == [((1, 40, 25, 3), torch.float32)]
    np.testing.assert_array_equal(sent.numpy(), flipped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_result_comes_back_as_it_is_in_memory_of_its_own(ordinary, dtype):
    layout = torch.channels_last
    result = torch.randn(2, 3, 8, 16).to(dtype).contiguous(memory_format=layout)
    expected = result.float().numpy().copy()
    array = fetch_pinned(result)
    assert ordinary == [((2, 3, 8, 16), dtype), "waited"]
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    result.zero_()
    np.testing.assert_array_equal(array, expected)


def test_maps_are_those_of_other_copies(ordinary):
    network = make_network("unet")
    batch = np.random.default_rng(1).random((2, 32, 64, 3), np.float32)
    runtime = TorchRuntime(network, "cpu")
    expected = runtime.run("maps", batch)
    assert ordinary == []  # nothing of that on the CPU
    runtime.on_gpu = True
    found = runtime.run("maps", batch)
    assert len(ordinary) == 3
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("name", "n_left"), [("unet", 0), ("cdnet", 0), ("cpnet", None)])
def test_folding_changes_maps_by_rounding_only(name, n_left):
    network = make_network(name)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    x = torch.randn(2, 3, 32, 64)
    with torch.inference_mode():
        expected = network(x)
        found = fold_batch_norms(network)(x)
    left = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(left) == (len(norms) if n_left is None else n_left)
    # a folded batch norm rounds once less a layer
    np.testing.assert_allclose(found, expected, atol=2e-5 * float(expected.abs().max()))


def test_the_cpu_folds_nothing():
    network = TorchRuntime(make_network("unet"), "cpu").network
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.gpu
@HAS_GPU
@pytest.mark.parametrize("name", BUILD)
def test_a_gpu_gives_the_maps_of_the_cpu(name, monkeypatch):
    monkeypatch.setattr("models.torch_runtime.half_type", lambda _: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    batch = np.random.default_rng(2).random((2, 64, 96, 3), np.float32)
    torch.manual_seed(0)
    expected = TorchRuntime(make_network(name), "cpu").run("maps", batch)
    torch.manual_seed(0)
    found = TorchRuntime(make_network(name), "cuda").run("maps", batch)
    # other kernels sum in another order, and folded batch norms round once less a layer
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
