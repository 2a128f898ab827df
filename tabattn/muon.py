"""Muon over matrices of one shape at a time, instead of one matrix at a time."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Muon

NARROW = 128
"""Smaller side below which a CPU works in full precision."""


class BatchedMuon(Muon):
    """Muon whose matrices of one shape are orthogonalised together: the update of ``torch.optim.Muon``, sooner.

    A network of narrow layers has dozens of small matrices of few shapes. One at a time, their Newton-Schulz
    iterations take a good part of a training step on a CPU, and hundreds of launches on a GPU. In full
    precision where a CPU has matrices so narrow that bfloat16 does not pay; elsewhere in bfloat16, as
    ``torch.optim.Muon``.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient.

        Args:
            closure: Computes the loss and the gradients anew.

        Returns:
            The loss of the closure, where there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape, matrix.device].append(matrix)
            for (shape, _), matrices in alike.items():
                updates = orthogonal(
                    torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices]),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                ).to(matrices[0].dtype)
                rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                # Not by alpha, which is a number: a rate that is a tensor would be waited for, which no graph can.
                torch._foreach_sub_(matrices, list(updates * rate))
        return loss

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        """Take the gradient into the running mean, and return it half a step ahead (Nesterov)."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(mean, momentum)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of matrices close to 1, by a quintic Newton-Schulz iteration.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        matrices: ``(matrices, rows, columns)``.
        coefficients: Of the first, third and fifth power.
        steps: Number of iterations.
        eps: Smallest norm to divide by.

    Returns:
        The same shape; bfloat16 where the matrices are not narrow ones on a CPU.
    """
    narrow = matrices.device.type == "cpu" and min(matrices.shape[1:]) < NARROW
    x = matrices if narrow else matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    first, third, fifth = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.mT if tall else x
