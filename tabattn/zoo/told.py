"""Encoders of tasks: what a decoder is told of the task that a network is for."""

from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.zoo.coder import Sizes, TaskRows, padded

Meta = Literal["token", "concat", "rows", "none"]
MOST_ROWS = 128
"""Most rows of a task that are read."""


class TaskEncoder(nn.Module):
    """Encoder of tasks: their meta-features as they are, or a learned encoder of sets of rows.

    Args:
        meta: ``token`` or ``concat``: meta-features; ``rows``: an encoder of rows; ``none``: nothing.
        sizes: Room for tasks.
        dim: Width of the encoding of rows.
        dropout: Probability in training that a task is not told.
    """

    def __init__(self, meta: Meta, sizes: Sizes, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        if meta not in ("token", "concat", "rows", "none"):
            raise ValueError(f"meta must be token, concat, rows or none, got {meta!r}")
        self.meta = meta
        self.sizes = sizes
        self.dropout = dropout
        self.width = {"rows": dim, "none": 0}.get(meta, sizes.meta)
        self.unknown = nn.Parameter(torch.zeros(self.width))
        if meta == "rows":
            each = 3 * sizes.inputs + 1
            self.row = nn.Sequential(nn.Linear(each, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
            self.pool = nn.Sequential(nn.Linear(2 * dim + each, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, task: TaskRows) -> Tensor:
        """Encode tasks, ``(networks, width)``."""
        if self.meta == "none":
            return task.meta.new_zeros(len(task.meta), 0)
        told = self._rows(task.x, task.y) if self.meta == "rows" else padded(task.meta, self.sizes.meta)
        if not self.training:
            return told
        kept = torch.rand(len(told), 1, device=told.device) >= self.dropout
        return torch.where(kept, told, self.unknown)

    def _rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean, and weighted mean, of rows and of their encodings; rows beyond the first are not read."""
        x, y = x[:, :MOST_ROWS], y[:, :MOST_ROWS, :1]
        real = ~y.isnan()
        there = padded((~x.isnan()).to(x.dtype), self.sizes.inputs)
        x, y = padded(x.nan_to_num(), self.sizes.inputs), y.nan_to_num()
        each = torch.cat([x, there, x * y, y], dim=-1) * real
        count = real.sum(1).clamp(min=1)
        rows = self.row(each) * real
        scale = (rows * y).sum(1) / count
        return self.pool(torch.cat([rows.sum(1) / count, scale, each.sum(1) / count], dim=-1))
