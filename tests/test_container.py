"""What the container image is made of, checked without building it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_OF = {"opencv-python-headless": "cv2", "pillow": "PIL"}  # names that imports have
OPTIONAL = {"dask", "distributed"}  # with --workers and --dask only; a user installs them


def own_modules(folder: Path) -> set[str]:
    """Top-level modules and packages of the project."""
    files = {path.stem for path in folder.glob("*.py")}
    return files | {path.parent.name for path in folder.glob("*/*.py")} - {"tests"}


def imported_names(path: Path) -> set[str]:
    """First parts of all names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def modules_of_prediction() -> set[str]:
    """What predict.py imports of the project, room by room."""
    known, found, waiting = own_modules(ROOT), set(), {"predict"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        files = [ROOT / f"{module}.py"] if (ROOT / f"{module}.py").exists() else []
        files += (ROOT / module).glob("**/*.py")
        waiting |= {name for path in files for name in imported_names(path) & known} - found
    return found


def copied_names() -> set[str]:
    """What the Dockerfile copies out of the clone."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--" not in line]
    return {name.rstrip("/").removesuffix(".py") for names in copies for name in names}


def test_the_image_holds_what_prediction_imports_and_no_more():
    rooms = {name for name in copied_names() if name in own_modules(ROOT)}
    assert rooms == modules_of_prediction()


def test_what_the_image_copies_may_enter_the_build():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:].rstrip("/").removesuffix(".py") for line in lines if line.startswith("!")}
    assert copied_names() == allowed


def test_the_image_has_the_packages_that_prediction_imports():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    in_image, mark, further = text.partition("# Not in the container")
    assert mark in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    packages = {line.partition("==")[0] for line in in_image.splitlines() if "==" in line}
    assert {"scipy==", "numba=="} <= {line[: line.find("==") + 2] for line in further.splitlines()}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rooms = modules_of_prediction()
    files = [ROOT / f"{room}.py" for room in rooms if (ROOT / f"{room}.py").exists()]
    files += [path for room in rooms for path in (ROOT / room).glob("**/*.py")]
    imported: set[str] = set()
    for path in files:
        if str(path.relative_to(ROOT)) not in ignored:
            imported |= imported_names(path)
    further_names = imported - own_modules(ROOT) - set(sys.stdlib_module_names)
    assert further_names - OPTIONAL <= {PACKAGE_OF.get(name, name) for name in packages}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_and_has_a_reason(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line and not line.startswith(("#", "-r ")):
            requirement, _, reason = line.partition("#")
            assert "==" in requirement, line
            assert reason.strip(), line


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        ([], "/workspace/predict.py"),
        (["--device", "cpu"], "/workspace/predict.py --device cpu"),
        (["--help"], "/workspace/predict.py --help"),
        (["sh", "-c", "python predict.py -i 'a b'"], "predict.py -i a b"),
    ],
)
def test_the_entry_tells_options_from_commands(arguments, called, tmp_path):
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    fake.chmod(0o755)
    run = subprocess.run(
        ["sh", ROOT / "docker-entrypoint.sh", *arguments],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout.strip(), run.returncode, run.stderr) == (called, 3, "")
