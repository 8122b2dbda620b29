"""What a run may take of the host's memory and of a GPU's, by default and when told."""

import pytest

import models.gpu_memory
import models.registry
import options
import predict
from tiling.settings import DEFAULT_GPU_MEMORY_GIB, DEFAULT_MEMORY_GIB

GIB = 2**30


def read(*arguments):
    return options.parse_options(["-i", "in", "-o", "out", *arguments])


def test_on_the_cpu_memory_has_a_usual_limit_that_leaves_small_images_side_by_side():
    tiling = predict.choose_tiling(read(), "cpu")
    assert tiling.usual_memory_bytes == DEFAULT_MEMORY_GIB * GIB == 3 * GIB
    assert tiling.max_memory_bytes is None
    assert predict.choose_tiling(read("--max-memory", "7"), "cpu").max_memory_bytes == 7 * GIB


def test_beside_a_gpu_the_host_has_no_usual_limit():
    assert predict.choose_tiling(read(), "cuda").usual_memory_bytes is None
    assert predict.choose_tiling(read("--max-memory", "2"), "cuda").max_memory_bytes == 2 * GIB


@pytest.mark.parametrize(
    ("arguments", "limit_gib"),
    [
        ((), DEFAULT_GPU_MEMORY_GIB),
        (("--max-gpu-memory", "4"), 4),
        (("--max-gpu-memory", "40"), 40),
    ],
)
def test_a_gpu_is_limited_by_default_and_as_told(monkeypatch, arguments, limit_gib):
    asked = []
    monkeypatch.setattr(models.registry, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(models.registry, "resolve_runtime", lambda *_: "torch")
    monkeypatch.setattr(models.gpu_memory, "limit_gpu_memory", lambda *of: asked.append(of))
    assert predict.choose_runtime(read(*arguments)) == ("cuda", "torch")
    assert asked == [("cuda", limit_gib)]


def test_the_usual_limit_of_a_gpu_leaves_room_for_its_own_context():
    context_bytes = 0.5 * GIB
    assert DEFAULT_GPU_MEMORY_GIB * GIB + context_bytes < 10e9


def test_without_a_gpu_nothing_is_limited(monkeypatch):
    def refuse(*of):
        raise AssertionError(of)

    monkeypatch.setattr(models.gpu_memory, "limit_gpu_memory", refuse)
    assert predict.choose_runtime(read("--device", "cpu"))[0] == "cpu"


def test_help_tells_the_usual_limits(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: 3 on the CPU" in said
    assert "(default: 8.5, in all less than 10 GB)" in said
