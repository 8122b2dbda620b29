import logging
from dataclasses import replace

import numpy as np

from router.router import Route
from tests.training.folders import write_record
from training.modality import fill_modalities


def route_by_brightness(overview):
    if overview.mean() > 100:
        return Route("brightfield", "unet_brightfield", {})
    return Route("fluorescence", "cdnet_fluorescence", {})


def test_only_records_without_a_modality_are_routed(tmp_path, caplog):
    labels = np.eye(16, dtype=np.int32)
    bright = np.full((16, 16), 200, np.uint8)
    dark = bright // 10
    records = [
        write_record(tmp_path, labels, "a", bright, modality=""),
        write_record(tmp_path, labels, "b", dark, modality=""),
        replace(write_record(tmp_path, labels, "c", dark, modality="dic"), expert="kept"),
    ]
    with caplog.at_level(logging.INFO):
        filled = fill_modalities(records, route_by_brightness)
    assert [r.modality for r in filled] == ["brightfield", "fluorescence", "dic"]
    assert [r.expert for r in filled] == ["unet_brightfield", "cdnet_fluorescence", "kept"]
    assert [r.image for r in filled] == [r.image for r in records]
    assert "1 brightfield, 1 fluorescence" in caplog.text
