"""A small image is labelled while the scale at which it is seen is judged."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from eval.leave_one_out import GivenScale
from tests.fakes import DiscNetwork, array_image, scatter_discs
from tiling.expert import apply_expert
from tiling.settings import TilingSettings
from tiling.survey import WHOLE_PX, survey_image

PIXELS = scatter_discs((150, 130), spacing=30, radius=10)


@dataclass
class JudgingNetwork(DiscNetwork):
    """Find discs; guess a scale, and mend it to another one."""

    tile_px: int = 192
    style: float = 0.1
    guess: float = 1.0
    mended: float = 1.0
    asked: list[str] = field(default_factory=list)

    def choose_scale(self, views):
        raise AssertionError("it is asked in parts")

    def guess_scale(self, views):
        self.asked.append("guess")
        return self.guess

    def refine_scale(self, views, scale):
        assert scale == self.guess
        self.asked.append("refine")
        return self.mended

    def judge_scale(self, views, scale, maps):
        assert scale == self.guess
        self.asked.append("judge")
        return self.mended, super().decode(maps)

    def decode(self, maps):
        self.asked.append("decode")
        return super().decode(maps)


def apply(network: Any, tmp_path, pixels=PIXELS, **settings):
    """Segment an image; give its labels and what that took."""
    image = array_image(pixels)
    cut = TilingSettings(**settings)
    found = apply_expert(network, image, survey_image(image), tmp_path, cut)
    return found.labels, found.done


def apply_at(scale, tmp_path, pixels=PIXELS, **settings):
    """Segment an image with a network that knows its scale beforehand."""
    network = DiscNetwork(tile_px=192, style=0.1, scale=scale)
    return apply(network, tmp_path, pixels, **settings)


@pytest.mark.parametrize("scale", [0.5, 0.83, 1.0, 1.25])
def test_a_good_guess_is_computed_and_decoded_once(tmp_path, scale):
    network = JudgingNetwork(guess=scale, mended=scale)
    labels, done = apply(network, tmp_path)
    assert network.calls == 1
    assert network.asked == ["guess", "judge"]
    expected, as_done = apply_at(scale, tmp_path)
    assert labels.max() > 10
    np.testing.assert_array_equal(labels, expected)
    assert done == as_done
    assert done.n_windows == 1


def test_where_the_guess_is_mended_the_image_is_computed_at_the_other_scale(tmp_path):
    network = JudgingNetwork(guess=1.2, mended=0.6)
    labels, done = apply(network, tmp_path)
    assert network.calls == 2
    assert network.asked == ["guess", "judge", "decode"]
    expected, as_done = apply_at(0.6, tmp_path)
    np.testing.assert_array_equal(labels, expected)
    assert done == as_done


@pytest.mark.parametrize(
    ("guess", "settings"),
    [(1.5, {}), (1.0, {"tile_px": 96}), (1.0, {"block_px": 100})],
    ids=["wider than a window", "smaller windows", "several blocks"],
)
def test_a_larger_image_is_not_computed_before_its_scale_is_known(tmp_path, guess, settings):
    network = JudgingNetwork(guess=guess, mended=0.9)
    labels, done = apply(network, tmp_path, **settings)
    assert network.asked[:2] == ["guess", "refine"]
    assert "judge" not in network.asked
    expected, as_done = apply_at(0.9, tmp_path, **settings)
    np.testing.assert_array_equal(labels, expected)
    assert done == as_done


def test_an_image_beyond_its_views_is_not_judged_as_a_whole(tmp_path):
    pixels = scatter_discs((60, WHOLE_PX + 1), spacing=30, radius=10)
    network = JudgingNetwork(guess=0.1, mended=0.1)
    apply(network, tmp_path, pixels)
    assert network.asked == ["guess", "refine", "decode"]


def test_a_network_that_judges_nothing_pays_nothing(tmp_path):
    network = DiscNetwork(tile_px=192)
    apply(network, tmp_path)
    assert network.calls == 1


def test_a_scale_that_is_given_is_taken_whatever_the_network_would_guess(tmp_path):
    network = JudgingNetwork(guess=1.2, mended=1.2)
    labels, _ = apply(GivenScale(network, 0.7), tmp_path)
    assert network.asked == ["decode"]
    np.testing.assert_array_equal(labels, apply_at(0.7, tmp_path)[0])


@dataclass
class FullNetwork(JudgingNetwork):
    """Raise an error when it is asked one of its questions."""

    failing: str = ""
    error: Exception = field(default_factory=lambda: RuntimeError("CUDA out of memory"))

    def _fail(self, question):
        if question == self.failing:
            raise self.error

    def guess_scale(self, views):
        self._fail("guess")
        return super().guess_scale(views)

    def refine_scale(self, views, scale):
        self._fail("refine")
        return super().refine_scale(views, scale)

    def judge_scale(self, views, scale, maps):
        self._fail("judge")
        return super().judge_scale(views, scale, maps)


class FullWithoutJudgement(DiscNetwork):
    """Raise an error when it is asked for a scale, in one question."""

    def choose_scale(self, views):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (FullNetwork(failing="guess"), {}),
        (FullNetwork(failing="judge"), {}),
        (FullNetwork(failing="judge", error=MemoryError()), {}),
        (FullNetwork(failing="refine"), {"block_px": 100}),
        (FullWithoutJudgement(), {}),
    ],
)
def test_no_memory_for_choosing_a_scale_is_an_error_with_a_remedy(tmp_path, network, settings):
    with pytest.raises(MemoryError, match=r"while the scale was chosen; .*--device cpu"):
        apply(network, tmp_path, **settings)


def test_other_errors_in_choosing_a_scale_are_not_hidden(tmp_path):
    error = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        apply(FullNetwork(failing="judge", error=error), tmp_path)
