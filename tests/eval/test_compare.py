import json
from dataclasses import replace

import numpy as np
import pytest

from eval.compare import compare_runs, main
from eval.matching import MatchCounts
from eval.official import Rules
from eval.run_file import ErrorCounts, Run, RunImage, Unscored, write_run
from tests.eval.test_run_file import SUMMARY

N_CELLS = 200


def image(name, f1, modality="phase", dataset="one"):
    tp = round(f1 * N_CELLS)
    return RunImage(
        name=name,
        modality=modality,
        dataset=dataset,
        height=10,
        width=10,
        problem="",
        counts={"0.5": MatchCounts(tp, N_CELLS - tp, N_CELLS - tp)},
        **dict.fromkeys(("dice", "inst_dice", "aji", "pq", "sq", "ap"), f1 / 2),
        errors=ErrorCounts(),
        sizes=(),
    )


def run_of(images, system="a", thresholds=(0.5,), **facts):
    return Run(
        created="",
        commit="abc",
        system=system,
        rules=Rules(),
        thresholds=thresholds,
        images=tuple(images),
        unscored=(),
        summaries=(),
        **facts,
    )


def scores(n=30, shift=0.0, seed=0, modality="phase", dataset="one", noise=0.05):
    """Scores around 0.6; the seed of the noise is that of the run."""
    base = np.random.default_rng(99).uniform(0.4, 0.7, n)
    noisy = base + shift + np.random.default_rng(seed).normal(0, noise, n)
    return [image(f"{i}.png", f1, modality, dataset) for i, f1 in enumerate(noisy)]


def verdicts(comparison):
    return {group.name: group.verdict for group in comparison.groups}


def test_a_run_does_not_differ_from_itself():
    run = run_of(scores())
    found = compare_runs(run, run)
    assert set(verdicts(found).values()) == {"same"}
    assert not found.is_worse
    assert all(one.difference == 0 for one in found.images)
    assert found.groups[0].p_value == 1


@pytest.mark.parametrize("seed", range(1, 6))
def test_noise_is_not_taken_for_a_difference(seed):
    assert not compare_runs(run_of(scores(seed=0)), run_of(scores(seed=seed))).is_worse


@pytest.mark.parametrize(("shift", "verdict"), [(-0.05, "worse"), (0.05, "better")])
def test_a_difference_beyond_noise_is_told(shift, verdict):
    found = compare_runs(run_of(scores()), run_of(scores(shift=shift, seed=1)))
    group = found.groups[0]
    assert (group.name, group.kind, group.n_images) == ("all", "all", 30)
    assert group.verdict == verdict
    assert group.difference == pytest.approx(shift, abs=0.03)
    assert group.low < group.difference < group.high
    assert group.b_mean - group.a_mean == pytest.approx(group.difference)
    assert found.is_worse == (verdict == "worse")


def test_a_modality_that_got_worse_is_told_although_the_mean_did_not():
    other = {"modality": "dic", "dataset": "two"}
    before = scores() + scores(**other)
    after = scores(shift=0.1, seed=1) + scores(shift=-0.1, seed=2, **other)
    found = compare_runs(run_of(before), run_of(after))
    assert verdicts(found) == {
        "all": "same",
        "phase": "better",
        "dic": "worse",
        "phase/one": "better",
        "dic/two": "worse",
    }


def test_two_images_are_too_few_to_tell():
    before = [image("a.png", 0.9), image("b.png", 0.8)]
    after = [image("a.png", 0.5), image("b.png", 0.4)]
    found = compare_runs(run_of(before), run_of(after))
    assert found.groups[0].high < 0
    assert not found.is_worse


def test_many_data_sets_need_a_smaller_p():
    # Six images all slightly worse: p = 2/64, enough alone, too little as one of eight.
    def runs(n_sets):
        sets = [f"set{i}" for i in range(n_sets)]
        before = [image(f"{i}.png", 0.5, "phase", name) for name in sets for i in range(6)]
        after = [
            image(f"{i}.png", 0.5 - 0.01 * (i + 1) * (name == "set0"), "phase", name)
            for name in sets
            for i in range(6)
        ]
        return compare_runs(run_of(before), run_of(after))

    assert verdicts(runs(1))["phase/set0"] == "worse"
    assert verdicts(runs(8))["phase/set0"] == "same"


def test_data_sets_apart_are_in_no_other_group():
    apart = replace(SUMMARY, name="phase/odd", kind="dataset", apart=True)
    odd = {"modality": "phase", "dataset": "odd"}
    before = replace(run_of(scores() + scores(**odd)), summaries=(apart,))
    after = run_of(scores(seed=1) + scores(shift=-0.2, seed=2, **odd))
    found = compare_runs(before, after)
    assert [group.n_images for group in found.groups if group.name in ("all", "phase")] == [30, 30]
    assert [group.name for group in found.groups if group.apart] == ["phase/odd"]
    assert verdicts(found)["phase/odd"] == "worse"


def test_images_of_one_run_only_are_named_and_left_out():
    before = [image("a.png", 0.5), image("b.png", 0.5), image("c.png", 0.1)]
    after = [image("b.png", 0.7), image("a.png", 0.6), image("d.png", 0.1)]
    found = compare_runs(run_of(before), run_of(after))
    assert (found.only_a, found.only_b) == (("phase/one/c.png",), ("phase/one/d.png",))
    assert [one.key for one in found.images] == ["phase/one/b.png", "phase/one/a.png"]
    assert found.groups[0].difference == pytest.approx(0.15)


def test_other_scores_can_be_compared():
    found = compare_runs(run_of([image("a.png", 0.5)]), run_of([image("a.png", 0.7)]), "aji")
    assert found.groups[0].difference == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (run_of([image("z.png", 0.5)]), "no image in common"),
        (run_of([]), "no image in common"),
        (run_of([image("a.png", 0.5)], thresholds=(0.75,)), "no common threshold"),
        (replace(run_of([image("a.png", 0.5)]), rules=Rules(border_px=0)), "different rules"),
        (run_of([image("a.png", 0.5), image("a.png", 0.6)]), "several images"),
    ],
)
def test_runs_that_cannot_be_compared(other, words):
    run = run_of([image("a.png", 0.5)])
    with pytest.raises(ValueError, match=words):
        compare_runs(run, other)
    with pytest.raises(ValueError, match="metric"):
        compare_runs(run, run, "beauty")


@pytest.fixture
def files(tmp_path):
    write_run(tmp_path / "a.json", run_of(scores(), "before"))
    write_run(tmp_path / "b.json", run_of([*scores(shift=-0.1, seed=1)[:25], image("new", 1)]))
    return tmp_path / "a.json", tmp_path / "b.json"


def test_the_exit_code_tells_what_is_worse(files, tmp_path, capsys):
    a, b = map(str, files)
    out = tmp_path / "c.json"
    assert main([a, b, "--json", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "only in A, left out: 5 images (phase/one/25.png, " in printed
    assert "only in B, left out: 1 images (phase/one/new)" in printed
    assert "worse beyond noise: all, phase, phase/one" in printed
    plain = json.loads(out.read_text())
    assert plain["is_worse"]
    assert plain["groups"][0]["verdict"] == "worse"
    differences = [abs(one["difference"]) for one in plain["images"]]
    assert differences == sorted(differences, reverse=True)
    assert main([b, a]) == 0
    assert "worse beyond noise: nothing" in capsys.readouterr().out


def test_wrong_files_exit_with_two(files, tmp_path, caplog):
    a, _ = map(str, files)
    (tmp_path / "x.json").write_text("{}")
    assert main([a, str(tmp_path / "x.json")]) == 2
    assert "x.json" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        main([a])


def test_unscored_images_are_not_compared():
    before = run_of([image("a.png", 0.5), image("b.png", 0.5)])
    after = replace(
        run_of([image("a.png", 0.5)]), unscored=(Unscored("b.png", "phase", "one", "bad"),)
    )
    found = compare_runs(before, after)
    assert found.only_a == ("phase/one/b.png",)
    assert len(found.images) == 1
