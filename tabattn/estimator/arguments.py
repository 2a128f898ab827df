"""What an estimator's arguments may be, and the place and the way to run that they mean."""

import math
from typing import Any, NamedTuple

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AVERAGES = ("logits", "probabilities")


class Run(NamedTuple):
    """How to run a network.

    Attributes:
        device: Where it runs.
        dtype: Type of its matrix products.
        temperature: Divides logits.
        chunk_rows: Target rows that are answered at one time.
        cache: Whether contexts are remembered from call to call.
    """

    device: torch.device
    dtype: torch.dtype
    temperature: float
    chunk_rows: int
    cache: bool


def check_arguments(given: dict[str, Any]) -> Run:
    """Check the arguments of ``TabularClassifier`` by name.

    Raises:
        ValueError: One of them is out of bounds.
    """
    for name, least in (("n_estimators", 1), ("max_context", 2), ("chunk_rows", 1)):
        if given[name] < least:
            raise ValueError(f"{name} must be at least {least}, got {given[name]}")
    if not 0 < given["temperature"] < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {given['temperature']}")
    for name, known in (("average", AVERAGES), ("dtype", tuple(DTYPES))):
        if given[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {given[name]!r}")
    device = resolve_device(given["device"])
    if device.type == "cpu" and given["dtype"] != "float32":
        raise ValueError(f"dtype must be float32 on a CPU, got {given['dtype']}")
    return Run(device, DTYPES[given["dtype"]], given["temperature"], given["chunk_rows"], given["cache"])


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of a name; ``auto`` = the GPU where there is one.

    Raises:
        ValueError: There is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as ex:
        reason = str(ex).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from ex
    return found
