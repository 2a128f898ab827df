"""State dictionaries of users' networks: read from files, and put into an architecture."""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tabattn.contract.activations import MODULES
from tabattn.contract.checks import nearest
from tabattn.contract.errors import DataError
from tabattn.contract.graphs import MOST
from tabattn.storage import checkpoint_files

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
WRAPPED = ("state_dict", "model_state_dict", "model")
"""Entries of a file in which its state dictionary may be."""
LAYER = re.compile(r"(\d+)([a-z_]*)(/?)")


class Stored(NamedTuple):
    """State dictionary of a file.

    Attributes:
        path: The file.
        run: Number of its run: the files of a subfolder are checkpoints of one run, a file in the folder itself is one.
        frac: Its share of the training, by its place among the files of its subfolder.
        tensors: Its tensors by name, layer by layer, weights before biases.
    """

    path: Path
    run: int
    frac: float
    tensors: dict[str, Tensor]


def read_folder(folder: Path) -> Iterator[Stored]:
    """Read the state dictionaries of a folder, sorted by name, numbers in names as numbers.

    Raises:
        ValueError: There is no such folder, or no such file in it.
        DataError: A file is damaged, or holds more than tensors.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    # A link to nothing is not left out: to open it says so.
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    files = sorted(found, key=lambda path: (_words(str(path.parent)), _words(path.name)))
    if not files:
        raise ValueError(f"{folder} has no state dictionaries: no file ends in {', '.join(SUFFIXES)}")
    groups = groupby(files, key=lambda path: path if path.parent == folder else path.parent)
    for run, (_, members) in enumerate(groups):
        own = list(members)
        for number, path in enumerate(own, 1):
            yield Stored(path, run, number / len(own), _tensors(path))


def _words(name: str) -> list[tuple[int, str]]:
    """Key to sort names by, in which numbers count as numbers."""
    return [(int(word), word) if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name)]


def _tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name."""
    if path.suffix.lower() == ".safetensors":
        try:
            loaded = load_file(path)
            # The format keeps no order.
            held: Any = {name: loaded[name] for name in sorted(loaded, key=_words)}
        except (SafetensorError, OSError) as ex:
            raise DataError(f"{path} is damaged or no safetensors file: {ex}") from ex
    else:
        held = checkpoint_files.load(path)
    for name in WRAPPED:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping) or not held or not all(isinstance(each, Tensor) for each in held.values()):
        raise DataError(f"{path} holds no state dictionary: torch.save(network.state_dict(), ...) writes one")
    tensors = {str(name): each for name, each in held.items()}
    layers = {layer: number for number, layer in reversed(list(enumerate(map(_layer, tensors))))}
    return {name: tensors[name] for name in sorted(tensors, key=lambda name: (layers[_layer(name)], _is_bias(name)))}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2].startswith("bias")


def module_of(words: str, stored: Stored) -> nn.Sequential:
    """Make a network of an architecture in words.

    Args:
        words: Widths with the activation function behind each, from inputs to outputs, such as ``4-16relu-3``; ``/``
            behind a layer = it has no bias. Or the name of an activation function alone, such as ``relu``: it stands
            between all linear layers that the state dictionary has.
        stored: State dictionary.

    Raises:
        ValueError: The words say no architecture, or there is no linear layer.
    """
    if words in MODULES:
        return _between(words, stored.path, stored.tensors)
    head, *rest = words.split("-")
    parts = [LAYER.fullmatch(part) for part in rest]
    if not head.isdecimal() or not rest or None in parts:
        raise ValueError(
            "architecture must be widths and activation functions, such as 4-16relu-3, or one of "
            f"{', '.join(MODULES)}, got {words!r}"
        )
    layers: list[nn.Module] = []
    width = int(head)
    for part in parts:
        assert part is not None
        following, name, bare = int(part[1]), part[2], part[3]
        if not (1 <= width <= MOST and 1 <= following <= MOST):
            raise ValueError(f"architecture must have widths of 1 to {MOST}, got {words!r}")
        if name and name not in MODULES:
            raise ValueError(f"architecture has no activation function {name!r}{nearest(name, MODULES)}: {words!r}")
        # Without memory, which may not be there: the tensors of the file are what it gets.
        layers += [nn.Linear(width, following, bias=not bare, device="meta"), *([MODULES[name]()] if name else [])]
        width = following
    return nn.Sequential(*layers)


def _between(name: str, path: Path, tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """Linear layers of a state dictionary with one activation function between them."""
    layers: list[nn.Module] = []
    keys = list(tensors)
    for number, key in enumerate(keys):
        if tensors[key].ndim == 2:
            bias = number + 1 < len(keys) and tensors[keys[number + 1]].ndim == 1
            outputs, inputs = tensors[key].shape
            layers += [nn.Linear(inputs, outputs, bias=bias), MODULES[name]()]
    if not layers:
        raise ValueError(f"{path} has no linear layer: it needs an architecture in words, such as 4-16relu-3")
    return nn.Sequential(*layers[:-1])


def filled(network: nn.Module, stored: Stored) -> nn.Module:
    """Put the tensors of a file into a network: by their names, or else in their order.

    Raises:
        ValueError: They do not fit.
    """
    own = network.state_dict()
    tensors = stored.tensors
    if set(own) != set(tensors):
        if len(own) != len(tensors):
            raise ValueError(f"{stored.path} has {len(tensors)} tensors, the architecture has {len(own)}")
        tensors = dict(zip(own, tensors.values(), strict=True))
    names = dict(zip(tensors, stored.tensors if tensors is not stored.tensors else tensors, strict=True))
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{names[name]} of {stored.path} has the shape {tuple(tensor.shape)}, in the architecture it is "
                f"{tuple(own[name].shape)}"
            )
        if tensor.dtype != torch.float32:
            raise ValueError(f"{names[name]} of {stored.path} is of type {tensor.dtype}: a zoo holds single precision")
        if tensor.is_meta or tensor.layout != torch.strided:
            raise ValueError(f"{names[name]} of {stored.path} has numbers that are not there, or not all")
    network.load_state_dict(tensors, assign=True)
    return network
