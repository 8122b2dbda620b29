"""Training tasks of the U-Net and of CDNet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from eval.matching import match_instances
from models.cdnet import N_MASK, build_cdnet, decode_cdnet
from models.directions import encode_directions
from models.flows import renumber
from models.mask_classes import encode_mask
from models.unet_vgg16 import build_unet, decode_unet
from training.augment import (
    ColourSettings,
    GeometrySettings,
    Patch,
    blank_patch,
    draw_patch,
    vary_intensity,
)
from training.cellpose_task import crop_middle, run_padded
from training.fields import Field
from training.loop import Batch
from training.losses import dice_and_entropy, direction_dice
from training.sampling import FieldSampler

VALIDATION_SIDE_PX = 512  # larger validation fields are cropped
POINT_WEIGHT = 10.0  # the point map has height 1 here and about 10 in the reference


@dataclass
class UNetTask:
    """Fields and loss of the VGG16 U-Net.

    Attributes
    ----------
    train, validation : sequence of Field
        At the files' own scale.
    emphasis : mapping of str to float
        Factor on how often a data set is drawn.
    geometry, colour : GeometrySettings, ColourSettings
        Augmentation.
    init : dict of str to Tensor, optional
        Weights to start from; those of other layers than the network's are ignored.
    """

    train: Sequence[Field]
    validation: Sequence[Field]
    emphasis: Mapping[str, float] = field(default_factory=dict)
    geometry: GeometrySettings = GeometrySettings(256, scale=(0.5, 1.6))
    colour: ColourSettings = ColourSettings()
    init: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.sampler = FieldSampler(self.train, self.emphasis)

    def build(self) -> nn.Module:
        """Build the network, taking over what ``init`` has of it."""
        model = self.network()
        if self.init is not None:
            own = model.state_dict()
            known = {k: v for k, v in self.init.items() if k in own and v.shape == own[k].shape}
            model.load_state_dict(own | known)
        return model

    def network(self) -> nn.Module:
        """Build the bare network."""
        return build_unet()

    def draw_batch(self, n: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Draw n augmented crops with their class maps."""
        crops = []
        for k in range(n):
            rng = np.random.default_rng((*seed, k))
            if rng.random() < self.colour.blank:
                patch = blank_patch(self.geometry.patch_px, rng)
            else:
                patch = draw_patch(*self.sampler.draw(rng), self.geometry, rng)
            image = vary_intensity(patch.image, self.colour, rng).transpose(2, 0, 1)
            trusted = patch.trusted.astype(np.float32)
            crops.append({"image": image, "trusted": trusted, **self.targets(patch)})
        return {name: np.stack([crop[name] for crop in crops]) for name in crops[0]}

    def targets(self, patch: Patch) -> dict[str, np.ndarray]:
        """Encode the labels of a crop."""
        return {"mask": encode_mask(patch.labels).astype(np.int64)}

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Dice plus cross-entropy (paper, equation 1)."""
        logits = model(batch["image"]).float()
        return dice_and_entropy(logits, batch["mask"], batch["trusted"])

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Decode raw maps to labels."""
        return decode_unet(maps)

    def validate(self, model: nn.Module) -> float:
        """Compute the mean F1 at IoU 0.5 over the middles of the validation fields."""
        scores = []
        for item in self.validation:
            image, labels = crop_middle(item, VALIDATION_SIDE_PX)
            pred = self.decode(run_padded(model, image))
            scores.append(match_instances(labels, pred).f1)
        return float(np.mean(scores)) if scores else 0.0


@dataclass
class CDNetTask(UNetTask):
    """Fields and loss of CDNet."""

    def network(self) -> nn.Module:
        """Build the bare network."""
        return build_cdnet()

    def targets(self, patch: Patch) -> dict[str, np.ndarray]:
        """Encode the labels of a crop."""
        direction, point = encode_directions(renumber(patch.labels))
        return {
            "mask": encode_mask(patch.labels).astype(np.int64),
            "direction": direction.astype(np.int64),
            "point": point,
        }

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mask and direction entropy and Dice, and the point map's squared error (CDNet)."""
        maps, trusted = model(batch["image"]).float(), batch["trusted"]
        mask, point, direction = maps[:, :N_MASK], maps[:, N_MASK], maps[:, N_MASK + 1 :]
        n = trusted.sum().clamp(min=1.0)
        entropy = F.cross_entropy(direction, batch["direction"], reduction="none")
        return (
            dice_and_entropy(mask, batch["mask"], trusted)
            + (entropy * trusted).sum() / n
            + direction_dice(direction, batch["direction"], trusted)
            + POINT_WEIGHT * (((point - batch["point"]) ** 2) * trusted).sum() / n
        )

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Decode raw maps to labels."""
        return decode_cdnet(maps)
