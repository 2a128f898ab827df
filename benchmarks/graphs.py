"""Training steps as CUDA graphs: small networks then take as long as their kernels, not as long as Python."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tabattn.batches import PairBatch

Loss = Callable[[PairBatch], Tensor]


class GraphedTraining:
    """Takes the steps of one network, each sort of batch from its second time on as the replay of a graph.

    What is computed is the same: the first batch of a sort is an ordinary step, which also prepares the kernels; the
    second is recorded and replayed like all that follow.

    Args:
        network: What is trained, on a GPU.
        loss: Its loss on a batch; must not wait for the GPU.
        optimizer: Its optimizer, before its first step; is made ``capturable``, its learning rates tensors.
    """

    def __init__(self, network: nn.Module, loss: Loss, optimizer: Optimizer) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.device = next(network.parameters()).device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(self.device)
        self.known: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = {}
        for group in optimizer.param_groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=self.device)

    def step(self, batch: PairBatch, rate: float) -> bool:
        """Take a step.

        Args:
            batch: Tensors that stay the same for all batches of one number of points and of context.
            rate: Learning rate.

        Returns:
            Whether it was a replay alone.
        """
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)
        sort = batch.x.shape[1], batch.context
        if sort not in self.known:
            self.known[sort] = None
            self._work(batch)
            return False
        known = self.known[sort]
        graph = self.known[sort] = known or self._record(batch)
        graph.replay()
        return known is not None

    def _work(self, batch: PairBatch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        self.optimizer.step()

    def _record(self, batch: PairBatch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.stream):
            # Other threads, such as one that pins memory for batches to come, may go on.
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            self._work(batch)
            graph.capture_end()
        torch.cuda.synchronize(self.device)
        return graph


class Places:
    """Fixed places on a GPU for batches of each sort.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[tuple[int, int], PairBatch] = {}

    def put(self, batch: PairBatch) -> PairBatch:
        """Copy a batch to the place of its sort."""
        sort = batch.x.shape[1], batch.context
        if sort not in self.known:
            copies = {name: getattr(batch, name).to(self.device) for name in ("x", "y", "member")}
            self.known[sort] = batch._replace(**copies, oracle=None)
        place = self.known[sort]
        place.x.copy_(batch.x, non_blocking=True)
        place.y.copy_(batch.y, non_blocking=True)
        place.member.copy_(batch.member, non_blocking=True)
        return place
