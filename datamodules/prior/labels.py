"""Labels that the context of a task can tell."""

import torch


def answerable(y: torch.Tensor, context: int, classes: int) -> torch.Tensor:
    """Labels ``(batch, rows)`` with -1 for the targets whose class no context row has."""
    shown = torch.zeros(len(y), classes, dtype=torch.bool).scatter_(1, y[:, :context], True)
    return torch.cat([y[:, :context], y[:, context:].where(shown.gather(1, y[:, context:]), -1)], dim=1)
