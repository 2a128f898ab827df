"""Blocked Cholesky factorisation: what one of the whole matrix gives, in half the memory."""

import pytest
import torch
from torch import Tensor

from tabattn.reconstruction import block_cholesky
from tabattn.reconstruction.block_cholesky import SIDE, CholeskyFactor, covariance_factor
from tabattn.reconstruction.memory import Memory

CPU = torch.device("cpu")
NOISE = 0.1
ROWS = 23
close = torch.testing.assert_close


def kernel(a: Tensor, b: Tensor) -> Tensor:
    return (-torch.cdist(a, b)).exp()


def inputs(rows: int = ROWS) -> Tensor:
    return torch.randn(rows, 2, generator=torch.Generator().manual_seed(0)).double()


def covariance(x: Tensor) -> Tensor:
    return kernel(x, x) + NOISE * torch.eye(len(x)).double()


def whole(factor: CholeskyFactor) -> Tensor:
    """The factor as one matrix."""
    return torch.cat([torch.nn.functional.pad(row, (0, len(factor) - row.shape[1])) for row in factor.rows])


@pytest.fixture(params=[(4, 3), (8, 8), (7, 64), (64, 5)], ids=str)
def factor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CholeskyFactor:
    """Factors by blocks of which the last ones are smaller, and one that is a single block."""
    side, block = request.param
    monkeypatch.setattr(block_cholesky, "SIDE", side)
    monkeypatch.setattr(block_cholesky, "BLOCK", block)
    found = covariance_factor(inputs(), kernel, NOISE)
    assert [len(row) for row in found.rows] == [len(part) for part in inputs().split(side)]
    return found


def test_factor_and_what_is_solved_by_it_are_those_of_the_whole_matrix(factor: CholeskyFactor) -> None:
    expected = torch.linalg.cholesky(covariance(inputs()))
    right = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1)).double()
    close(whole(factor), expected)
    close(factor.solve(right), torch.linalg.solve_triangular(expected, right, upper=False))
    for first in (1, 7, 8, 22):
        rest = torch.linalg.solve_triangular(expected[first:, first:], right[first:], upper=False)
        close(factor.solve(right[first:], first), rest)
    close(factor.cholesky_solve(right), torch.cholesky_solve(right, expected))
    close(factor.inverse_diagonal(), covariance(inputs()).inverse().diagonal())


def test_blocks_right_of_the_diagonal_are_not_in_memory(factor: CholeskyFactor) -> None:
    """Nor does a block row lie in an order that BLAS and LAPACK would copy."""
    end = 0
    for row in factor.rows:
        end += len(row)
        assert row.shape[1] == end
        assert row.mT.is_contiguous()
        assert row.untyped_storage().nbytes() == row.numel() * 8
    factor.single(CPU)
    assert all(row.dtype == torch.float and row.mT.is_contiguous() for row in factor.rows)


def test_a_matrix_of_one_block_is_factored_and_solved_by_lapack_alone() -> None:
    x = inputs(600)
    expected = torch.linalg.cholesky(covariance(x))
    factor = covariance_factor(x, kernel, NOISE)
    assert SIDE >= 600
    assert torch.equal(whole(factor), expected)
    assert torch.equal(factor.solve(x), torch.linalg.solve_triangular(expected, x, upper=False))
    assert torch.equal(factor.cholesky_solve(x), torch.cholesky_solve(x, expected))


def test_a_memory_of_several_blocks_predicts_as_one_of_a_single_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, asked = inputs(), inputs(30)[ROWS:]
    found = []
    for side in (SIDE, 5):
        monkeypatch.setattr(block_cholesky, "SIDE", side)
        memory = Memory(2, 1)
        memory.fill(torch.arange(ROWS), x, x[:, :1], kernel, NOISE)
        filled = memory.predict(asked, kernel, NOISE)
        memory._take(memory.packed(), None)
        found.append((memory.weights, memory.mean, memory.variance, *filled, *memory.predict(asked, kernel, NOISE)))
    for one, several in zip(*found, strict=True):
        close(several, one, atol=1e-5, rtol=1e-5)
    cross, inverse = kernel(asked, x), covariance(x).inverse()
    close(found[1][3], cross @ inverse @ x[:, :1])
    close(found[1][4], (cross @ inverse * cross).sum(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 3, 4])
def test_the_noise_is_raised_where_a_covariance_is_not_positive_definite(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever block that shows."""
    monkeypatch.setattr(block_cholesky, "SIDE", side)
    x = torch.zeros(4, 1).double()
    factor = whole(covariance_factor(x, lambda a, b: -0.05 * torch.ones(len(a), len(b)).double(), 0.03))
    close(factor @ factor.T, (0.3 * torch.eye(4) - 0.05).double(), atol=1e-6, rtol=0.0)
    assert factor.isfinite().all()


def test_the_noise_is_raised_where_the_first_block_alone_is_not_positive_definite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(block_cholesky, "SIDE", 2)
    x = torch.tensor([0.0, 0.0, 1.0, 1.0]).double()[:, None]
    factor = whole(covariance_factor(x, lambda a, b: -0.05 * (a == 0).double() @ (b == 0).double().T, 0.03))
    expected = 0.3 * torch.eye(4).double()
    expected[:2, :2] -= 0.05
    close(factor @ factor.T, expected)


def test_a_memory_that_moves_takes_its_factor_along() -> None:
    memory = Memory(2, 1)
    memory.fill(torch.arange(ROWS), inputs(), inputs()[:, :1], kernel, NOISE)
    memory.to(torch.device("meta"))
    assert memory.inputs.is_meta
    assert memory._factor is not None
    assert all(row.is_meta for row in memory._factor.rows)
