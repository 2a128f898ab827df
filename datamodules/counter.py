"""Batches by number: batch i is a function of (seed, i), whatever the workers, ranks and restarts."""

import signal
from collections.abc import Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, SequentialSampler

_MIX = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1

Item = TypeVar("Item", covariant=True)


def generator(*counters: int) -> torch.Generator:
    """A generator seeded by whole numbers, well mixed: near counters give unrelated streams."""
    state = 0
    for counter in counters:
        state = (state + (counter & _MASK) + _MIX) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return torch.Generator().manual_seed(state >> 1)


class CounterSampler(SequentialSampler):
    """Yields the numbers of this rank's batches: ``(position + i) * world + rank``.

    A sequential sampler to the trainer, which would put one in its place where ``overfit_batches`` is set.

    Args:
        length: Batches per epoch of one rank.
        rank: This process.
        world: Number of processes.
        position: Batches of this rank that came before.
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
    """Loads batches by ever-increasing number and remembers its place, so that a resumed run goes on where it was.

    Args:
        dataset: Map-style; item i is the whole batch i.
        length: Batches per epoch of one rank.
        rank: This process.
        world: Number of processes.
        position: Batches of this rank that came before.
        num_workers: Processes that make batches ahead; 0 = in the training process.
        pin_memory: Whether to stage batches for fast copies to a GPU.
        repeat: Whether every epoch has the same batches, the first ones.
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
        """The place of the next batch."""
        return {"position": self.counter.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved place."""
        self.counter.position = 0 if self.repeat else state["position"]


def batches_seen(trainer: Trainer | None) -> int:
    """Training batches a run has taken so far, those before a restart included.

    Lightning gives a loader its state back only where the run stopped within an epoch; this holds everywhere.
    """
    return 0 if trainer is None else trainer.fit_loop.epoch_loop.batch_progress.total.ready


class Scored(Protocol):
    """A batch whose targets can be left out."""

    def unscored(self) -> Self: ...


Batch = TypeVar("Batch", bound=Scored)


class Numbered(Protocol[Item]):
    """Things by number: a list, or a map-style dataset of known length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class RankSlice(Dataset[Batch], Generic[Batch]):
    """Every ``world``-th of some batches, from ``rank`` on: nothing padded, nothing scored twice.

    Args:
        items: The batches.
        rank: This process.
        world: Number of processes.
        together: Whether processes have common steps, from which a loader without batches would keep one for which
            none is left: it gets the first with no target to score. Otherwise it gets none.
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
    """Load this process's part of a stream of batches, from where its run stands.

    Args:
        trainer: Of the run; None outside one.
        batches: Map-style; item i is the whole batch i.
        length: Batches per epoch of one process.
        num_workers: Processes that make batches ahead; 0 = in the training process.
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
    """Load this process's part of some batches to score or to predict.

    Args:
        trainer: Of the run; None outside one.
        batches: Things by number; item i is the whole batch i.
        num_workers: Processes that make batches ahead; 0 = in the training process.
    """
    return DataLoader(
        RankSlice(batches, *place(trainer), together=trainer is None or not trainer.predicting),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=single_thread,
    )


def place(trainer: Trainer | None) -> tuple[int, int]:
    """The rank of this process and the number of processes; 0 of 1 outside a run.

    Raises:
        MisconfigurationException: Lightning would share the batches out a second time.
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
    """Keep a worker to one thread, as threads would fight with training, and leave signals to the training process.

    A signal to the whole process group, such as that of Ctrl-C, would end workers before the training is saved.
    """
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
