"""Counter-based loading: batch i is a function of (seed, i), whatever the workers, ranks and resumes."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, SequentialSampler

_MIX = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1

Item = TypeVar("Item", covariant=True)


Seed = int | tuple[int, int]
"""Seed of everything; or two, of which the second is that of the training batches alone."""


class Seeds(NamedTuple):
    """Seeds of a datamodule.

    Attributes:
        scored: Of splits, and of what is validated and tested on.
        training: Of the training batches.
    """

    scored: int
    training: int

    @classmethod
    def of(cls, seed: Seed) -> Self:
        """Seeds of an argument."""
        return cls(*seed) if isinstance(seed, tuple | list) else cls(seed, seed)


def generator(*counters: int) -> torch.Generator:
    """Random generator seeded by a tuple of counters, hashed so that near counters give unrelated streams."""
    state = 0
    for counter in counters:
        state = (state + (counter & _MASK) + _MIX) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


class CounterSampler(SequentialSampler):
    """Distributed sampler by counter: yields batch numbers ``(position + i) * world + rank``.

    A subclass of ``SequentialSampler``, as Lightning replaces any other where ``overfit_batches`` is set.

    Args:
        length: Batches per epoch of one rank.
        rank: Rank of this process.
        world: Number of ranks.
        position: Batches that this rank has taken already.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1, position: int = 0) -> None:
        super().__init__(range(length))
        self.length = length
        self.rank = rank
        self.world = world
        self.position = position

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        first = self.position
        return ((first + i) * self.world + self.rank for i in range(self.length))


class CounterLoader(DataLoader[Any]):
    """Stateful data loader of numbered batches: a resumed run goes on with the next batch of its stream.

    Args:
        dataset: Map-style dataset; item i is the whole batch i.
        length: Batches per epoch of one rank.
        rank: Rank of this process.
        world: Number of ranks.
        position: Batches that this rank has taken already.
        num_workers: Worker processes; 0 = load in the training process.
        pin_memory: Whether to pin the memory of batches, for fast copies to a GPU.
        repeat: Whether every epoch repeats the first ``length`` batches.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        length: int,
        rank: int = 0,
        world: int = 1,
        position: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        repeat: bool = False,
    ) -> None:
        if length < 1:
            raise ValueError(f"an epoch needs at least 1 batch, got {length}")
        _end_workers_at_exit(num_workers)
        self.repeat = repeat
        self.counter = CounterSampler(length, rank, world, 0 if repeat else position)
        super().__init__(
            dataset,
            batch_size=None,
            sampler=self.counter,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=single_thread,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            self.counter.position += not self.repeat
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position in the stream, for a checkpoint."""
        return {"position": self.counter.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the position of a checkpoint."""
        self.counter.position = 0 if self.repeat else state["position"]


def batches_seen(trainer: Trainer | None) -> int:
    """Number of training batches that a run has taken, those before a resume included.

    Lightning restores the state of a loader only within an epoch; this count holds at its end too.
    """
    return 0 if trainer is None else trainer.fit_loop.epoch_loop.batch_progress.total.ready


class Scored(Protocol):
    """Protocol of batches whose targets can be excluded from scoring."""

    def unscored(self) -> Self: ...


Batch = TypeVar("Batch", bound=Scored)


class Numbered(Protocol[Item]):
    """Protocol of indexed batches: a list, or a map-style dataset of known length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class RankSlice(Dataset[Batch], Generic[Batch]):
    """A rank's share of batches to score: every ``world``-th from ``rank`` on, none padded, none scored twice.

    Args:
        items: The batches.
        rank: Rank of this process.
        world: Number of ranks.
        together: Whether ranks take part in collective calls. An idle rank, for which no batch is left, then gets the
            first batch with no target to score, so that collectives match. Otherwise it gets none.
    """

    def __init__(self, items: Numbered[Batch], rank: int, world: int, *, together: bool = True) -> None:
        self.items = items
        self.idle = together and rank >= len(items)
        self.numbers = range(min(1, len(items))) if self.idle else range(rank, len(items), world)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch:
        batch = self.items[self.numbers[index]]
        return batch.unscored() if self.idle else batch


def endless(trainer: Trainer | None, batches: Dataset[Any], length: int, num_workers: int) -> CounterLoader:
    """Training loader: this rank's share of an endless stream of batches, from the run's position on.

    Args:
        trainer: Trainer of the run; None outside one.
        batches: Map-style dataset; item i is the whole batch i.
        length: Batches per epoch of one rank.
        num_workers: Worker processes; 0 = load in the training process.
    """
    return CounterLoader(
        batches,
        length,
        *place(trainer),
        position=batches_seen(trainer),
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        repeat=getattr(trainer, "overfit_batches", 0) > 0,
    )


def shared(trainer: Trainer | None, batches: Numbered[Batch], num_workers: int = 0) -> DataLoader[Batch]:
    """Evaluation loader: this rank's share of batches to score or to predict.

    Args:
        trainer: Trainer of the run; None outside one.
        batches: Indexed; item i is the whole batch i.
        num_workers: Worker processes; 0 = load in the training process.
    """
    _end_workers_at_exit(num_workers)
    return DataLoader(
        RankSlice(batches, *place(trainer), together=trainer is None or not trainer.predicting),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=single_thread,
    )


def place(trainer: Trainer | None) -> tuple[int, int]:
    """Return rank and world size; (0, 1) outside a run.

    Raises:
        MisconfigurationException: Lightning's own distributed sampler is on, which would split the batches a second
            time.
    """
    if trainer is None:
        return 0, 1
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise MisconfigurationException(
            "several processes need --trainer.use_distributed_sampler=false, got true (from Python "
            "Trainer(use_distributed_sampler=False))"
        )
    return trainer.global_rank, trainer.world_size


def single_thread(worker: int) -> None:
    """Worker initialisation: one thread per worker, and no reaction to SIGINT, SIGTERM and SIGHUP.

    More threads would compete with training. A signal to the process group, such as that of Ctrl-C, would end workers
    before the training process has saved its checkpoint.
    """
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_workers_at_exit(num_workers: int) -> None:
    """Kill workers that are left when the process exits, as after an error.

    At exit ``multiprocessing`` sends them SIGTERM, which they ignore, and would then wait for them without end.
    """
    if num_workers:
        atexit.unregister(_kill_workers)
        atexit.register(_kill_workers)


def _kill_workers() -> None:
    # PyTorch's handler of SIGCHLD would raise an error for each.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()
