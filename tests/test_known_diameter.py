"""A cell size on the command line goes all the way to every network that labels an image."""

import dataclasses

import tifffile

import predict
from pipeline import process_image
from tests.fakes import DiscNetwork, fake_job, write_discs
from tiling.settings import TilingSettings


class SilentNetwork(DiscNetwork):
    """Refuse to estimate the size of cells."""

    def choose_scale(self, views):
        raise AssertionError("asked for an estimate")


def test_a_diameter_reaches_the_network_of_every_image(tmp_path, caplog):
    def build_job(options, watch):
        job = fake_job(options.output_path, SilentNetwork(wanted_px=15.0))
        return dataclasses.replace(job, tiling=predict.choose_tiling(options), watch=watch)

    source, output = tmp_path / "in", tmp_path / "out"
    for n_discs in (1, 2):
        write_discs(source / f"{n_discs}.png", n_discs)
    asked = ["-i", str(source), "-o", str(output), "-v", "--diameter"]
    assert predict.main([*asked, "12"], build_job) == 0
    for n_discs in (1, 2):
        assert f"{n_discs}.png: 1.25 network pixels a pixel" in caplog.text
        assert tifffile.imread(output / f"{n_discs}_label.tiff").max() == n_discs


def test_a_known_diameter_holds_for_the_second_opinion_too(tmp_path):
    class ToldNetwork(SilentNetwork):
        def scale_for(self, diameter_px):
            told.append(diameter_px)
            return 1.0

    told: list[float] = []
    path = write_discs(tmp_path / "cells.png", n_discs=3)
    networks = {"cellpose_phase": ToldNetwork(), "cellpose_general": ToldNetwork()}
    job = fake_job(tmp_path, modality="phase", expert="cellpose_phase", **networks)
    job = dataclasses.replace(job, tiling=TilingSettings(diameter_px=13.0))
    assert process_image(path, job).expert == "cellpose_general"
    assert told == [13.0, 13.0]
