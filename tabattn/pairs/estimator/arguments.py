"""Arguments of ``SequenceInferrer``: checks, and the training that they describe."""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch

from datamodules.pairs.options import WindowOptions
from tabattn.attention import AttentionFactory
from tabattn.contract.devices import resolve_device
from tabattn.pairs.estimator.observed import Layout, LongOptions
from tabattn.pairs.estimator.settings import InferrerSettings, default_settings
from tabattn.storage.hyperparameters import mechanism

LAYOUTS: dict[str, Layout] = {"wide": WindowOptions(), "long": LongOptions()}
"""Layouts by name, with the defaults of their options."""


class Training(NamedTuple):
    """How a network is trained.

    Attributes:
        settings: Settings of network, optimizer and batches.
        attention: Mechanism between context points.
        steps: Most steps.
        seconds: Time budget; None = none.
        patience: Validations without improvement after which it stops.
        share: Share that validates.
        device: Device.
        verbose: Whether to show a progress bar.
    """

    settings: InferrerSettings
    attention: AttentionFactory
    steps: int
    seconds: float | None
    patience: int
    share: float
    device: torch.device
    verbose: bool


def check_arguments(given: dict[str, Any]) -> Training:
    """Check the arguments of ``SequenceInferrer``, given by name.

    Raises:
        ValueError: One of them is out of bounds.
    """
    for name, least, optional in (("max_steps", 1, False), ("patience", 1, False), ("context", 1, True)):
        value = given[name]
        if value is None and optional:
            continue
        if type(value) is bool or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number (int), at least {least}, got {value!r}")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    share, seconds = given["validation_fraction"], given["max_time"]
    if type(share) is bool or not isinstance(share, Real) or not 0 <= float(share) < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, got {share!r}")
    if seconds is not None and (
        type(seconds) is bool or not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf
    ):
        raise ValueError(f"max_time must be None or a number of seconds above 0, got {seconds!r}")
    attention = mechanism(given["attention"])
    settings = default_settings(attention) if given["settings"] is None else given["settings"]
    if not isinstance(settings, InferrerSettings):
        raise ValueError(f"settings must be None or InferrerSettings, got {settings!r}")
    layout_of(given["layout"])
    return Training(
        settings,
        attention,
        int(given["max_steps"]),
        None if seconds is None else float(seconds),
        int(given["patience"]),
        float(share),
        resolve_device(given["device"]),
        bool(given["verbose"]),
    )


def layout_of(given: Any) -> Layout:
    """Layout from its name or its options.

    Raises:
        ValueError: There is no such layout.
    """
    if isinstance(given, (WindowOptions, LongOptions)):
        return given
    if not isinstance(given, str) or given not in LAYOUTS:
        raise ValueError(f"layout must be wide, long, WindowOptions or LongOptions, got {given!r}")
    return LAYOUTS[given]
