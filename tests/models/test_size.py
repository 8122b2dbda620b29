from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from eval.leave_one_out import GivenScale
from models.cellpose_expert import (
    NET_DIAMETER_PX,
    SCALE_RANGE,
    CellposeSegmenter,
)
from models.flows import CheckedInstances, encode_flows
from models.looks import (
    BLIND_SCALES,
    Look,
    best_look,
    measure_look,
    typical_diameter,
)
from models.size_model import KERNEL, SizeModel
from models.size_view import LOOK_PX, SPREAD_PX, WIDE_PX, cut_busy, resize_view
from tests.cells import draw_discs
from tests.fakes import array_image
from tiling.expert import apply_expert
from tiling.settings import TilingSettings
from tiling.survey import survey_image

SHAPES = [(1, 1), (5, 900), (40, 64), (97, 61), (384, 385), (1024, 700)]
FACTORS = [1 / 16, 0.3, 1.0, 2.7, 4.0]


class DiscRuntime:
    """Stand-in for CPnet: perfect maps of bright discs, and a spread that tells their diameter."""

    device = "cpu"

    def __init__(self, log_ratio: float | None = None) -> None:
        self.log_ratio = log_ratio  # or what it is told to tell
        self.n_spreads = self.n_maps = 0

    def run(self, output, batch):
        labels = ndimage.label(batch[0, :, :, 0] > 0.5)[0].astype(np.int32)
        if output == "spread":
            return self.spread(labels)
        self.n_maps += 1
        cell = np.where(labels > 0, 6.0, -6.0)[None]
        return np.concatenate([5 * encode_flows(labels), cell]).astype(np.float32)[None]

    def spread(self, labels):
        self.n_spreads += 1
        if self.log_ratio is not None:
            return np.array([[self.log_ratio]], np.float32)
        diameter = np.median(np.sqrt(np.bincount(labels.ravel())[1:] * 4 / np.pi))
        return np.array([[np.log(diameter / NET_DIAMETER_PX)]], np.float32)


class PlainSizeModel(SizeModel):
    """Pass on what the spread tells."""

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), 0.0)

    def scale_step(self, spread):
        return float(np.exp(-spread[0]))


class DiscSegmenter(CellposeSegmenter):
    """See discs; its size model passes on what the spread tells."""

    def __init__(self, log_ratio: float | None = None) -> None:
        self.discs = DiscRuntime(log_ratio)
        super().__init__(self.discs, PlainSizeModel())


class ToldSegmenter(DiscSegmenter):
    """Estimate of each view the value of its first pixel."""

    def spread_scale(self, view):
        return float(view[0, 0, 0])

    def look(self, views, scale, side_px=LOOK_PX):
        return Look(scale, 1.0, 1.0)


def disc_view(radius, side=240):
    """Draw a three by three grid of discs."""
    places = [side * k // 6 for k in (1, 3, 5)]
    discs = draw_discs((side, side), [(y, x, radius) for y in places for x in places])
    return np.repeat((discs > 0).astype(np.float32)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("largest", [SPREAD_PX, WIDE_PX])
def test_windows_have_sides_that_the_network_takes(shape, factor, largest):
    window = resize_view(np.full((*shape, 3), 0.5, np.float32), factor, largest)
    assert window.dtype == np.float32
    assert window.shape[2] == 3
    assert all(side % 32 == 0 and 64 <= side <= largest for side in window.shape[:2])
    np.testing.assert_allclose(window, 0.5, atol=1e-6)


def test_a_large_view_gives_its_middle_and_a_small_one_is_mirrored():
    view = np.random.default_rng(0).random((500, 70, 3), np.float32)
    window = resize_view(view, 1.0, 384)
    assert window.shape == (384, 96, 3)
    np.testing.assert_array_equal(window[:, :70], view[58:442])
    np.testing.assert_array_equal(window[:, 70:], view[58:442, :43:-1])


def ring_view(height, width):
    """Draw cells along the edge of an empty ellipse."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    places = [((0.5 + 0.4 * np.sin(a)) * height, (0.5 + 0.4 * np.cos(a)) * width) for a in angles]
    discs = draw_discs((height, width), [(int(y), int(x), 8) for y, x in places])
    return np.repeat((discs > 0).astype(np.float32)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("shape", [(600, 1200), (1200, 500), (640, 640)])
def test_where_the_middle_is_empty_a_window_is_cut_where_there_are_cells(shape):
    view = ring_view(*shape)
    middle = view[shape[0] // 2 - 96 :, shape[1] // 2 - 96 :][:192, :192]
    assert middle.max() == 0
    window = cut_busy(view, 192)
    assert window.shape == (192, 192, 3)
    assert window.mean() > 0.5 * view.mean()
    assert np.isfinite(DiscSegmenter().look([view], 1.9).size_ratio)


@pytest.mark.parametrize("shape", [(300, 500), (500, 300)])
def test_of_a_view_without_texture_the_middle_is_cut(shape):
    y, x = np.indices(shape)
    view = np.stack([y, x, y], axis=2).astype(np.float32) * 1e-3  # the same slope everywhere
    window = cut_busy(view, 128)
    middle = view[shape[0] // 2 - 64 :, shape[1] // 2 - 64 :][:128, :128]
    np.testing.assert_allclose(window, middle, atol=5e-3)
    np.testing.assert_array_equal(cut_busy(view, 500), view)


@pytest.mark.parametrize("factor", [0.4, 0.5, 2.0])
def test_resampling_keeps_local_means(factor):
    view = np.zeros((160, 160, 3), np.float32)
    view[:80] = 1
    window = resize_view(view, factor, 384)[: round(160 * factor), : round(160 * factor)]
    assert window.mean() == pytest.approx(0.5, abs=0.01)
    assert window[: round(70 * factor)].min() == 1


def test_no_view_leaves_the_image_as_it_is():
    assert DiscSegmenter().choose_scale([]) == 1.0


def test_a_spread_that_is_known_tells_its_size_and_another_that_of_all():
    centres = np.eye(3, dtype=np.float32)
    model = SizeModel(centres, np.array([1.0, -2.0, 0.0], np.float32), 0.5)
    other = np.exp(-KERNEL * 2)  # how much one unit vector tells of one at a right angle to it
    assert model.scale_step(centres[0]) == pytest.approx(np.exp(-(1 - 2 * other + 0.5)))
    assert model.scale_step(centres[1]) == pytest.approx(np.exp(-(other - 2 + 0.5)))
    assert model.scale_step(np.array([0, 0, -9], np.float32)) == pytest.approx(np.exp(-0.5))


def test_a_spread_that_is_no_vector_tells_nothing():
    model = SizeModel(np.ones((1, 2), np.float32), np.ones(1, np.float32), 0.5)
    assert model.scale_step(np.array([np.nan, 1.0], np.float32)) == 1.0


def test_a_spread_that_says_twice_too_large_halves_the_scale_each_round():
    segmenter = DiscSegmenter(log_ratio=np.log(2))
    assert segmenter.spread_scale(np.zeros((200, 200, 3), np.float32)) == pytest.approx(1 / 8)
    assert segmenter.discs.n_spreads == 3


def test_a_spread_that_is_content_is_asked_once():
    segmenter = DiscSegmenter(log_ratio=0.0)
    assert segmenter.spread_scale(np.zeros((200, 200, 3), np.float32)) == 1.0
    assert segmenter.discs.n_spreads == 1


@pytest.mark.parametrize(("ratio", "n_spreads"), [(1.12, 1), (1 / 1.12, 1), (1.6, 3), (0.65, 3)])
def test_a_spread_is_asked_again_only_where_it_changes_the_scale_much(ratio, n_spreads):
    segmenter = DiscSegmenter(log_ratio=np.log(ratio))
    scale = segmenter.spread_scale(np.zeros((200, 200, 3), np.float32))
    assert segmenter.discs.n_spreads == n_spreads
    assert scale == pytest.approx(ratio**-n_spreads)


@pytest.mark.parametrize("ratio", [1.25, 0.8, 1.45])
def test_two_estimates_that_agree_are_averaged(ratio):
    segmenter = DiscSegmenter(log_ratio=np.log(ratio))
    scale = segmenter.spread_scale(np.zeros((200, 200, 3), np.float32))
    assert segmenter.discs.n_spreads == 2
    assert scale == pytest.approx(ratio**-1.5)  # between the first and the second


def test_a_large_view_is_first_seen_whole():
    segmenter = DiscSegmenter(log_ratio=0.0)
    assert segmenter.spread_scale(np.zeros((2 * SPREAD_PX, 100, 3), np.float32)) == 0.5


@pytest.mark.parametrize(("log_ratio", "end"), [(9.0, 0), (-9.0, 1), (300.0, 0)])
def test_estimates_stay_in_range(log_ratio, end):
    view = np.zeros((100, 100, 3), np.float32)  # no cells that could correct the spread
    assert DiscSegmenter(log_ratio).choose_scale([view]) == pytest.approx(SCALE_RANGE[end])


@pytest.mark.parametrize(("radius", "scale"), [(9, 1.0), (9, 1.4), (15, 1.0), (30, 0.6), (30, 1.0)])
def test_cells_of_known_size_correct_the_scale(radius, scale):
    refined = DiscSegmenter().refine_scale([disc_view(radius)], scale)
    # the bound is for the pixels of small discs: 5 % of 18 px is less than one pixel
    assert refined == pytest.approx(NET_DIAMETER_PX / (2 * radius), rel=0.05)


@pytest.mark.parametrize(
    ("areas", "diameter_px"),
    [
        ([100, 100, 100], 11.28),
        ([100, 200, 300, 0, 0], 15.96),  # the plain median of cells that differ by a factor of 3
        ([5, 5, 5, 5, 1000], 35.68),  # specks beside one cell
        ([10] * 100 + [1000] * 40, 35.68),
        ([26] * 9 + [100] * 10, 11.28),  # just cells: half the diameter and a little more
        ([7], 2.985),  # nothing larger: then this is the cell
    ],
)
def test_debris_does_not_decide_how_large_cells_are(areas, diameter_px):
    measured = typical_diameter(np.array(areas))
    assert measured == pytest.approx(diameter_px, rel=1e-3)
    assert typical_diameter(np.array(areas[::-1])) == measured


@pytest.mark.parametrize("areas", [[], [0, 0]])
def test_no_cells_have_no_size(areas):
    assert np.isnan(typical_diameter(np.array(areas, np.intp)))


def test_without_cells_the_scale_stays():
    view = np.zeros((100, 120, 3), np.float32)
    assert DiscSegmenter().refine_scale([view], 0.7) == 0.7


def test_corrections_stay_in_range():
    assert DiscSegmenter().refine_scale([disc_view(3)], 3.9) == SCALE_RANGE[1]


@pytest.mark.parametrize("radius", [7, 15, 36])
def test_spread_and_cells_together_find_the_scale(radius):
    scale = DiscSegmenter().choose_scale([disc_view(radius)])
    assert scale == pytest.approx(NET_DIAMETER_PX / (2 * radius), rel=0.05)


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [([0.5], 0.5), ([0.25, 2.0, 1.0], 1.0), ([0.5, 2.0], 1.0), ([4.0, 0.1, 0.2, 0.8], 0.4)],
)
def test_the_views_vote_by_their_median(estimates, expected):
    views = [np.full((8, 8, 3), value, np.float32) for value in estimates]
    assert ToldSegmenter().choose_scale(views) == pytest.approx(expected, rel=1e-5)


def test_a_sound_look_is_the_only_one():
    segmenter = DiscSegmenter()
    segmenter.refine_scale([disc_view(15)], 1.0)
    assert segmenter.discs.n_maps == 1


def test_where_cells_are_off_the_scale_that_they_ask_for_is_looked_at():
    segmenter = DiscSegmenter()
    scale = segmenter.refine_scale([disc_view(26)], 1.0)
    assert segmenter.discs.n_maps == 2
    assert scale == pytest.approx(NET_DIAMETER_PX / 52, rel=0.05)


class DoubtfulSegmenter(DiscSegmenter):
    """See cells of a size, and flows that never agree, best at one scale."""

    def __init__(self, size_ratio, best_scale):
        super().__init__()
        self.size_ratio, self.best_scale = size_ratio, best_scale
        self.scales: list[float] = []

    def look(self, views, scale, side_px=LOOK_PX):
        self.scales.append(scale)
        octaves = abs(np.log2(scale / self.best_scale))
        return Look(scale, self.size_ratio, 0.7 / (1 + octaves))


@pytest.mark.parametrize(
    ("size_ratio", "scales"),
    [
        (1.0, [1, 0.5, 2, 2**0.5, 2**1.5]),  # content with the first scale: it is not asked again
        (2.0, [1, 0.5**0.35, 0.5, 2, 2**0.5, 2**1.5]),
    ],
)
def test_where_that_helps_not_half_and_twice_and_what_lies_beside_the_best(size_ratio, scales):
    segmenter = DoubtfulSegmenter(size_ratio, 2.0)
    segmenter.refine_scale([disc_view(15)], 1.0)
    assert segmenter.scales == pytest.approx(scales)


def judge(radius, scale):
    """Judge a scale by the maps of a whole image; give the answer and what it took."""
    segmenter = DiscSegmenter()
    view = disc_view(radius)
    side = round(len(view) * scale)
    maps = segmenter.forward(resize_view(view, scale, LOOK_PX)[None])[0][:, :side, :side]
    chosen, labels = segmenter.judge_scale([view], scale, maps)
    np.testing.assert_array_equal(labels, segmenter.decode(maps))
    assert labels.max() == 9
    return chosen, segmenter.discs.n_maps - 1


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.06, 1.15])  # larger than wanted does less harm
def test_a_scale_near_the_one_that_its_cells_ask_for_is_kept(scale):
    assert judge(15, scale) == (scale, 0)


@pytest.mark.parametrize(("radius", "scale"), [(15, 0.82), (19, 1.0)])
def test_cells_further_off_mend_the_scale_and_still_ask_for_no_other_look(radius, scale):
    chosen, n_looks = judge(radius, scale)
    assert chosen == pytest.approx(NET_DIAMETER_PX / (2 * radius), rel=0.05)
    assert n_looks == 0


def test_where_the_cells_of_a_whole_image_are_far_off_another_scale_is_looked_at():
    chosen, n_looks = judge(26, 1.0)
    assert chosen == pytest.approx(NET_DIAMETER_PX / 52, rel=0.05)
    assert n_looks == 1


def label_discs(segmenter, radius, folder):
    """Segment an image of nine discs as `predict.py` does."""
    image = array_image(disc_view(radius)[:, :, :1])
    return apply_expert(segmenter, image, survey_image(image), folder, TilingSettings()).labels


def test_a_small_image_is_seen_once_if_the_guess_was_good(tmp_path):
    segmenter = DiscSegmenter(log_ratio=np.log(1 / 1.05))  # 1.05 is guessed, 1 would be right
    labels = label_discs(segmenter, 15, tmp_path)
    assert (segmenter.discs.n_spreads, segmenter.discs.n_maps) == (1, 1)
    given: Any = GivenScale(DiscSegmenter(), 1.05)
    np.testing.assert_array_equal(labels, label_discs(given, 15, tmp_path))


def test_a_small_image_is_seen_at_another_scale_if_the_guess_was_bad(tmp_path):
    segmenter = DiscSegmenter(log_ratio=0.0)  # content with the scale of 1 that is twice too large
    labels = label_discs(segmenter, 30, tmp_path)
    assert segmenter.discs.n_maps == 3  # at 1, a look where it was mended to, and all of it there
    assert labels.max() == 9


class NarrowRuntime(DiscRuntime):
    """See discs of about the size wanted only, as a network that was never shown others."""

    def run(self, output, batch):
        answer = super().run(output, batch)
        if output == "maps":
            labels = ndimage.label(answer[0, 2] > 0)[0]
            areas = np.bincount(labels.ravel())
            wanted = np.pi / 4 * NET_DIAMETER_PX**2
            answer[0, 2][(areas < wanted / 2)[labels] | (areas > wanted * 2)[labels]] = -6.0
        return answer


@pytest.mark.parametrize("log_ratio", [-9.0, 9.0])
@pytest.mark.parametrize("radius", [9, 15, 30, 55])
def test_a_guess_that_shows_nothing_is_given_up(log_ratio, radius):
    segmenter = DiscSegmenter(log_ratio)  # guesses the end of the range
    segmenter.runtime = NarrowRuntime(log_ratio)
    scale = segmenter.choose_scale([disc_view(radius, side=480)])
    assert scale == pytest.approx(NET_DIAMETER_PX / (2 * radius), rel=0.05)


def test_an_image_without_cells_is_looked_at_blindly_once():
    segmenter = DiscSegmenter(log_ratio=0.0)
    assert segmenter.choose_scale([np.zeros((200, 200, 3), np.float32)]) == 1.0
    assert segmenter.discs.n_maps == 3 + len(BLIND_SCALES)


GUESS = Look(1.0, 0.8, 0.6)


@pytest.mark.parametrize(
    ("other", "is_better"),
    [
        (Look(2.0, 0.9, 0.9), True),
        (Look(2.0, 0.8, 0.65), False),  # hardly better: the guess is trusted
        (Look(1.1, 0.8, 0.65), True),  # but not against its neighbour
        (Look(2.0, 0.9, 0.9, flow=0.5), False),  # the network wavers
        (Look(2.0, 0.3, 0.95), False),  # flows agree, the size does not
        (Look(0.5, 1.0, 0.3), False),  # the other way round
        (Look(0.5, np.nan, 1.0), False),  # nothing there
    ],
)
def test_the_look_that_agrees_with_itself_wins(other, is_better):
    best = other if is_better else GUESS
    assert best_look([GUESS, other], GUESS.scale) is best
    assert best_look([GUESS, Look(0.5, np.nan, 0.0, 0.0), other], GUESS.scale) is best


def test_any_cells_are_better_than_none():
    found = Look(0.5, 0.4, 0.1)
    assert best_look([Look(1.0, np.nan, 0.0), found], 1.0) is found


def test_nothing_seen_anywhere_leaves_the_guess():
    guess = Look(1.0, np.nan, 0.0, 0.0)
    assert best_look([guess, Look(2.0, np.nan, 0.0, 0.0)], 1.0) is guess


def test_a_look_at_several_views_weighs_them_by_what_was_found_in_each():
    large, small = np.zeros((2, 30, 30), np.int32)
    large[:10, :10], small[:5, :5] = 1, 1
    seen = [CheckedInstances(large, large, 1.0, 0.9), CheckedInstances(small, small, 0.0, 0.4)]
    look = measure_look(0.5, seen, NET_DIAMETER_PX)
    assert look.scale == 0.5
    assert look.kept == pytest.approx(0.8)
    assert look.flow == pytest.approx(0.8 * 0.9 + 0.2 * 0.4)
    empty = CheckedInstances(np.zeros_like(large), np.zeros_like(large), 0.0, 0.0)
    assert measure_look(0.5, [empty], NET_DIAMETER_PX).is_poor


def test_what_is_seen_counts_less_the_fewer_flows_agree():
    assert Look(1.0, 0.5, 1.0).fit((0.1, 4)) == pytest.approx(2.0)
    assert Look(1.0, 0.5, 0.5).fit((0.1, 4)) == pytest.approx(2**0.5)
    assert Look(1.0, 0.1, 1.0).fit((0.1, 4)) == 4
    assert Look(0.7, np.nan, 1.0).fit((0.1, 4)) == 0.7
