"""Synthetic batches of pairs by index."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.draws import integer
from datamodules.pairs.gaussian import draw, marginal, oracle
from datamodules.pairs.kernels import Process
from datamodules.pairs.kinds import PairPlan, draw_sizes, grid, locations, make_process
from datamodules.pairs.regimes import FEW, REGIMES, Drawn, choose
from tabattn.contract.batches import Oracle, PairBatch

Knowledge = Literal["known", "marginal"]


class Tasks(NamedTuple):
    """Drawn tasks before a regime splits them into context and targets.

    Attributes:
        process: Gaussian process of each task.
        y: Values, ``(batch, points)`` double.
        points: Locations, members, which points are of the sequence to infer, and the size of its context.
        parameters: Uniform numbers that the process was made from, ``(batch, ranges)``.
    """

    process: Process
    y: Tensor
    points: Drawn
    parameters: Tensor


class PairBatches(Dataset[PairBatch]):
    """Batch i of synthetic pairs, a function of (seed, split, i): its sizes and regime, and each of its tasks.

    The values of a task do not depend on the regime.

    Args:
        plan: Distribution of the tasks.
        regimes: Regime, or several of which each batch draws one.
        swap_roles: Whether the sequence to infer is drawn at random; otherwise it is the last.
        batch_size: Tasks in a batch.
        seed: Seed of the stream.
        split: Stream of the seed: training, validation or test.
        length: Number of batches.
        knowledge: What the oracle conditions on: the process of each task, or only the distribution that it was drawn
            from; None = no oracle.
    """

    def __init__(
        self,
        plan: PairPlan,
        regimes: tuple[str, ...],
        swap_roles: bool,
        batch_size: int,
        seed: int,
        split: int,
        length: int,
        knowledge: Knowledge | None,
    ) -> None:
        self.plan = plan
        self.regimes = regimes
        self.swap_roles = swap_roles
        self.batch_size = batch_size
        self.seed = seed
        self.split = split
        self.length = length
        self.knowledge = knowledge

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairBatch:
        regime = choose(self.regimes, generator(self.seed, self.split, index, 0))
        tasks = self.draw(index, self.swap_roles or regime == "full_infer")
        order, context = REGIMES[regime](tasks.points, self.plan.members)
        parts = (tasks.points.x, tasks.y.float(), tasks.points.member)
        x, y, member = (part.gather(1, order) for part in parts)
        known = self._oracle(tasks.process, x, y, member, context)
        return PairBatch(x, y, member, context, known, process=tasks.parameters)

    def draw(self, index: int, swap_roles: bool) -> Tasks:
        """Draw the tasks of a batch."""
        plan = self.plan
        source = generator(self.seed, self.split, index, 1)
        sizes, shown = draw_sizes(plan, source)
        common = torch.rand(1, generator=source)
        ranges, count = len(plan.ranges), sum(sizes)
        sources = [generator(self.seed, self.split, index, 2, task) for task in range(self.batch_size)]
        uniforms = torch.stack([torch.rand(ranges + 1 + 2 * count, generator=each) for each in sources])
        normals = torch.stack([torch.randn(count, generator=each, dtype=torch.float64) for each in sources])
        hyper, turn, place, chance = uniforms.split([ranges, 1, count, count], dim=1)
        beyond = _beyond(sizes, plan.beyond, shown)
        x = locations(plan, place, beyond)
        # What is beyond the axis is shown last, so that a random context does not hold it.
        chance = chance.masked_fill(beyond, 1)
        member = torch.arange(plan.members).repeat_interleave(torch.tensor(sizes)).expand(self.batch_size, -1)
        # Sequences of unequal length take one turn in the whole batch, which has one context length.
        turn = turn.squeeze(1) if len(set(sizes)) == 1 else common.expand(self.batch_size)
        role = (turn * plan.members).long() if swap_roles else torch.full((self.batch_size,), plan.members - 1)
        total = None
        if plan.every and integer(0, 1, source):
            shown = integer(FEW, sizes[int(role[0])] - plan.margin, source)
            total = integer(FEW * plan.members, count - plan.margin, source)
        process = make_process(plan, hyper)
        inferred = member == role.unsqueeze(1)
        points = Drawn(x, member, inferred, chance, shown, total)
        return Tasks(process, draw(process, x, member, normals), points, hyper)

    def _oracle(self, process: Process, x: Tensor, y: Tensor, member: Tensor, context: int) -> Oracle | None:
        if self.knowledge is None:
            return None
        if self.knowledge == "known":
            return oracle(process, x, y, member, context)
        return marginal(self._processes(), x, y, member, context)

    def _processes(self) -> Iterator[Process]:
        return (make_process(self.plan, row.expand(self.batch_size, -1)) for row in grid(self.plan))


def _beyond(sizes: tuple[int, ...], most: int, shown: int) -> Tensor:
    """Which points lie beyond the axis, ``(points,)``: the last ones of each sequence, at least ``shown`` left out."""
    places = torch.cat([torch.arange(size, 0, -1) for size in sizes])
    counts = torch.tensor([min(most, max(size - shown, 0)) for size in sizes])
    return places <= counts.repeat_interleave(torch.tensor(sizes))
