"""Only the expert that an image needs is imported and read from disk."""

import itertools

import joblib
import numpy as np
import pytest
import tifffile
import torch

import predict
from manifest import write_entry
from models.cdnet import build_cdnet
from models.cpnet import build_cpnet
from models.weights import write_weights
from router.router import Clusters, Router
from tests.fakes import write_discs
from tests.test_predict import run_in_process

EXPERT_MODULES = {"models.cellpose_expert", "models.unet_expert", "models.cdnet_expert"}
NETWORK_MODULES = {"models.cpnet", "models.unet_vgg16", "models.cdnet"}
# What labelling an image on the processor never needs; each takes 0.1 s or more to import.
NEEDLESS = {
    *("torch", "cellpose", "sklearn", "numba", "pandas", "matplotlib", "joblib", "tqdm"),
    *("scipy", "skimage", "openvino.tools.ovc", "openvino_telemetry"),
}


def write_fake_router(folder, modality, brightfield_expert="unet_brightfield"):
    """Write a router that gives every image one answer."""

    def clusters(name):
        return Clusters(np.zeros(6), np.ones(6), np.zeros((1, 6)), (name,))

    router = Router(clusters(modality), clusters(brightfield_expert))
    joblib.dump(router.to_plain(), folder / "router.joblib")
    write_entry(folder, "router.joblib", {})


def write_zero_weights(folder, expert, build):
    """Write weights of the right shapes that find nothing; quick, unlike drawing 20 million."""
    with torch.device("meta"):
        network = build()
    state = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in network.state_dict().items()}
    write_weights(folder / f"{expert}.safetensors", state)
    write_entry(folder, f"{expert}.safetensors", {})


@pytest.fixture
def folders(tmp_path):
    """Make a folder with a fluorescence image and one of weights with a router that says so."""
    (tmp_path / "weights").mkdir()
    write_fake_router(tmp_path / "weights", "fluorescence")
    write_discs(tmp_path / "in" / "cells.png", n_discs=3)
    return tmp_path / "in", tmp_path / "out", tmp_path / "weights"


def arguments_for(folders):
    return [*zip(("-i", "-o", "--weights"), map(str, folders), strict=True), ("--device", "cpu")]


@pytest.mark.parametrize(
    ("table", "expert", "build", "module"),
    [
        ("best", "cellpose_fluorescence", build_cpnet, "models.cellpose_expert"),
        ("paper", "cdnet_fluorescence", build_cdnet, "models.cdnet_expert"),
        ("cellpose_dic", "cellpose_dic", build_cpnet, "models.cellpose_expert"),
    ],
)
def test_a_fluorescence_image_leaves_the_other_experts_unloaded(
    folders, table, expert, build, module
):
    write_zero_weights(folders[2], expert, build)
    finished = run_in_process(*itertools.chain(*arguments_for(folders)), "--experts", table)
    assert finished.returncode == 0, finished.stderr
    assert f"{expert}, 0 cells" in finished.stderr
    modules = set(finished.stdout.split())
    assert modules & EXPERT_MODULES == {module}
    assert not modules & NETWORK_MODULES  # PyTorch's
    assert not modules & NEEDLESS
    assert tifffile.imread(folders[1] / "cells_label.tiff").shape == (40, 60)


def test_a_phase_image_needs_no_torch_either(folders):
    for expert in ("cellpose_phase", "cellpose_general"):
        write_zero_weights(folders[2], expert, build_cpnet)
    arguments = [*itertools.chain(*arguments_for(folders)), "--modality", "phase"]
    finished = run_in_process(*arguments)
    assert finished.returncode == 0, finished.stderr
    modules = set(finished.stdout.split())
    assert modules & EXPERT_MODULES == {"models.cellpose_expert"}
    assert not modules & NEEDLESS


def test_torch_computes_where_it_is_asked_to(folders):
    write_zero_weights(folders[2], "cdnet_fluorescence", build_cdnet)
    choice = ("--runtime", "torch", "--experts", "paper")
    finished = run_in_process(*itertools.chain(*arguments_for(folders)), *choice)
    assert finished.returncode == 0, finished.stderr
    modules = set(finished.stdout.split())
    assert modules & NETWORK_MODULES == {"models.cdnet"}
    assert "openvino" not in modules


def test_tampered_weights_are_named_and_not_read(folders, caplog):
    path = folders[2] / "cellpose_fluorescence.safetensors"
    path.write_bytes(b"shipped")
    write_entry(folders[2], path.name, {})
    path.write_bytes(b"changed")
    assert predict.main(list(itertools.chain(*arguments_for(folders)))) == 1
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("cells.png: ")
    assert path.name in line
    assert "restore" in line
    assert list(folders[1].iterdir()) == []
