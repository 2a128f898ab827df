"""Encoders of cells: what a token is made of."""

import math

import pytest
import torch

from tabattn.prior.encoders import CellEncoder, NumberEncoder, Statistics


def plain(group: int = 1) -> CellEncoder:
    """Encoder whose tokens are what the linear layer is given: the standardised cells, then their missing flags."""
    encoder = CellEncoder(2 * group, group)
    with torch.no_grad():
        encoder.linear.weight.copy_(torch.eye(2 * group))
        encoder.linear.bias.zero_()
    return encoder


def test_statistics_are_those_of_the_cells_that_are_there() -> None:
    """A large constant, a column of zeros and one without any cell have scale 0."""
    nan, inf = math.nan, math.inf
    x = torch.tensor([[[1.0, nan, 1e6, 0.0], [3.0, inf, 1e6, 0.0], [nan, -inf, nan, 0.0], [8.0, nan, 1e6, 0.0]]])
    mean, scale = plain().statistics(x)
    assert mean[0, 0].tolist() == pytest.approx([4, 0, 1e6, 0])
    assert scale[0, 0].tolist() == pytest.approx([math.sqrt((9 + 1 + 16) / 3), 0, 0, 0])


def test_missing_cells_are_the_mean_with_a_flag() -> None:
    statistics = Statistics(torch.tensor([[[2.0]]]), torch.tensor([[[4.0]]]))
    x = torch.tensor([10.0, math.nan, -math.inf, 2.0])[None, :, None]
    tokens = plain()(x, statistics).detach()[0, :, 0]
    assert tokens.tolist() == [[2.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]


def test_what_is_beyond_four_deviations_grows_by_the_logarithm() -> None:
    statistics = Statistics(torch.tensor([[[1.0]]]), torch.tensor([[[0.5]]]))
    z = torch.tensor([0.0, 3.0, -4.0, 5.0, -104.0, 1e6])
    tokens = plain()((z * 0.5 + 1)[None, :, None], statistics).detach()[0, :, 0, 0]
    far = [4 + math.log(2), -(4 + math.log(101)), 4 + math.log(1e6 - 3)]
    assert tokens.tolist() == pytest.approx([0.0, 3.0, -4.0, *far], rel=1e-5)


def test_a_token_reads_the_columns_one_and_three_on_around_the_table() -> None:
    """Around the columns that a table has, where others are padding."""
    x = torch.arange(8.0).expand(2, 1, 8)
    statistics = Statistics(torch.zeros(2, 1, 8), torch.full((2, 1, 8), 10.0))
    tokens = plain(group=3)(x, statistics, torch.tensor([8, 5])).detach()
    read = (tokens[:, 0, :, ::2] * 10).round().long().tolist()
    assert read[0] == [[j, (j + 1) % 8, (j + 3) % 8] for j in range(8)]
    assert read[1][:5] == [[j, (j + 1) % 5, (j + 3) % 5] for j in range(5)]


def test_numbers_are_their_value_and_bumps_and_targets_the_unknown() -> None:
    encoder = NumberEncoder(4, radial=3)
    with torch.no_grad():
        encoder.linear.weight.copy_(torch.eye(4))
        encoder.linear.bias.zero_()
    tokens = encoder(torch.tensor([[0.0, -3.0]]), 2).detach()[0, :, 0]
    side, far = math.exp(-0.5), math.exp(-2)
    assert torch.allclose(tokens[0], torch.tensor([0.0, side, 1.0, side]))
    assert torch.allclose(tokens[1], torch.tensor([-3.0, 1.0, side, far]))
    assert torch.equal(tokens[2:], encoder.unknown.detach().expand(2, -1))
