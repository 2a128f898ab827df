"""Arguments of the estimator: their checks, and the device and precision that they resolve to."""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch

from tabattn.contract.devices import resolve_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AVERAGES = ("logits", "probabilities")


class Run(NamedTuple):
    """Settings of a prediction.

    Attributes:
        device: Device of the network.
        dtype: Data type of matrix products.
        temperature: Divisor of the logits.
        chunk_rows: Target rows per forward pass.
        cache: Whether to keep the KV cache of the context between calls.
    """

    device: torch.device
    dtype: torch.dtype
    temperature: float
    chunk_rows: int
    cache: bool


def check_arguments(given: dict[str, Any]) -> Run:
    """Check the arguments of ``TabularClassifier``, given by name.

    Raises:
        ValueError: One of them is out of bounds.
    """
    for name, least in (("n_estimators", 1), ("max_context", 2), ("chunk_rows", 1)):
        value = given[name]
        if type(value) is bool or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number (int), at least {least}, got {value!r}")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    temperature = given["temperature"]
    if type(temperature) is bool or not isinstance(temperature, Real) or not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature!r}")
    for name, known in (("average", AVERAGES), ("dtype", tuple(DTYPES))):
        if not isinstance(given[name], str) or given[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {given[name]!r}")
    for name in ("cache", "plain"):
        if not isinstance(given[name], (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {given[name]!r}")
    if given["plain"] and given["n_estimators"] != 1:
        raise ValueError(
            f"n_estimators must be 1 with plain=True, as all members are the same, got {given['n_estimators']}"
        )
    device = resolve_device(given["device"])
    if device.type == "cpu" and given["dtype"] != "float32":
        raise ValueError(f"dtype must be float32 on a CPU, got {given['dtype']}")
    return Run(device, DTYPES[given["dtype"]], float(temperature), int(given["chunk_rows"]), bool(given["cache"]))
