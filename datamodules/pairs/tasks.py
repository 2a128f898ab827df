"""Batches of existing tasks: which tasks make up a batch, and which of their points are context."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader, Seed, Seeds, endless, generator, shared
from datamodules.draws import integer
from datamodules.pairs.options import SPLIT_MOVES, Augmentation, Evaluation, PairOptions, Shown
from datamodules.pairs.regimes import FEW, REGIMES, Drawn, Regime, choose
from tabattn.contract.batches import PairBatch, Scaling
from tabattn.contract.checks import NotInCheckpoints, check_least, listed, nearest
from tabattn.storage.earlier import Movable

STREAMS = {"train": 1, "val": 2, "test": 3, "predict": 3}
"""Numbers that give the random choices of each stage a stream of their own."""


class Points(NamedTuple):
    """Whole tasks of one size, sequence after sequence.

    Attributes:
        x: Locations, ``(batch, points)``.
        y: Values, ``(batch, points)``; NaN = not observed, or padding.
        member: Member of each point, ``(batch, points)``.
        padding: Padding mask, ``(batch, points)`` boolean; True = a filler point. None = no padding.
    """

    x: Tensor
    y: Tensor
    member: Tensor
    padding: Tensor | None = None


class Tasks(Protocol):
    """Protocol of tasks by index."""

    def take(self, numbers: Tensor) -> Points: ...

    def known(self, numbers: Tensor, shown: int) -> tuple[Tensor, Tensor]: ...


class TaskBatches(Dataset[PairBatch]):
    """Batches of existing tasks: batch i is a function of (seed, stage, i).

    Args:
        tasks: All tasks.
        numbers: Indices of the tasks to use.
        stage: ``train``: an endless stream of random batches; otherwise each task once, in order.
        options: Options of the batches.
    """

    def __init__(self, tasks: Tasks, numbers: Tensor, stage: str, options: PairOptions) -> None:
        self.tasks = tasks
        self.numbers = numbers
        self.stage = stage
        self.options = options

    def __len__(self) -> int:
        """Number of batches in which each task occurs once."""
        return -(-len(self.numbers) // self.options.batch_size)

    def __getitem__(self, index: int) -> PairBatch:
        options = self.options
        source = generator(options.seed, STREAMS[self.stage], index)
        regime = choose(options.regimes, source)
        numbers = self._choose(index, source)
        points = self.tasks.take(numbers)
        roles = self._roles(points, source, options.swap_roles or regime == "full_infer")
        inferred = roles.gather(1, points.member)
        shown, total = self._sizes(points, roles, regime, source)
        # What is not known is shown last: a random context is not spent on it.
        chance = torch.rand(points.x.shape, generator=source).masked_fill(points.y.isnan(), 1)
        layout = REGIMES[regime](Drawn(points.x, points.member, inferred, chance, shown, total), options.members)
        x, y, member = (part.gather(1, layout.order) for part in points[:3])
        padding = None if points.padding is None else points.padding.gather(1, layout.order)
        if options.drift:
            y = y + options.drift * torch.randn(len(y), options.members, generator=source).gather(1, member)
        return PairBatch(x, y, member, layout.context, padding=padding, task=numbers)

    def _choose(self, index: int, source: torch.Generator) -> Tensor:
        size = self.options.batch_size
        if self.stage == "train":
            return self.numbers[torch.randint(len(self.numbers), (size,), generator=source)]
        return self.numbers[index * size : (index + 1) * size]

    def _sizes(self, points: Points, roles: Tensor, regime: str, source: torch.Generator) -> tuple[int, int | None]:
        """How many points of a sequence to infer are shown, and how many where points are of all sequences.

        Where any size may occur, a task at random says how many leave one of its known values to be inferred: in a
        batch of unequal tasks the short ones then have targets as often as they have long ones beside them.
        """
        options = self.options
        shown = integer(*options.shown, source)
        if not options.every or not integer(0, 1, source):
            return shown, None
        task = integer(0, len(roles) - 1, source)
        known, most = points.y[task].isfinite(), FEW
        for member in roles[task].nonzero().flatten().tolist():
            own = points.member[task] == member
            # Missing values come last among random points; among the first ones they count.
            before = known if regime == "interp" else points.x[task] <= points.x[task, own & known].max()
            most = max(most, int((own & before).sum()) - 1)
        least = min(FEW * options.members, int(known.sum()) - 1)
        return integer(FEW, most, source), integer(least, int(known.sum()) - 1, source)

    def _roles(self, points: Points, source: torch.Generator, drawn: bool) -> Tensor:
        """Which sequences each task infers, ``(batch, members)``.

        Those that are drawn are the same for all tasks where sequences differ in length, as a batch has one context.
        """
        members, several = self.options.members, len(self.options.infer)
        alike = len(set(points.member[0].bincount().tolist())) == 1
        size = len(points.x) if alike else 1
        if not drawn:
            numbers = torch.tensor([self.options.infer])
        elif several == 1:
            numbers = torch.randint(members, (size, 1), generator=source)
        else:
            numbers = torch.rand(size, members, generator=source).argsort(1)[:, :several]
        roles = torch.zeros(len(numbers), members, dtype=torch.bool).scatter_(1, numbers, True)
        return roles.expand(len(points.x), -1)


class TaskPairs(Movable, NotInCheckpoints, LightningDataModule, ABC):
    """Abstract datamodule of existing tasks: checks and loaders; values come standardised.

    A subclass reads its tasks in its constructor.

    Attributes:
        names: Names of the sequences, in the order of ``PairBatch.member``.
        mean: Mean of each sequence in the training part, which is 0 in a batch.
        std: Standard deviation of each sequence in the training part, which is 1 in a batch.
        scaling: Ends of the axis in training.
        tasks: All tasks.
        numbers: Indices of the tasks of each stage: ``train``, ``val``, ``test``, ``predict``.
        complete: Whether no value is missing, so that batches need no check.

    Args:
        names: Names of the sequences.
        infer: Name of the sequence to infer, or of several; none = the last.
        context: Number of context points of each of them in evaluation, in training any number; or the fewest and the
            most in both.
        regime: Which points are context in training; of several, each batch draws one.
        evaluation: Options of validation, test and prediction.
        augmentation: Options of data augmentation in training.
        batch_size: Tasks in a batch.
        steps_per_epoch: Batches in an epoch of training.
        seed: Seed of all random choices; of two, the second is that of the training batches alone.
        num_workers: Worker processes of the loaders; 0 = load in the training process.
    """

    batch = PairBatch
    moved: ClassVar[Mapping[str, str]] = SPLIT_MOVES

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scaling: Scaling
    tasks: Tasks
    numbers: dict[str, Tensor]
    complete: bool = False

    @abstractmethod
    def __init__(
        self,
        names: tuple[str, ...],
        infer: tuple[str, ...] | str | None,
        context: int | tuple[int, int],
        regime: Regime | tuple[Regime, ...],
        evaluation: Evaluation,
        augmentation: Augmentation,
        batch_size: int,
        steps_per_epoch: int,
        seed: Seed,
        num_workers: int,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        self.names = names
        self.infer = _numbers(infer, names)
        shown = Shown.of(context, evaluation)
        regimes, seeds = evaluation.regimes(regime), Seeds.of(seed)
        self.options = {
            stage: PairOptions(
                len(names), self.infer, shown.scored, False, chosen, False, 0.0, batch_size, seeds.scored
            )
            for stage, chosen in {**regimes, "predict": regimes["test"]}.items()
        }
        self.options["train"] = self.options["train"]._replace(
            shown=shown.train,
            every=shown.every,
            swap_roles=augmentation.swap_roles,
            drift=augmentation.drift,
            seed=seeds.training,
        )
        self.steps_per_epoch = steps_per_epoch
        self.num_workers = num_workers

    def usable(self, stage: str, numbers: Tensor) -> Tensor:
        """Tasks of a stage with observed context values and, except for ``predict``, observed targets.

        Raises:
            ValueError: No task is usable.
        """
        options, infer = self.options[stage], list(self.infer)
        shown, rest = self.tasks.known(numbers, options.shown[0])
        enough = shown + rest > 0
        if options.every:
            enough[:, infer] = (shown + rest)[:, infer] > FEW
        else:
            enough[:, infer] = shown[:, infer] > 0
            if stage != "predict":
                enough[:, infer] &= rest[:, infer] > 0
        if not enough.all(1).any():
            lacking = [name for name, found in zip(self.names, enough.any(0).tolist(), strict=True) if not found]
            raise ValueError(
                f"no task to {stage} on has known values of every sequence, before and behind those shown"
                + (f"; none has of {', '.join(map(repr, lacking))}" if lacking else "")
            )
        return numbers[enough.all(1)]

    @property
    def members(self) -> int:
        """Number of sequences of a task."""
        return len(self.names)

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of an endless stream."""
        return endless(self.trainer, self.batches("train"), self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """Validation loader: this rank's share of the validation tasks."""
        return shared(self.trainer, self.batches("val"), self.num_workers)

    def test_dataloader(self) -> DataLoader[PairBatch]:
        """Test loader: this rank's share of the test tasks."""
        return shared(self.trainer, self.batches("test"), self.num_workers)

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        """Prediction loader: this rank's share of the test tasks and of those without observed targets."""
        return shared(self.trainer, self.batches("predict"), self.num_workers)

    def batches(self, stage: str) -> TaskBatches:
        """Batches of a stage: ``train``, ``val``, ``test`` or ``predict``."""
        return TaskBatches(self.tasks, self.numbers[stage], stage, self.options[stage])


def _numbers(infer: tuple[str, ...] | str | None, names: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of the sequences to infer, in their order.

    Raises:
        ValueError: There is no such sequence, none is named, or one twice.
    """
    if infer is None:
        return (len(names) - 1,)
    given = (infer,) if isinstance(infer, str) else tuple(infer)
    for name in given:
        if name not in names:
            raise ValueError(f"infer must be of the sequences, got {name!r}{nearest(name, names)}{listed(names)}")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"infer must name different sequences, at least 1, got {list(given)}")
    return tuple(sorted(map(names.index, given)))
