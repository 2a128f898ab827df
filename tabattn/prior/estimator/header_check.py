"""Validation of the arguments in the header of a saved estimator."""

import math
from collections.abc import Mapping
from typing import Any

from tabattn.prior.estimator.arguments import STACKED
from tabattn.storage.table_headers import whole

MOST_MEMBERS = 10_000
"""Largest ensemble of a saved estimator."""


def checked_parameters(parameters: Any, names: tuple[str, ...], added: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of an estimator in a header, and add those that it lacks.

    Args:
        parameters: The arguments in the header.
        names: Names of all arguments.
        added: Arguments that earlier files lack, with what their estimators did.

    Raises:
        ValueError: One is missing, unknown, or of a wrong type.
    """
    if not isinstance(parameters, dict) or {*added, *parameters} != set(names):
        raise ValueError(f"its parameters must be {', '.join(names)}, got {list(parameters)[:9]}")
    parameters = {**added, **parameters}
    for name in ("n_estimators", "max_context", "chunk_rows"):
        whole(name, parameters[name], 1, MOST_MEMBERS if name == "n_estimators" else 2**63 - 1)
    for name in ("temperature", "kernel_weight"):
        value = parameters[name]
        if (
            name == "kernel_weight" and value == STACKED
        ):  # What not every estimator knows, as is checked when it is built.
            continue
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    for name in ("cache", "plain"):
        if name in parameters and type(parameters[name]) is not bool:
            raise ValueError(f"{name} must be true or false, got {parameters[name]!r}")
    if "average" in parameters and type(parameters["average"]) is not str:
        raise ValueError(f"average must be a text, got {parameters['average']!r}")
    return parameters
