"""The losses, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from models.losses import (
    centred,
    change_weights,
    context_loss,
    jepa_loss,
    normalise,
    rollout_loss,
    teacher_forcing_loss,
)


def tensor(*values: float, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def test_normalise() -> None:
    # Mean 3, variance 8/3; epsilon 1e-5 is too small to see.
    out = normalise(tensor(1, 3, 5, shape=(1, 1, 3)))
    assert out.flatten().tolist() == pytest.approx([-1.224743, 0.0, 1.224743], abs=1e-5)


def test_centred_targets_lose_what_stays() -> None:
    # Two time steps of two places, one channel: the first place stands still at 4.
    features = tensor(4, 1, 4, 7, shape=(1, 4, 1))
    assert centred(features, 2, "none") is features
    assert centred(features, 2, "clip").flatten().tolist() == [0, -3, 0, 3]
    assert centred(features, 2, "time").flatten().tolist() == [0, -3, 0, 3]
    still = tensor(4, 1, 4, 1, shape=(1, 4, 1))
    assert centred(still, 2, "clip").any() and not centred(still, 2, "time").any()
    with pytest.raises(ValueError, match="clips of 1 time step"):
        centred(features, 1, "time")


def test_jepa_loss_is_a_plain_mean() -> None:
    predicted = tensor(1, 2, 3, 4, shape=(1, 2, 2))
    target = tensor(0, 4, 3, 0, shape=(1, 2, 2))
    assert jepa_loss(predicted, target).item() == pytest.approx((1 + 2 + 0 + 4) / 4)


def test_jepa_loss_with_another_exponent_is_divided_by_it() -> None:
    predicted = tensor(1, 2, 3, 4, shape=(1, 2, 2))
    target = tensor(0, 4, 3, 0, shape=(1, 2, 2))
    assert jepa_loss(predicted, target, 2.0).item() == pytest.approx((1 + 4 + 0 + 16) / 4 / 2)


def test_context_loss_weights_near_tokens_more() -> None:
    predicted = tensor(1, 1, 2, 4, shape=(1, 2, 2))
    target = torch.zeros(1, 2, 2)
    distance = tensor(1, 4, shape=(1, 2))
    # Token errors 1 and 3, weights 1 and 1/2.
    assert context_loss(predicted, target, distance).item() == pytest.approx((1 + 1.5) / 2)
    assert context_loss(predicted, target).item() == pytest.approx(2.0)


def test_teacher_forcing_loss() -> None:
    predicted = tensor(1, 1, 2, 4, shape=(1, 2, 2))
    target = torch.zeros(1, 2, 2)
    assert teacher_forcing_loss(predicted, target).item() == pytest.approx(8 / 4)
    weight = tensor(0.5, 1.5, shape=(1, 2))
    assert teacher_forcing_loss(predicted, target, weight).item() == pytest.approx(
        (0.5 * 1 + 1.5 * 3) / 2
    )


def test_rollout_loss_starts_at_the_second_frame() -> None:
    features = tensor(9, 1, 2, 7, shape=(1, 4, 1))  # four frames of one token
    predicted = tensor(1.5, 4, shape=(1, 2, 1))  # of frames 1 and 2
    assert rollout_loss(predicted, features, 1).item() == pytest.approx((0.5 + 2) / 2)


def test_change_weights() -> None:
    before, after = torch.zeros(1, 2, 2), tensor(1, 1, 3, 3, shape=(1, 2, 2))
    assert change_weights(before, after, 0.0).tolist() == [[1.0, 1.0]]
    assert change_weights(before, after, 1.0).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert change_weights(before, after, 0.5).flatten().tolist() == pytest.approx([0.75, 1.25])
    still = change_weights(after, after, 1.0)
    assert still.isfinite().all()


@pytest.mark.parametrize(
    "loss", [jepa_loss, context_loss, teacher_forcing_loss, lambda p, t: rollout_loss(p, t, 1)]
)
def test_shapes_never_broadcast(loss: object) -> None:
    with pytest.raises(ValueError, match=r"found \[2, 3, 4\] and \["):
        loss(torch.zeros(2, 3, 4), torch.zeros(1, 4, 4))  # type: ignore[operator]
