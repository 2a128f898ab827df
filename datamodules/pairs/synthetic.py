"""Datamodule of synthetic pairs: sequences from Gaussian processes, with their oracle."""

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, shared
from datamodules.pairs.batches import PairBatches
from datamodules.pairs.cache import CachedPairs, Facts, PairCache
from datamodules.pairs.exact import exact
from datamodules.pairs.kinds import KINDS, Kind, PairPlan, grid, make_process
from datamodules.pairs.options import Shown
from datamodules.pairs.regimes import Regime
from datamodules.pairs.synthetic_options import (
    DEFAULT_EVALUATION,
    DEFAULT_PROCESS,
    MOVED,
    NO_CACHE,
    CacheOptions,
    ProcessOptions,
    SyntheticEvaluation,
)
from tabattn.contract.batches import PairBatch, Scaling
from tabattn.contract.checks import NotInCheckpoints, check_least
from tabattn.contract.views import ExactDensity
from tabattn.storage.earlier import Movable

SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
"""The streams of a seed, by number."""

DEFAULT_REGIMES: dict[str, tuple[Regime, Regime]] = {"tnp": ("shuffle", "shuffle")}
"""Regimes of training and of evaluation of a kind; of the others mix and forecast."""


class SyntheticPairs(Movable, NotInCheckpoints, LightningDataModule):
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
      on [5, 15] without noise (``process.eps: 0.05`` adds some), but ``single_noise``: the curve of ``single_rbf`` plus
      white noise of variance 0.05. In the last one each point belongs to either by chance.

    The pairs have 32 + 32 points, 8 of them context in evaluation; ``points: [200, 200]`` and ``context: 50`` are the
    large setting. An argument of none takes the default of the kind.

    Args:
        kind: Distribution of the tasks.
        points: Points of each sequence, which also says how many sequences there are; of ``tnp``, most points in all.
        context: Number of context points of the sequence to infer in validation, test and prediction. Half of the
            training batches have as many, the others any number from 1 to all but one. Of two numbers, the fewest and
            the most, each batch draws from this range, in training too: ``[8, 8]`` trains on 8 alone.
        regime: Which points are context in training. ``forecast``: all of the other sequences and the first points of
            the one to infer. ``interp``: random points of it instead. ``full_infer``: a forecast of a sequence drawn at
            random, in causal order. ``shuffle``: random points of all, on average as many of each. ``half_half``:
            full_infer or shuffle. ``mix``: shuffle, forecast or interp. Of several, each batch draws one; none = mix
            (``tnp``: shuffle).
        swap_roles: Whether the sequence to infer is drawn at random for each task, so that every direction is learned;
            otherwise it is the last.
        process: Options of the Gaussian process.
        evaluation: Options of validation, test and prediction.
        cache: Options of the cache of drawn tasks.
        batch_size: Tasks in a batch (on each device).
        steps_per_epoch: Batches per epoch; validation may run at its end.
        seed: Seed of the tasks; of two, the second is that of the training tasks that no cache file keeps.
        num_workers: Worker processes of the loaders; 0 = draw tasks in the training process.
    """

    batch = PairBatch
    moved = MOVED

    complete = True
    """Every value is known."""

    def __init__(
        self,
        kind: Kind = "const",
        points: tuple[int, ...] | None = None,
        context: int | tuple[int, int] | None = None,
        *,
        regime: Regime | tuple[Regime, ...] | None = None,
        swap_roles: bool = False,
        process: ProcessOptions = DEFAULT_PROCESS,
        evaluation: SyntheticEvaluation = DEFAULT_EVALUATION,
        cache: CacheOptions = NO_CACHE,
        batch_size: int = 32,
        steps_per_epoch: int = 100,
        seed: Seed = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_least(batch_size=(batch_size, 1), steps_per_epoch=(steps_per_epoch, 1), num_workers=(num_workers, 0))
        self.plan, self.eval_plan = plans(kind, points, context, process, evaluation)
        train, scored = DEFAULT_REGIMES.get(kind, ("mix", "forecast"))
        self.regimes = tuple(evaluation.regimes(regime or train, scored).values())
        self.swap_roles = swap_roles
        self.oracle = evaluation.oracle
        self.beyond = evaluation.beyond
        if self.beyond > (most := min(self.eval_plan.points) - self.eval_plan.context[1]):
            raise ValueError(
                f"evaluation.beyond must be at most {most}, the points of a sequence to infer behind its context, got "
                f"{self.beyond}"
            )
        if self.oracle == "marginal":
            grid(self.plan)
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.lengths = (cache.batches, evaluation.val_batches, evaluation.test_batches)
        self.seeds = Seeds.of(seed)
        self.num_workers = num_workers
        self.cache = None if cache.file is None else PairCache(cache.file, self._facts(kind))

    @property
    def members(self) -> int:
        """Number of sequences of a task."""
        return self.plan.members

    @property
    def scaling(self) -> Scaling:
        """Range of locations, and mean and standard deviation of values over all tasks."""
        return Scaling(*self.plan.x_range, 0.0, self.plan.spread)

    def exact(self, batch: PairBatch) -> ExactDensity | None:
        """Exact density of each target of a batch given its context, whatever its layout.

        It knows what ``evaluation.oracle`` says: the process of each task, or only the distribution of processes.

        Args:
            batch: Tasks of this datamodule, on the CPU.

        Returns:
            The densities; None if the tasks are of a cache file that does not hold their processes.
        """
        if self.oracle == "marginal":
            return exact((make_process(self.plan, row.expand(len(batch.x), -1)) for row in grid(self.plan)), batch)
        return None if batch.process is None else exact([make_process(self.plan, batch.process)], batch)

    def prepare_data(self) -> None:
        """Write the cache file, or check that it holds these tasks."""
        if self.cache is not None:
            self.cache.prepare({name: self._drawn(split, self.seeds.scored) for split, name in enumerate(SPLITS)})

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
            return self._drawn(split, self.seeds.training if split == TRAIN else self.seeds.scored)
        self.prepare_data()
        return CachedPairs(self.cache, SPLITS[split], self.lengths[split])

    def _drawn(self, split: int, seed: int) -> PairBatches:
        scored = self.eval_plan._replace(beyond=self.beyond) if split == TEST else self.eval_plan
        return PairBatches(
            self.plan if split == TRAIN else scored,
            self.regimes[split],
            self.swap_roles,
            self.batch_size,
            seed,
            split,
            self.lengths[split],
            None if split == TRAIN else self.oracle,
        )

    def _facts(self, kind: str) -> Facts:
        """Everything that the tasks of a file depend on: on how to train only where training is kept there too."""
        trained = bool(self.lengths[TRAIN])
        facts = self.eval_plan._asdict() | {"kind": kind, "eval_context": self.eval_plan.context}
        del facts["every"]  # What is scored has one size; of training it is told by ``context``.
        facts["beyond"] = self.beyond
        facts["context"] = ("every" if self.plan.every else self.plan.context) if trained else None
        facts |= zip(("regime", "val_regime", "test_regime"), self.regimes, strict=True)
        facts["regime"] = self.regimes[TRAIN] if trained else None
        facts |= zip(("cache_batches", "val_batches", "test_batches"), self.lengths, strict=True)
        facts["seed"] = self.seeds.scored
        return facts | {name: getattr(self, name) for name in ("swap_roles", "oracle", "batch_size")}


def plans(
    kind: str,
    points: tuple[int, ...] | None,
    context: int | tuple[int, int] | None,
    process: ProcessOptions,
    evaluation: SyntheticEvaluation,
) -> tuple[PairPlan, PairPlan]:
    """Plans of the tasks to train on and of those to score, from the arguments of ``SyntheticPairs``.

    Raises:
        ValueError: There is no such kind, or an option is invalid or without effect.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    fewest, most = KINDS[kind].context
    own = fewest if fewest == most else (fewest, most)
    shown = Shown.of(own if context is None else context, evaluation)
    train = _plan(kind, points, shown.train, process)._replace(every=shown.every)
    return train, _plan(kind, points, shown.scored, process)


def _plan(kind: str, points: tuple[int, ...] | None, context: tuple[int, int], process: ProcessOptions) -> PairPlan:
    """Plan of a kind, with its defaults replaced by options that are given."""
    given = process.given()
    plan = KINDS[kind]._replace(context=context, **given)
    if points is not None:
        plan = plan._replace(points=points)
    plan.check()
    for name, read in plan.optional.items():
        if not read and name in given:
            raise ValueError(f"process.{name} says nothing of kind {kind} with kernel {plan.kernel}, got {given[name]}")
    return plan
