"""Training tasks of the U-Net and of CDNet."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.cdnet import build_cdnet
from models.cdnet_decoding import N_MASK, decode_cdnet
from models.directions import encode_directions
from models.flows import renumber
from models.mask_classes import encode_mask
from models.unet_expert import decode_unet
from models.unet_vgg16 import build_unet
from training.augment import Patch
from training.loop import Batch
from training.losses import dice_and_entropy, direction_dice
from training.patch_task import PatchTask

POINT_WEIGHT = 10.0  # the point map has height 1 here and about 10 in the reference


@dataclass
class UNetTask(PatchTask):
    """Loss and targets of the VGG16 U-Net; its fields are at the files' own scale."""

    def network(self) -> nn.Module:
        """Build the bare network."""
        return build_unet()

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


@dataclass
class CDNetTask(PatchTask):
    """Loss and targets of CDNet; its fields are at the files' own scale."""

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
