"""Metrics of predictions pooled over the folds of each table."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc


class Scores(NamedTuple):
    """Scores of one table: ROC AUC (one-vs-rest, macro average), accuracy, balanced accuracy, and log-loss in nats."""

    auroc: float
    accuracy: float
    balanced_accuracy: float
    log_loss: float


class TableScores(Metric):
    """Metric that scores each table on all its predictions, gathered over ranks.

    Predictions of one table are pooled over its folds; AUC is averaged over the classes present in the labels.

    Args:
        classes: Largest number of classes.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        for state in ("probabilities", "labels", "tables"):
            self.add_state(state, [], dist_reduce_fx="cat")
        self.probabilities: list[Tensor]
        self.labels: list[Tensor]
        self.tables: list[Tensor]

    def update(self, probabilities: Tensor, labels: Tensor, tables: Tensor) -> None:
        """Add predictions.

        Args:
            probabilities: ``(batch, rows, classes)``.
            labels: ``(batch, rows)``; -1 = padding.
            tables: Table of each batch element, ``(batch,)``.
        """
        kept = labels >= 0
        self.probabilities.append(probabilities[kept].float())
        self.labels.append(labels[kept])
        self.tables.append(tables[:, None].expand_as(labels)[kept])

    def settle(self) -> None:
        """Add an empty entry, so that an idle rank can take part in the collective call."""
        labels = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        self.update(torch.zeros(1, 1, self.classes, device=self.device), labels, torch.tensor([-1], device=self.device))

    def compute(self) -> dict[int, Scores]:
        """Compute the scores of each table, by its index."""
        probabilities, labels, tables = map(_concatenate, (self.probabilities, self.labels, self.tables))
        return {
            table: score(probabilities[tables == table], labels[tables == table])
            for table in sorted(set(tables.tolist()) - {-1})
        }


def score(probabilities: Tensor, labels: Tensor) -> Scores:
    """Compute the scores of predictions ``(rows, classes)`` of one table.

    AUC and balanced accuracy are averaged over the classes that are present; AUC is NaN if there is only one. All
    scores are NaN if any prediction is.
    """
    if not torch.isfinite(probabilities).all():
        return Scores(*[float("nan")] * len(Scores._fields))
    present = labels.unique()
    auroc = float("nan")
    if len(present) > 1:
        aucs = [binary_auroc(probabilities[:, c], (labels == c).long()) for c in present.tolist()]
        auroc = torch.stack(aucs).mean().item()
    right = (probabilities.argmax(-1) == labels).float()
    recalls = [right[labels == c].mean() for c in present.tolist()]
    likelihood = probabilities.gather(1, labels[:, None]).clamp(min=torch.finfo(torch.float32).eps)
    balanced = torch.stack(recalls).mean().item()
    return Scores(auroc, right.mean().item(), balanced, -likelihood.log().mean().item())


def _concatenate(state: list[Tensor] | Tensor) -> Tensor:
    return state if isinstance(state, Tensor) else torch.cat(state)
