"""CUDA graphs: work that is recorded once for each shape of a batch, and replayed."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_unflatten

Result = TypeVar("Result")
Replay = Callable[[], None]
Recorder = Callable[[Callable[[], None]], Replay]
PLAIN = (bool, int, float, str, type(None))
"""Parts of a batch beside its tensors: batches that differ in them have their own graphs."""


class Graphs:
    """Recorder of CUDA graphs that share their memory.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)

    def __call__(self, work: Callable[[], None]) -> Replay:
        """Record some work without doing it; it must not synchronise with the GPU.

        Returns:
            What does it.
        """
        graph = torch.cuda.CUDAGraph()
        # Allow CUDA calls of other threads, such as that which pins memory of later batches.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class Replays(Generic[Result]):
    """Work on batches as replays of CUDA graphs, one for each sort of batch: its shapes, and what is no tensor in it.

    On the first batch of a sort the work is done, which also loads the kernels; on the second it is recorded and
    replayed, as on all later ones. Results are those of the work; their tensors are overwritten by the next replay.

    Args:
        work: The work; numbers that it computes outside of tensors are those of the recording for ever.
        record: Records work and returns what replays it.
        most: Most graphs that are kept; on batches of further sorts the work is done each time.
    """

    def __init__(self, work: Callable[[Any], Result], record: Recorder, most: int) -> None:
        self.work = work
        self.record = record
        self.most = most
        self.known: dict[Hashable, _Recorded[Result] | None] = {}
        self.graphs = 0

    def __call__(self, batch: Any) -> Result:
        """Do the work on a batch.

        Raises:
            ValueError: The batch holds something that is neither a tensor nor a plain value.
        """
        sort, tensors, build = _taken_apart(batch)
        if sort not in self.known or (self.known[sort] is None and self.graphs >= self.most):
            self.known[sort] = None
            return self.work(batch)
        recorded = self.known[sort]
        if recorded is None:
            self.graphs += 1
            recorded = self.known[sort] = _Recorded([part.clone() for part in tensors])
            placed, results = build(recorded.tensors), recorded.results
            recorded.replay = self.record(lambda: results.append(self.work(placed)))
        for place, part in zip(recorded.tensors, tensors, strict=True):
            place.copy_(part, non_blocking=True)
        assert recorded.replay is not None
        recorded.replay()
        return recorded.results[-1]


class _Recorded(Generic[Result]):
    """Fixed tensors of a sort of batches, the replay of its work, and the result."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors
        self.replay: Replay | None = None
        self.results: list[Result] = []


def _taken_apart(batch: Any) -> tuple[Hashable, list[Tensor], Callable[[list[Tensor]], Any]]:
    """Return the sort of a batch, its tensors, and what puts others in their place."""
    parts, structure = tree_flatten(batch)
    sort: list[Hashable] = [str(structure)]
    for part in parts:
        if isinstance(part, Tensor):
            sort.append((part.shape, part.dtype, part.device))
        elif isinstance(part, PLAIN):
            sort.append((type(part), part))
        else:
            raise ValueError(f"a batch holds a {type(part).__name__}, which is neither a tensor nor a plain value")

    def build(tensors: list[Tensor]) -> Any:
        rest = iter(tensors)
        return tree_unflatten([next(rest) if isinstance(part, Tensor) else part for part in parts], structure)

    return tuple(sort), [part for part in parts if isinstance(part, Tensor)], build


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Let an optimizer take its steps within a graph: learning rates and counts of steps are tensors on the device."""
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device).clone()
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)


def make_ordinary(groups: list[dict[str, Any]]) -> None:
    """Undo ``make_capturable`` in the groups of an optimizer or of its state."""
    for group in groups:
        group["capturable"] = False
        group["lr"] = float(group["lr"])
