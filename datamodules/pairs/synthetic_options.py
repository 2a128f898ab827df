"""Options of synthetic pairs: the Gaussian process, what is scored, and the cache."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from datamodules.pairs.batches import Knowledge
from datamodules.pairs.kernels import Kernel
from datamodules.pairs.options import EVALUATION, Evaluation
from tabattn.contract.checks import check_least

Range = tuple[float, float]


@dataclass(frozen=True)
class ProcessOptions:
    """Options of the Gaussian process that tasks are drawn from; none = the default of the kind of tasks.

    Args:
        x_range: Ends of the axis.
        eps: Standard deviation of the noise.
        kernel: Kernel of the Gaussian process.
        length: Smallest and largest length scale.
        amplitude: Smallest and largest standard deviation of the functions.
        period: Smallest and largest period (``kernel: periodic``).
        correlation: Smallest and largest correlation of ``icm``; of three sequences and more, partial correlation.
        shift: Standard deviation of the constants of ``const``.
    """

    x_range: Range | None = None
    eps: float | None = None
    kernel: Kernel | None = None
    length: Range | None = None
    amplitude: Range | None = None
    period: Range | None = None
    correlation: Range | None = None
    shift: float | None = None

    def given(self) -> dict[str, Any]:
        """Options that are not None, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class SyntheticEvaluation(Evaluation):
    """Options of validation, test and prediction of synthetic tasks.

    Args:
        context: Number of context points of the sequence to infer in validation, test and prediction, or the fewest and
            the most; none = as the datamodule's ``context``.
        val_regime: Which points are context in validation; none = forecast (``tnp``: shuffle).
        test_regime: The same for test and prediction.
        val_batches: Number of validation batches.
        test_batches: Number of test and prediction batches.
        oracle: What the oracle conditions on: the process of each task (``known``), or only the distribution of
            processes (``marginal``), which is all that a network can know and slower to compute.
        beyond: Extrapolation: number of points of each sequence, in test and prediction, that lie beyond the axis of
            training, by up to half its length, and are not context of a sequence to infer; 0 = none.
    """

    val_batches: int = 8
    test_batches: int = 32
    oracle: Knowledge = "known"
    beyond: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"evaluation.val_batches": (self.val_batches, 1), "evaluation.test_batches": (self.test_batches, 1)}
        check_least(**counts, **{"evaluation.beyond": (self.beyond, 0)})
        if self.oracle not in get_args(Knowledge):
            raise ValueError(f"evaluation.oracle must be one of {', '.join(get_args(Knowledge))}, got {self.oracle!r}")


@dataclass(frozen=True)
class CacheOptions:
    """Options of the cache of drawn tasks.

    Args:
        file: HDF5 file of the validation and test tasks, written once and then read, whatever ``context`` and
            ``regime`` training has; none = tasks are drawn when needed.
        batches: Number of training batches to keep there too and repeat; 0 = training is endless.
    """

    file: str | None = None
    batches: int = 0

    def __post_init__(self) -> None:
        check_least(**{"cache.batches": (self.batches, 0)})
        if self.batches and self.file is None:
            raise ValueError(f"cache.batches needs a cache.file to keep them in, got {self.batches} and none")


DEFAULT_PROCESS = ProcessOptions()
DEFAULT_EVALUATION = SyntheticEvaluation()
NO_CACHE = CacheOptions()

MOVED = {
    **{field.name: f"process.{field.name}" for field in fields(ProcessOptions)},
    **{name: f"evaluation.{today}" for name, today in EVALUATION.items()},
    **{name: f"evaluation.{name}" for name in ("val_batches", "test_batches", "oracle")},
    "cache_file": "cache.file",
    "cache_batches": "cache.batches",
}
"""Path of each earlier argument of ``SyntheticPairs``."""
