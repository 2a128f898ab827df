"""Options of masked language models."""

from dataclasses import dataclass
from typing import Literal

from tabattn.contract.checks import check_least

Kind = Literal["roberta", "bert"]
"""Architecture of a model without a folder, by its ``model_type``."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of ``predict``, which fills hidden tokens.

    Args:
        top: How many of the likeliest tokens to give for each.
    """

    top: int = 5

    def __post_init__(self) -> None:
        check_least(**{"predict.top": (self.top, 1)})


DEFAULT_PREDICT = PredictOptions()
