"""Labels of targets whose class occurs in the context."""

import torch


def answerable(y: torch.Tensor, context: int, classes: int) -> torch.Tensor:
    """Set the label of targets whose class is missing in the context to -1; ``(batch, rows)``."""
    shown = torch.zeros(len(y), classes, dtype=torch.bool).scatter_(1, y[:, :context], True)
    return torch.cat([y[:, :context], y[:, context:].where(shown.gather(1, y[:, context:]), -1)], dim=1)
