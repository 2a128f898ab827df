"""Scores of networks on tasks: R2, or accuracy where targets are classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.scores import computed


def answers(outputs: Tensor, y: Tensor, classes: Tensor | None) -> Tensor:
    """Outputs of networks as their targets are: probabilities where these are classes, ``(networks, rows, targets)``.

    Args:
        outputs: Outputs, ``(networks, rows, outputs)``; what is missing of the targets counts as 0.
        y: Targets, ``(networks, rows, targets)``; NaN = not there.
        classes: Number of classes of each task, ``(networks,)``; 0 = numbers; None = all are numbers.
    """
    # A zoo may have tasks of more outputs than any of these networks, or of fewer.
    found = F.pad(outputs, (0, max(y.shape[-1] - outputs.shape[-1], 0)))[..., : y.shape[-1]]
    if classes is None:
        return found
    own = (~y.isnan()).any(1, keepdim=True)
    several = found.masked_fill(~own, torch.finfo(found.dtype).min).softmax(-1)
    chances = torch.where(own.sum(-1, keepdim=True) > 1, several, found.sigmoid())
    return torch.where(classes[:, None, None] > 0, chances, found)


def task_r2(tokens: NeuronTokens, x: Tensor, y: Tensor) -> Tensor:
    """R2 of networks on their tasks, ``(networks,)``, over all outputs; -inf where an output is not finite.

    Args:
        tokens: The networks.
        x: Rows, ``(networks, rows, inputs)``; NaN = a column that is not there.
        y: Targets, ``(networks, rows, outputs)``; NaN = not scored.
    """
    found = answers(computed(tokens, x).outputs, y, None).double()
    known = ~y.isnan()
    truth = torch.where(known, y.double(), 0.0)
    mean = truth.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    error = torch.where(known, found - truth, 0.0).square().sum((1, 2))
    total = torch.where(known, truth - mean, 0.0).square().sum((1, 2))
    return torch.where(error.isfinite(), 1 - error / total, -torch.inf).float()


def task_accuracy(tokens: NeuronTokens, x: Tensor, y: Tensor) -> Tensor:
    """Share of rows whose class networks predict, ``(networks,)``; 0 where an output is not finite.

    Args:
        tokens: The networks.
        x: Rows, ``(networks, rows, inputs)``; NaN = a column that is not there.
        y: 1 for the class of a row, ``(networks, rows, classes)``, or 1 for the second of two classes,
            ``(networks, rows, 1)``; NaN = not scored.
    """
    outputs, known = computed(tokens, x).outputs, ~y.isnan()
    own, rows = known.any(1, keepdim=True), known.any(-1)
    logits = answers(outputs, y, None).masked_fill(~own, -torch.inf)
    one = own.sum(-1) == 1
    found = torch.where(one, logits[..., 0] > 0, logits.argmax(-1))
    true = torch.where(one, y[..., 0] > 0.5, y.nan_to_num(-1.0).argmax(-1))
    return ((found == true) & rows & outputs.isfinite().all(-1)).sum(1) / rows.sum(1)


def task_scores(tokens: NeuronTokens, x: Tensor, y: Tensor, classes: Tensor | None) -> Tensor:
    """R2 of networks on their tasks, accuracy where these have classes, ``(networks,)``; arguments as of both."""
    r2 = task_r2(tokens, x, y)
    return r2 if classes is None else torch.where(classes > 0, task_accuracy(tokens, x, y), r2)


def named_scores(scores: Tensor, classes: Tensor | None) -> dict[str, Tensor]:
    """Scores of networks on their tasks, ``(networks,)``, by name: NaN as ``r2`` where they are ``accuracy``."""
    if classes is None:
        return {"r2": scores}
    return {
        "r2": scores.masked_fill(classes > 0, torch.nan),
        "accuracy": scores.masked_fill(classes == 0, torch.nan),
    }
