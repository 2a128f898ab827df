"""Clock that does not run by itself, and mechanisms that set it forward or fail."""

from typing import Any

import torch
from torch import Tensor

from tabattn.attention import Softmax
from tabattn.compare.clocks import Clock

TICK = 0.001


class FakeClock(Clock):
    """Clock that goes on by a tick each time it is read."""

    now = 0.0

    def mark(self) -> float:
        FakeClock.now += TICK
        return FakeClock.now


class Passing(torch.autograd.Function):
    """Identity whose forward and backward passes take time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        FakeClock.now += seconds
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        FakeClock.now += 2 * ctx.seconds
        return gradients[0], None


class Slow(Softmax):
    """Softmax that takes long.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        seconds: Seconds of a forward pass; the backward pass takes twice as many.
    """

    def __init__(self, heads: int, head_dim: int, *, seconds: float = 1.0) -> None:
        super().__init__(heads, head_dim)
        self.seconds = seconds

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return Passing.apply(super().forward(q, k, v, mask), self.seconds)  # type: ignore[no-any-return]


class Failing(Softmax):
    """Softmax that fails in training."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        raise RuntimeError("no such\nkernel")


class Later(Softmax):
    """Softmax that fails after some steps."""

    calls = 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        Later.calls += 1
        if Later.calls > 10:
            raise ValueError("too many calls")
        return super().forward(q, k, v, mask)
