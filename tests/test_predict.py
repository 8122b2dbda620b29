import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import imageio.v3 as iio
import pytest
import tifffile

import options
import predict
from manifest import WeightsError, write_entry
from progress import SlideBar
from stopwatch import STAGES, Stopwatch
from tests.fakes import DiscNetwork, draw_discs, fake_job, write_discs
from tiling.engine import SlideProgress
from tiling.settings import TilingSettings

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "numpy",
    "torch",
    "openvino",
    "cellpose",
    "sklearn",
    "scipy",
    "cv2",
    "PIL",
    "tifffile",
    "tqdm",
}


def run(*arguments, job=fake_job, **networks):
    """Run the command line in this process with a fake job."""
    return predict.main(
        [str(argument) for argument in arguments],
        build_job=lambda options, watch: dataclasses.replace(
            job(options.output_path, **networks), overlays=options.overlays, watch=watch
        ),
    )


def run_in_process(*arguments, **options):
    """Run the real command line in a process of its own; say which modules it imported."""
    code = (
        "import atexit, sys; sys.path.insert(0, sys.argv.pop(1));"
        "atexit.register(lambda: sys.stdout.write(' '.join(sys.modules)));"
        "import predict; raise SystemExit(predict.main())"
    )
    command = [sys.executable, "-c", code, str(ROOT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def error_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_help_an_empty_folder_and_wrong_usage_import_nothing_heavy(folders):
    source, output = folders
    asked = run_in_process("--help")
    assert asked.returncode == 0
    assert "--skip-existing" in asked.stdout
    empty = run_in_process("-i", source, "-o", output)
    assert "no images" in empty.stderr
    unknown = run_in_process("-i", source, "-o", output, "--colour")
    missing = run_in_process("-i", source / "none", "-o", output)
    assert [run.returncode for run in (empty, unknown, missing)] == [2, 2, 2]
    for finished in (asked, empty, unknown, missing):
        modules = finished.stdout.splitlines()[-1].split()  # after the text of --help
        assert "predict" in modules
        assert not HEAVY & set(modules)


@pytest.mark.parametrize(("i", "o"), [("-i", "-o"), ("--input_path", "--output_path")])
def test_a_folder_of_images_becomes_a_folder_of_label_images(folders, i, o, caplog):
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    write_discs(source / "two.BMP", n_discs=2)
    (source / ".hidden").write_text("ignored")
    assert run(i, source, o, output) == 0
    assert sorted(path.name for path in output.iterdir()) == ["one_label.tiff", "two_label.tiff"]
    assert tifffile.imread(output / "two_label.tiff").max() == 2
    lines = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert len(lines) == 2
    for part in ("two.BMP", "40 x 40 x 1", "fluorescence", "cdnet_fluorescence", "2 cells"):
        assert part in lines[1]
    for stage in ("routing", "writing", "other"):
        assert f"{stage} 0." in lines[1]


def test_one_file_is_enough(folders):
    source, output = folders
    assert run("-i", write_discs(source / "one.png", n_discs=1), "-o", output) == 0
    assert [path.name for path in output.iterdir()] == ["one_label.tiff"]


def test_what_cannot_be_read_is_named_and_the_others_are_done(folders, caplog):
    source, output = folders
    write_discs(source / "good.png", n_discs=1)
    (source / "empty.png").touch()
    (source / "broken.tif").write_bytes(b"II*\0 no more")
    (source / "notes.txt").write_text("not an image")
    assert run("-i", source, "-o", output) == 1
    assert [path.name for path in output.iterdir()] == ["good_label.tiff"]
    lines = error_lines(caplog)
    assert len(lines) == 3
    for name in ("empty.png", "broken.tif", "notes.txt"):
        (line,) = (line for line in lines if line.startswith(f"{name}: "))
        assert "; " in line  # what to do
        assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        WeightsError("weights/x: differs from manifest.json; restore it"),
        MemoryError("out of memory with a single window; use a smaller --tile"),
        OSError(28, "No space left on device"),
    ],
)
def test_expected_failures_are_one_line(folders, caplog, error):
    class FailingNetwork(DiscNetwork):
        def choose_scale(self, views):
            raise error

    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output, network=FailingNetwork()) == 1
    (line,) = error_lines(caplog)
    assert line.startswith("one.png: ")
    assert str(error) in line
    assert caplog.records[-1].exc_info is None


def test_a_fault_of_the_program_is_logged_with_its_traceback(folders, caplog):
    class FaultyNetwork(DiscNetwork):
        def choose_scale(self, views):
            raise ZeroDivisionError

    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output, network=FaultyNetwork()) == 1
    assert caplog.records[-1].exc_info is not None


def test_an_interrupted_run_says_so(folders, caplog):
    class StoppedNetwork(DiscNetwork):
        def choose_scale(self, views):
            raise KeyboardInterrupt

    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output, network=StoppedNetwork()) == 130
    assert list(output.iterdir()) == []


def test_skip_existing_leaves_label_images_alone_and_overwrite_is_the_default(folders):
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    output.mkdir()
    old = output / "one_label.tiff"
    old.write_bytes(b"old")
    assert run("-i", source, "-o", output, "--skip-existing") == 0
    assert old.read_bytes() == b"old"
    write_discs(source / "two.png", n_discs=2)
    assert run("-i", source, "-o", output, "--skip-existing") == 0
    assert tifffile.imread(output / "two_label.tiff").max() == 2
    assert old.read_bytes() == b"old"
    assert run("-i", source, "-o", output) == 0
    assert tifffile.imread(old).max() == 1


def test_two_inputs_of_one_output_are_both_named(folders, caplog):
    source, output = folders
    write_discs(source / "cell.png", n_discs=1)
    write_discs(source / "cell.extra.bmp", n_discs=1)
    assert run("-i", source, "-o", output) == 2
    (line,) = error_lines(caplog)
    assert "cell.png" in line
    assert "cell.extra.bmp" in line
    assert not output.exists()


def test_overlays_are_written_on_demand(folders):
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output, "--overlays", output / "overlays") == 0
    assert [path.name for path in (output / "overlays").iterdir()] == ["one_label.png"]


def profile_of(text):
    """Read the one line that a program can read; None if there is none."""
    lines = [line for line in text.splitlines() if line.startswith("PROFILE ")]
    assert len(lines) <= 1
    return json.loads(lines[0].removeprefix("PROFILE ")) if lines else None


@pytest.mark.parametrize(("option", "variable"), [("--profile", ""), ("-v", "1")])
def test_a_profile_accounts_for_all_of_the_time(folders, capsys, monkeypatch, option, variable):
    monkeypatch.setenv("CELLSEG_PROFILE", variable)
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output, option) == 0
    profile = profile_of(capsys.readouterr().err)
    assert list(profile["stages"]) == list(STAGES)
    assert sum(profile["stages"].values()) == pytest.approx(profile["total_s"], abs=0.01)
    assert profile["peak_rss_mib"] > 10
    assert profile["stages"]["writing"] > 0


def test_a_run_that_could_not_start_has_a_profile_too(folders, capsys):
    assert run("-i", folders[0], "-o", folders[1], "--profile") == 2
    assert profile_of(capsys.readouterr().err)["stages"]["network"] == 0


def test_nobody_asked_for_a_profile(folders, capsys, monkeypatch):
    monkeypatch.setenv("CELLSEG_PROFILE", "0")
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", output) == 0
    assert profile_of(capsys.readouterr().err) is None


@pytest.mark.parametrize("arguments", [["--runtime", "openvino", "--device", "cuda"]])
def test_a_runtime_that_does_not_fit_the_device_is_wrong_usage(
    folders, caplog, monkeypatch, arguments
):
    monkeypatch.setattr("models.registry.resolve_device", lambda name: name)
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    paths = ["-i", str(source), "-o", str(output)]
    assert predict.main([*paths, *arguments]) == 2
    assert "--runtime torch" in error_lines(caplog)[0]


def test_without_the_containers_folders_both_paths_must_be_given(folders, monkeypatch, capsys):
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    for names in ("INPUT_FOLDERS", "OUTPUT_FOLDERS"):
        monkeypatch.setattr(options, names, (str(output / "gone"),))
    with pytest.raises(SystemExit) as exit_info:
        run("-i", source)
    assert exit_info.value.code == 2
    assert "--output_path" in capsys.readouterr().err
    monkeypatch.setattr(options, "INPUT_FOLDERS", (str(output / "gone"), str(source)))
    assert run("-o", output) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["--device", "tpu"],
        ["--modality", "x-ray"],
        ["--tile", "100"],
        ["--tile", "32"],
        ["--batch-size", "0"],
        ["--overwrite", "--skip-existing"],
        ["--level", "-1"],
        ["--level", "1.5"],
        ["--mpp", "0"],
        ["--mpp", "nan"],
        ["--mpp", "inf"],
        ["--level", "1", "--mpp", "0.5"],
        ["--max-memory", "0"],
        ["--max-gpu-memory", "-2"],
        ["--diameter", "0"],
        ["--diameter", "-30"],
        ["--diameter", "nan"],
        ["--diameter", "inf"],
        ["--diameter", "30px"],
    ],
)
def test_wrong_options_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        predict.main(["-i", "in", "-o", "out", *arguments])
    assert exit_info.value.code == 2
    assert "error" in capsys.readouterr().err


def trained_job(source, output, *arguments):
    """Build the job of a command line; no weights are read."""
    chosen = options.parse_options(["-i", str(source), "-o", str(output), *arguments])
    return predict.build_trained_job(chosen, Stopwatch())


def test_options_reach_the_job(folders):
    usual = trained_job(*folders, "--device", "cpu")
    assert (usual.level, usual.mpp, usual.tiling.skip_empty) == (None, None, True)
    assert usual.tiling.max_memory_bytes is usual.tiling.diameter_px is None
    assert usual.report is None  # no terminal
    chosen = ["--no-skip-empty", "--max-memory", "2.5", "--tile", "256", "--batch-size", "2"]
    job = trained_job(*folders, "--device", "cpu", "--level", "2", *chosen)
    assert (job.level, job.tiling.skip_empty) == (2, False)
    assert job.tiling.max_memory_bytes == 2.5 * 2**30
    assert (job.tiling.tile_px, job.tiling.batch_size) == (256, 2)
    assert trained_job(*folders, "--mpp", "0.5").mpp == 0.5
    assert trained_job(*folders, "--diameter", "17.5").tiling.diameter_px == 17.5


def test_blocks_are_kept_under_the_hash_of_the_weights(folders, tmp_path):
    (tmp_path / "cdnet_fluorescence.safetensors").write_bytes(b"one")
    said = set()
    for content in (b"one", b"two"):
        (tmp_path / "cdnet_fluorescence.safetensors").write_bytes(content)
        write_entry(tmp_path, "cdnet_fluorescence.safetensors", {})
        job = trained_job(*folders, "--weights", str(tmp_path), "--device", "cpu")
        said.add(job.identify("cdnet_fluorescence"))
    assert len(said) == 2
    assert trained_job(*folders, "--device", "cpu", "--runtime", "torch").identify(
        "cdnet_fluorescence"
    ) != trained_job(*folders, "--device", "cpu").identify("cdnet_fluorescence")


def test_empty_windows_are_told_in_the_line_of_an_image(folders, caplog):
    source, output = folders
    pixels = draw_discs((200, 200), [(30, 30, 9)])
    iio.imwrite(source / "one.png", (200 * pixels).astype("uint8"))

    def job(output):
        return dataclasses.replace(fake_job(output), tiling=TilingSettings(block_px=64))

    assert run("-i", source, "-o", output, job=job) == 0
    assert "1 cells, 94% of the windows empty" in caplog.text


def test_a_slide_on_a_terminal_has_a_bar_of_its_own(capsys):
    bar = SlideBar()
    bar(SlideProgress("small.png", 1, 1, 100, 100, 7))
    assert capsys.readouterr().err == ""
    for n_done in (1, 2, 3, 4):
        bar(SlideProgress("large.png", 4, n_done, 4000, 1000 * n_done, 11 * n_done))
    said = capsys.readouterr().err
    assert "large.png" in said
    assert "block 4/4, 44 cells" in said
    assert "4.00k/4.00k" in said


def test_an_image_beside_others_has_no_bar_of_its_own(capsys):
    bar = SlideBar()
    thread = threading.Thread(target=bar, args=(SlideProgress("one.png", 4, 1, 4000, 1000, 7),))
    thread.start()
    thread.join()
    assert capsys.readouterr().err == ""


def test_images_side_by_side_get_the_labels_and_the_order_of_one_after_another(folders, caplog):
    source, output = folders
    for k in range(7):
        write_discs(source / f"image{k}.png", n_discs=k % 3 + 1)
    (source / "image3.png").write_bytes(b"broken")
    labels = {}
    for n_decoders in (0, 3):

        def job(output, n_decoders=n_decoders):
            return dataclasses.replace(
                fake_job(output), tiling=TilingSettings(n_decoders=n_decoders)
            )

        caplog.clear()
        out = output / str(n_decoders)
        assert run("-i", source, "-o", out, job=job) == 1
        said = [record.getMessage().partition(":")[0] for record in caplog.records]
        assert said == [f"image{k}.png" for k in range(7)]
        labels[n_decoders] = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(labels[0]) == 6
    assert labels[0] == labels[3]


def test_the_profile_of_images_side_by_side_tells_the_time_that_passed(folders, capsys):
    source, output = folders
    for k in range(4):
        write_discs(source / f"image{k}.png", n_discs=1)
    assert run("-i", source, "-o", output, "--profile") == 0
    profile = profile_of(capsys.readouterr().err)
    assert profile["stages"]["writing"] > 0
    assert profile["stages"]["waiting"] < profile["total_s"]


def test_a_missing_input_folder_is_wrong_usage(folders, caplog):
    source, output = folders
    assert run("-i", source / "gone", "-o", output) == 2
    assert "gone" in error_lines(caplog)[0]


def test_labels_may_not_land_among_the_images(folders, caplog):
    source, _ = folders
    write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", source) == 2
    assert "input folder" in error_lines(caplog)[0]


def test_an_output_folder_that_cannot_be_is_wrong_usage(folders, caplog):
    source, _ = folders
    image = write_discs(source / "one.png", n_discs=1)
    assert run("-i", source, "-o", image / "out") == 2
    assert "cannot be written" in error_lines(caplog)[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_wrong_usage(folders, caplog):
    source, output = folders
    write_discs(source / "one.png", n_discs=1)
    output.mkdir(mode=0o500)
    assert run("-i", source, "-o", output) == 2
    assert "cannot be written" in error_lines(caplog)[0]


def test_predict_sh_runs_the_organisers_command_with_a_plain_shell(tmp_path):
    shutil.copy(ROOT / "predict.sh", tmp_path)
    (tmp_path / "predict.py").write_text("import sys; sys.stdout.write(repr(sys.argv[1:]))")
    shell_path = tmp_path / "bin"
    shell_path.mkdir()
    (shell_path / "python").symlink_to(sys.executable)
    environment = {"PATH": f"{shell_path}:{os.environ['PATH']}"}
    finished = subprocess.run(
        ["sh", str(tmp_path / "predict.sh"), "--device", "cpu", "-o", "a b"],
        cwd=tmp_path.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    organisers = ["-i", "/workspace/inputs/", "-o", "/workspace/outputs/"]
    assert finished.stdout == repr([*organisers, "--device", "cpu", "-o", "a b"])
