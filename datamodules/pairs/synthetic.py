"""Datamodule of synthetic pairs: sequences from Gaussian processes, with their oracle."""

from typing import Any, get_args

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, endless, shared
from datamodules.pairs.batches import Knowledge, PairBatches
from datamodules.pairs.cache import CachedPairs, Facts, PairCache
from datamodules.pairs.kernels import Kernel
from datamodules.pairs.kinds import KINDS, Kind, PairPlan, grid
from datamodules.pairs.options import as_regimes
from datamodules.pairs.regimes import Regime
from tabattn.contract.batches import PairBatch, Scaling
from tabattn.contract.checks import NotInCheckpoints, check_least

Range = tuple[float, float]

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
"""The streams of a seed, by number."""


class SyntheticPairs(NotInCheckpoints, LightningDataModule):
    """Synthetic pairs of sequences from Gaussian processes: endless for training, fixed with an oracle to score.

    A task is observations of several sequences (members) at different locations of one axis, drawn from one Gaussian
    process over (location, member). Task j of batch i is a function of (seed, i, j), whatever the workers, ranks and
    resumes. Kinds:

    - ``const``: one function, plus a constant for each sequence.
    - ``rbf``: one function, to which each sequence but the first adds a rougher one of its own.
    - ``icm``: correlated functions; length scale and correlation are drawn for each task. ``indep`` and ``copy`` are
      its ends: unrelated sequences, and one function seen twice.
    - ``tnp``: single sequences of the 1-D regression protocol of Transformer Neural Processes (arXiv 2207.04179).
    - ``single_rbf``, ``single_periodic``, ``single_noise``, ``rbf_const_2D``, ``rbf_rbf_2D``: sequences of 200 points
      on [5, 15] without noise (``eps: 0.05`` adds some); in the last one each point belongs to either by chance.

    The pairs have 32 + 32 points, 8 of them context in evaluation; ``points: [200, 200]`` and ``context: 50`` are the
    large setting. An argument of none takes the default of the kind.

    Args:
        kind: Distribution of the tasks.
        points: Points of each sequence, which also says how many sequences there are; of ``tnp``, most points in all.
        context: Number of context points of the sequence to infer in validation, test and prediction. Half of the
            training batches have as many, the others any number from 1 to all but one. Of two numbers, the fewest and
            the most, each batch draws from this range, in training too: ``[8, 8]`` trains on 8 alone.
        eval_context: The same for validation, test and prediction alone, one number or two; none = ``context``.
        regime: Which points are context in training. ``forecast``: all of the other sequences and the first points of
            the one to infer. ``interp``: random points of it instead. ``full_infer``: a forecast of a sequence drawn at
            random, in causal order. ``shuffle``: random points of all, on average as many of each. ``half_half``:
            full_infer or shuffle. ``mix``: shuffle, forecast or interp. Of several, each batch draws one; none = mix
            (``tnp``: shuffle).
        val_regime: The same for validation; none = forecast (``tnp``: shuffle).
        test_regime: The same for test; none = forecast (``tnp``: shuffle).
        swap_roles: Whether the sequence to infer is drawn at random for each task, so that every direction is learned;
            otherwise it is the last.
        x_range: Ends of the axis.
        eps: Standard deviation of the noise.
        kernel: Kernel of the Gaussian process.
        length: Smallest and largest length scale.
        amplitude: Smallest and largest standard deviation of the functions.
        period: Smallest and largest period (``kernel: periodic``).
        correlation: Smallest and largest correlation of ``icm``; of three sequences and more, partial correlation.
        shift: Standard deviation of the constants of ``const``.
        oracle: What the oracle conditions on: the process of each task (``known``), or only the distribution of
            processes (``marginal``), which is all that a network can know and slower to compute.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        val_batches: Number of validation batches.
        test_batches: Number of test and prediction batches.
        seed: Seed of the tasks.
        cache_file: HDF5 cache of the validation and test tasks, written once and then read, whatever ``context`` and
            ``regime`` training has; none = tasks are drawn when needed.
        cache_batches: Number of training batches to cache there too and repeat; 0 = training is endless.
        num_workers: Worker processes of the loaders; 0 = draw tasks in the training process.
    """

    batch = PairBatch

    complete = True
    """Every value is known."""

    def __init__(
        self,
        kind: Kind = "const",
        points: tuple[int, ...] | None = None,
        context: int | tuple[int, int] | None = None,
        eval_context: int | tuple[int, int] | None = None,
        regime: Regime | tuple[Regime, ...] | None = None,
        val_regime: Regime | None = None,
        test_regime: Regime | None = None,
        swap_roles: bool = False,
        x_range: Range | None = None,
        eps: float | None = None,
        kernel: Kernel | None = None,
        length: Range | None = None,
        amplitude: Range | None = None,
        period: Range | None = None,
        correlation: Range | None = None,
        shift: float | None = None,
        oracle: Knowledge = "known",
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        val_batches: int = 8,
        test_batches: int = 32,
        seed: int = 0,
        cache_file: str | None = None,
        cache_batches: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        check_least(val_batches=(val_batches, 1), test_batches=(test_batches, 1), cache_batches=(cache_batches, 0))
        if cache_batches and cache_file is None:
            raise ValueError(f"cache_batches needs a cache_file to keep them in, got {cache_batches} and none")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if oracle not in get_args(Knowledge):
            raise ValueError(f"oracle must be one of {', '.join(get_args(Knowledge))}, got {oracle!r}")
        changes: dict[str, Any] = {
            "points": points,
            "x_range": x_range,
            "eps": eps,
            "kernel": kernel,
            "length": length,
            "amplitude": amplitude,
            "period": period,
            "correlation": correlation,
            "shift": shift,
        }
        own = KINDS[kind].context
        given = _range(context) or own
        score = _range(eval_context) or given
        # Where one number was asked for it is where scoring starts, and no bound of what training sees.
        every = isinstance(context, int) or (context is None and own[0] == own[1])
        self.plan = _plan(kind, {**changes, "context": score if every else given})._replace(every=every)
        self.eval_plan = _plan(kind, {**changes, "context": score})
        if oracle == "marginal":
            grid(self.plan)
        scored = "shuffle" if kind == "tnp" else "forecast"
        self.regimes = (
            as_regimes("regime", regime or ("shuffle" if kind == "tnp" else "mix")),
            as_regimes("val_regime", val_regime or scored),
            as_regimes("test_regime", test_regime or scored),
        )
        self.swap_roles = swap_roles
        self.oracle = oracle
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.lengths = (cache_batches, val_batches, test_batches)
        self.seed = seed
        self.num_workers = num_workers
        self.cache = None if cache_file is None else PairCache(cache_file, self._facts(kind))

    @property
    def members(self) -> int:
        """Number of sequences of a task."""
        return self.plan.members

    @property
    def scaling(self) -> Scaling:
        """Range of locations, and mean and standard deviation of values over all tasks."""
        return Scaling(*self.plan.x_range, 0.0, self.plan.spread)

    def prepare_data(self) -> None:
        """Write the cache file, or check that it holds these tasks."""
        if self.cache is not None:
            self.cache.prepare({name: self._drawn(split) for split, name in enumerate(SPLITS)})

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the endless stream."""
        return endless(self.trainer, self._batches(TRAIN), self.steps_per_epoch, self.num_workers)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """Validation loader: this rank's share of the validation tasks."""
        return shared(self.trainer, self._batches(VAL), self.num_workers)

    def test_dataloader(self) -> DataLoader[PairBatch]:
        """Test loader: this rank's share of the test tasks."""
        return shared(self.trainer, self._batches(TEST), self.num_workers)

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        """Prediction loader: this rank's share of the test tasks, without their oracle."""
        batches = self._batches(TEST)
        if isinstance(batches, PairBatches):
            batches.knowledge = None
        return shared(self.trainer, batches, self.num_workers)

    def _batches(self, split: int) -> PairBatches | CachedPairs:
        if self.cache is None or not self.lengths[split]:
            return self._drawn(split)
        self.prepare_data()
        return CachedPairs(self.cache, SPLITS[split], self.lengths[split])

    def _drawn(self, split: int) -> PairBatches:
        return PairBatches(
            self.plan if split == TRAIN else self.eval_plan,
            self.regimes[split],
            self.swap_roles,
            self.batch_size,
            self.seed,
            split,
            self.lengths[split],
            None if split == TRAIN else self.oracle,
        )

    def _facts(self, kind: str) -> Facts:
        """Everything that the tasks of a file depend on: on how to train only where training is kept there too."""
        trained = bool(self.lengths[TRAIN])
        facts = self.eval_plan._asdict() | {"kind": kind, "eval_context": self.eval_plan.context}
        del facts["every"]  # What is scored has one size; of training it is told by ``context``.
        facts["context"] = ("every" if self.plan.every else self.plan.context) if trained else None
        facts |= zip(("regime", "val_regime", "test_regime"), self.regimes, strict=True)
        facts["regime"] = self.regimes[TRAIN] if trained else None
        facts |= zip(("cache_batches", "val_batches", "test_batches"), self.lengths, strict=True)
        return facts | {name: getattr(self, name) for name in ("swap_roles", "oracle", "batch_size", "seed")}


def _range(count: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (count, count) if isinstance(count, int) else count


def _plan(kind: str, changes: dict[str, Any]) -> PairPlan:
    """Plan of a kind, with its defaults replaced by arguments that are not None."""
    plan = KINDS[kind]._replace(**{name: value for name, value in changes.items() if value is not None})
    plan.check()
    for name, read in plan.optional.items():
        if not read and changes[name] is not None:
            raise ValueError(f"{name} says nothing of kind {kind} with kernel {plan.kernel}, got {changes[name]}")
    return plan
