"""The array operations of decoding on PyTorch tensors, on the device where they lie."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.arrays import GRID
from models.packing import Atlas

NONE_LOW, NONE_HIGH = -(2**62), 2**62
SMOOTH_PX = 4  # where the Gaussian of 1 px is cut off


class TorchArrays:
    """See :class:`models.arrays.Arrays`.

    Parameters
    ----------
    device : torch.device
        Of all tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def zeros(self, shape: tuple[int, ...] | int, like: Tensor) -> Tensor:
        """Give zeros of the dtype of ``like``."""
        return torch.zeros(shape, dtype=like.dtype, device=self.device)

    def cast(self, values: Tensor, dtype: str) -> Tensor:
        """Convert to a dtype named as in NumPy."""
        converted: Tensor = values.to(getattr(torch, dtype))
        return converted

    def table(self, values: NDArray[Any], like: Tensor) -> Tensor:
        """Bring a small ndarray to the device."""
        return torch.from_numpy(values).to(like.device)

    def arange(self, n: int) -> Tensor:
        """Give 0..n - 1."""
        return torch.arange(n, device=self.device)

    def where(self, condition: Tensor, yes: Any, no: Any) -> Tensor:
        """Choose element by element."""
        return torch.where(condition, yes, no)

    def exp(self, values: Tensor) -> Tensor:
        """Give e to the power of each value."""
        return torch.exp(values)

    def log(self, values: Tensor) -> Tensor:
        """Give natural logarithms."""
        return torch.log(values)

    def nonzero(self, values: Tensor) -> Tensor:
        """Give the flat indices of what is not zero."""
        return torch.nonzero(values.reshape(-1))[:, 0]

    def bincount(self, ids: Tensor, n: int, weights: Tensor | None = None) -> Tensor:
        """Count ids, or add up weights."""
        if weights is not None:
            weights = weights.double()
        return torch.bincount(ids, weights, minlength=n)

    def join(self, parts: list[Tensor]) -> Tensor:
        """Put tensors one after the other."""
        return torch.cat(parts)

    def stack(self, parts: list[Tensor]) -> Tensor:
        """Put tensors of one shape side by side."""
        return torch.stack(parts)

    def cumsum(self, values: Tensor) -> Tensor:
        """Add up along the only axis."""
        return torch.cumsum(values, 0, dtype=torch.int64)

    def repeat(self, values: Tensor, counts: Tensor) -> Tensor:
        """Repeat each element as often as told."""
        return torch.repeat_interleave(values, counts)

    def order(self, values: Tensor) -> Tensor:
        """Give the indices that sort stably."""
        return torch.sort(values, stable=True).indices

    def rank(self, ascending: Tensor, values: Tensor) -> Tensor:
        """Give the index of the last number that is not above each value."""
        return torch.searchsorted(ascending, values, right=True) - 1

    def lowest(self, ids: Tensor, values: Tensor, n: int) -> Tensor:
        """Give the smallest value of each id."""
        start = torch.inf if values.is_floating_point() else NONE_HIGH
        found = torch.full((n,), start, dtype=values.dtype, device=self.device)
        return found.scatter_reduce(0, ids, values, "amin")

    def highest(self, ids: Tensor, values: Tensor, n: int) -> Tensor:
        """Give the largest value of each id."""
        start = -torch.inf if values.is_floating_point() else NONE_LOW
        found = torch.full((n,), start, dtype=values.dtype, device=self.device)
        return found.scatter_reduce(0, ids, values, "amax")

    def dilate(self, image: Tensor, side: int) -> Tensor:
        """Give the maximum over a square window."""
        return F.max_pool2d(image[None, None], side, stride=1, padding=side // 2)[0, 0]

    def keep_inside(self, steps_yx: Tensor) -> Tensor:
        """Shorten steps that would take their pixel out of the image."""
        height, width = steps_yx.shape[1:]
        y, x = self.arange(height).float()[:, None], self.arange(width).float()
        shortened_y = steps_yx[0].float().clamp(-y, height - 1 - y)
        return torch.stack([shortened_y, steps_yx[1].float().clamp(-x, width - 1 - x)])

    def walk(self, steps_yx: Tensor, points: Tensor) -> Tensor:
        """Move points by the steps where they are."""
        height, width = steps_yx.shape[1:]
        top, left = points[0].long(), points[1].long()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        down, across = points[0] - top, points[1] - left
        flat = steps_yx.reshape(2, -1)

        def row(y: Tensor) -> Tensor:
            near, far = flat[:, y * width + left], flat[:, y * width + right]
            return near + (far - near) * across

        upper = row(top)
        step = upper + (row(bottom) - upper) * down
        return points + torch.round(step * GRID) / GRID

    def components(self, mask: Tensor, connectivity: int) -> tuple[Tensor, int]:
        """Label connected regions: each pixel takes the lowest index among its neighbours'.

        Roots pass on what they find and pointers are shortened, so that the number of rounds
        grows with the logarithm of a region's length.
        """
        inside = mask > 0
        n = mask.numel()
        flat = inside.reshape(-1)
        parent = torch.where(flat, self.arange(n), n)
        parent = torch.cat([parent, parent.new_tensor([n])])  # the last stands for the outside
        while True:
            root = parent[:-1].reshape(mask.shape)
            lowest = _lowest_around(root, n, connectivity)
            lowest = torch.where(inside, lowest, n).reshape(-1)
            linked = parent.scatter_reduce(0, parent[:-1], lowest, "amin")
            shortened = linked[linked]
            while bool((shortened != linked).any()):
                linked, shortened = shortened, shortened[shortened]
            if bool((linked == parent).all()):
                break
            parent = linked
        is_root = flat & (parent[:-1] == self.arange(n))
        number = torch.cumsum(is_root, 0)
        number = torch.cat([number, number.new_zeros(1)])
        labels = torch.where(flat, number[parent[:-1]], 0).reshape(mask.shape)
        return labels.int(), int(is_root.sum())

    def depth(self, mask: Tensor) -> Tensor:
        """Give the distance to the nearest pixel outside: down the columns, then along the rows."""
        height, width = mask.shape
        far = 2 * (height + width)  # stands for infinity where a column has nothing outside
        y = self.arange(height)[:, None]
        above = torch.cummax(torch.where(mask, -far, y), 0).values
        below = torch.cummax(torch.where(mask, -far, height - 1 - y).flip(0), 0).values.flip(0)
        column = torch.minimum(y - above, height - 1 - y - below).clamp(max=far)
        squared = column * column
        nearest = squared
        step = 1
        while step < width and step * step < int(nearest.max()):
            shifted = squared + step * step
            nearest = nearest.clone()
            nearest[:, step:] = torch.minimum(nearest[:, step:], shifted[:, :-step])
            nearest[:, :-step] = torch.minimum(nearest[:, :-step], shifted[:, step:])
            step += 1
        return nearest.float().sqrt()

    def smooth(self, image: Tensor) -> Tensor:
        """Blur with a Gaussian of 1 px."""
        offset = torch.arange(-SMOOTH_PX, SMOOTH_PX + 1, device=self.device)
        weight = torch.exp(-0.5 * offset.double() ** 2)
        weight = (weight / weight.sum()).float()
        for axis in (0, 1):
            mirrored = _mirror(torch.arange(image.shape[axis], device=self.device), offset)
            slices = image.index_select(axis, mirrored.reshape(-1))
            shape = [*image.shape]
            shape[axis : axis + 1] = mirrored.shape
            image = torch.tensordot(weight, slices.reshape(shape).movedim(axis, 0), 1)
        return image

    def heat_flow(self, atlas: Atlas, source: Tensor, steps: Tensor, *, cold: bool) -> Tensor:
        """Give the unit vectors up the gradient of heat that spreads in each cell, all at once."""
        inside = atlas.mask.float()
        heat = torch.zeros_like(inside)
        # cells are sorted by steps: those still spreading are a prefix, their shelves the top
        values, counts = torch.unique(steps, return_counts=True)
        n_active, done = len(steps), 0
        for until, n_ending in zip(values.tolist(), counts.tolist(), strict=True):
            last = int(atlas.shelf[n_active - 1])
            rows = slice(0, int(atlas.shelf_y[last] + atlas.shelf_height[last]) + 1)
            spreads = self._spreading(atlas, n_active, rows.stop)
            part, hot = heat[rows], source[:n_active]
            for _ in range(until - done):
                heat.view(-1)[hot] += 1.0
                mean = F.avg_pool2d(part[None, None], 3, stride=1, padding=1)[0, 0]
                part.copy_(torch.where(spreads, mean * inside[rows], part))
            n_active, done = n_active - n_ending, until
        return _climb(torch.log1p(heat), inside, cold=cold)

    def _spreading(self, atlas: Atlas, n_active: int, n_rows: int) -> Tensor:
        """Mark the atlas (n_rows, W) left of the last active cell's end, and all shelves above."""
        last = atlas.shelf[n_active - 1]
        column = torch.arange(atlas.mask.shape[1], device=self.device)
        row = torch.arange(n_rows, device=self.device)[:, None]
        return (row < atlas.shelf_y[last]) | (column <= atlas.right[n_active - 1])


def _lowest_around(values: Tensor, outside: int, connectivity: int) -> Tensor:
    """Give the smallest of each pixel's own value and its 4 or 8 neighbours'."""
    padded = F.pad(values, (1, 1, 1, 1), value=outside)
    height, width = values.shape
    lowest = values
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            if connectivity == 8 or dy == 1 or dx == 1:
                lowest = torch.minimum(lowest, padded[dy : dy + height, dx : dx + width])
    return lowest


def _mirror(position: Tensor, offset: Tensor) -> Tensor:
    """Give the index (K, N) of each position plus offset, the image mirrored at its edges."""
    n = len(position)
    index = (offset[:, None] + position) % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)


def _climb(height: Tensor, inside: Tensor, *, cold: bool) -> Tensor:
    """Give the unit gradient (2, H, W) inside cells; a neighbour outside is 0 or as the pixel."""
    own, is_cell = height, F.pad(inside, (1, 1, 1, 1)) > 0
    height = F.pad(height, (1, 1, 1, 1))

    def side(rows: slice, columns: slice) -> Tensor:
        if cold:
            return height[rows, columns]
        return torch.where(is_cell[rows, columns], height[rows, columns], own)

    middle, before, after = slice(1, -1), slice(None, -2), slice(2, None)
    rise = torch.stack(
        [
            side(after, middle) - side(before, middle),
            side(middle, after) - side(middle, before),
        ]
    )
    length = (rise * rise).sum(0).sqrt() + 1e-20
    return rise / length * inside


def choose(values: Tensor) -> TorchArrays:
    """Give the operations of a tensor's device."""
    return TorchArrays(values.device)
