import dataclasses
from typing import Any

import pytest

from eval.official import Rules
from eval.run_file import ErrorCounts, Run, RunSummary, write_run
from manifest import write_entry
from training.cards import find_source, main, read_sources, write_card
from training.recipes import RECIPES

ENTRY = {
    "sha256": "ab12", "bytes": 1000, "network": "cpnet", "parameters": 6_600_000,
    "started_from": "cellpose_base",
    "trained_on": {"usiigaci_nih3t3": 34, "vicar_qpi_as_phase": 18},
    "validated_on": {"usiigaci_nih3t3": 3}, "validation_f1": 0.64, "best_step": 250, "steps": 300,
    "hours": 0.1, "device": "cpu", "torch": "2.0", "commit": "c0ffee", "size_ratio_error": 1.3,
    "settings": {"optimiser": "adamw", "lr": 4e-4, "batch": 8, "crop_px": 224, "seed": 0},
}  # fmt: skip


def summary(name, f1_mean, kind="dataset", **changes):
    means = ("dice", "precision", "recall", "inst_dice", "aji", "pq", "ap")
    values: dict[str, Any] = {f"{key}_mean": 0.5 for key in means}
    for key in ("f1_mean", "f1_median"):
        values |= {key: f1_mean, f"{key}_low": f1_mean, f"{key}_high": f1_mean}
    values |= {"n_images": 4, "n_missing": 0, "n_cells": 50}
    errors = ErrorCounts(split=1, merged=2, missed=30, invented=4)
    return RunSummary(
        name=name, kind=kind, **values, f1_means={"0.5": f1_mean}, errors=errors,
        by_size=(), **changes,
    )  # fmt: skip


@pytest.fixture
def run():
    lines = (
        summary("all", 0.7, "all"),
        summary("phase", 0.65, "modality"),
        summary("phase/good", 0.9),
        summary("phase/bacteria", 0.1),
        summary("brightfield/wbc", 0.2),
    )
    return Run(
        created="2026-01-01T00:00:00Z", commit="beef", system="cellseg", rules=Rules(),
        thresholds=(0.5,), images=(), unscored=(), summaries=lines,
    )  # fmt: skip


def test_a_card_tells_how_the_start_was_trained():
    start = {
        "started_from": "soup.safetensors", "steps": 900, "hours": 1.2, "device": "cpu",
        "commit": "50da", "validation_f1": 0.7, "trained_on": {"ctc_phc_u373": 13},
    }  # fmt: skip
    card = write_card("cellpose_phase", ENTRY | {"steps": 0, "start": start}, read_sources())
    assert "`cellpose_base`: 900 steps in 1.2 h on cpu at commit `50da`" in card
    assert "started from soup.safetensors" in card
    assert "| ctc_phc_u373 | 13 |" in card
    assert "Size model fitted on" in card
    assert "| Steps | none of its own |" in card


def test_a_card_names_the_files_of_an_average():
    parts = [{"sha256": "ab" * 32, "share": 0.6667}, {"sha256": "cd" * 32, "share": 0.3333}]
    card = write_card("cellpose_phase", ENTRY | {"average_of": parts}, read_sources())
    assert "averaged: 0.6667 of `abababababab` and 0.3333 of `cdcdcdcdcdcd` |" in card
    card = write_card(
        "cellpose_phase", ENTRY | {"average_of": parts, "size_of": "cd" * 32}, read_sources()
    )
    assert "of `cdcdcdcdcdcd`; the size model of `cdcdcdcdcdcd` |" in card


def test_a_card_says_where_the_size_model_was_fitted_anew():
    card = write_card("cellpose_phase", ENTRY | {"size_commit": "f17"}, read_sources())
    assert "factor of 1.3, fitted anew at `f17`." in card
    card = write_card("cellpose_phase", ENTRY | {"size_ratio_error_unseen": 1.4}, read_sources())
    assert "factor of 1.3 (1.4 on data sets left out of its fit)." in card


def test_a_card_goes_back_to_the_first_start():
    def trained(started_from, sets, **further):
        facts = {"steps": 7, "hours": 0.1, "device": "cpu", "commit": "50da", "validation_f1": 0.6}
        return facts | {"started_from": started_from, "trained_on": sets} | further

    base = trained("soup.safetensors", {"ctc_phc_u373": 13})
    phase = trained("cellpose_base", {"vicar_qpi": 18}, start=base)
    entry = ENTRY | {"started_from": "cellpose_phase", "start": phase}
    card = write_card("cellpose_general", entry, read_sources())
    assert card.index("Before that, `cellpose_phase`") < card.index("Before that, `cellpose_base`")
    assert card.index("| vicar_qpi | 18 |") < card.index("| ctc_phc_u373 | 13 |")


def test_a_card_names_data_terms_and_training():
    card = write_card("cellpose_phase", ENTRY, read_sources())
    assert "| usiigaci_nih3t3 | 34 | Usiigaci | MIT |" in card
    assert (
        "| vicar_qpi_as_phase | 18 | Vicar et al., quantitative phase, rendered as phase |" in card
    )
    steps = "300, the best validation at 250"
    for text in ("ab12", "6.60 M", "cellpose_base", steps, "0.1 h on cpu", "c0ffee", "**0.64**"):
        assert text in card
    assert "factor of 1.3" in card
    assert "adamw at 0.0004" in card
    assert "not measured for this card" in card
    assert "Without labels" not in card
    assert "licences of the images do not allow" in card


def test_a_card_tells_test_scores_and_failures_of_its_own_images(run):
    card = write_card("cellpose_phase", ENTRY, read_sources(), [run], "- Faint cells.")
    assert "| phase | 4 | 0.650 | 0.650 |" in card
    assert "| phase/good | 4 | 0.900 | 0.900 |" in card
    assert "wbc" not in card
    failures = card[card.index("## Known failures") :]
    assert "phase/bacteria: mean F1 0.100; of 50 cells 30 missed" in failures
    assert "phase/good" not in failures
    assert "- Faint cells." in failures


def test_a_card_does_not_claim_the_scores_of_what_stands_in(run):
    lines = (*run.summaries, summary("fluorescence/nuclei", 0.2))
    card = write_card(
        "cdnet_fluorescence", ENTRY, read_sources(), [dataclasses.replace(run, summaries=lines)]
    )
    assert "nuclei" not in card
    assert "`cellpose_fluorescence` serves them" in card
    assert "Not measured." in card


def test_a_card_tells_what_unlabelled_images_brought():
    entry = ENTRY | {
        "semi_supervision": "cycle", "unlabelled": {"misc_phase_unlabelled": 9},
        "supervised_f1": 0.6, "stage": "cycle 1",
    }  # fmt: skip
    card = write_card("cellpose_phase", entry, read_sources())
    assert "| misc_phase_unlabelled | 9 |" in card
    assert "**0.64** (0.6 before the unlabelled images)" in card
    assert "| Weights of | cycle 1 |" in card


def test_an_unknown_data_set_is_not_given_terms():
    source, how = find_source("my_images", read_sources())
    assert (source.licence, how) == ("not stated", "")


def test_the_table_of_sources_has_terms_for_all():
    sources = read_sources()
    assert len(sources) > 30
    assert all(source.origin and source.licence for source in sources.values())
    assert sources["segpc2021_512"].licence == "CC BY-NC-SA 4.0"


def test_the_command_writes_a_card_for_each_weight_file(tmp_path, run):
    weights = tmp_path / "weights"
    weights.mkdir()
    experts = [name for name in RECIPES if name != "cellpose_base"][:2]
    for name in experts:
        (weights / f"{name}.safetensors").write_bytes(b"weights")
        write_entry(weights, f"{name}.safetensors", ENTRY)
    write_run(tmp_path / "run.json", run)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / f"{experts[0]}.md").write_text("- Touching cells.")
    options = ["--weights", weights, "--run", tmp_path / "run.json", "--notes", tmp_path / "notes"]
    assert main([str(option) for option in options]) == 0
    cards = sorted(p.name for p in (weights / "cards").iterdir())
    assert cards == sorted(f"{name}.md" for name in experts)
    assert "- Touching cells." in (weights / "cards" / f"{experts[0]}.md").read_text()


@pytest.mark.parametrize("which", ["weights", "run"])
def test_what_is_missing_is_one_line(tmp_path, which, caplog):
    (tmp_path / "run.json").write_text("{}")
    options = {"weights": ["--weights", tmp_path / "gone"], "run": ["--run", tmp_path / "run.json"]}
    assert main([str(option) for option in options[which]]) == 2
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert ("gone" if which == "weights" else "run.json") in record.getMessage()
