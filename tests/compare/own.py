"""Task and datamodule of a user."""

from datamodules import SyntheticPairs
from datamodules.pairs.kinds import Kind
from tabattn.tasks import PairInference


class OwnPairs(SyntheticPairs):
    """Datamodule with a single seed."""

    def __init__(self, kind: Kind = "const", seed: int = 0) -> None:
        super().__init__(kind, points=(8, 8), context=3, batch_size=2, steps_per_epoch=4, seed=seed)


class OwnTask(PairInference):
    """Task of a user."""
