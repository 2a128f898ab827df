"""Lookahead on LAMB, the optimizer of Non-Parametric Transformers, by the package pytorch-optimizer."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LookaheadLamb(Optimizer):
    """LAMB with Lookahead, as one optimizer with one state: that of Kossen et al. 2021 (arXiv 2106.02584).

    LAMB (You et al. 2020, arXiv 1904.00962) is Adam without bias correction whose update of each parameter is scaled to
    the norm of the parameter, which counts as 10 at most. Lookahead (Zhang et al. 2019, arXiv 1907.08610) moves slow
    weights, which begin at the initial ones, towards the fast weights after every ``k`` steps, and goes on from there.
    Both are those of the package pytorch-optimizer.

    Args:
        params: Parameters to update.
        lr: Learning rate.
        betas: Decay rates of the two moments.
        eps: Term in denominators, for numerical stability.
        weight_decay: Weight decay, as a part of the update that is scaled.
        alpha: Share of the way to the fast weights that the slow weights go.
        k: Number of steps between two moves of the slow weights.

    Raises:
        ModuleNotFoundError: The package is missing: ``pip install 'tabattn[optim]'``.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        alpha: float = 0.5,
        k: int = 6,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        for name, value in {"betas[0]": betas[0], "betas[1]": betas[1]}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        package: Any = importlib.import_module("pytorch_optimizer")
        # Its ``adam_debias`` leaves bias correction out, and without ``weight_decouple`` weight decay is scaled too.
        self._lamb = package.Lamb(
            params, lr, betas, weight_decay, weight_decouple=False, adam_debias=True, eps=eps, foreach=True
        )
        super().__init__(self._lamb.param_groups, {})
        for group in self.param_groups:
            for parameter in group["params"]:
                moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter] = {**moments, "slow_params": parameter.detach().clone()}
        self._lookahead = package.Lookahead(self._lamb, k=k, alpha=alpha)
        self._link()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: Recomputes the loss and the gradients; optional.

        Returns:
            The loss of the closure; None without one.
        """
        return self._lookahead.step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load moments, slow weights and the position in the cycle."""
        super().load_state_dict(state_dict)
        self._link()

    def _link(self) -> None:
        """Share this optimizer's parameter groups and state with those of the package."""
        self._lamb.param_groups = self.param_groups
        self._lamb.state = self._lookahead.state = self.state
