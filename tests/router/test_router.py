import json
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

from eval.router import main as measure
from manifest import WEIGHTS_DIR, WeightsError, write_entry
from models.registry import SPECS
from router.names import EXPERT_TABLES, EXPERTS, stand_ins
from router.router import (
    BRIGHTFIELD_EXPERTS,
    EXPERT_OF,
    MODALITIES,
    ROUTER_NAME,
    Router,
    load_router,
)
from tests.router.fields import draw_field, write_data
from tests.router.test_features import ENCODINGS, KINDS
from training.data import DataError, list_records
from training.router import FitSettings, fit_router, measure_samples
from training.router import main as fit

EXPECTED = {
    "fluorescence": ("fluorescence", "cdnet_fluorescence"),
    "phase": ("phase", "cellpose_phase"),
    "dic": ("dic", "cellpose_dic"),
    "large": ("brightfield", "cellpose_brightfield"),
    "small": ("brightfield", "unet_brightfield"),
}
FEW = FitSettings(n_modality_clusters=8, n_brightfield_clusters=3)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights_dir(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    options = ["--modality-clusters", "8", "--brightfield-clusters", "3"]
    assert fit(["--data", str(data_dir), "--weights-dir", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def router(weights_dir):
    return load_router(weights_dir)


@pytest.mark.parametrize("kind", KINDS)
def test_images_find_their_expert(router, kind):
    route = router.route(draw_field(kind, seed=99))
    assert (route.modality, route.expert) == EXPECTED[kind]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_encoding_does_not_change_the_route(router, kind, encoding):
    image = draw_field(kind, seed=7)
    route, other = router.route(image), router.route(ENCODINGS[encoding](image))
    assert (route.modality, route.expert) == (other.modality, other.expert)
    assert route.distances == pytest.approx(other.distances, abs=1e-3)


def test_distances_name_the_nearest_first(router):
    route = router.route(draw_field("dic"))
    assert set(route.distances) == set(MODALITIES)
    assert list(route.distances.values()) == sorted(route.distances.values())
    assert next(iter(route.distances)) == route.modality


def test_a_given_modality_needs_no_first_stage(router):
    image = draw_field("large")
    assert router.expert_for("brightfield", image) == "cellpose_brightfield"
    for modality, expert in EXPERT_OF.items():
        assert router.expert_for(modality, image) == expert
    with pytest.raises(ValueError, match="unknown modality"):
        router.expert_for("qpi", image)


def test_the_fit_sees_no_label(data_dir):
    samples = measure_samples(r for r in list_records(data_dir) if r.split == "train")
    samples = [s for s in samples if s.record.modality in MODALITIES]
    router, _ = fit_router(samples, FEW)
    shuffled = [
        type(s)(type(s.record)(**{**vars(s.record), "modality": "brightfield"}), s.hsv, s.rgb)
        for s in samples
    ]
    blind, _ = fit_router(shuffled, FEW)
    np.testing.assert_array_equal(router.modalities.centres, blind.modalities.centres)
    assert set(blind.modalities.names) == {"brightfield"}


def test_test_images_and_phase_maps_stay_out_of_the_fit(weights_dir):
    record = json.loads((weights_dir / "router.json").read_text())
    assert record["images"] == 5 * 5 + 1  # five training images a kind, one unlabelled image
    assert "qpi_set" not in record["datasets"]


def test_the_file_holds_plain_lists_and_its_record(weights_dir):
    plain = joblib.load(weights_dir / "router.joblib")
    assert type(plain["modalities"]["centres"]) is list
    assert type(plain["modalities"]["names"][0]) is str
    assert plain["record"] == json.loads((weights_dir / "router.json").read_text())


def test_plain_lists_are_read_without_joblib_and_arrays_with_it(tmp_path, router, monkeypatch):
    """Files of before, with arrays, are read as well; both say the same."""
    lists = router.to_plain()
    arrays = {
        name: part | {key: np.array(part[key]) for key in ("mean", "deviation", "centres")}
        for name, part in lists.items()
        if isinstance(part, dict)
    }
    for compress in (0, 3):
        joblib.dump(lists | arrays, tmp_path / ROUTER_NAME, compress=compress)
        write_entry(tmp_path, ROUTER_NAME, {})
        assert load_router(tmp_path).to_plain() == lists
        joblib.dump(lists, tmp_path / ROUTER_NAME, compress=compress)
        write_entry(tmp_path, ROUTER_NAME, {})
        with monkeypatch.context() as patch:
            patch.setattr(joblib, "load", None)
            assert load_router(tmp_path).to_plain() == lists


def test_a_router_survives_its_plain_form(router):
    again = Router.from_plain(router.to_plain())
    image = draw_field("phase")
    assert again.route(image) == router.route(image)


def test_without_known_modalities_the_fit_says_so(data_dir):
    samples = measure_samples(list_records(data_dir)[:3])
    with pytest.raises(DataError, match="brightfield"):
        fit_router(samples)
    with pytest.raises(DataError, match="no images"):
        fit_router([])


def test_a_tampered_file_is_not_read(weights_dir, tmp_path):
    for path in weights_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "router.joblib").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="differs"):
        load_router(tmp_path)
    (tmp_path / "router.joblib").unlink()
    with pytest.raises(WeightsError, match=r"router\.joblib"):
        load_router(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 9, "format"),
        ("names", ["tram"] * 8, "unknown names"),
        ("centres", np.zeros((8, 2)), "centres of shape"),
        ("mean", np.zeros(2), "scaling"),
    ],
)
def test_a_file_that_is_no_router_is_refused(router, key, value, words):
    plain = router.to_plain()
    (plain if key == "format" else plain["modalities"])[key] = value
    with pytest.raises(ValueError, match=words):
        Router.from_plain(plain)


def test_the_confusion_table_covers_the_test_split(data_dir, weights_dir, tmp_path, capsys):
    out = tmp_path / "router.json"
    arguments = ["--data", str(data_dir), "--weights", str(weights_dir), "--json", str(out)]
    assert measure(arguments) == 0
    result = json.loads(out.read_text())
    assert result["modality"]["images"] == 5
    assert result["modality"]["right"] == 1
    assert result["modality"]["counts"]["brightfield"]["brightfield"] == 2
    assert result["expert"] == {
        "images": 2,
        "right": 1,
        "counts": {a: {b: int(a == b) for b in BRIGHTFIELD_EXPERTS} for a in BRIGHTFIELD_EXPERTS},
    }
    assert "1.0000 of 5 images" in capsys.readouterr().out


def test_routing_imports_neither_scikit_learn_nor_torch():
    code = "import sys, router.router; assert not {'sklearn', 'torch', 'cellpose'} & {*sys.modules}"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.weights
def test_the_shipped_router_knows_every_name():
    shipped = load_router(WEIGHTS_DIR)
    assert set(shipped.modalities.names) == set(MODALITIES)
    assert set(shipped.brightfield.names) == set(BRIGHTFIELD_EXPERTS)
    assert shipped.route(draw_field("fluorescence")).modality == "fluorescence"


def test_stand_ins_are_experts_that_nothing_stands_in_for():
    for table in EXPERT_TABLES.values():
        assert set(table) | set(table.values()) <= set(SPECS)
        assert not set(table) & set(table.values())
    assert not EXPERT_TABLES["paper"]


def test_one_expert_may_stand_in_for_all():
    assert set(EXPERTS) == set(SPECS)
    assert stand_ins("unet_brightfield") == dict.fromkeys(SPECS, "unet_brightfield")
    assert stand_ins("best") == EXPERT_TABLES["best"]
    with pytest.raises(KeyError):
        stand_ins("nobody")
