"""Training settings of ``SequenceInferrer``: network, optimizer, batches, regimes, in one place."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from datamodules.pairs.options import Augmentation, as_regimes
from datamodules.pairs.regimes import Regime
from tabattn.attention import AttentionFactory
from tabattn.contract.checks import check_least
from tabattn.optim import MuonAdamW
from tabattn.optim.factories import OptimizerFactory
from tabattn.pairs.network import NetworkFactory
from tabattn.pairs.options import TokenOptions
from tabattn.pairs.tnpd import TNPD

NETWORK: NetworkFactory = partial(
    TNPD,
    dim=32,
    heads=2,
    hidden=64,
    layers=2,
    tokens=TokenOptions(fourier=4, distances=16, relative=True),
    residual="parallel",
    centred=True,
    norm="before",
)
"""A small network, as a few hundred tasks are easily memorised, after which predictions are overconfident."""

OPTIMIZER: OptimizerFactory = partial(MuonAdamW, lr=0.006, adamw_lr=2e-3)
ANY_ROLE = Augmentation(swap_roles=True)


@dataclass(frozen=True)
class InferrerSettings:
    """Settings of a training.

    Args:
        network: The network: a class of ``tabattn.pairs.NETWORKS``, with options by ``functools.partial``; the number
            of sequences is set by ``fit``.
        optimizer: The optimizer likewise; its learning rate rises, then falls along a cosine.
        init_from: Weights to start from: name of shipped ones, or path of a file; their network takes the place of
            ``network``. None = random ones.
        regimes: Which points are context in training; of several, each batch draws one.
        scored: Which points are context in validation and in ``score``.
        augmentation: Options of data augmentation.
        scheduled_sampling: Probability that a batch of 32 targets or more has predicted values in its context.
        batch_size: Tasks in a batch.
        validate_every: Steps between validations.
        decay: Decay of the moving average of the weights, which is what is validated and predicts; 0 = none.
        clip: Largest norm of a gradient.
    """

    network: NetworkFactory = NETWORK
    optimizer: OptimizerFactory = OPTIMIZER
    init_from: str | None = None
    regimes: tuple[Regime, ...] = ("forecast", "interp", "shuffle")
    scored: Regime = "forecast"
    augmentation: Augmentation = ANY_ROLE
    scheduled_sampling: float = 0.5
    batch_size: int = 32
    validate_every: int = 50
    decay: float = 0.99
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_least(batch_size=(self.batch_size, 1), validate_every=(self.validate_every, 1))
        as_regimes("regimes", self.regimes)
        as_regimes("scored", self.scored)
        if not 0 <= self.scheduled_sampling <= 1:
            raise ValueError(f"scheduled_sampling must be between 0 and 1, got {self.scheduled_sampling}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {self.decay}")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0, got {self.clip}")


DEFAULT_SETTINGS = InferrerSettings()


def default_settings(attention: AttentionFactory) -> InferrerSettings:
    """Settings for a mechanism: the defaults, for one that does not read its keys without the distance bias."""
    cls: Any = attention
    while isinstance(cls, partial):
        cls = cls.func
    if getattr(cls, "reads_keys", True):
        return DEFAULT_SETTINGS
    network: Any = NETWORK
    return InferrerSettings(network=partial(network, tokens=TokenOptions(fourier=4)))
