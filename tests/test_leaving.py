"""How the process of predict.py ends."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BEGIN = (
    "import atexit, logging, sys, threading, time; sys.path.insert(0, sys.argv.pop(1))\n"
    "import predict\n"
    "atexit.register(lambda: print('taken down'))\n"
)


def end(*lines):
    """Run lines of Python in a process that has imported predict."""
    command = [sys.executable, "-c", BEGIN + "\n".join(lines), str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("code", [0, 1, 130])
def test_all_that_was_said_comes_out_and_nothing_is_taken_down(code):
    finished = end(
        "logging.basicConfig()",
        "logging.error('said')",
        "print('printed', end='')",
        f"predict._leave({code})",
    )
    assert finished.returncode == code
    assert finished.stdout == "printed"
    assert "said" in finished.stderr


def test_a_listener_that_has_gone_changes_no_exit_code():
    finished = end("print('to nobody')", "sys.stdout.close()", "predict._leave(1)")
    assert (finished.returncode, finished.stderr) == (1, "")


def test_threads_that_still_work_are_waited_for():
    finished = end(
        "threading.Thread(target=lambda: (time.sleep(0.5), print('done'))).start()",
        "predict._leave(3)",
    )
    assert finished.returncode == 3
    assert finished.stdout == "done\ntaken down\n"


def test_the_command_line_ends_this_way(tmp_path):
    script = [sys.executable, str(ROOT / "predict.py"), "-i", str(tmp_path), "-o", str(tmp_path)]
    finished = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 2
    assert "no images" in finished.stderr
