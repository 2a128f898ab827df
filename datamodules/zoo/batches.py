"""Batches of networks of a zoo: of near sizes, in an order that is a function of (seed, epoch)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.zoo.tasks import TEST, TRAIN
from datamodules.zoo.zoo_file import Zoo
from tabattn.contract.networks import NetworkBatch, NeuronTokens

ORDER, ROWS = 81, 82
"""Streams of random numbers: order of batches, and rows of a batch."""
MULTIPLE = 8
"""Batches have room for a multiple of this number of tokens, so that few shapes occur."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What batches are made of.

    Args:
        zoo: The zoo.
        meta: Scaled meta-features, ``(tasks, features)``.
        batch_size: Most networks in a batch.
        probes: Rows on which outputs are compared.
        rows: Training rows of each task that a batch shows, and held-out rows of one to score.
        seed: Seed.
    """

    zoo: Zoo
    meta: Tensor
    batch_size: int
    probes: int
    rows: int
    seed: int

    def batch(self, networks: Ints, probed: int, draw: torch.Generator | None) -> NetworkBatch:
        """Make a batch.

        Args:
            networks: Numbers of the networks.
            probed: Part of the rows that outputs are compared on; where these are not training rows, they are behind
                the context too.
            draw: Source of randomness; none = the first rows of each part.
        """
        population = self.zoo.population.take(networks)
        most = -(-int(np.diff(population.vertex_pointer).max()) // MULTIPLE) * MULTIPLE
        task = self.zoo.models["task"][networks].astype(np.int64)
        probe, _ = self._rows(task, probed, self.probes, draw)
        x, y = self._rows(task, TRAIN, self.rows, draw)
        if probed != TRAIN:
            held = self._rows(task, probed, self.rows, draw)
            x, y = torch.cat([x, held[0]], 1), torch.cat([y, held[1]], 1)
        return NetworkBatch(
            NeuronTokens.of(population, most),
            probe.nan_to_num(0.0),
            self.meta[torch.from_numpy(task)],
            x,
            y,
            torch.from_numpy(task),
            torch.from_numpy(networks),
            self.rows,
            torch.from_numpy(self.zoo.tasks.classes[task]) if self.zoo.tasks.classes.any() else None,
        )

    def _rows(self, task: Ints, part: int, count: int, draw: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Rows of a part of each network's task; the same again, in turn, where there are too few."""
        own = self.zoo.tasks.part[task] == part
        first, held = own.argmax(1), own.sum(1)
        at = np.arange(count)[None]
        if draw is not None:
            at = at + (torch.rand(len(task), 1, generator=draw).numpy() * held[:, None]).astype(np.int64)
        rows = first[:, None] + at % np.maximum(held, 1)[:, None]
        tasks = self.zoo.tasks
        return torch.from_numpy(tasks.x[task[:, None], rows]), torch.from_numpy(tasks.y[task[:, None], rows])


class TrainingBatches(Dataset[NetworkBatch]):
    """Endless stream of batches: epoch after epoch, all networks in an order that is a function of (seed, epoch).

    Args:
        source: What batches are made of.
        networks: Numbers of the networks.
    """

    def __init__(self, source: Source, networks: Ints) -> None:
        self.source = source
        sizes = np.diff(source.zoo.population.vertex_pointer)[networks]
        classes = -(-sizes // MULTIPLE)
        self.groups = [networks[classes == size] for size in np.unique(classes)]
        self.order: tuple[int, list[Ints]] = (-1, [])

    def __len__(self) -> int:
        return sum(-(-len(group) // self.source.batch_size) for group in self.groups)

    def __getitem__(self, index: int) -> NetworkBatch:
        epoch, number = divmod(index, len(self))
        draw = generator(self.source.seed, ROWS, index)
        return self.source.batch(self._epoch(epoch)[number], TRAIN, draw)

    def _epoch(self, epoch: int) -> list[Ints]:
        """Networks of each batch of an epoch."""
        if self.order[0] != epoch:
            draw = generator(self.source.seed, ORDER, epoch)
            pieces = []
            for group in self.groups:
                mixed = group[torch.randperm(len(group), generator=draw).numpy()]
                pieces += np.array_split(mixed, -(-len(mixed) // self.source.batch_size))
            self.order = epoch, [pieces[i] for i in torch.randperm(len(pieces), generator=draw).tolist()]
        return self.order[1]


class ScoredBatches:
    """Batches to score: the same in every epoch, each of networks of near sizes, with test rows of each task as probes.

    The first has those of middle size, as callbacks show networks of the first.

    Args:
        source: What batches are made of.
        networks: Numbers of the networks.
    """

    def __init__(self, source: Source, networks: Ints) -> None:
        self.source = source
        sizes = np.diff(source.zoo.population.vertex_pointer)[networks]
        ordered = networks[np.argsort(sizes, kind="stable")]
        pieces = np.array_split(ordered, -(-len(ordered) // source.batch_size)) if len(ordered) else []
        self.pieces = pieces[len(pieces) // 2 :] + pieces[: len(pieces) // 2]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> NetworkBatch:
        return self.source.batch(self.pieces[index], TEST, None)
