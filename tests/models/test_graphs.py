"""The OpenVINO graphs compute what the PyTorch networks compute."""

import numpy as np
import pytest
import torch

from manifest import WEIGHTS_DIR
from models import openvino_runtime
from models.cdnet import build_cdnet
from models.cpnet import build_cpnet
from models.graphs.cpnet import build_graphs
from models.graphs.reader import Affine, Linear, WeightReader
from models.graphs.vgg16 import build_cdnet_graphs, build_unet_graphs
from models.openvino_runtime import OpenvinoRuntime
from models.registry import SPECS
from models.torch_runtime import TorchRuntime, fill_network
from models.unet_vgg16 import build_unet
from models.weights import read_weights

NETWORKS = {
    "cpnet": (build_cpnet, build_graphs),
    "unet": (build_unet, build_unet_graphs),
    "cdnet": (build_cdnet, build_cdnet_graphs),
}
SHAPES = [(1, 32, 32), (2, 64, 96), (1, 160, 32), (3, 32, 64)]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Let both libraries compute in float32 whatever the processor can do."""
    settings = openvino_runtime.cpu_settings() | {"INFERENCE_PRECISION_HINT": "f32"}
    monkeypatch.setattr(openvino_runtime, "cpu_settings", lambda: settings)
    monkeypatch.setattr("models.torch_runtime.half_type", lambda _: None)


def random_state(network, seed=0):
    """Give a network weights whose batch norms change scale, shift and sign; as NumPy arrays."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, 0.0, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.3, 2.0)
            torch.nn.init.normal_(module.weight, 1.0, 0.4)
            torch.nn.init.normal_(module.bias, 0.0, 0.5)
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module", params=NETWORKS)
def states(request):
    """Give the builders of a network and random weights for it."""
    build, build_network_graphs = NETWORKS[request.param]
    return build, build_network_graphs, random_state(build())


def test_graphs_equal_the_network_at_any_size(states):
    build, build_network_graphs, state = states
    expected = TorchRuntime(fill_network(build(), state), "cpu")
    runtime = OpenvinoRuntime(build_network_graphs, state)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        batch = rng.normal(0.0, 1.0, (*shape, 3)).astype(np.float32)
        for output in ("maps", "spread") if build is build_cpnet else ("maps",):
            wanted = expected.run(output, batch)
            found = runtime.run(output, batch)
            assert found.dtype == np.float32
            assert found.shape == wanted.shape
            # the sums run in another order, and folded batch norms round once less a layer
            np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_large_batches_are_cut_and_put_together(states, monkeypatch):
    _, build_network_graphs, state = states
    runtime = OpenvinoRuntime(build_network_graphs, state)
    batch = np.random.default_rng(1).random((5, 32, 64, 3), np.float32)
    whole = runtime.run("maps", batch)
    monkeypatch.setattr(openvino_runtime, "PIXELS_AT_ONCE", 2 * 32 * 64)
    np.testing.assert_allclose(runtime.run("maps", batch), whole, atol=1e-5 * np.abs(whole).max())
    monkeypatch.setattr(openvino_runtime, "PIXELS_AT_ONCE", 1)  # less than one window
    assert runtime.run("maps", batch[:, ::-1]).shape == whole.shape  # a view, too


@pytest.mark.parametrize("damage", ["missing", "unknown", "axes", "lengths", "channels", "integer"])
def test_weights_of_another_network_are_refused(states, damage):
    _, build_network_graphs, whole = states
    state = dict(whole)
    kernel = next(name for name, values in state.items() if values.ndim == 4)
    if damage == "missing":
        del state[kernel]
    elif damage == "unknown":
        state["one.more"] = np.zeros(3, np.float32)
    elif damage == "axes":
        state[kernel] = state[kernel][0]
    elif damage == "lengths":
        state[kernel] = state[kernel][:-1]
    elif damage == "channels":
        state[kernel] = state[kernel][:, :-1]
    else:
        state[kernel] = state[kernel].astype(np.int64)
    with pytest.raises(ValueError, match=r"."):
        OpenvinoRuntime(build_network_graphs, state)


def test_a_graph_takes_three_channels_only():
    with torch.device("meta"):
        shapes = {
            k: (v.shape, v.is_floating_point()) for k, v in build_cpnet(2).state_dict().items()
        }
    state = {
        name: np.zeros(shape, np.float32 if is_real else np.int64)
        for name, (shape, is_real) in shapes.items()
    }
    with pytest.raises(ValueError, match="another network"):
        OpenvinoRuntime(build_graphs, state)


def test_folding_is_exact():
    rng = np.random.default_rng(2)
    weight, bias = rng.random((4, 3, 1, 1), np.float32), rng.random(4, np.float32)
    linear = Linear(weight, bias)
    pixel = rng.random(3, np.float32)

    def apply(layer, x):
        return layer.weight[:, :, 0, 0] @ x + layer.bias

    before = Affine(rng.random(3, np.float32), rng.random(3, np.float32))
    after = Affine(rng.random(4, np.float32), rng.random(4, np.float32))
    np.testing.assert_allclose(
        apply(linear.after(before), pixel), apply(linear, before.scale * pixel + before.shift), 1e-5
    )
    np.testing.assert_allclose(
        apply(linear.then(after), pixel), after.scale * apply(linear, pixel) + after.shift, 1e-5
    )


def test_half_precision_weights_fold_in_single_precision():
    half = np.array([[[[1 / 3]]]], np.float16)
    state = {"a.weight": half, "a.bias": np.array([1 / 3], np.float16)}
    linear = WeightReader(state).linear("a", 4)
    folded = linear.then(Affine(np.full(1, 1.001, np.float32), np.zeros(1, np.float32)))
    assert folded.weight.dtype == folded.bias.dtype == np.float32
    assert folded.weight.item() == np.float32(half.item()) * np.float32(1.001)


@pytest.mark.weights
@pytest.mark.parametrize("expert", ["cellpose_phase", "unet_brightfield", "cdnet_fluorescence"])
def test_graphs_equal_the_network_with_the_shipped_weights(expert):
    state = read_weights(SPECS[expert].weights, WEIGHTS_DIR)
    build, build_network_graphs = NETWORKS[
        {"cellpose_phase": "cpnet", "unet_brightfield": "unet", "cdnet_fluorescence": "cdnet"}[
            expert
        ]
    ]
    rng = np.random.default_rng(3)
    batch = np.repeat(rng.normal(0.5, 0.3, (1, 96, 128, 1)), 3, axis=3).astype(np.float32)
    wanted = TorchRuntime(fill_network(build(), state), "cpu").run("maps", batch)
    found = OpenvinoRuntime(build_network_graphs, state).run("maps", batch)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
