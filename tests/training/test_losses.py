import numpy as np
import pytest
import torch

from training.losses import dice_and_entropy, dice_per_class, direction_dice


def make_maps(n_classes, seed=0, shape=(2, 6, 7)):
    """Draw logits (N, K, Y, X), targets (N, Y, X) and trust (N, Y, X)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (shape[0], n_classes, *shape[1:])).astype(np.float32)
    target = rng.integers(0, n_classes, shape)
    trusted = (rng.random(shape) < 0.7).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(trusted)


def logits_of(target, n_classes, sure=30.0):
    """Make logits (N, K, Y, X) that are sure of a target (N, Y, X)."""
    return sure * torch.nn.functional.one_hot(target, n_classes).permute(0, 3, 1, 2).float()


def slow_dice(prob, onehot, trusted):
    """Sum the Dice ratio of one class pixel by pixel."""
    both = each = 0.0
    for n, y, x in zip(*np.nonzero(trusted), strict=True):
        both += prob[n, y, x] * onehot[n, y, x]
        each += prob[n, y, x] + onehot[n, y, x]
    return (2 * both + 1) / (each + 1)


def test_dice_matches_a_slow_sum():
    logits, target, trusted = make_maps(3)
    prob = logits.softmax(1)
    onehot = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    dice = dice_per_class(prob, onehot, trusted).numpy()
    for k in range(3):
        expected = slow_dice(prob[:, k].numpy(), onehot[:, k].numpy(), trusted.numpy())
        assert dice[k] == pytest.approx(expected, rel=1e-5)


def test_dice_of_a_class_that_is_nowhere_is_one():
    nothing = torch.zeros(1, 2, 4, 4)
    assert dice_per_class(nothing, nothing, torch.ones(1, 4, 4)).tolist() == [1, 1]


def test_mask_loss_matches_its_formula():
    logits, target, trusted = make_maps(3)
    prob = logits.softmax(1).double().numpy()
    keep = trusted.numpy() > 0
    chosen = np.take_along_axis(prob, target.numpy()[:, None], 1)[:, 0]
    entropy = -np.log(chosen[keep]).mean()
    dice = [slow_dice(prob[:, k], target.numpy() == k, trusted.numpy()) for k in range(3)]
    expected = entropy + sum(1 - d for d in dice)
    assert dice_and_entropy(logits, target, trusted).item() == pytest.approx(expected, rel=1e-5)


def test_a_perfect_mask_costs_nothing():
    _, target, trusted = make_maps(3)
    assert dice_and_entropy(logits_of(target, 3), target, trusted).item() < 1e-5


def test_direction_loss_matches_a_slow_sum_over_the_ring():
    logits, target, trusted = make_maps(9)
    prob, goal, keep = logits.softmax(1).numpy(), target.numpy(), trusted.numpy()
    expected = 2 * (1 - slow_dice(prob[:, 0], goal == 0, keep))
    for k in range(1, 9):
        before, after = (k - 2) % 8 + 1, k % 8 + 1  # 8 and 1 are neighbours, 0 stands apart
        expected += 1 - slow_dice(prob[:, k], goal == k, keep)
        expected -= slow_dice(prob[:, k], goal == before, keep)
        expected -= slow_dice(prob[:, k], goal == after, keep)
    assert direction_dice(logits, target, trusted).item() == pytest.approx(expected / 9, rel=1e-5)


@pytest.mark.parametrize("direction", range(1, 9))
def test_a_neighbouring_direction_costs_less_than_another(direction):
    target, trusted = torch.full((1, 16, 16), direction), torch.ones(1, 16, 16)

    def cost(turn):
        turned = (target - 1 + turn) % 8 + 1
        return direction_dice(logits_of(turned, 9), target, trusted).item()

    assert cost(1) == pytest.approx(cost(-1))
    for turn in (2, 3, 4, 5, 6):
        assert cost(1) < cost(turn) - 0.1
        assert cost(0) < cost(turn) - 0.1


@pytest.mark.parametrize(("loss", "n_classes"), [(dice_and_entropy, 3), (direction_dice, 9)])
def test_untrusted_pixels_do_not_count(loss, n_classes):
    logits, target, trusted = make_maps(n_classes)
    logits.requires_grad_()
    value = loss(logits, target, trusted)
    value.backward()
    hidden = (trusted == 0)[:, None].expand_as(logits)
    assert not logits.grad[hidden].any()
    assert logits.grad[~hidden].any()
    others = torch.where(trusted == 0, (target + 1) % n_classes, target)
    assert loss(logits, others, trusted).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize(("loss", "n_classes"), [(dice_and_entropy, 3), (direction_dice, 9)])
def test_a_batch_of_which_nothing_is_trusted_teaches_nothing(loss, n_classes):
    logits, target, trusted = make_maps(n_classes)
    logits.requires_grad_()
    value = loss(logits, target, 0 * trusted)
    value.backward()
    assert torch.isfinite(value)
    assert not logits.grad.any()


@pytest.mark.parametrize(("loss", "n_classes"), [(dice_and_entropy, 3), (direction_dice, 9)])
def test_descending_the_gradient_lowers_the_loss(loss, n_classes):
    logits, target, trusted = make_maps(n_classes)
    logits.requires_grad_()
    value = loss(logits, target, trusted)
    value.backward()
    assert loss(logits.detach() - 0.5 * logits.grad, target, trusted) < value
