import numpy as np
import pytest

from tests.fakes import UNCHANGED, DiscNetwork, IdentityNetwork, array_image
from tiling.maps import MapSource, is_out_of_memory
from tiling.sampling import ScaledImage, build_geometry
from tiling.settings import TilingSettings


def map_source(pixels, network, scale=1.0, tile_px=64, batch_size=3):
    geometry = build_geometry(pixels.shape[:2], scale)
    reader = ScaledImage(array_image(pixels), UNCHANGED, geometry)
    settings = TilingSettings(tile_px=tile_px, batch_size=batch_size, n_ahead=0)
    return MapSource(reader, network, settings), reader, geometry


def random_pixels(shape):
    return np.random.default_rng(3).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (31, 64), (65, 130), (200, 37)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_an_identity_network_gives_the_image_back(shape, scale):
    network = IdentityNetwork(n_maps=3)
    maps, reader, geometry = map_source(random_pixels((*shape, 3)), network, scale)
    height, width = geometry.network
    whole = (0, 0, height, width)
    np.testing.assert_array_equal(maps.read(whole), reader.read(whole).transpose(2, 0, 1))


@pytest.mark.parametrize(("multiple", "shape"), [(16, (48, 64)), (32, (64, 64))])
def test_a_small_image_is_padded_no_further_than_its_network_asks(multiple, shape):
    seen = []

    class Shapes(IdentityNetwork):
        def forward(self, batch):
            seen.append(batch.shape[1:3])
            return super().forward(batch)

    network = Shapes(n_maps=3, side_multiple=multiple)
    map_source(random_pixels((41, 60, 3)), network)[0].read((0, 0, 41, 60))
    assert seen == [shape]


def test_maps_do_not_depend_on_region_or_batch_even_if_the_network_sees_its_whole_window():
    pixels = random_pixels((150, 170))
    whole = map_source(pixels, DiscNetwork(style=0.5), batch_size=1)[0].read((0, 0, 150, 170))
    maps = map_source(pixels, DiscNetwork(style=0.5), batch_size=4)[0]
    for box in [(0, 0, 80, 90), (10, 60, 150, 170), (149, 169, 150, 170)]:
        y0, x0, y1, x1 = box
        np.testing.assert_array_equal(maps.read(box), whole[:, y0:y1, x0:x1])


def test_windows_of_the_last_region_are_not_computed_again():
    network = DiscNetwork()
    maps = map_source(random_pixels((64, 300)), network, batch_size=1)[0]
    maps.read((0, 0, 64, 150))
    n_first = network.calls
    maps.read((0, 100, 64, 150))
    assert network.calls == n_first


def test_a_batch_that_does_not_fit_is_halved_until_it_does(caplog):
    pixels = random_pixels((200, 200))
    wanted = map_source(pixels, DiscNetwork())[0].read((0, 0, 200, 200))
    small = DiscNetwork(largest_batch=2)
    maps = map_source(pixels, small, batch_size=8)[0].read((0, 0, 200, 200))
    np.testing.assert_array_equal(maps, wanted)
    assert [record.args for record in caplog.records] == [(4,), (2,)]


def test_a_window_that_does_not_fit_alone_is_an_error_with_a_remedy():
    maps = map_source(random_pixels((64, 64)), DiscNetwork(largest_batch=0))[0]
    with pytest.raises(MemoryError, match="smaller --tile"):
        maps.read((0, 0, 64, 64))


def test_other_errors_of_the_network_are_not_hidden():
    class BrokenNetwork(DiscNetwork):
        def forward(self, batch):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        map_source(random_pixels((64, 64)), BrokenNetwork())[0].read((0, 0, 64, 64))


@pytest.mark.parametrize(("tile_px", "batch_size"), [(50, 1), (0, 1), (64, 0)])
def test_settings_that_do_not_fit_are_refused(tile_px, batch_size):
    with pytest.raises(ValueError, match="multiple of 32"):
        map_source(random_pixels((9, 9)), DiscNetwork(), tile_px=tile_px, batch_size=batch_size)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 1 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_running_out_of_memory_is_known_by_its_words(error, expected):
    assert is_out_of_memory(error) == expected
