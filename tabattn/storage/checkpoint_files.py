"""Reader of checkpoint files of any origin: local files only, tensors and plain values only."""

import itertools
import os
import pickle
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage import trusted
from tabattn.storage.checksum import verify

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|.*::|registry:")
"""Prefix of a URL, a chain of file systems or a model registry: ``s3://``, ``simplecache::``, ``registry:``."""

PARTS: dict[str, type | tuple[type, ...]] = {
    "state_dict": dict,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "hparams_name": (str, type(None)),
    "hparams_type": (str, type(None)),
    "callbacks": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "optimizer_settings": dict,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}
"""Types of a checkpoint's parts."""

SIZES = (
    *("layers", "dim", "hidden", "heads", "classes", "thinking_rows", "feature_group"),
    *("members", "components", "fourier"),
)
"""Hyperparameters of this project's tasks that are sizes of a network and bounded by the sizes of its weights."""

NESTED_SIZES = {
    "tokens": ("size", "length"),
    "config": (
        *("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "type_vocab_size"),
        *("num_attention_heads", "num_hidden_layers"),
    ),
}
"""The same in a hyperparameter that is a mapping, by its name."""

MECHANISM_SIZES = ("points", "width", "hidden")
"""Arguments of this project's mechanisms that are a dimension of one of their weights."""


def find(path: str | os.PathLike[str]) -> Path:
    """Check that a checkpoint path is a regular local file.

    Raises:
        ValueError: It is a URL or a folder, or there is no such file.
    """
    text = os.fspath(path)
    if REMOTE.match(text):
        raise ValueError(f"{trusted.shortened_path(text)} is a URL, and checkpoints are read from local files only")
    try:
        mode = os.stat(text).st_mode
    except (FileNotFoundError, NotADirectoryError) as ex:
        raise ValueError(f"there is no file {trusted.shortened_path(text)}") from ex
    except (OSError, ValueError) as ex:
        reason = ex.strerror if isinstance(ex, OSError) else str(ex)
        raise ValueError(f"{trusted.shortened_path(text)} cannot be opened: {reason}") from ex
    if not stat.S_ISREG(mode):
        raise ValueError(f"{text} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}, a checkpoint is a file")
    return Path(text)


def load(path: str | os.PathLike[str]) -> Any:
    """Load a ``torch.save`` file onto the CPU with ``weights_only=True``: no code of it is run.

    Raises:
        ValueError: The path is not that of a local file; see ``find``.
        DataError: The file is damaged, holds something else, or claims to be larger than it is.
    """
    path = find(path)
    try:
        verify(path)
        _check_archive(path)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except pickle.UnpicklingError as ex:
        raise DataError(
            f"{path} is damaged, or holds more than weights and plain values, which is not loaded: it could run code"
        ) from ex
    except Exception as ex:
        # A damaged file may raise almost any exception.
        reason = trusted.shortened(str(ex).partition("\n")[0] or type(ex).__name__)
        raise DataError(f"{path} cannot be read as a checkpoint: {reason}") from ex


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint and validate it: the parts of ``PARTS``, and all class paths in its hyperparameters.

    Returns:
        The checkpoint, on the CPU. It has a ``state_dict`` of tensors by name.

    Raises:
        ValueError: The path is not that of a local file; see ``find``.
        DataError: The file is damaged or no checkpoint, or names a class that is not allowed; see ``trusted``.
    """
    checkpoint = load(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"{path} is no checkpoint: it has no state_dict")
    for name, kind in PARTS.items():
        if name in checkpoint and not isinstance(checkpoint[name], kind):
            raise DataError(f"{path} is no checkpoint: its {name} is of type {type(checkpoint[name]).__name__}")
    weights = checkpoint["state_dict"]
    if not all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()):
        raise DataError(f"{path} is no checkpoint: its state_dict holds more than tensors by name")
    for part in ("hyper_parameters", "datamodule_hyper_parameters"):
        given = checkpoint.get(part, {})
        try:
            trusted.check_all(given)
        except ValueError as ex:
            raise DataError(f"{path}: {part}: {ex}") from ex
        if not all(isinstance(name, str) for name in given):
            raise DataError(f"{path}: the names of its {part} are not all text")
    _check_sizes(path, checkpoint.get("hyper_parameters", {}), weights)
    return checkpoint


def _check_sizes(path: str | os.PathLike[str], arguments: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Check that no size in the hyperparameters exceeds what the weights allow, before memory is allocated.

    Raises:
        DataError: A size is too large, or a weight claims more values than the file holds.
    """
    for name, weight in weights.items():
        size = weight.numel() * weight.element_size()
        if weight.layout is torch.strided and size > weight.untyped_storage().nbytes():
            raise DataError(f"{path}: the weight {name} claims more values than the file holds")
    if not str(arguments.get("_class_path", "")).startswith("tabattn."):
        return
    largest = max((size for weight in weights.values() for size in weight.shape), default=0)
    network = arguments.get("network")
    options = network.get("init_args") if isinstance(network, dict) else None
    stated = [arguments, options] if isinstance(options, dict) else [arguments]
    for name, given in itertools.product(SIZES, stated):
        value, bound = given.get(name), len(weights) if name == "layers" else largest
        if isinstance(value, int) and value > bound:
            text = trusted.shortened(value)
            raise DataError(f"{path}: hyper_parameters: {name} is {text}, and its weights allow {bound} at most")
    _check_nested(path, arguments, largest, len(weights))
    try:
        _check_mechanisms(arguments, largest)
    except ValueError as ex:
        raise DataError(f"{path}: hyper_parameters: {ex}") from ex


def _check_nested(path: str | os.PathLike[str], arguments: dict[str, Any], largest: int, count: int) -> None:
    """Check the sizes of ``NESTED_SIZES``; arguments as those of ``_check_sizes``.

    Raises:
        DataError: A size is too large.
    """
    for part, names in NESTED_SIZES.items():
        found = arguments.get(part)
        given: dict[str, Any] = found if isinstance(found, dict) else {}
        for name in names:
            value, bound = given.get(name), count if name.endswith("layers") else largest
            if isinstance(value, int) and value > bound:
                text = f"{part}.{name} is {trusted.shortened(value)}, and its weights allow {bound} at most"
                raise DataError(f"{path}: hyper_parameters: {text}")


def _check_mechanisms(given: Any, bound: int, where: str = "") -> None:
    """Check the sizes among the arguments of this project's mechanisms in hyperparameters.

    Args:
        given: Hyperparameters; a class in them is a mapping of ``class_path`` and ``init_args``, at any depth.
        bound: Longest dimension of the weights.
        where: Name of what holds them, for messages.

    Raises:
        ValueError: A size exceeds the bound. The message names the value and the bound.
    """
    if isinstance(given, (list, tuple)):
        for value in given:
            _check_mechanisms(value, bound, where)
    if not isinstance(given, dict):
        return
    options = given.get("init_args")
    if str(given.get("class_path", "")).startswith("tabattn.") and isinstance(options, dict):
        for name in MECHANISM_SIZES:
            value = options.get(name)
            if isinstance(value, (int, float)) and value > bound:
                raise ValueError(f"{where}{name} is {trusted.shortened(value)}, and its weights allow {bound} at most")
    for name, value in given.items():
        _check_mechanisms(value, bound, where if name == "init_args" else f"{where}{name}.")


def _check_archive(path: Path) -> None:
    """Check the sizes in a zip archive: no entry is compressed, and all together are no larger than the file.

    Raises:
        DataError: An entry is compressed or too large, or the file is no zip archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as ex:
        raise DataError(f"{path} cannot be read as a checkpoint: {trusted.shortened(str(ex))}") from ex
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise DataError(f"{path} is no checkpoint: it is compressed")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DataError(f"{path} is no checkpoint: its parts claim to be larger than the file")
