import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import models.cpnet
from models.cpnet import build_cpnet
from models.weights import write_weights
from training.data import DataError
from training.start import Start, adapt_cellpose, fit_start, read_best, read_start


@pytest.fixture(autouse=True)
def thin_networks(monkeypatch):
    monkeypatch.setattr(models.cpnet, "WIDTHS", (4, 8, 8, 16))


@pytest.fixture
def official():
    """An official network of two channels, trained enough for its batch norms to matter."""
    torch.manual_seed(0)
    network = build_cpnet(2).net
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif name.startswith("diam"):
            value.fill_(17.0)
    return network.eval()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@torch.no_grad()
def test_a_grey_image_gets_the_answer_of_an_official_checkpoint(official, tmp_path):
    torch.save(official.state_dict(), tmp_path / "cyto3.pth")
    start = read_start(tmp_path / "cyto3.pth")
    network = build_cpnet().eval()
    network.load_state_dict(network.state_dict() | fit_start(network.state_dict(), start))
    grey = torch.from_numpy(np.random.default_rng(0).random((1, 1, 64, 64), np.float32))
    first = {
        "official": official.downsample.down[0](torch.cat([grey, torch.zeros_like(grey)], 1)),
        "ours": network.net.downsample.down[0](grey.repeat(1, 3, 1, 1)),
    }
    inner = (..., slice(5, -5), slice(5, -5))  # four convolutions behind the padded edge
    torch.testing.assert_close(first["ours"][inner], first["official"][inner])
    assert not torch.allclose(first["ours"], build_cpnet().eval().net.downsample.down[0](
        grey.repeat(1, 3, 1, 1)
    ))  # fmt: skip
    # all later layers are taken over as they are
    theirs, ours = official.state_dict(), network.net.state_dict()
    later = [k for k in theirs if "res_down_0" not in k and not k.startswith("diam")]
    assert len(later) > 100
    assert all(torch.equal(theirs[k], ours[k]) for k in later)
    assert network.net.diam_mean.item() == 30.0


def test_an_official_checkpoint_of_three_channels_stays_as_it_is(official):
    state = build_cpnet(3).net.state_dict()
    adapted = adapt_cellpose(dict(state))
    assert same(adapted, {f"net.{k}": v for k, v in state.items() if not k.startswith("diam")})
    with pytest.raises(ValueError, match="got 1"):
        adapt_cellpose(build_cpnet(1).net.state_dict())


def test_weights_of_this_project_are_read_without_a_manifest(tmp_path):
    state = build_cpnet().state_dict()
    write_weights(tmp_path / "a.safetensors", state)
    start = read_start(tmp_path / "a.safetensors")
    assert start.state.keys() == state.keys()
    assert start.name.startswith("a.safetensors (sha256 ")
    assert all(v.dtype == torch.float32 for v in start.state.values() if v.is_floating_point())
    assert len(fit_start(state, start)) == len(state)


def test_the_better_network_of_a_pair_is_the_one_to_start_from(tmp_path):
    first, second = (torch.full((4, 3, 3, 3), value) for value in (1.0, 2.0))
    for better, expected in ((0, first), (1, second)):
        pair = {"first.a": first, "second.a": second, "better": torch.tensor(better)}
        torch.save({"average": {}, "best": pair}, tmp_path / "checkpoint.pt")
        for start in (read_start(tmp_path / "checkpoint.pt"), read_best(tmp_path)):
            assert same(start.state, {"a": expected})
    torch.save({"a": first}, tmp_path / "best.pt")  # what shipped goes before the checkpoint
    assert same(read_best(tmp_path).state, {"a": first})
    assert read_best(tmp_path).name == tmp_path.name


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="train cellpose_base first"):
        read_best(tmp_path / "cellpose_base")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 broken"])
def test_a_file_without_weights_is_one_line_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: no weights") as caught:
        read_start(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": 3}, {}, [torch.zeros(1)], {"net": {"a": torch.ones(1)}}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(DataError, match="dictionary of tensors"):
        read_start(tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.pth: not there"):
        read_start(tmp_path / "gone.pth")


def test_weights_of_another_network_do_not_fit(tmp_path):
    save_file({"head.weight": torch.zeros(3, 16, 1, 1)}, tmp_path / "other.safetensors")
    start = read_start(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors .*no weight of it fits"):
        fit_start(build_cpnet().state_dict(), start)


def test_the_digest_is_that_of_names_and_values():
    start = Start({"a": torch.ones(2), "b": torch.zeros(1)}, "x")
    again = Start({"b": torch.zeros(1), "a": torch.ones(2)}, "y")
    assert start.digest() == again.digest()
    for state in ({"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}):
        assert Start(state, "x").digest() != start.digest()
