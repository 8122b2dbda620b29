import ctypes
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manifest import WeightsError, write_entry
from models import registry
from models.cdnet import build_cdnet
from models.cellpose_expert import CellposeSegmenter
from models.cpnet import build_cpnet
from models.registry import (
    EXPERTS,
    SPECS,
    DeviceError,
    count_gpus,
    load_segmenter,
    resolve_device,
    resolve_runtime,
)
from models.torch_runtime import TorchRuntime
from models.unet_vgg16 import build_unet
from models.weights import read_weights, write_weights

ROOT = Path(__file__).resolve().parents[2]
BUILD = {"unet_brightfield": build_unet, "cdnet_fluorescence": build_cdnet}


@pytest.fixture(autouse=True)
def forget_loaded():
    """Let no network of these tests stay in memory."""
    yield
    load_segmenter.cache_clear()


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """Make a weights folder with one expert of each network, at random."""
    folder = tmp_path_factory.mktemp("weights")
    for expert in ("cellpose_phase", *BUILD):
        torch.manual_seed(1)
        path = folder / SPECS[expert].weights
        write_weights(path, BUILD.get(expert, build_cpnet)().state_dict())
        write_entry(folder, path.name, {})
    return folder


def list_file(folder, name, content=None):
    """Put a file into a weights folder, manifest entry included."""
    if content is not None:
        (folder / name).write_bytes(content)
    write_entry(folder, name, {})


@pytest.mark.parametrize("expert", ["cellpose_phase", *BUILD])
def test_an_expert_is_what_its_file_says(random_weights, expert):
    segmenter = load_segmenter(expert, "cpu", random_weights, "torch")
    expected = read_weights(SPECS[expert].weights, random_weights)
    assert isinstance(segmenter.runtime, TorchRuntime)
    state = segmenter.runtime.network.state_dict()
    assert set(state) == set(expected)
    assert all(np.array_equal(state[name].numpy(), expected[name]) for name in expected)
    assert not segmenter.runtime.network.training


@pytest.mark.parametrize("expert", ["cellpose_phase", *BUILD])
def test_both_runtimes_find_the_same(random_weights, expert):
    batch = np.random.default_rng(0).random((2, 64, 32, 3), np.float32)
    first, second = (
        load_segmenter(expert, "cpu", random_weights, runtime).forward(batch)
        for runtime in ("torch", "openvino")
    )
    assert first.shape == second.shape
    # float32 on most processors, bfloat16 (8 bits a rounding) on those that have it
    assert np.abs(first - second).max() < 0.1 * np.abs(first).max()


@pytest.mark.parametrize(
    ("expert", "normalisation"),
    [
        ("cellpose_phase", "grey"),
        ("cellpose_dic", "grey"),
        ("cellpose_general", "grey"),
        ("cellpose_brightfield", "joint"),
        ("cellpose_fluorescence", "per_channel"),
    ],
)
def test_colour_is_what_it_is_to_a_modality(random_weights, expert, normalisation):
    module, _, build = SPECS[expert].expert.partition(":")
    built = load_segmenter("cellpose_phase", "cpu", random_weights)
    state = read_weights(SPECS["cellpose_phase"].weights, random_weights)
    segmenter = getattr(importlib.import_module(module), build)(built.runtime, state)
    assert segmenter.normalisation == normalisation


def test_the_size_model_comes_with_the_weights(random_weights):
    state = read_weights(SPECS["cellpose_phase"].weights, random_weights)
    segmenter = load_segmenter("cellpose_phase", "cpu", random_weights)
    assert isinstance(segmenter, CellposeSegmenter)
    assert np.array_equal(segmenter.size.weight, state["size_weight"].astype(np.float32))
    assert np.array_equal(segmenter.size.centres, state["size_centres"].astype(np.float32))
    assert segmenter.size.bias == state["size_bias"][0]


@pytest.mark.parametrize(
    ("name", "device", "installed", "expected"),
    [
        ("auto", "cpu", True, "openvino"),
        ("auto", "cpu", False, "torch"),
        ("auto", "cuda", True, "torch"),
        ("torch", "cpu", True, "torch"),
        ("openvino", "cpu", True, "openvino"),
    ],
)
def test_the_processor_takes_openvino_where_it_is_installed(
    monkeypatch, name, device, installed, expected
):
    monkeypatch.setattr(registry, "is_installed", lambda name: installed or name != "openvino")
    assert resolve_runtime(name, device) == expected


def test_a_runtime_that_is_not_there_is_said_with_the_remedy(monkeypatch):
    with pytest.raises(DeviceError, match="--runtime torch"):
        resolve_runtime("openvino", "cuda")
    monkeypatch.setattr(registry, "is_installed", lambda _: False)
    for name in ("openvino", "torch"):
        with pytest.raises(DeviceError, match=f"{name} is not installed; .*--runtime"):
            resolve_runtime(name, "cpu")


def test_without_openvino_torch_computes(random_weights, monkeypatch):
    monkeypatch.setattr(registry, "is_installed", lambda name: name != "openvino")
    segmenter = load_segmenter("cellpose_phase", "cpu", random_weights)
    assert isinstance(segmenter.runtime, TorchRuntime)


def test_a_second_load_gives_the_same_object(random_weights):
    first = load_segmenter("cellpose_phase", "cpu", random_weights)
    assert load_segmenter("cellpose_phase", "cpu", random_weights) is first


def test_all_cellpose_experts_share_the_network(random_weights, tmp_path):
    source = random_weights / SPECS["cellpose_phase"].weights
    for expert in (name for name in EXPERTS if name.startswith("cellpose")):
        shutil.copy(source, tmp_path / SPECS[expert].weights)
        list_file(tmp_path, SPECS[expert].weights)
        assert load_segmenter(expert, "cpu", tmp_path).n_maps == 3


def test_an_unknown_expert_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown expert 'resnet'.*cdnet_fluorescence"):
        load_segmenter("resnet", "cpu", tmp_path)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("damage", ["missing", "unlisted", "tampered", "no tensors", "others"])
def test_bad_weights_are_one_line_that_names_the_file(tmp_path, damage, runtime):
    path = tmp_path / "cdnet_fluorescence.safetensors"
    if damage == "others":
        write_weights(path, {"weight": torch.zeros(2)})
        list_file(tmp_path, path.name)
    else:
        list_file(tmp_path, path.name, b"shipped, but no tensors")
    if damage == "missing":
        path.unlink()
    elif damage == "tampered":
        path.write_bytes(b"changed, but no tensors")
    elif damage == "unlisted":
        path.rename(tmp_path / "other.safetensors")
        (tmp_path / "manifest.json").unlink()
        list_file(tmp_path, "other.safetensors")
    with pytest.raises(WeightsError, match="restore") as caught:
        load_segmenter("cdnet_fluorescence", "cpu", tmp_path, runtime)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_weights_of_a_wider_network_are_refused(tmp_path, runtime):
    """Shapes that do not fit are another network as much as other names are."""
    path = tmp_path / SPECS["cellpose_dic"].weights
    with torch.device("meta"):
        state = build_cpnet(in_channels=2).state_dict()
    write_weights(path, {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in state.items()})
    list_file(tmp_path, path.name)
    with pytest.raises(WeightsError, match="another network"):
        load_segmenter("cellpose_dic", "cpu", tmp_path, runtime)


def test_weights_are_kept_in_half_precision(tmp_path):
    path = tmp_path / "made" / "a.safetensors"
    values = torch.tensor([[1.0, 1 / 3], [-65504.0, 0.0]]).T  # not contiguous
    write_weights(path, {"w": values, "n": torch.tensor(70000)})
    list_file(path.parent, path.name)
    state = read_weights(path.name, path.parent)
    assert state["w"].dtype == np.float16
    assert np.array_equal(state["w"], values.half().numpy())
    assert state["n"].shape == ()
    assert state["n"] == 70000
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.safetensors", "manifest.json"]


def test_a_tensor_beyond_half_precision_stays_float32(tmp_path):
    large, small = torch.tensor([1e5 + 1 / 3, 1 / 3]), torch.tensor([1 / 3])
    write_weights(tmp_path / "a.safetensors", {"large": large, "small": small})
    list_file(tmp_path, "a.safetensors")
    state = read_weights("a.safetensors", tmp_path)
    assert np.array_equal(state["large"], large.numpy())
    assert state["small"].dtype == np.float16


@pytest.mark.parametrize("value", [-float("inf"), float("nan")])
def test_weights_of_a_diverged_training_are_not_written(tmp_path, value):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"the last good ones")
    with pytest.raises(ValueError, match="second holds values that are not finite"):
        write_weights(path, {"first": torch.zeros(2), "second": torch.tensor([1.0, value])})
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"the last good ones"


@pytest.mark.parametrize(
    ("n_gpus", "torch_knows", "expected"),
    [(0, False, "cpu"), (1, False, "cpu"), (2, True, "cuda")],  # 1, False: torch's CPU build
)
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch, n_gpus, torch_knows, expected):
    monkeypatch.setattr(registry, "count_gpus", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_knows)
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def test_a_missing_gpu_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setattr(registry, "count_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cpu") as caught:
        resolve_device("cuda")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cuda") == "cuda"


class FakeDriver:
    """Answer as NVIDIA's driver does: 0 for success, the count by reference."""

    def __init__(self, n_gpus, started=0):
        self.n_gpus, self.started = n_gpus, started

    def cuInit(self, flags):  # noqa: N802
        return self.started

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.n_gpus
        return 0


def test_gpus_are_counted_by_the_driver(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeDriver(3))
    assert count_gpus() == 3
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeDriver(3, started=100))  # no device
    assert count_gpus() == 0

    def missing(_):
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert count_gpus() == 0


def test_names_and_the_processor_need_no_torch():
    code = (
        "import sys; from models.registry import resolve_device, resolve_runtime;"
        "resolve_runtime('auto', resolve_device('cpu'));"
        "assert not {'torch', 'cellpose', 'safetensors', 'openvino', 'numpy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
