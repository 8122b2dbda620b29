"""A job that worker processes can build: fake networks, told what to do by files."""

import dataclasses
import logging
import os
import signal
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np

import predict
from tests.fakes import DiscNetwork, fake_job, scatter_discs, write_discs
from tiling.settings import TilingSettings

logger = logging.getLogger("tiling.fakes")  # a room whose messages are sent back

SETTINGS = TilingSettings(block_px=100)
DEATH, SLOWNESS, NAME = "death", "slowness", "manifest.json"


class WatchedNetwork(DiscNetwork):
    """Find discs; die or dawdle where a file in the folder of weights says so."""

    def __init__(self, orders: Path) -> None:
        super().__init__(style=0.1, wanted_px=14.0)
        self._orders = orders

    def forward(self, batch):
        logger.info("process %d at work", os.getpid())
        if self.calls == 3 and (self._orders / DEATH).exists():
            if (self._orders / DEATH).read_text() == "once":
                (self._orders / DEATH).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._orders / SLOWNESS).exists():
            time.sleep(0.2)
        return super().forward(batch)


def build_job(options, watch):
    """Build what `predict.build_trained_job` would; weights are what their manifest says."""
    job = fake_job(options.output_path, WatchedNetwork(options.weights))
    said = options.weights / NAME
    return dataclasses.replace(
        job,
        tiling=dataclasses.replace(SETTINGS, diameter_px=options.diameter),
        overlays=options.overlays,
        watch=watch,
        identify=lambda expert: f"{expert} {said.read_text() if said.exists() else 'unchanged'}",
    )


def write_inputs(folder, n_small=3):
    """Write one slide of 12 blocks and small images with 1, 2, ... cells."""
    for number in range(1, n_small + 1):
        write_discs(folder / f"small{number}.png", n_discs=number)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = scatter_discs((310, 257), spacing=24, radius=7)
    iio.imwrite(folder / "slide.bmp", (200 * pixels).astype(np.uint8))
    return folder


def run(source, output, weights, *arguments):
    """Run the command line in this process."""
    places = ("-i", source, "-o", output, "--weights", weights)
    return predict.main([str(part) for part in (*places, *arguments)], build_job=build_job)


def contents(folder):
    """Read all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
