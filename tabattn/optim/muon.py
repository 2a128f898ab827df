"""Muon optimizer that orthogonalises all matrices of one shape in a batch."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer


class BatchedMuon(Muon):
    """Muon with batched orthogonalisation: the update of ``torch.optim.Muon``, for equal shapes at once.

    A network of narrow layers has dozens of small matrices of few shapes. One at a time, their Newton-Schulz iterations
    take much of a training step on a CPU, and hundreds of kernel launches on a GPU. The iterations run in bfloat16, as
    in ``torch.optim.Muon``, but on a CPU in the precision of the matrices: bfloat16 is up to 20 times slower there.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient.

        Args:
            closure: Recomputes the loss and the gradients; optional.

        Returns:
            The loss of the closure; None without one.
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
                # Not by ``alpha``, a Python number: converting a tensor to one synchronises, which breaks CUDA graphs.
                torch._foreach_sub_(matrices, list(updates * rate))
        return loss

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        """Update the momentum buffer by the gradient, and return the Nesterov momentum."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(mean, momentum)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Orthogonalise matrices approximately (singular values near 1) by a quintic Newton-Schulz iteration.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        matrices: ``(matrices, rows, columns)``.
        coefficients: Of the first, third and fifth power.
        steps: Number of iterations.
        eps: Smallest norm to divide by.

    Returns:
        The same shape; bfloat16 on devices other than a CPU.
    """
    x = matrices if matrices.device.type == "cpu" else matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    first, third, fifth = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.mT if tall else x


class MuonAdamW(Optimizer):
    """Muon for weight matrices and AdamW for all other parameters, as one optimizer with one state.

    Muon replaces a matrix's momentum by the nearest orthogonal matrix (Jordan et al. 2024), which leaves the loss
    plateau before in-context learning in a fraction of the steps of AdamW. AdamW is better for embeddings and for
    narrow input and output layers. Both are recognised by their smaller dimension, so a wide embedding needs a
    larger ``smallest``.

    Args:
        params: Parameters to update.
        lr: Learning rate of matrices.
        adamw_lr: Learning rate of everything else.
        momentum: Momentum of matrices.
        betas: Decay rates of AdamW's two moments.
        weight_decay: Decoupled weight decay of matrices.
        smallest: Least size of the smaller dimension of a parameter that Muon updates.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        adamw_lr: float = 3e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        smallest: int = 16,
    ) -> None:
        numbers = {"lr": lr, "adamw_lr": adamw_lr, "momentum": momentum, "weight_decay": weight_decay}
        for name, value in (numbers | {"smallest": smallest}).items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        params = list(params)
        matrices = [p for p in params if p.ndim == 2 and min(p.shape) >= smallest]
        known = {id(p) for p in matrices}
        rest = [p for p in params if id(p) not in known]
        self._inner: list[Optimizer] = []
        if matrices:
            self._inner.append(BatchedMuon(matrices, lr, weight_decay, momentum))
        if rest:
            self._inner.append(AdamW(rest, adamw_lr, betas, weight_decay=0.0, fused=True))
        super().__init__([group for inner in self._inner for group in inner.param_groups], {})
        self._link()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter.

        Args:
            closure: Recomputes the loss and the gradients; optional.

        Returns:
            The loss of the closure; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner in self._inner:
            inner.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of both optimizers."""
        super().load_state_dict(state_dict)
        self._link()

    def _link(self) -> None:
        """Share this optimizer's parameter groups and state with the two inner optimizers."""
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            inner.param_groups = [group]
            inner.state = self.state
