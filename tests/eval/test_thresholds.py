import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from scipy import ndimage

import eval.thresholds
from eval.thresholds import Replay, main, score_thresholds
from models.cellpose_expert import NET_DIAMETER_PX, CellposeSegmenter
from models.flow_targets import encode_flows
from models.flows import FlowThresholds
from models.size_model import SizeModel
from tests.fakes import draw_discs
from tests.training.folders import write_index
from training.data import list_records

SIDE_PX = 128
BRIGHT = ((40, 40, 15), (40, 90, 15))
DIM = ((90, 64, 15),)
SURE, UNSURE = 2.0, -0.4  # cell logits


class ExactRuntime:
    """Give the flows of bright and dim discs, sure of the bright ones only."""

    device = "cpu"

    def __init__(self):
        self.n_calls = 0

    def run(self, output, batch):
        assert output == "maps"
        self.n_calls += 1
        return np.stack([self.draw(window.mean(axis=2)) for window in batch])

    def draw(self, window):
        labels = ndimage.label(window > 0.3)[0].astype(np.int32)
        logit = np.select([window > 0.8, window > 0.3], [SURE, UNSURE], -SURE)
        return np.concatenate([5 * encode_flows(labels), logit[None]]).astype(np.float32)


class NativeExpert(CellposeSegmenter):
    """See native pixels, whose discs have the size wanted."""

    def _choose_scale(self, views):
        return 1.0


@pytest.fixture
def expert():
    assert 2 * BRIGHT[0][2] == NET_DIAMETER_PX
    return NativeExpert(
        ExactRuntime(), SizeModel(np.zeros((1, 256), np.float32), np.zeros(1, np.float32), 0.0)
    )


@pytest.fixture
def data(tmp_path):
    """Five phase images of two bright and one dim disc, all three of them cells."""
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    shape = (SIDE_PX, SIDE_PX)
    image = draw_discs(shape, BRIGHT) + draw_discs(shape, DIM) / 2
    labels = ndimage.label(image > 0)[0].astype(np.uint16)
    for i in range(5):
        iio.imwrite(folder / f"{i}.png", (200 * image).astype(np.uint8))
        tifffile.imwrite(folder / f"{i}_label.tiff", labels)
        facts = {"modality": "phase", "dataset": "a", "split": "train", "annotated": "all"}
        rows.append({"image": f"{i}.png", "label": f"{i}_label.tiff", **facts})
    write_index(folder, rows)
    return folder


def test_a_lower_threshold_finds_what_the_network_is_unsure_of(expert, data):
    records = list_records(data)[:1]
    choices = [FlowThresholds(0.0, 0.4), FlowThresholds(-1.0, 0.4)]
    strict, lax = score_thresholds(expert, records, choices)[0]
    assert strict == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert lax == 1.0


def test_each_image_goes_through_the_network_once(expert, data):
    choices = [FlowThresholds(logit, 0.4) for logit in (-1.0, -0.5, 0.0)]
    score_thresholds(expert, list_records(data)[:2], choices)
    assert expert.runtime.n_calls == 2


def test_a_replay_answers_as_its_expert(expert):
    batch = np.zeros((1, 64, 64, 3), np.float32)
    batch[0] += draw_discs((64, 64), [(30, 30, 15)])[..., None]
    replay = Replay(expert)
    replay.rewind(FlowThresholds(0.0, 0.4))
    np.testing.assert_array_equal(replay.forward(batch), expert.forward(batch))
    (maps,) = expert.forward(batch)
    np.testing.assert_array_equal(replay.decode(maps), expert.decode(maps))
    assert replay.tile_px == expert.tile_px


def test_flow_errors_above_the_threshold_drop_an_instance(expert):
    labels = ndimage.label(draw_discs((64, 64), [(30, 30, 15)]))[0].astype(np.int32)
    flows = encode_flows(labels)
    maps = np.concatenate([5 * 0.3 * flows, [np.where(labels, 1.0, -1.0)]]).astype(np.float32)
    replay = Replay(expert)
    replay.rewind(FlowThresholds(0.0, 0.1))
    assert replay.decode(maps).max() == 0
    replay.rewind(FlowThresholds(0.0, 0.0))
    assert replay.decode(maps).max() == 1


def test_the_command_prints_a_row_for_each_pair(expert, data, monkeypatch, capsys):
    monkeypatch.setattr(eval.thresholds, "load_segmenter", lambda *_: expert)
    options = ("--logits", "-1", "0", "--errors", "0.4", "--modality", "phase")
    assert main(["--data", str(data), "--experts", "cellpose_phase", *options]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "cellpose_phase"
    assert rows[4:6] == ["| -1 | 0.4 | 1.0000 | 1.0000 |", "| 0 | 0.4 | 0.8000 | 0.8000 |"]


def test_no_images_is_an_error(data, caplog):
    options = ("--experts", "cellpose_phase", "--modality", "dic")
    assert main(["--data", str(data), *options]) == 2
    assert "no labelled validation images of dic" in caplog.text
