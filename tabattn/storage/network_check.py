"""Validation of a network's arguments in a file against its weights, before memory is allocated."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from torch import Tensor

from tabattn.storage.weights import of_fixed_shape


def check_network(cls: type, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Check that the sizes among a network's arguments are integers that its weights allow.

    A size is an argument, or a field of a dataclass among the arguments, whose default is an integer. Sizes must be
    whole numbers, at least 0. Unless it has its default, a size may be at most the longest dimension of the weights,
    or, if its name ends in ``layers``, the number of weights.

    Args:
        cls: Class of the network.
        arguments: As read from a file.
        weights: All weights of the network, by name.

    Raises:
        ValueError: A size is negative, too large or no whole number, or a dataclass is of another type.
    """
    largest = max((size for weight in weights.values() for size in weight.shape), default=0)
    parameters = inspect.signature(cls).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    for name, value, default in _sizes(arguments, defaults):
        bound = len(weights) if name.endswith("layers") else largest
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} must be a whole number, got {_shortened(value)}")
        if value > bound and value != default:
            raise ValueError(f"{name} is {_shortened(value)}, and its weights allow {bound} at most")


def _sizes(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield name, value and default of each size."""
    for name, default in defaults.items():
        if type(default) is int and name in arguments:
            yield name, arguments[name], default
        if is_dataclass(default) and not isinstance(default, type) and name in arguments:
            if type(arguments[name]) is not type(default):
                what = type(default).__name__
                raise ValueError(f"{name} must be a mapping of {what}' arguments, got {_shortened(arguments[name])}")
            inner = asdict(default)
            yield from ((f"{name}.{each}", *rest) for each, *rest in _sizes(asdict(arguments[name]), inner))


def check_shapes(network: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Check names and shapes of weights against a network, which may be on the ``meta`` device.

    Raises:
        ValueError: They do not match.
    """
    needed, weights = of_fixed_shape(network.state_dict()), of_fixed_shape(weights)
    for difference, word in (
        (needed.keys() - weights.keys(), "missing"),
        (weights.keys() - needed.keys(), "unexpected"),
    ):
        if difference:
            raise ValueError(f"{len(difference)} weights are {word}, such as {min(difference)}")
    for name, value in needed.items():
        if value.shape != weights[name].shape:
            raise ValueError(f"weight {name} has the shape {tuple(weights[name].shape)}, not {tuple(value.shape)}")
        if value.is_floating_point() != weights[name].is_floating_point():
            raise ValueError(f"weight {name} is of the type {weights[name].dtype}, not {value.dtype}")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
