"""Encoders of tasks: what a decoder is told of the task that a network is for."""

from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.zoo.coder import Sizes, TaskRows, padded

Meta = Literal["token", "concat", "rows", "none"]
MOST_ROWS = 512
"""Most rows of a task that are read."""
PENALTY = 1.0
"""Penalty of the ridge regression on the rows of a task."""


class TaskEncoder(nn.Module):
    """Encoder of tasks: their meta-features as they are, or a learned encoder of sets of rows.

    The encoding of rows has the coefficients of a ridge regression beside what is learned, which reads its residuals
    too: so that the linear part of a task needs no learning.

    Args:
        meta: ``token`` or ``concat``: meta-features; ``rows``: an encoder of rows; ``none``: nothing.
        sizes: Room for tasks.
        dim: Width of the learned encoding of rows.
        dropout: Probability in training that a task is not told.
    """

    def __init__(self, meta: Meta, sizes: Sizes, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        if meta not in ("token", "concat", "rows", "none"):
            raise ValueError(f"meta must be token, concat, rows or none, got {meta!r}")
        self.meta = meta
        self.sizes = sizes
        self.dropout = dropout
        self.width = {"rows": dim + sizes.inputs, "none": 0}.get(meta, sizes.meta)
        self.unknown = nn.Parameter(torch.zeros(self.width))
        if meta == "rows":
            each = 4 * sizes.inputs + 2
            self.row = nn.Sequential(nn.Linear(each, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
            self.pool = nn.Sequential(nn.Linear(3 * dim + each, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, task: TaskRows) -> Tensor:
        """Encode tasks, ``(networks, width)``."""
        if self.meta == "none":
            return task.meta.new_zeros(len(task.meta), 0)
        told = self._rows(task.x, task.y) if self.meta == "rows" else padded(task.meta, self.sizes.meta, "sizes.meta")
        if not self.training:
            return told
        kept = torch.rand(len(told), 1, device=told.device) >= self.dropout
        return torch.where(kept, told, self.unknown)

    def _rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Means of rows, of their encodings and of these times targets and residuals; coefficients of the ridge."""
        x, y = x[:, :MOST_ROWS], y[:, :MOST_ROWS, :1]
        real = ~y.isnan()
        there = padded((~x.isnan()).to(x.dtype), self.sizes.inputs, "sizes.inputs") * real
        x, y = padded(x.nan_to_num(), self.sizes.inputs) * real, y.nan_to_num()
        linear = ridge(x, y)
        rest = y - x @ linear
        each = torch.cat([x, there, x * y, x * rest, y, rest], dim=-1)
        count = real.sum(1).clamp(min=1)
        rows = self.row(each) * real
        scales = [(rows * by).sum(1) / count for by in (y, rest)]
        learned = self.pool(torch.cat([rows.sum(1) / count, *scales, each.sum(1) / count], dim=-1))
        return torch.cat([linear[..., 0].to(learned.dtype), learned], dim=-1)


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """Coefficients of ridge regression without intercept, ``(tasks, inputs, 1)``.

    Args:
        x: Rows, ``(tasks, rows, inputs)``; rows of zeros change nothing.
        y: Targets, ``(tasks, rows, 1)``.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = x.float(), y.float()
        return torch.linalg.solve(x.mT @ x + PENALTY * torch.eye(x.shape[-1], device=x.device), x.mT @ y)
