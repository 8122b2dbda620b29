"""Draw fields evenly enough that neither a large nor a tiny data set takes over."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

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
    guests : collection of str
        Names of data sets that an expert learns beside its own.
    guest_share : float in [0, 1)
        Of all draws that go to guests; only where there are both.

    Raises
    ------
    ValueError
        If there are no fields.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        emphasis: Mapping[str, float],
        guests: Collection[str] = (),
        guest_share: float = 0.0,
    ) -> None:
        if not fields:
            raise ValueError("no labelled training images for this expert; check --data")
        groups: dict[str, list[Field]] = defaultdict(list)
        for field in fields:
            groups[field.dataset].append(field)
        self.groups = list(groups.values())
        weight = np.array([len(g) ** 0.5 * emphasis.get(name, 1.0) for name, g in groups.items()])
        is_guest = np.array([name in guests for name in groups])
        if is_guest.any() and not is_guest.all():
            weight[is_guest] *= guest_share / weight[is_guest].sum()
            weight[~is_guest] *= (1 - guest_share) / weight[~is_guest].sum()
        self.share = weight / weight.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Field, Sequence[Field]]:
        """Draw a field, and the fields of its data set."""
        group = self.groups[rng.choice(len(self.groups), p=self.share)]
        return group[rng.integers(len(group))], group
