"""Draw fields evenly enough that neither a large nor a tiny data set takes over."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from training.fields import Field


class FieldSampler:
    """Draws a data set by the square root of its size, then one of its fields.

    Parameters
    ----------
    fields : sequence of Field
        At least one.
    emphasis : mapping of str to float
        Factor on the probability of a data set; 1 where not named.

    Raises
    ------
    ValueError
        If there are no fields.
    """

    def __init__(self, fields: Sequence[Field], emphasis: Mapping[str, float]) -> None:
        if not fields:
            raise ValueError("no labelled training images for this expert; check --data")
        groups: dict[str, list[Field]] = defaultdict(list)
        for field in fields:
            groups[field.dataset].append(field)
        self.groups = list(groups.values())
        weight = [len(g) ** 0.5 * emphasis.get(name, 1.0) for name, g in groups.items()]
        self.share = np.array(weight) / np.sum(weight)

    def draw(self, rng: np.random.Generator) -> tuple[Field, Sequence[Field]]:
        """Draw a field, and the fields of its data set."""
        group = self.groups[rng.choice(len(self.groups), p=self.share)]
        return group[rng.integers(len(group))], group
