"""Stand-ins for the runtime harness's tests: a container engine, a predict.py, a GPU."""

import sys
import types
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

PROFILE = 'PROFILE {"total_s": 0.5, "peak_rss_mib": 9, "stages": {"start": 0.1, "network": 0.4}}'
MIB = 2**20

# What every stand-in does with one image: by its name it fails, hangs, or gets the label image
# that the test has laid out for it, if any.
LABEL_ONE = """
for image in "$inputs"/*; do
    name=$(basename "$image"); name=${name%%.*}
    case $name in
        bad*) echo "cannot read $name" >&2; exit 3;;
        hang*) exec sleep 600;;
    esac
    if [ -e "$FAKE/labels/$name" ]; then cp "$FAKE/labels/$name" "$outputs/$name$suffix"; fi
done
"""

ENGINE = f"""#!/bin/sh
echo "$*" >>"$FAKE/log"
case "$1 $2" in
    "image inspect") [ "$3" = tiny:latest ]; exit;;
    "container inspect") [ "$3" = -f ] && exec cat "$FAKE/pid"; [ -e "$FAKE/taken" ]; exit;;
    "kill "*) kill -9 "$(cat "$FAKE/pid")"; exit;;
    "rm "*) exit 0;;
esac
while [ $# -gt 0 ]; do
    case $1 in
        --cidfile) cid=$2;;
        *:/workspace/inputs/) inputs=${{1%%:*}};;
        *:/workspace/outputs/) outputs=${{1%%:*}};;
        *=1) profile=$1;;
    esac
    shift
done
suffix=_label.tiff
echo $$ >"$FAKE/pid"
cat "$FAKE/cid" >"$cid"
{LABEL_ONE}
sleep 0.3
if [ "$profile" = CELLSEG_PROFILE=1 ]; then echo '{PROFILE}' >&2; fi
"""

PEER = f"""#!/bin/sh
echo "peer $*" >>"$FAKE/log"
inputs=$1 outputs=$2 suffix=$3
{LABEL_ONE}
"""

PREDICT = f"""
import os, subprocess, sys
with open(os.environ["FAKE"] + "/log", "a") as log:
    print("predict", *sys.argv[1:], file=log)
print({PROFILE!r} if os.environ["CELLSEG_PROFILE"] == "1" else "", file=sys.stderr)
peer = os.environ["FAKE"] + "/bin/peer"
sys.exit(subprocess.call([peer, sys.argv[2], sys.argv[4], "_label.tiff"]))
"""


class Stage:
    """A folder with stand-ins, images and their label images.

    Parameters
    ----------
    folder : Path
        Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.output = folder / "images", folder / "out"
        for name in ("bin", "labels", "images"):
            (folder / name).mkdir()
        self.predict = folder / "predict.py"
        self.predict.write_text(PREDICT)
        for name, text in (("docker", ENGINE), ("peer", PEER)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        # A piece of this process's own control group stands for the container's id: that is
        # where the harness looks whether a process belongs to the container.
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[0]
        (folder / "cid").write_text(group)

    def add_image(self, name: str, shape=(30, 40), label_shape=None, with_label=True) -> None:
        """Write an image, and the label image that a stand-in gives it."""
        Image.fromarray(np.zeros(shape, np.uint8)).save(self.images / name)
        if with_label:
            labels = np.ones(label_shape or shape, np.uint16)
            tifffile.imwrite(self.folder / "labels" / name.split(".", maxsplit=1)[0], labels)

    @property
    def log(self) -> list[str]:
        """Commands that the stand-ins were given."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


class NvmlError(Exception):
    """What the stand-in of pynvml raises."""


def fake_nvml(*levels_mib: int) -> types.SimpleNamespace:
    """Make what the harness needs of pynvml: one GPU with so much in use at successive samples."""
    levels = list(levels_mib)

    def open_device(index):
        if index != 0:
            raise NvmlError
        return index

    def measure(handle):
        return types.SimpleNamespace(used=(levels.pop(0) if levels[1:] else levels[0]) * MIB)

    return types.SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=open_device,
        nvmlDeviceGetHandleByUUID=open_device,
        nvmlDeviceGetName=lambda _: "Fake GPU",
        nvmlDeviceGetMemoryInfo=measure,
    )


def install_nvml(monkeypatch, nvml) -> None:
    """Let ``import pynvml`` find a stand-in, or (None) nothing."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
