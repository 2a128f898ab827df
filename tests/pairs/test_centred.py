"""Centred networks: shifting a sequence shifts its predictions."""

import pytest
import torch

from tabattn.contract.batches import Scaling
from tabattn.pairs import TNPD
from tests.pairs.cases import SIZES, awake, task

NAN = float("nan")


@pytest.mark.parametrize("residual", ["none", "nearest", "parallel"])
def test_centred_answers_move_with_each_sequence(residual: str) -> None:
    network, (x, y, member, context) = awake(residual=residual, centred=True), task(20, 14)
    y[0, 2] = NAN
    # A third sequence of which nothing is known has no height to move with.
    member[:, :context], member[:, -1] = member[:, :context] % 2, 2
    height = 5 * torch.randn(2, 3)
    height[:, 2] = 0
    network.scale(Scaling(y_mean=0.7, y_std=2.0))
    plain = network(x, y, member, context)
    moved = network(x, y + height.gather(1, member), member, context)
    torch.testing.assert_close(moved.mean, plain.mean + height.gather(1, member)[:, context:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.stddev, plain.stddev, rtol=1e-4, atol=1e-4)


def test_before_training_centred_answers_with_the_mean_of_what_is_known() -> None:
    network, (x, y, member, context) = TNPD(**SIZES, centred=True), task(20, 14)
    network.scale(Scaling(y_mean=0.7, y_std=2.0))
    y[0, 2], member[:, :context], member[:, -1] = NAN, member[:, :context] % 2, 2
    given = network(x, y, member, context).mean
    for b in range(2):
        for i in range(context, 20):
            own = [y[b, j] for j in range(context) if member[b, j] == member[b, i] and y[b, j].isfinite()]
            torch.testing.assert_close(given[b, i - context], torch.stack(own).mean() if own else torch.tensor(0.7))


def test_labels_that_are_hidden_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="centred reads the labels of the context, which member_embed hidden hides"):
        awake(centred=True, member_embed="hidden")
