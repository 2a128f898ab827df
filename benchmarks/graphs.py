"""Training steps as CUDA graphs: small networks then take as long as their kernels, not as long as Python."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tabattn.contract.batches import PairBatch, TableBatch

Batch = PairBatch | TableBatch
Loss = Callable[[Any], Tensor]
Sort = tuple[torch.Size, int]
"""The shape of a batch's places or cells, and its context: batches of one sort are replays of one graph."""


class GraphedTraining:
    """Takes the steps of one network, each sort of batch from its second time on as the replay of a graph.

    What is computed is the same: the first batch of a sort is an ordinary step, which also prepares the kernels; the
    second is recorded and replayed like all that follow.

    Args:
        network: What is trained, on a GPU.
        loss: Its loss on a batch; must not wait for the GPU.
        optimizer: Its optimizer, before its first step; is made ``capturable``, its learning rates tensors.
        clip: Largest norm of all gradients together; None = any.
    """

    def __init__(self, network: nn.Module, loss: Loss, optimizer: Optimizer, clip: float | None = None) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.clip = clip
        self.device = next(network.parameters()).device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(self.device)
        self.known: dict[Sort, torch.cuda.CUDAGraph | None] = {}
        for group in optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device)

    def step(self, batch: Batch, rate: float | None = None) -> bool:
        """Take a step.

        Args:
            batch: Tensors that stay the same for all batches of one sort.
            rate: Learning rate of all parameters; None = what each group of them had before.

        Returns:
            Whether it was a replay alone.
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
        graph = self.known[sort] = known or self._record(batch)
        graph.replay()
        return known is not None

    def _work(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()

    def _record(self, batch: Batch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that pins memory for batches to come, may go on.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            self._work(batch)
        return graph


class Places:
    """Fixed places on a GPU for batches of each sort.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[Sort, PairBatch] = {}

    def put(self, batch: PairBatch) -> PairBatch:
        """Copy a batch to the place of its sort."""
        sort = batch.x.shape, batch.context
        if sort not in self.known:
            copies = {name: getattr(batch, name).to(self.device) for name in ("x", "y", "member")}
            self.known[sort] = batch._replace(**copies, oracle=None)
        place = self.known[sort]
        place.x.copy_(batch.x, non_blocking=True)
        place.y.copy_(batch.y, non_blocking=True)
        place.member.copy_(batch.member, non_blocking=True)
        return place
