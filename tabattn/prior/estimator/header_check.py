"""Validation of the arguments in the header of a saved estimator."""

import math
from typing import Any

from tabattn.storage.table_headers import whole

MOST_MEMBERS = 10_000
"""Largest ensemble of a saved estimator."""


def check_parameters(parameters: Any, names: tuple[str, ...]) -> None:
    """Check the arguments of ``TabularClassifier`` in a header.

    Raises:
        ValueError: One is missing, unknown, or of a wrong type.
    """
    if not isinstance(parameters, dict) or set(parameters) != set(names):
        raise ValueError(f"its parameters must be {', '.join(names)}, got {list(parameters)[:9]}")
    for name in ("n_estimators", "max_context", "chunk_rows"):
        whole(name, parameters[name], 1, MOST_MEMBERS if name == "n_estimators" else 2**63 - 1)
    temperature = parameters["temperature"]
    if type(temperature) not in (int, float) or not math.isfinite(temperature):
        raise ValueError(f"temperature must be a finite number, got {temperature!r}")
    if type(parameters["cache"]) is not bool or type(parameters["average"]) is not str:
        raise ValueError(f"cache must be true or false and average a text, got {parameters['cache']!r}")
