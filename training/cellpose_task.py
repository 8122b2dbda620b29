"""Training task of the Cellpose experts."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.cpnet import build_cpnet
from models.flows import FlowThresholds, decode_flows
from training.augment import Patch
from training.loop import Batch
from training.patch_task import PatchTask

NO_CHECK = FlowThresholds(flow_error=0.0)
FIELD_DIAMETER_PX = 36.0  # fields are kept a little larger than the network's 30 px


@dataclass
class CellposeTask(PatchTask):
    """Loss and targets of CPnet; its fields carry flows, at a median diameter of 36 px."""

    validation_side_px: ClassVar[int] = 384

    def network(self) -> nn.Module:
        """Build the bare network."""
        return build_cpnet()

    def targets(self, patch: Patch) -> dict[str, np.ndarray]:
        """Give the flow and cell maps of a crop."""
        return {"flow": patch.flow, "cell": (patch.labels > 0).astype(np.float32)}

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Squared error of 5 x flow, halved, plus cross-entropy of the cell map (Cellpose)."""
        maps = model(batch["image"]).float()
        trusted = batch["trusted"]
        n = trusted.sum().clamp(min=1.0)
        squared = ((maps[:, :2] - 5.0 * batch["flow"]) ** 2).mean(1)
        entropy = F.binary_cross_entropy_with_logits(maps[:, 2], batch["cell"], reduction="none")
        return ((0.5 * squared + entropy) * trusted).sum() / n

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Decode raw maps at the true cell size, without dropping any instance."""
        return decode_flows(maps, thresholds=NO_CHECK)
