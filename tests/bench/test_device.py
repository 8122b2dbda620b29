import os

import pytest
import torch

from bench.device import find_gpu, name_gpu, name_precision, prepare_device, synchronise
from bench.machine import describe_machine
from models.registry import DeviceError
from tests.eval.runtime_fakes import fake_nvml, install_nvml


@pytest.fixture
def no_order(monkeypatch):
    """Leave the order of GPUs as it was afterwards."""
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")


@pytest.fixture
def h200(monkeypatch, no_order):
    """Let PyTorch see a GPU."""
    monkeypatch.setattr("models.registry.count_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


def test_the_cpu_is_always_there_and_has_no_gpu(monkeypatch, no_order):
    install_nvml(monkeypatch, fake_nvml(100))
    assert prepare_device("cpu") == "cpu"
    assert "CUDA_DEVICE_ORDER" not in os.environ
    assert find_gpu("cpu") is None
    assert name_gpu("cpu") == describe_machine()["gpu"] == ""


def test_a_gpu_is_counted_as_nvml_does_and_watched(monkeypatch, h200):
    install_nvml(monkeypatch, fake_nvml(100))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert prepare_device("cuda") == "cuda"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert find_gpu("cuda") is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert find_gpu("cuda") is None


def test_the_machine_has_the_name_and_the_precision_of_its_gpu(h200, monkeypatch):
    machine = describe_machine("cuda")
    assert (machine["gpu"], machine["precision"]) == ("NVIDIA H200", "bf16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert name_precision("cuda") == "f32"


def test_a_gpu_that_is_missing_is_said(monkeypatch, no_order):
    monkeypatch.setattr("models.registry.count_gpus", lambda: 0)
    with pytest.raises(DeviceError, match="no CUDA device"):
        prepare_device("cuda")


def test_only_a_gpu_is_waited_for(monkeypatch):
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronise("cpu")
    synchronise("cuda")
    assert waited == ["cuda"]
