"""Cross supervision: two networks teach each other on unlabelled images (paper, section 2.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.augment import draw_patch
from training.fields import Field
from training.intensity import vary_intensity
from training.loop import Batch
from training.patch_task import PatchTask
from training.sampling import FieldSampler

ALPHA = 0.1  # weight of the loss on unlabelled images (paper, equation 5)
N_MASK = 3  # background, inside, boundary: the first maps of the U-Net and of CDNet
STREAM = 0x0C05  # keeps the draws of unlabelled crops apart from the labelled ones


class Pair(nn.Module):
    """Two networks of one kind with weights of their own.

    Parameters
    ----------
    first, second : Module
        (N, 3, Y, X) to (N, K, Y, X).

    Notes
    -----
    The buffer ``better`` holds 0 or 1, the network that validated better; it travels with the
    weights, so that the pair's best weights say which of the two ships.
    """

    better: torch.Tensor

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.register_buffer("better", torch.zeros((), dtype=torch.int64))


def cross_entropy_of_masks(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy with another network's one-hot mask (paper, equations 3 and 4).

    Parameters
    ----------
    logits, teacher : (N, K, Y, X) float tensors
        Mask logits; no gradient flows into the teacher.

    Returns
    -------
    () float tensor
        The mean over all pixels.
    """
    return F.cross_entropy(logits, teacher.detach().argmax(1))


@dataclass
class CrossTask:
    """Cross supervision of a task whose network gives mask logits first.

    Attributes
    ----------
    inner : PatchTask
        The supervised task: of CDNet, or of the U-Net.
    unlabelled : sequence of Field
        At least one.
    alpha : float
        Weight of equations 3 and 4 in equation 5.

    Notes
    -----
    Equation 2 is the inner task's loss, which for CDNet holds its direction and point heads
    beside the mask. Both networks see the same crops, colour augmentation included; they differ
    by their random weights. With weights to start from, the second keeps random heads.
    """

    inner: PatchTask
    unlabelled: Sequence[Field]
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        self.sampler = FieldSampler(self.unlabelled, {})

    def build(self) -> nn.Module:
        """Build both networks."""
        first, second = self.inner.build(), self.inner.network()
        if self.inner.init is not None:
            body = {k: v for k, v in first.state_dict().items() if k.startswith("body.")}
            second.load_state_dict(second.state_dict() | body)
        return Pair(first, second)

    def draw_batch(self, n: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Draw n labelled crops with targets, and as many unlabelled ones."""
        crops = []
        for k in range(n):
            rng = np.random.default_rng((*seed, k, STREAM))
            patch = draw_patch(*self.sampler.draw(rng), self.inner.geometry, rng)
            crops.append(vary_intensity(patch.image, self.inner.colour, rng).transpose(2, 0, 1))
        return self.inner.draw_batch(n, seed) | {"unlabelled": np.stack(crops)}

    def name_batch(self, n: int, seed: tuple[int, int]) -> list[str]:
        """Name the labelled fields of a batch, then the unlabelled ones."""
        names = self.inner.name_batch(n, seed)
        for k in range(n):
            field, _ = self.sampler.draw(np.random.default_rng((*seed, k, STREAM)))
            names.append(f"unlabelled {field.dataset}/{field.name}")
        return names

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Sum equation 5 over both networks."""
        first, second = self._networks(model)
        labelled = self.inner.loss(first, batch) + self.inner.loss(second, batch)
        masks = [network(batch["unlabelled"])[:, :N_MASK].float() for network in (first, second)]
        crossed = cross_entropy_of_masks(*masks) + cross_entropy_of_masks(masks[1], masks[0])
        return labelled + self.alpha * crossed

    def validate(self, model: nn.Module) -> float:
        """Validate both networks, note the better one, and give its F1."""
        scores = [self.inner.validate(network) for network in self._networks(model)]
        assert isinstance(model, Pair)
        model.better.fill_(int(scores[1] > scores[0]))
        return max(scores)

    def _networks(self, model: nn.Module) -> tuple[nn.Module, nn.Module]:
        assert isinstance(model, Pair)
        return model.first, model.second
