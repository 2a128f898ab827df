"""Steps taken as CUDA graphs are the steps taken one by one."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam

from benchmarks.graphs import GraphedTraining, Places
from datamodules import SyntheticPairs
from tabattn.batches import PairBatch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_replays_are_steps() -> None:
    device = torch.device("cuda")
    plain = nn.Linear(1, 1, device=device)
    graphed = copy.deepcopy(plain)

    def loss(network: nn.Module, batch: PairBatch) -> torch.Tensor:
        return (network(batch.x[..., None])[..., 0] - batch.y).square().mean()

    optimizer = Adam(plain.parameters(), 0.01, fused=True)
    training = GraphedTraining(graphed, lambda batch: loss(graphed, batch), Adam(graphed.parameters(), 0.1, fused=True))
    places = Places(device)
    batches = list(SyntheticPairs("const", points=(4, 4), context=2, test_batches=3).test_dataloader())
    replays = []
    for given in batches * 3:
        batch = places.put(given)
        replays.append(training.step(batch, 0.01))
        optimizer.zero_grad()
        loss(plain, batch).backward()
        optimizer.step()
    assert replays == [False, False] + [True] * 7
    for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
