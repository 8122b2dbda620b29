"""Stand-ins that several rooms' tests share: images in memory and networks without weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import numpy as np
from scipy import ndimage

from imaging.image import ArraySource, SourceImage
from imaging.normalise import Normaliser
from pipeline import Job
from router.router import Route
from tiling.settings import TilingSettings

UNCHANGED = Normaliser(np.zeros(3, np.float32), np.ones(3, np.float32))


def array_image(pixels, name="fake.png"):
    """Wrap (Y, X) or (Y, X, C) pixels as an open image."""
    return SourceImage(Path(name), ArraySource(pixels if pixels.ndim == 3 else pixels[..., None]))


def draw_discs(shape: tuple[int, int], centres_radii):
    """Draw discs of value 1 on 0: (Y, X) float32."""
    y, x = np.indices(shape)
    image = np.zeros(shape, np.float32)
    for cy, cx, radius in centres_radii:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    return image


def scatter_discs(shape, spacing, radius, seed=0):
    """Draw one disc a cell of a grid, moved at random, at least 6 px apart: (Y, X) float32."""
    rng = np.random.default_rng(seed)
    free = spacing - 2 * radius - 6
    places = [
        (y + radius + 3 + rng.integers(free), x + radius + 3 + rng.integers(free), radius)
        for y in range(0, shape[0] - spacing + 1, spacing)
        for x in range(0, shape[1] - spacing + 1, spacing)
    ]
    return draw_discs(shape, places)


@dataclass
class DiscNetwork:
    """Find bright discs: smooth, compare with a half, connect.

    Its receptive field is `reach_px`; `style` makes the answer depend on the mean of the whole
    window too, as CPnet's style vector does. It wants discs of `wanted_px`, if of any size, and
    sees them at half to twice their own.
    """

    tile_px: int = 64
    side_multiple: int = 32
    halo_px: int = 8
    object_px: int = 24
    n_maps: int = 1
    normalisation: Literal["grey", "joint", "per_channel"] = "joint"
    scale: float = 1.0
    wanted_px: float | None = None
    style: float = 0.0
    largest_batch: int = 1000
    calls: int = 0

    def choose_scale(self, views):
        return self.scale

    def scale_for(self, diameter_px):
        if self.wanted_px is None:
            return None
        return float(np.clip(self.wanted_px / diameter_px, 0.5, 2.0))

    def forward(self, batch):
        assert batch.shape[1] % self.side_multiple == 0
        assert batch.shape[2] % self.side_multiple == 0
        if len(batch) > self.largest_batch:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        self.calls += 1
        smooth = ndimage.uniform_filter(batch.mean(axis=3), (0, 3, 3), mode="nearest")
        smooth -= 0.5 + self.style * (batch.mean(axis=(1, 2, 3), keepdims=True)[..., 0] - 0.5)
        return smooth[:, None].astype(np.float32)

    def decode(self, maps):
        return ndimage.label(maps[0] > 0)[0].astype(np.int32)

    def foreground(self, maps):
        return maps[0]


class IdentityNetwork(DiscNetwork):
    """Give the image back."""

    def forward(self, batch):
        self.calls += 1
        return batch.transpose(0, 3, 1, 2)


def assert_same_instances(first, second, iou_min=0.99):
    """Check that two label images differ by a renaming of ids and by outlines at most."""
    assert first.shape == second.shape
    assert len(np.unique(first)) == len(np.unique(second))
    for index in np.unique(first)[1:]:
        mask = first == index
        best = np.bincount(second[mask]).argmax()
        assert best > 0, f"instance {index} was dropped"
        other = second == best
        iou = (mask & other).sum() / (mask | other).sum()
        assert iou >= iou_min, f"instance {index} has IoU {iou:.3f}"


def fake_job(output, network=None, modality="fluorescence", expert="cdnet_fluorescence", **experts):
    """Build a job whose router always gives one answer; `experts` are networks by name."""
    networks = {expert: network or DiscNetwork(), **experts}
    return Job(
        route=lambda _: Route(modality, expert, {}),
        load=networks.__getitem__,
        output=output,
        overlays=None,
        tiling=TilingSettings(),
    )


def write_discs(path, n_discs):
    """Write a grey 8-bit image with a row of bright discs."""
    pixels = draw_discs((40, max(40, 20 * n_discs)), [(20, 10 + 20 * i, 6) for i in range(n_discs)])
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, (200 * pixels).astype(np.uint8))
    return path
