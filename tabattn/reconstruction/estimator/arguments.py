"""Arguments of the estimators: checks, and the training that they describe."""

from numbers import Integral, Real
from typing import Any

from tabattn.contract.devices import resolve_device
from tabattn.reconstruction.estimator.settings import TrainingSettings
from tabattn.reconstruction.estimator.training import Training
from tabattn.storage.hyperparameters import mechanism


def check_arguments(given: dict[str, Any], default: TrainingSettings) -> Training:
    """Check the arguments of an estimator, given by name.

    Args:
        given: The arguments.
        default: Settings where ``settings`` is None.

    Raises:
        ValueError: One of them is out of bounds.
    """
    for name, least in (("n_members", 1), ("max_steps", 1), ("patience", 1), ("context_rows", 2)):
        value = given[name]
        if type(value) is bool or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number (int), at least {least}, got {value!r}")
        if int(value) < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    share = given["validation_fraction"]
    if type(share) is bool or not isinstance(share, Real) or not 0 <= float(share) < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, got {share!r}")
    settings = default if given["settings"] is None else given["settings"]
    if not isinstance(settings, TrainingSettings):
        raise ValueError(f"settings must be None or TrainingSettings, got {settings!r}")
    return Training(
        settings,
        mechanism(given["attention"]),
        mechanism(given["attribute_attention"], "attribute_attention"),
        int(given["max_steps"]),
        int(given["patience"]),
        resolve_device(given["device"]),
        bool(given["verbose"]),
    )
