"""CUDA graphs of training steps equal ordinary steps."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam, AdamW

from benchmarks.graphs import GraphedTraining, Places
from datamodules import SyntheticPairs
from tabattn.contract.batches import PairBatch
from tabattn.optim import MuonAdamW
from tests.helpers import build

OPTIMIZERS = {
    "fused": lambda given, rate: Adam(given, rate, fused=True),
    "foreach": lambda given, rate: AdamW(given, rate),
    "muon": lambda given, rate: MuonAdamW(given, lr=rate, adamw_lr=rate),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rate", [0.01, None])
@pytest.mark.parametrize("clip", [0.1, None])
def test_replays_are_steps(optimizer: str, rate: float | None, clip: float | None) -> None:
    device = torch.device("cuda")
    plain = nn.Sequential(nn.Linear(1, 16), nn.GELU(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 1)).to(device)
    graphed = copy.deepcopy(plain)

    def loss(network: nn.Module, batch: PairBatch) -> torch.Tensor:
        return (network(batch.x[..., None])[..., 0] - batch.y).square().mean()

    one = OPTIMIZERS[optimizer](plain.parameters(), 0.01)
    # Where a step names no rate, that of the optimizer holds.
    other = OPTIMIZERS[optimizer](graphed.parameters(), 0.01 if rate is None else 0.1)
    training = GraphedTraining(graphed, lambda batch: loss(graphed, batch), other, clip)
    places = Places(device)
    batches = list(
        build(SyntheticPairs, "const", points=(4, 4), context=2, evaluation__test_batches=3).test_dataloader()
    )
    replays = []
    for given in batches * 3:
        batch = places.put(given)
        replays.append(training.step(batch, rate))
        one.zero_grad()
        loss(plain, batch).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        one.step()
    assert replays == [False, False] + [True] * 7
    for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
