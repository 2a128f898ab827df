"""Blocked Cholesky factorisation: the factor of a large covariance, of which the lower half alone is in memory."""

from collections.abc import Iterator
from itertools import accumulate

import torch
from torch import Tensor

from tabattn.reconstruction.covariances import BLOCK, RAISES, Kernel

SIDE = 2048
"""Rows of a block: a matrix with no more is one block, which LAPACK factors at once."""


class CholeskyFactor:
    """Lower triangular matrix by rows of blocks, of which those right of the diagonal are left out.

    Args:
        rows: Rows of blocks, each ``(rows, columns)`` up to the end of its diagonal block. In Fortran order they are
            taken by BLAS and LAPACK without copies.
    """

    def __init__(self, rows: list[Tensor]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def single(self, device: torch.device) -> None:
        """Round it to single precision on a device, row by row of blocks, so that both are not in memory at a time."""
        for place, row in enumerate(self.rows):
            self.rows[place] = row.to(device, torch.float)

    def solve(self, right: Tensor, first: int = 0) -> Tensor:
        """Inverse of the factor, without so many of its first rows and columns, times columns: forward substitution.

        Args:
            right: Columns, ``(rows, columns)``.
            first: Number of rows and columns that are left out.
        """
        solved = right.new_empty(right.shape[1], len(right)).mT
        for start, row in self._blocks():
            low, end = max(start, first), start + len(row)
            if end <= low:
                continue
            own, before = row[low - start :], low - first
            part = right[before : end - first]
            if before:
                part = part - own[:, first:low] @ solved[:before]
            solved[before : end - first] = torch.linalg.solve_triangular(own[:, low:], part, upper=False)
        return solved

    def cholesky_solve(self, right: Tensor) -> Tensor:
        """Inverse of the matrix that was factored times columns, ``(rows, columns)``."""
        solved = self.solve(right)
        for start, row in reversed(list(self._blocks())):
            own = solved[start : start + len(row)]
            own.copy_(torch.linalg.solve_triangular(row[:, start:].mT, own, upper=True))
            solved[:start] -= row[:, :start].mT @ own
        return solved

    def inverse_diagonal(self) -> Tensor:
        """Diagonal of the inverse of the matrix that was factored, ``(rows,)``, some columns at a time."""
        parts = []
        for start, row in self._blocks():
            for first in range(start, start + len(row), BLOCK):
                size = min(BLOCK, start + len(row) - first)
                columns = torch.eye(len(self) - first, size, dtype=row.dtype, device=row.device)
                parts.append(self.solve(columns, first).square().sum(0))
        return torch.cat(parts)

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Rows of blocks behind the number of rows before them."""
        return zip(accumulate(map(len, self.rows), initial=0), self.rows, strict=False)


def covariance_factor(inputs: Tensor, kernel: Kernel, noise: float) -> CholeskyFactor:
    """Cholesky factor of the covariance of rows; the noise is raised tenfold where it is not positive definite."""
    for _ in range(RAISES):
        factor, failed = _factored(inputs, kernel, noise)
        if not failed:
            break
        noise *= 10
    return factor


def _factored(inputs: Tensor, kernel: Kernel, noise: float) -> tuple[CholeskyFactor, bool]:
    """Cholesky factor, and whether there is none; each row of blocks is factored in place."""
    found = CholeskyFactor([])
    failed = False
    for part in inputs.split(SIDE):
        start = len(found)
        row = inputs.new_empty(start + len(part), len(part)).mT
        for at in range(0, len(part), BLOCK):
            row[at : at + BLOCK] = kernel(part[at : at + BLOCK], inputs[: start + len(part)])
        diagonal = row[:, start:]
        diagonal.diagonal().add_(noise)
        for at, above in found._blocks():
            own = row[:, at : at + len(above)]
            own.addmm_(row[:, :at], above[:, :at].mT, alpha=-1)
            own.copy_(torch.linalg.solve_triangular(above[:, at:].mT, own, upper=True, left=False))
        diagonal.addmm_(row[:, :start], row[:, :start].mT, alpha=-1)
        factor, error = torch.linalg.cholesky_ex(diagonal)
        diagonal.copy_(factor)
        failed = failed or bool(error)
        found.rows.append(row)
    return found, failed
