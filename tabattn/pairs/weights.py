"""Weight files of networks of pairs: safetensors, with class and arguments of the network in the header."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabattn.pairs import NETWORKS
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.options import TokenOptions
from tabattn.storage.described import class_named, mechanism_named, plain_defaults
from tabattn.storage.finite import non_finite_weight
from tabattn.storage.network_check import check_network, check_shapes
from tabattn.storage.weight_files import read

KIND = "tabattn.pairs"
"""Kind of these files, in their metadata."""

PREFIX = "network."
"""Prefix of the names of a network's weights."""

ATTENTIONS = ("attention", "target_attention")
"""Network arguments that are mechanisms."""

SHIPPED = ("const", "rbf_const_2D", "rbf_rbf_2D")
"""Kinds of synthetic pairs for which weights ship with the package."""


class Described(NamedTuple):
    """Network of a weight file.

    Attributes:
        network: The network, for inference.
        plain: Its class and arguments in plain values.
        facts: What else the header tells, such as of its training.
    """

    network: PairNetwork
    plain: dict[str, Any]
    facts: dict[str, Any]


def shipped_path(kind: str) -> Path:
    """Path of weights that ship with the package.

    Raises:
        ValueError: There are none of this kind.
    """
    if kind not in SHIPPED:
        raise ValueError(f"shipped weights are {', '.join(SHIPPED)}, or give the path of a file; got {kind!r}")
    return Path(str(resources.files("tabattn"))) / "pretrained" / f"pairs_{kind}.safetensors"


def load_network(source: str | Path) -> Described:
    """Load a network from shipped weights by their name, or from a weight file.

    Args:
        source: Name of shipped weights, or path of a file (.safetensors).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no such network, or there are no weights of this name.
    """
    path = Path(source) if Path(source).suffix == ".safetensors" else shipped_path(str(source))
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}")
    tensors, header = read(path, KIND)
    if not isinstance(described := header.get("network"), dict):
        raise ValueError(f"{path} describes no network")
    weights = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return Described(build(described, weights, str(path)), described, header)


def build(described: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> PairNetwork:
    """Build a network for inference, without touching the global random state.

    Args:
        described: ``class_path`` and ``init_args`` of the network; mechanisms among its arguments likewise.
        weights: All its weights.
        where: Name of their source, for messages.

    Raises:
        ValueError: Arguments and weights do not match.
    """
    cls, given = arguments_of(described, where)
    try:
        check_network(cls, given, weights)
        with plain_defaults(), torch.random.fork_rng(devices=[]):
            with torch.device("meta"):
                check_shapes(cls(**given), weights)
            network: PairNetwork = cls(**given)
        network.load_state_dict(dict(weights))
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError) as ex:
        raise ValueError(f"{where} does not hold the network it describes: {' '.join(str(ex).split())}") from ex
    if name := non_finite_weight(network, weights):
        raise ValueError(f"{where} holds weights that are not finite, in {name}: its training had diverged")
    low, high, _, spread = network.scaling
    if not (low < high and spread > 0):
        raise ValueError(f"{where} holds a network whose axis is [{low:g}, {high:g}] and whose spread is {spread:g}")
    return network.eval().requires_grad_(False)


def arguments_of(described: Mapping[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Class of a network, and its arguments, from plain values.

    Raises:
        ValueError: They describe no network.
    """
    cls = class_named(described.get("class_path"), NETWORKS, "tabattn.pairs", PairNetwork, "a network", where)
    given = described.get("init_args") or {}
    if not isinstance(given, dict):
        raise ValueError(f"{where} has arguments of a network that are not named")
    found: dict[str, Any] = {
        name: mechanism_named(value, where) if name in ATTENTIONS else value for name, value in given.items()
    }
    try:
        if isinstance(found.get("tokens"), dict):
            found["tokens"] = TokenOptions(**found["tokens"])
    except (TypeError, ValueError) as ex:
        raise ValueError(f"{where} does not hold the network it describes: {ex}") from ex
    return cls, found
