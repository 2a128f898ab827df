"""Training settings of the estimators: network, optimizer, batches and hidden cells, in one place."""

from dataclasses import dataclass, replace
from functools import partial

from torch.optim import AdamW

from tabattn.contract.checks import check_least
from tabattn.optim import MuonAdamW
from tabattn.optim.factories import OptimizerFactory
from tabattn.reconstruction.cell_network import NetworkFactory
from tabattn.reconstruction.corrected import ProcessTransformer
from tabattn.reconstruction.jointly_corrected import GaussianTransformer
from tabattn.reconstruction.network import CellTransformer
from tabattn.reconstruction.options import DEFAULT_LOSS, LossOptions

NETWORK: NetworkFactory = partial(CellTransformer, dim=32, heads=4, hidden=64, layers=3)
OPTIMIZER: OptimizerFactory = partial(AdamW, lr=1e-3, weight_decay=0.01)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Args:
        network: The network: a class of ``tabattn.reconstruction.NETWORKS``, with options by ``functools.partial``.
        optimizer: The optimizer likewise; its learning rate rises, then falls along a cosine.
        loss: Options of the loss.
        rows: Most rows of a training batch.
        hidden: Least and largest share of feature cells that are hidden in training, drawn for each row. Of
            half of the rows ``TabularImputer`` hides those cells instead that another row lacks, if some do.
        targets: Share of labels that are hidden in training; not used by ``TabularImputer``.
        validate_every: Steps between validations.
        decay: Decay of the moving average of the weights, which is what is validated and predicts; 0 = none.
        clip: Largest norm of a gradient.
        partitions: Most contexts that a prediction averages over where the table has more rows than a context.
        steps: Default of ``max_steps``.
        patience: Default of ``patience``.
    """

    network: NetworkFactory = NETWORK
    optimizer: OptimizerFactory = OPTIMIZER
    loss: LossOptions = DEFAULT_LOSS
    rows: int = 1024
    hidden: tuple[float, float] = (0.0, 0.3)
    targets: float = 0.5
    validate_every: int = 50
    decay: float = 0.98
    clip: float = 1.0
    partitions: int = 4
    steps: int = 1000
    patience: int = 8

    def __post_init__(self) -> None:
        check_least(rows=(self.rows, 2), validate_every=(self.validate_every, 1), partitions=(self.partitions, 1))
        low, high = self.hidden
        if not 0 <= low <= high < 1:
            raise ValueError(f"hidden must be two shares, 0 <= least <= largest < 1, got {list(self.hidden)}")
        if not 0 < self.targets <= 1:
            raise ValueError(f"targets must be above 0 and at most 1, got {self.targets}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {self.decay}")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0, got {self.clip}")


PREDICTION = TrainingSettings(
    network=partial(ProcessTransformer, dim=32, heads=2, hidden=64, layers=3),
    optimizer=partial(MuonAdamW, lr=1e-2),
    loss=LossOptions(tradeoff=0.0),
    hidden=(0.0, 0.0),
    targets=0.25,
    validate_every=25,
    steps=300,
)
"""Defaults of ``NPTRegressor``."""

CLASSIFICATION = replace(PREDICTION, hidden=(0.0, 0.3))
"""Defaults of ``NPTClassifier``, which would learn rows by heart if no feature were hidden."""

IMPUTATION = TrainingSettings(
    network=partial(GaussianTransformer, dim=32, heads=4, hidden=64, layers=2),
    optimizer=partial(MuonAdamW, lr=0.01, adamw_lr=3e-3),
    loss=LossOptions(tradeoff=0.0, annealing="constant"),
    rows=128,
    hidden=(0.1, 0.6),
    validate_every=25,
    steps=200,
)
"""Defaults of ``TabularImputer``, to which every column is a target."""
