"""Options of the reconstruction loss, and of predictions."""

from dataclasses import dataclass
from math import cos, inf, pi
from typing import Literal

from tabattn.contract.checks import check_least


@dataclass(frozen=True)
class LossOptions:
    """Options of the loss ``tradeoff * features + (1 - tradeoff) * targets``, each a mean over its hidden cells.

    Args:
        tradeoff: Weight of the features at the first step.
        annealing: How the weight changes: ``constant``, ``linear`` or ``cosine``, both down to 0.
        proportion: Share of all steps over which it does.
        density: Weight of the negative log-likelihood of numbers, beside their squared error.
    """

    tradeoff: float = 0.5
    annealing: Literal["constant", "linear", "cosine"] = "cosine"
    proportion: float = 1.0
    density: float = 1.0

    def __post_init__(self) -> None:
        if self.annealing not in ("constant", "linear", "cosine"):
            raise ValueError(f"loss.annealing must be constant, linear or cosine, got {self.annealing!r}")
        if not 0 <= self.tradeoff <= 1:
            raise ValueError(f"loss.tradeoff must be between 0 and 1, got {self.tradeoff}")
        if not 0 < self.proportion <= 1:
            raise ValueError(f"loss.proportion must be above 0 and at most 1, got {self.proportion}")
        if not 0 <= self.density < inf:
            raise ValueError(f"loss.density must be at least 0 and finite, got {self.density}")

    def weight(self, step: int, steps: float) -> float:
        """Weight of the features after ``step`` of ``steps`` steps."""
        share = min(1.0, step / (self.proportion * steps))
        if self.annealing == "constant":
            return self.tradeoff
        if self.annealing == "linear":
            return self.tradeoff * (1 - share)
        return self.tradeoff * (1 + cos(pi * share)) / 2


DEFAULT_LOSS = LossOptions()


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``predict``.

    Args:
        deciding_rows: Number of context rows with the largest attention weights to write for each predicted row; 0 =
            none.
        leave_out: Whether to predict again without these rows, and without as many random ones, which takes two passes
            for each predicted row, target and context.
    """

    deciding_rows: int = 0
    leave_out: bool = True

    def __post_init__(self) -> None:
        check_least(**{"predict.deciding_rows": (self.deciding_rows, 0)})


DEFAULT_PREDICT = PredictOptions()
