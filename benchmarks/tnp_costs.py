"""Cost of a training step of ``benchmarks.tnp`` by number of points: processor time, and memory kept for backward."""

import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.tnp_networks import Entrant
from tabattn.contract.batches import PairBatch

POINTS = (50, 100, 200, 400)
REPEATS = 7


def costs(made: Mapping[str, Entrant], batch: int, points: Sequence[int] = POINTS) -> list[str]:
    """Table in Markdown: milliseconds and MiB of a forward and backward pass on a CPU, half of the points context.

    Args:
        made: Networks by name, on a CPU, which take turns.
        batch: Number of tasks in a batch.
        points: Numbers of points of a task.
    """
    lines = [
        f"| network | {' | '.join(f'{count} points, ms | MiB' for count in points)} |",
        f"| --- |{' ---: | ---: |' * len(points)}",
    ]
    cells: dict[str, list[str]] = {name: [] for name in made}
    for count in points:
        given = _batch(batch, count)
        kept = {name: _kept(entrant, given) for name, entrant in made.items()}
        spent: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(REPEATS):
            for name, entrant in made.items():
                start = time.process_time()
                entrant.loss(given).backward()
                spent[name].append(time.process_time() - start)
        for name in made:
            cells[name] += [f"{1e3 * statistics.median(spent[name]):.1f}", f"{kept[name] / 2**20:.1f}"]
    return lines + [f"| {name} | {' | '.join(cells[name])} |" for name in made]


def _batch(batch: int, points: int) -> PairBatch:
    source = torch.Generator().manual_seed(points)
    x = 4 * torch.rand(batch, points, generator=source) - 2
    y = torch.randn(batch, points, generator=source)
    return PairBatch(x, y, torch.zeros_like(x, dtype=torch.long), points // 2)


def _kept(entrant: Entrant, batch: PairBatch) -> int:
    """Bytes of all storages that a forward pass keeps for the backward pass."""
    storages: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        loss = entrant.loss(batch)
    loss.backward()
    return sum(storages.values())
