"""Random tasks of sequences of unequal length."""

import torch

from tabattn.contract.batches import PairBatch


def tasks(items: int = 3, points: int = 20, context: int = 12, members: int = 2) -> PairBatch:
    source = torch.Generator().manual_seed(1)
    x = torch.rand(items, points, generator=source) * 4 - 2
    y = torch.randn(items, points, generator=source)
    member = torch.randint(members, (items, points), generator=source)
    member[:, :4], member[:, 4:8] = 0, 1
    return PairBatch(x, y, member, context)
