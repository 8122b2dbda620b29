"""Let the router name the modality of images that come without one."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imaging.reading import open_image
from router.router import Route
from tiling.survey import survey_image
from training.data import Record

logger = logging.getLogger(__name__)


def fill_modalities(
    records: Sequence[Record], route: Callable[[NDArray[np.float32]], Route]
) -> list[Record]:
    """Give the records without a modality the one that the router sees.

    Parameters
    ----------
    records : sequence of Record
        Of a data folder; the challenge's own layout names no modality.
    route : callable
        The router's: the fields (Y, X, C) of a survey to a route. It was fitted without labels,
        as the paper's section 2.2 asks.

    Returns
    -------
    list of Record
        In the same order; the routed ones carry the expert too.

    Raises
    ------
    imaging.reading.ImageError
        If a file cannot be read.
    """
    filled, found = [], Counter[str]()
    for record in records:
        if record.modality:
            filled.append(record)
            continue
        with open_image(record.image) as image:
            seen = route(survey_image(image).fields)
        filled.append(replace(record, modality=seen.modality, expert=seen.expert))
        found[seen.modality] += 1
    if found:
        logger.info("routed: %s", ", ".join(f"{n} {name}" for name, n in found.most_common()))
    return filled
