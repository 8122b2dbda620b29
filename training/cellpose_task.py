"""Training task of the Cellpose experts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from eval.matching import match_instances
from models.cpnet import build_cpnet
from models.flows import decode_flows
from training.augment import (
    ColourSettings,
    GeometrySettings,
    blank_patch,
    draw_patch,
    vary_intensity,
)
from training.fields import Field
from training.loop import Batch
from training.sampling import FieldSampler

FIELD_DIAMETER_PX = 36.0  # fields are kept a little larger than the network's 30 px
NET_DIAMETER_PX = 30.0  # Cellpose's diam_mean
VALIDATION_SIDE_PX = 384  # larger validation fields are cropped


@dataclass
class CellposeTask:
    """Fields and loss of one CPnet.

    Attributes
    ----------
    train, validation : sequence of Field
        With flows, at a median diameter of 36 px.
    emphasis : mapping of str to float
        Factor on how often a data set is drawn.
    geometry, colour : GeometrySettings, ColourSettings
        Augmentation.
    init : dict of str to Tensor, optional
        Weights to start from.
    """

    train: Sequence[Field]
    validation: Sequence[Field]
    emphasis: Mapping[str, float] = field(default_factory=dict)
    geometry: GeometrySettings = GeometrySettings(224, scale=(0.55, 1.3))
    colour: ColourSettings = ColourSettings()
    init: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.sampler = FieldSampler(self.train, self.emphasis)

    def build(self) -> nn.Module:
        """Build CPnet, from ``init`` where given."""
        model = build_cpnet()
        if self.init is not None:
            model.load_state_dict(self.init, strict=True)
        return model

    def draw_batch(self, n: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Draw n augmented crops with flow, cell and trust maps."""
        images, flows, cells, trust = [], [], [], []
        for k in range(n):
            rng = np.random.default_rng((*seed, k))
            if rng.random() < self.colour.blank:
                patch = blank_patch(self.geometry.patch_px, rng)
            else:
                patch = draw_patch(*self.sampler.draw(rng), self.geometry, rng)
            images.append(vary_intensity(patch.image, self.colour, rng).transpose(2, 0, 1))
            flows.append(patch.flow)
            cells.append((patch.labels > 0).astype(np.float32))
            trust.append(patch.trusted.astype(np.float32))
        return {
            "image": np.stack(images),
            "flow": np.stack(flows),
            "cell": np.stack(cells),
            "trusted": np.stack(trust),
        }

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Squared error of 5 x flow, halved, plus cross-entropy of the cell map (Cellpose)."""
        maps = model(batch["image"]).float()
        trusted = batch["trusted"]
        n = trusted.sum().clamp(min=1.0)
        squared = ((maps[:, :2] - 5.0 * batch["flow"]) ** 2).mean(1)
        entropy = F.binary_cross_entropy_with_logits(maps[:, 2], batch["cell"], reduction="none")
        return ((0.5 * squared + entropy) * trusted).sum() / n

    def validate(self, model: nn.Module) -> float:
        """Compute the mean F1 at IoU 0.5 at the true cell size."""
        scores = []
        for item in self.validation:
            image, labels = crop_middle(item, VALIDATION_SIDE_PX)
            pred = decode_flows(run_padded(model, image), max_flow_error=0.0)
            scores.append(match_instances(labels, pred).f1)
        return float(np.mean(scores)) if scores else 0.0


def crop_middle(item: Field, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the middle of a field: image as float32, and labels."""
    y0, x0 = (max(0, (side - side_px) // 2) for side in item.labels.shape)
    box = (slice(y0, y0 + side_px), slice(x0, x0 + side_px))
    return item.image[box].astype(np.float32), item.labels[box]


@torch.no_grad()
def run_padded(model: nn.Module, image: np.ndarray, multiple: int = 32) -> np.ndarray:
    """Run a network over one image, mirrored up to a multiple of 32 pixels.

    Parameters
    ----------
    model : Module
        In evaluation mode, (N, 3, Y, X) to (N, K, Y, X).
    image : (Y, X, 3) ndarray of float32
        Normalised.
    multiple : int
        Of which both sides become.

    Returns
    -------
    (K, Y, X) ndarray of float32
        The raw maps of the image's own pixels.
    """
    height, width = image.shape[:2]
    pad = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    padded = np.pad(image, pad, mode="symmetric")
    device = next(model.parameters()).device
    x = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        maps = model(x.contiguous(memory_format=torch.channels_last))
    array: np.ndarray = maps[0, :, :height, :width].float().cpu().numpy()
    return array
