"""Scores of reconstructed target columns, in the data's units, pooled over batches and ranks."""

from collections.abc import Mapping
from math import log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

from tabattn.contract.cells import REACH, Column
from tabattn.contract.views import ScoredColumn
from tabattn.nn.densities import crps, mixture, parts

LEVELS = (50, 90)
"""Levels, in percent, of the central intervals whose coverage is reported."""


class Predicted(NamedTuple):
    """Predictions of one column for the rows to score, averaged over contexts.

    Attributes:
        truth: True values, ``(rows,)``: standardised numbers or indices of categories; NaN = unknown.
        point: Standardised mean, ``(rows,)``, or probabilities of the categories, ``(rows, categories)``.
        density: Predictive density of numbers, a mixture; None for categories.
    """

    truth: Tensor
    point: Tensor
    density: MixtureSameFamily | None


def mixed(density: MixtureSameFamily) -> MixtureSameFamily:
    """Equal mixture of the densities of several contexts: batch shape ``(contexts, rows)`` to ``(rows,)``."""
    logits, mean, std = parts(density)
    logits = logits.log_softmax(-1)
    return mixture(*(part.movedim(0, -2).flatten(-2) for part in (logits, mean, std)))


class ColumnScores(Metric):
    """Metric of one target column, over all rows of all batches and ranks.

    Numbers have ``rmse``, ``mae``, ``crps`` in the data's units, ``nll`` in nats, and the ``coverage`` of central
    intervals; categories have ``accuracy``, ``nll`` in nats and ``auroc`` (one-vs-rest, macro average over the classes
    that occur). Both have ``loss``: the mean squared error of standardised numbers, in which errors beyond ``REACH``
    are drawn in, so that no outlier decides which weights are best; or the ``nll`` of categories.

    ``distinct/<score>`` is that of the rows that equal no training row, where some do.

    Args:
        column: The column.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    def __init__(self, column: Column) -> None:
        super().__init__()
        self.column = column
        self.duplicated: Tensor | None = None
        self.scored: ScoredColumn | None = None
        for state in ("rows", "truth", "values"):
            self.add_state(state, [], dist_reduce_fx="cat")
        self.rows: list[Tensor]
        self.truth: list[Tensor]
        self.values: list[Tensor]

    def update(self, predicted: Predicted, rows: Tensor) -> None:
        """Add predictions.

        Args:
            predicted: Predictions.
            rows: Numbers of the rows, ``(rows,)``.
        """
        known = ~predicted.truth.isnan()
        self.rows.append(rows[known])
        self.truth.append(predicted.truth[known])
        self.values.append(_figures(predicted)[known])

    def outcome(self, predicted: Predicted) -> ScoredColumn:
        """Truth and predictions in the units of the data, of the rows whose truth is known."""
        known = ~predicted.truth.isnan()
        return _in_units(self.column, predicted.truth[known].cpu(), _figures(predicted)[known].cpu())

    def settle(self) -> None:
        """Add an empty entry, so that an idle rank can take part in the collective call."""
        width = len(self.column.categories) or 4
        self.rows.append(torch.tensor([-1], device=self.device))
        self.truth.append(torch.zeros(1, device=self.device))
        kind = torch.float if self.column.categories else torch.double
        self.values.append(torch.zeros(1, width, dtype=kind, device=self.device))

    def compute(self) -> dict[str, float]:
        """Compute the scores, and keep in ``scored`` what they were computed of."""
        rows, truth, values = (_joined(state) for state in (self.rows, self.truth, self.values))
        self.scored = _in_units(self.column, truth[rows >= 0].cpu(), values[rows >= 0].cpu())
        scores = self._of(truth[rows >= 0], values[rows >= 0])
        if self.duplicated is None or not self.duplicated.any():
            return scores
        distinct = (rows >= 0) & ~self.duplicated.to(rows.device)[rows.clamp(min=0)]
        return scores | {
            f"distinct/{name}": value for name, value in self._of(truth[distinct], values[distinct]).items()
        }

    def _of(self, truth: Tensor, values: Tensor) -> dict[str, float]:
        if not len(truth):
            return {}
        return _categorical(truth, values) if self.column.categories else _numeric(truth, values, self.column.std)


def collected(targets: Mapping[str, ColumnScores], stage: str) -> dict[str, float]:
    """Compute the scores of all targets, and begin anew.

    Args:
        targets: Scores of each target, by its name.
        stage: ``val`` or ``test``.

    Returns:
        Scores by their names in the log, and the mean loss over the targets; NaN where no row was scored.
    """
    figures: dict[str, float] = {}
    losses = []
    for target, metric in targets.items():
        metric.settle()
        scores = metric.compute()
        metric.reset()
        if not scores:
            continue  # No row that was scored has a value of this target.
        losses.append(scores["loss"])
        prefix = f"{stage}/{target}/" if len(targets) > 1 else f"{stage}/"
        figures |= {f"{prefix}{name}": value for name, value in scores.items()}
    return figures | {f"{stage}/loss": sum(losses) / len(losses) if losses else float("nan")}


def _figures(predicted: Predicted) -> Tensor:
    """What the scores need of each row: probabilities, or mean, CRPS, log-density and cumulative probability."""
    if predicted.density is None:
        return predicted.point.float()
    truth = predicted.truth.double().nan_to_num(0.0)
    density = mixture(*(part.double() for part in parts(predicted.density)))
    return torch.stack(
        [predicted.point.double(), crps(density, truth), density.log_prob(truth), density.cdf(truth)], dim=-1
    )


def _in_units(column: Column, truth: Tensor, values: Tensor) -> ScoredColumn:
    if column.categories:
        return ScoredColumn(column.name, column.categories, truth.long(), values, None)
    truth, mean = (column.mean + column.std * part.double() for part in (truth, values[:, 0]))
    return ScoredColumn(column.name, (), truth, mean, values[:, 3])


def _numeric(truth: Tensor, values: Tensor, std: float) -> dict[str, float]:
    mean, score, likelihood, below = values.unbind(-1)
    error = mean - truth
    scores = {
        "rmse": std * float(error.square().mean().sqrt()),
        "mae": std * float(error.abs().mean()),
        "crps": std * float(score.mean()),
        "nll": log(std) - float(likelihood.mean()),
        "loss": float(_drawn_in(error.abs()).square().mean()),
    }
    inside = 2 * (below - 0.5).abs()
    return scores | {f"coverage_{level}": float((inside <= level / 100).float().mean()) for level in LEVELS}


def _categorical(truth: Tensor, probabilities: Tensor) -> dict[str, float]:
    labels = truth.long()
    likelihood = probabilities.gather(1, labels[:, None]).clamp(min=torch.finfo(torch.float32).eps)
    present = labels.unique().tolist()
    several = present if len(present) > 1 else []
    aucs = [float(binary_auroc(probabilities[:, each], (labels == each).long())) for each in several]
    nll = -float(likelihood.log().mean())
    return {
        "auroc": sum(aucs) / len(aucs) if aucs else float("nan"),
        "accuracy": float((probabilities.argmax(-1) == labels).float().mean()),
        "nll": nll,
        "loss": nll,
    }


def _drawn_in(size: Tensor) -> Tensor:
    """Sizes of standardised errors, which beyond ``REACH`` grow as a logarithm."""
    return torch.where(size > REACH, REACH + (size - REACH).clamp(min=0.0).log1p(), size)


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    return state if isinstance(state, Tensor) else torch.cat(state)


def selected(density: MixtureSameFamily, rows: Tensor, at: int) -> MixtureSameFamily:
    """Densities of one column for some rows: batch shape ``(contexts, rows)``."""
    logits, mean, std = (part[:, rows, at] for part in parts(density))
    return mixture(logits, mean, std)
