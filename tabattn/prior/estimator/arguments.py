"""Arguments of the estimator: their checks, and the device and precision that they resolve to."""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch

from tabattn.contract.devices import resolve_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AVERAGES = ("logits", "probabilities")


class Defaults(NamedTuple):
    """Sizes of an ensemble where arguments are None.

    Attributes:
        kernel_weight: Weight of the kernel member beside the packaged weights, or ``STACKED``.
        members: Members of the network beside a kernel member.
        alone: Members of the network without one.
        stacks: Whether ``STACKED`` is known.
    """

    kernel_weight: float | str
    members: int
    alone: int
    stacks: bool = False


STACKED = "stacked"
"""Weight of the kernel member that is chosen by the densities of held-out targets."""

CLASSIFIER = Defaults(0.7, 2, 8)
REGRESSOR = Defaults(STACKED, 4, 8, stacks=True)


class Run(NamedTuple):
    """Settings of a prediction.

    Attributes:
        device: Device of the network.
        dtype: Data type of matrix products.
        temperature: Divisor of the logits.
        chunk_rows: Target rows per forward pass.
        cache: Whether to keep the KV cache of the context between calls.
        members: Number of members of the network.
        kernel_weight: Weight of the kernel member in the average; that at the start where it is ``stacked``.
        stacked: Whether the weight is chosen by the densities of held-out targets.
    """

    device: torch.device
    dtype: torch.dtype
    temperature: float
    chunk_rows: int
    cache: bool
    members: int
    kernel_weight: float
    stacked: bool = False


def check_arguments(given: dict[str, Any], defaults: Defaults = CLASSIFIER) -> Run:
    """Check the arguments of an estimator.

    Args:
        given: The arguments by name.
        defaults: What None stands for.

    Raises:
        ValueError: One of them is out of bounds.
    """
    for name, least in (("n_estimators", 1), ("max_context", 2), ("chunk_rows", 1)):
        if given[name] is not None or name != "n_estimators":
            _check_whole(name, given[name], least)
    temperature = given["temperature"]
    if type(temperature) is bool or not isinstance(temperature, Real) or not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature!r}")
    for name, known in (("average", AVERAGES), ("dtype", tuple(DTYPES))):
        if name in given and (not isinstance(given[name], str) or given[name] not in known):
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {given[name]!r}")
    for name in ("cache", "plain"):
        if name in given and not isinstance(given[name], (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {given[name]!r}")
    members, weight = _ensemble(given, defaults)
    device = resolve_device(given["device"])
    if device.type == "cpu" and given["dtype"] != "float32":
        raise ValueError(f"dtype must be float32 on a CPU, got {given['dtype']}")
    chunk_rows, cache = int(given["chunk_rows"]), bool(given["cache"])
    stacked = weight == STACKED
    share = 0.5 if isinstance(weight, str) else weight
    return Run(device, DTYPES[given["dtype"]], float(temperature), chunk_rows, cache, members, share, stacked)


def _check_whole(name: str, value: Any, least: int) -> None:
    if type(value) is bool or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number (int), at least {least}, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _ensemble(given: dict[str, Any], defaults: Defaults) -> tuple[int, float | str]:
    """Number of members of the network and weight of the kernel member, with the defaults for None."""
    weight, members, plain = given["kernel_weight"], given["n_estimators"], given.get("plain", False)
    if weight is None:
        weight = 0.0 if plain or given["model"] is not None else defaults.kernel_weight
    if not (defaults.stacks and isinstance(weight, str) and weight == STACKED):
        if type(weight) is bool or not isinstance(weight, Real) or not 0 <= float(weight) <= 1:
            known = f", or {STACKED}" if defaults.stacks else ""
            raise ValueError(f"kernel_weight must be between 0 and 1{known}, got {weight!r}")
        weight = float(weight)
    if members is None:
        members = 1 if plain else defaults.members if weight else defaults.alone
    if plain and members != 1:
        raise ValueError(f"n_estimators must be 1 with plain=True, as all members are the same, got {members}")
    if plain and weight:
        raise ValueError(f"kernel_weight must be 0 with plain=True, got {weight}")
    return int(members), weight
