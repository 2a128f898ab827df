"""Options of predictions of the zoo."""

from dataclasses import dataclass
from typing import get_args

from tabattn.zoo.priors import Prior, check_temperature


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``predict``, which samples a network for the task of each network.

    Args:
        prior: Distribution of latents: ``normal``, ``scaled``, ``gauss``, ``kde`` or ``flow``.
        temperature: Factor on the standard deviation of their noise.
        valid_only: Whether to decode the likeliest valid graph; else each choice by itself.
        given_architecture: Whether samples have the architecture of the network that they stand beside.
    """

    prior: Prior = "flow"
    temperature: float = 1.0
    valid_only: bool = True
    given_architecture: bool = False

    def __post_init__(self) -> None:
        if self.prior not in get_args(Prior):
            raise ValueError(f"predict.prior must be {', '.join(get_args(Prior))}, got {self.prior!r}")
        check_temperature("predict.temperature", self.temperature)


DEFAULT_PREDICT = PredictOptions()
