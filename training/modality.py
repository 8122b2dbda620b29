"""Let the router name the modality of images that come without one."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from imaging.reading import open_image
from router.router import Router
from training.data import Record

logger = logging.getLogger(__name__)


def fill_modalities(records: Sequence[Record], router: Router) -> list[Record]:
    """Give the records without a modality the one that the router sees.

    Parameters
    ----------
    records : sequence of Record
        Of a data folder; the challenge's own layout names no modality.
    router : Router
        Fitted without labels, as the paper's section 2.2 asks.

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
            route = router.route(image.overview())
        filled.append(replace(record, modality=route.modality, expert=route.expert))
        found[route.modality] += 1
    if found:
        logger.info("routed: %s", ", ".join(f"{n} {name}" for name, n in found.most_common()))
    return filled
