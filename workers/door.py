"""The way to workers for a program that may have to do without Dask."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from options import UsageError
from workers.recipe import Recipe

if TYPE_CHECKING:
    from workers.pool import Pool


@contextmanager
def open_pool(recipe: Recipe) -> "Iterator[Pool]":
    """Start workers on this machine, or connect to those of a scheduler.

    Parameters
    ----------
    recipe : Recipe
        Its options tell which.

    Yields
    ------
    Pool
        Workers that were started here end with the context.

    Raises
    ------
    UsageError
        If Dask is not installed, the scheduler does not answer, has no workers, or one of them
        cannot do the work.
    """
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "--workers and --dask need the package distributed, which is not installed: "
            "pip install -r requirements-dev.txt, or the line of distributed there"
        )
    from workers.cluster import check_workers, open_client  # noqa: PLC0415 - imports Dask
    from workers.pool import Pool  # noqa: PLC0415

    with open_client(recipe.options) as client:
        check_workers(client, recipe)
        yield Pool(client, recipe)
