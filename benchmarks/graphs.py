"""CUDA graphs of training steps, which spare small networks the overhead of Python and kernel launches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tabattn.contract.batches import PairBatch, TableBatch
from tabattn.optim.replays import Graphs, Replay, make_capturable

Batch = PairBatch | TableBatch
Loss = Callable[[Any], Tensor]
Sort = tuple[torch.Size, int]
"""Shape of a batch's locations or cells, and size of its context; each sort of batch has its own graph."""


class GraphedTraining:
    """Training steps of a network as replays of CUDA graphs, one for each sort of batch.

    The first batch of a sort is an ordinary step, which also loads the kernels; the second is captured and replayed, as
    are all later ones. Results are those of ordinary steps.

    Args:
        network: The network, on a GPU.
        loss: Loss of a batch; must not synchronise with the GPU.
        optimizer: Optimizer before its first step; it is made ``capturable``, with tensors as learning rates.
        clip: Largest gradient norm; None = no clipping.
    """

    def __init__(self, network: nn.Module, loss: Loss, optimizer: Optimizer, clip: float | None = None) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.clip = clip
        device = next(network.parameters()).device
        self.record = Graphs(device)
        self.known: dict[Sort, Replay | None] = {}
        make_capturable(optimizer, device)

    def step(self, batch: Batch, rate: float | None = None) -> bool:
        """Take a step.

        Args:
            batch: Batch in the fixed tensors of its sort; see ``Places``.
            rate: Learning rate of all parameters; None = unchanged.

        Returns:
            Whether the step was only a replay.
        """
        if rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"].fill_(rate)
        sort = batch.x.shape, batch.context
        if sort not in self.known:
            self.known[sort] = None
            self._work(batch)
            return False
        known = self.known[sort]
        replay = self.known[sort] = known or self.record(lambda: self._work(batch))
        replay()
        return known is not None

    def _work(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()


class Places:
    """Fixed tensors on a GPU for the batches of each sort.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[Sort, PairBatch] = {}

    def put(self, batch: PairBatch) -> PairBatch:
        """Copy a batch into the tensors of its sort."""
        sort = batch.x.shape, batch.context
        if sort not in self.known:
            copies = {name: getattr(batch, name).to(self.device) for name in ("x", "y", "member")}
            self.known[sort] = batch._replace(**copies, oracle=None)
        place = self.known[sort]
        place.x.copy_(batch.x, non_blocking=True)
        place.y.copy_(batch.y, non_blocking=True)
        place.member.copy_(batch.member, non_blocking=True)
        return place
