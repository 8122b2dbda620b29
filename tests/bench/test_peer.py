import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

from bench import peer
from bench.execution import BenchmarkError
from bench.peer import (
    HAS_GPU,
    PEER_VERSION,
    name_folder,
    pin_packages,
    prepare_peer,
    read_versions,
    write_checkpoint,
)
from manifest import write_entry
from models.cpnet import build_cpnet
from models.weights import write_weights

TEXT = """# why
torch==2.13.0+cpu   # networks
cellpose==3.0.0     # CPnet
scikit-image==0.26.0
-r other.txt
"""


class FakePip:
    """Stands in for ``subprocess.run``: keeps the commands, fails where told."""

    def __init__(self, fails=False):
        self.commands, self.fails = [], fails

    def __call__(self, command, **_):
        self.commands.append(command)
        said = "a\nno matching distribution\n" if self.fails else ""
        return subprocess.CompletedProcess(command, int(self.fails), "", said)


@pytest.fixture
def pip(monkeypatch):
    def make(folder, symlinks, with_pip):
        assert with_pip
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    fake = FakePip()
    monkeypatch.setattr(venv, "create", make)
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def test_the_peer_shares_all_versions_but_its_own():
    pins = ["torch==2.13.0+cpu", "scikit-image==0.26.0", f"cellpose=={PEER_VERSION}"]
    assert pin_packages(TEXT) == pins


def test_every_package_of_the_project_is_pinned_for_the_peer():
    lines = peer.REQUIREMENTS.read_text().splitlines()
    n_packages = sum(bool(line.strip()) and not line.startswith(("#", "-")) for line in lines)
    assert len(pin_packages("\n".join(lines))) == n_packages


def test_an_environment_is_made_once(tmp_path, pip):
    python = prepare_peer(tmp_path / "peer")
    assert python == tmp_path / "peer" / "bin" / "python"
    (command,) = pip.commands
    assert command[0] == str(python)
    assert command[-1] == f"cellpose=={PEER_VERSION}"
    constraints = Path(command[command.index("--constraint") + 1]).read_text().split()
    assert f"cellpose=={PEER_VERSION}" in constraints
    assert prepare_peer(tmp_path / "peer") == python
    assert len(pip.commands) == 1


def test_an_environment_of_other_versions_is_replaced(tmp_path, pip, monkeypatch):
    prepare_peer(tmp_path / "peer")
    (tmp_path / "peer" / "left-over").touch()
    monkeypatch.setattr(peer, "PEER_VERSION", "3.1.0")
    prepare_peer(tmp_path / "peer")
    assert len(pip.commands) == 2
    assert pip.commands[1][-1] == "cellpose==3.1.0"
    assert not (tmp_path / "peer" / "left-over").exists()


def test_an_installation_that_failed_is_tried_again(tmp_path, pip):
    pip.fails = True
    with pytest.raises(BenchmarkError, match="no matching distribution"):
        prepare_peer(tmp_path / "peer")
    pip.fails = False
    prepare_peer(tmp_path / "peer")
    assert len(pip.commands) == 2


def test_pytorch_may_come_from_an_index_of_its_own(tmp_path, pip):
    prepare_peer(tmp_path / "peer", torch_index_url="https://example.org/cpu")
    first, second = pip.commands
    assert first[first.index("--index-url") + 1] == "https://example.org/cpu"
    assert first[-1].startswith("torch==")
    assert "--no-deps" in first
    assert "--index-url" not in second


def test_an_environment_whose_pytorch_sees_no_gpu_is_refused(tmp_path, pip):
    assert name_folder("cuda") != name_folder("cpu")
    python = prepare_peer(tmp_path / "peer", device="cuda")
    assert pip.commands[-1] == [str(python), "-c", HAS_GPU]
    pip.fails = True
    with pytest.raises(BenchmarkError, match="its PyTorch sees no GPU"):
        prepare_peer(tmp_path / "peer", device="cuda")
    assert prepare_peer(tmp_path / "peer") == python


def test_versions_are_asked_of_that_environment():
    assert read_versions(Path(sys.executable))["torch"] == torch.__version__
    with pytest.raises(BenchmarkError):
        read_versions(Path("/bin/false"))


def test_stock_cellpose_can_read_the_checkpoint(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = build_cpnet()
    state = network.state_dict()
    write_weights(tmp_path / "cellpose_dic.safetensors", state)
    write_entry(tmp_path, "cellpose_dic.safetensors", {})
    monkeypatch.setattr(peer, "WEIGHTS_DIR", tmp_path)
    path = write_checkpoint("cellpose_dic", tmp_path)
    stock = build_cpnet().net
    stock.load_model(str(path), device=torch.device("cpu"))
    for name, tensor in stock.state_dict().items():
        torch.testing.assert_close(tensor, state[f"net.{name}"], atol=1e-3, rtol=1e-3)
