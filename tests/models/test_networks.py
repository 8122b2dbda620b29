import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models import cdnet_expert, cellpose_expert, unet_expert
from models.cdnet import build_cdnet
from models.cpnet import build_cpnet
from models.segmenter import Segmenter
from models.torch_runtime import TorchRuntime, half_type, lay_out, memory_layout
from models.unet_vgg16 import build_unet

NETWORKS: dict[str, tuple[Callable[..., torch.nn.Module], Callable[..., Segmenter]]] = {
    "cpnet": (build_cpnet, cellpose_expert.build_expert),
    "unet": (build_unet, unet_expert.build_expert),
    "cdnet": (build_cdnet, cdnet_expert.build_expert),
}


def exact_runtime(network):
    """Compute a network in float32 on any processor."""
    runtime = TorchRuntime(network, "cpu")
    runtime.half_type = None
    return runtime


@pytest.fixture(scope="module", params=NETWORKS)
def segmenter(request):
    """Build an expert with random weights."""
    build, build_expert = NETWORKS[request.param]
    torch.manual_seed(0)
    network = build()
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return build_expert(exact_runtime(network), state)


@pytest.mark.parametrize(
    ("build", "millions"), [(build_unet, 20.27), (build_cdnet, 20.47), (build_cpnet, 6.6)]
)
def test_size_is_that_of_the_paper(build, millions):
    with torch.device("meta"):
        network = build()
    n_parameters = sum(p.numel() for p in network.parameters())
    assert n_parameters == pytest.approx(1e6 * millions, rel=0.01)


def test_a_batch_gives_what_its_windows_give_alone(segmenter):
    batch = np.random.default_rng(0).random((4, 64, 96, 3), np.float32)
    maps = segmenter.forward(batch)
    assert maps.shape == (4, segmenter.n_maps, 64, 96)
    assert maps.dtype == np.float32
    # other kernels sum in another order: about 1e-6 of the largest value, 20 layers deep
    tolerance = 1e-4 * np.abs(maps).max()
    for window, expected in zip(batch, maps, strict=True):
        np.testing.assert_allclose(segmenter.forward(window[None])[0], expected, atol=tolerance)
    assert np.abs(maps[0] - maps[1]).max() > 10 * tolerance  # the windows do differ


def test_the_least_multiple_of_sides_is_enough(segmenter):
    side = segmenter.side_multiple * 3
    batch = np.random.default_rng(4).random((1, side, side, 3), np.float32)
    assert segmenter.forward(batch).shape == (1, segmenter.n_maps, side, side)


def test_the_smallest_window_becomes_labels(segmenter):
    maps = segmenter.forward(np.random.default_rng(1).random((1, 32, 32, 3), np.float32))[0]
    labels, foreground = segmenter.decode(maps), segmenter.foreground(maps)
    assert labels.shape == foreground.shape == (32, 32)
    assert (labels.dtype, foreground.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), 1 + np.arange(labels.max()))


def test_views_into_an_image_are_taken(segmenter):
    image = np.random.default_rng(2).random((64, 96, 3), np.float32)
    flipped = image[None, ::-1, ::2][:, :, :32]  # torch takes no negative strides
    np.testing.assert_array_equal(segmenter.forward(flipped), segmenter.forward(flipped.copy()))


def test_windows_fit_the_networks(segmenter):
    assert segmenter.tile_px % 32 == 0 == 32 % segmenter.side_multiple
    assert 0 < 2 * segmenter.halo_px < segmenter.tile_px
    assert segmenter.object_px > 0
    assert segmenter.normalisation in ("grey", "joint", "per_channel")
    assert not segmenter.runtime.network.training


def test_the_watch_tells_network_from_decoding(segmenter):
    before = segmenter.watch.seconds()
    maps = segmenter.forward(np.zeros((1, 32, 32, 3), np.float32))
    between = segmenter.watch.seconds()
    segmenter.decode(maps[0])
    after = segmenter.watch.seconds()
    assert between["network"] > before["network"]
    assert between["decoding"] == before["decoding"]
    assert after["network"] == between["network"]
    assert after["decoding"] > between["decoding"]
    segmenter.choose_scale([np.zeros((64, 64, 3), np.float32)])
    chosen = segmenter.watch.since(after)
    assert chosen.keys() <= {"scale", "waiting", "other"}
    assert chosen["scale"] > 0


def test_a_network_without_a_size_model_sees_native_pixels():
    expert = NETWORKS["unet"][1](exact_runtime(torch.nn.Identity()), {})
    assert expert.choose_scale([np.zeros((300, 200, 3), np.float32)]) == 1.0


def test_a_bare_segmenter_cannot_decode():
    bare = Segmenter(exact_runtime(torch.nn.Identity()), unet_expert.WINDOWS)
    maps = np.zeros((3, 8, 8), np.float32)
    for function in (bare.decode, bare.foreground):
        with pytest.raises(NotImplementedError):
            function(maps)


def test_half_precision_changes_maps_by_its_rounding_only():
    torch.manual_seed(0)
    runtime = exact_runtime(build_cpnet())
    batch = np.random.default_rng(3).random((1, 64, 64, 3), np.float32)
    exact = runtime.run("maps", batch)
    runtime.half_type = torch.bfloat16
    rounded = runtime.run("maps", batch)
    assert rounded.dtype == np.float32
    # bfloat16 keeps 8 bits: 0.4 % a rounding, over some twenty layers in a row
    assert np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(("has_it", "expected"), [(True, torch.bfloat16), (False, None)])
def test_gpus_compute_in_bfloat16_where_they_have_it(monkeypatch, has_it, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)
    assert half_type("cuda") is half_type("cuda:1") is expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, None),
        ({}, None),
    ],
)
def test_processors_compute_in_bfloat16_where_they_have_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert half_type("cpu") is expected


def test_a_torch_that_does_not_know_its_processor_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert half_type("cpu") is None


@pytest.mark.parametrize("network_type", [torch.bfloat16, None])
def test_only_networks_in_16_bits_are_laid_out_channels_last(monkeypatch, network_type):
    monkeypatch.setattr("models.torch_runtime.half_type", lambda _: network_type)
    expected = torch.channels_last if network_type else torch.contiguous_format
    assert memory_layout("cpu") is expected
    runtime = TorchRuntime(build_unet(), "cpu")
    weights = next(w for w in runtime.network.parameters() if w.ndim == 4 and w.shape[1] > 1)
    assert weights.is_contiguous(memory_format=expected)


def test_the_layout_in_memory_changes_no_map_beyond_rounding():
    torch.manual_seed(0)
    runtime = exact_runtime(build_unet())
    batch = np.random.default_rng(4).random((2, 64, 96, 3), np.float32)
    maps = []
    for layout in (torch.contiguous_format, torch.channels_last):
        runtime.layout = layout
        lay_out(runtime.network, layout)
        maps.append(runtime.run("maps", batch))
    assert np.allclose(maps[0], maps[1], rtol=1e-3, atol=1e-4)


def test_one_network_computes_at_a_time():
    met = threading.Barrier(2)

    class Runtime:
        device = "cpu"

        def run(self, output, batch):
            with pytest.raises(threading.BrokenBarrierError):
                met.wait(timeout=0.05)
            met.reset()
            return batch

    experts = [Segmenter(Runtime(), unet_expert.WINDOWS) for _ in range(2)]
    batch = np.zeros((1, 32, 32, 3), np.float32)
    with ThreadPoolExecutor(2) as threads:
        given = list(threads.map(lambda expert: expert.forward(batch), experts))
    assert len(given) == 2


def test_a_network_that_fails_leaves_the_turn_to_others():
    class Broken:
        device = "cpu"

        def run(self, output, batch):
            raise MemoryError

    expert = Segmenter(Broken(), unet_expert.WINDOWS)
    for _ in range(2):  # a turn that is not given back would block the second
        with pytest.raises(MemoryError):
            expert.forward(np.zeros((1, 32, 32, 3), np.float32))


def test_the_spread_of_features_does_not_tell_how_strong_they_are():
    torch.manual_seed(0)
    network = build_cpnet().eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        deep, deepest = network.net.downsample(x)[-2:]
        spread = network.spread(x)
        for part, level in zip(spread.split((128, 256), dim=1), (deep, deepest), strict=True):
            std = level.flatten(2).var(2, correction=0).sqrt()
            torch.testing.assert_close(part, std / std.square().sum(1, keepdim=True).sqrt())
            np.testing.assert_allclose(part.square().sum(1), 1.0, rtol=1e-5)


def test_where_no_feature_varies_there_is_no_spread():
    network = build_cpnet().eval()
    for name, parameter in network.named_parameters():
        if name.endswith(("weight", "bias")):
            torch.nn.init.zeros_(parameter)
    with torch.inference_mode():
        assert network.spread(torch.rand(1, 3, 64, 64)).isnan().all()
