"""What the training tasks of all networks share: crops with targets, and validation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from eval.matching import match_instances
from models.mask_classes import find_touching
from models.torch_runtime import half_type, memory_layout
from training.augment import GeometrySettings, Patch, blank_patch, draw_patch, draw_zoom
from training.crowd import SLACK_PX, crowd_patch
from training.fields import Field
from training.intensity import ColourSettings, vary_intensity
from training.loop import Batch
from training.sampling import FieldSampler
from training.start import Start, fit_start

CROWDED = "fluorescence"  # where the light of cells adds up, so that one can be laid over another


@dataclass
class PatchTask:
    """Fields and augmentation of one network; the network, its targets and loss are a subclass's.

    Attributes
    ----------
    train, validation : sequence of Field
        As the network's field settings prepare them.
    emphasis : mapping of str to float
        Factor on how often a data set is drawn.
    geometry, colour : GeometrySettings, ColourSettings
        Augmentation.
    colours : mapping of str to ColourSettings
        Those of modalities that vary in another way than ``colour``.
    guests : collection of str
        Data sets of other modalities, which are learnt beside the expert's own.
    guest_share : float
        Of the crops that are guests'.
    crowd : float
        Probability that a fluorescence crop gets the cells of another one of its image.
    touching_weight : float
        Of the pixels between touching cells in the loss; 1 for that of all others.
    init : Start, optional
        Weights to start from; those of other layers than the network's are ignored.
    """

    train: Sequence[Field]
    validation: Sequence[Field]
    emphasis: Mapping[str, float] = field(default_factory=dict)
    geometry: GeometrySettings = GeometrySettings(256, scale=(0.5, 1.6))
    colour: ColourSettings = ColourSettings()
    init: Start | None = None
    colours: Mapping[str, ColourSettings] = field(default_factory=dict)
    guests: Collection[str] = ()
    guest_share: float = 0.0
    crowd: float = 0.0
    touching_weight: float = 1.0

    validation_side_px: ClassVar[int] = 512  # larger validation fields are cropped

    def __post_init__(self) -> None:
        self.sampler = FieldSampler(self.train, self.emphasis, self.guests, self.guest_share)

    def network(self) -> nn.Module:
        """Build the bare network."""
        raise NotImplementedError

    def targets(self, patch: Patch) -> dict[str, np.ndarray]:
        """Encode a crop as the arrays that the loss compares with."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Compute the scalar loss of a batch."""
        raise NotImplementedError

    def decode(self, maps: np.ndarray) -> np.ndarray:
        """Decode raw maps (K, Y, X) to labels (Y, X)."""
        raise NotImplementedError

    def build(self) -> nn.Module:
        """Build the network, taking over what ``init`` has of it; ValueError if that is nothing."""
        model = self.network()
        if self.init is not None:
            own = model.state_dict()
            model.load_state_dict(own | fit_start(own, self.init))
        return model

    def draw_batch(self, n: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
        """Draw n augmented crops with their targets; the same for the same seed."""
        crops = []
        for k in range(n):
            item, peers, rng = self._draw_field(seed, k)
            if item is None:
                patch, modality = blank_patch(self.geometry.patch_px, rng), ""
            else:
                patch, modality = self._draw_patch(item, peers, rng), item.modality
            image = vary_intensity(patch.image, self.colour_of(modality), rng).transpose(2, 0, 1)
            trusted = self.weigh(patch)
            crops.append({"image": image, "trusted": trusted, **self.targets(patch)})
        return {name: np.stack([crop[name] for crop in crops]) for name in crops[0]}

    def weigh(self, patch: Patch) -> np.ndarray:
        """Give the weight of each pixel in the loss, (Y, X) float32; 0 where nothing is trusted."""
        touching = find_touching(patch.labels) if self.touching_weight != 1 else False
        weight = np.where(touching, self.touching_weight, 1.0)
        return (patch.trusted * weight).astype(np.float32)

    def _draw_patch(self, item: Field, peers: Sequence[Field], rng: np.random.Generator) -> Patch:
        """Cut a crop, and some with the cells of another crop of the same image over it."""
        if not self.crowd or item.modality != CROWDED or rng.random() >= self.crowd:
            return draw_patch(item, peers, self.geometry, rng)
        zoom = draw_zoom(self.geometry, rng)
        same = replace(self.geometry, scale=(zoom, zoom), wide_share=0.0)
        larger = replace(same, patch_px=self.geometry.patch_px + SLACK_PX)
        below, above = (draw_patch(item, peers, size, rng) for size in (same, larger))
        return crowd_patch(below, above, rng)

    def colour_of(self, modality: str) -> ColourSettings:
        """Give the intensity augmentation of a modality's images."""
        return self.colours.get(modality, self.colour)

    def name_batch(self, n: int, seed: tuple[int, int]) -> list[str]:
        """Name the fields that a batch is drawn from, as ``DATASET/NAME``."""
        items = (self._draw_field(seed, k)[0] for k in range(n))
        return ["blank" if item is None else f"{item.dataset}/{item.name}" for item in items]

    def _draw_field(
        self, seed: tuple[int, int], k: int
    ) -> tuple[Field | None, Sequence[Field], np.random.Generator]:
        """Draw the field of a batch's crop k, None for a blank one; its peers; its generator."""
        rng = np.random.default_rng((*seed, k))
        if rng.random() < self.colour.blank:
            return None, (), rng
        return *self.sampler.draw(rng), rng

    def validate(self, model: nn.Module) -> float:
        """Compute the mean F1 at IoU 0.5 over the middles of the validation fields."""
        scores = []
        for item in self.validation:
            image, labels = crop_middle(item, self.validation_side_px)
            pred = self.decode(run_padded(model, image))
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
    dtype, layout = half_type(str(device)), memory_layout(str(device))
    x = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        maps = model(x.contiguous(memory_format=layout))
    array: np.ndarray = maps[0, :, :height, :width].float().cpu().numpy()
    return array
