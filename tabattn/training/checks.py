"""Checks before a run: no null where an argument takes none, and a trainer that writes over no earlier run."""

import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from jsonargparse import Namespace
from jsonargparse._parameter_resolvers import get_signature_parameters
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from tabattn.storage import trusted
from tabattn.storage.trusted import shortened


def check_nulls(path: str, given: Any) -> None:
    """Check that no argument of a class, or of the classes in its arguments, is null where its type admits no None.

    The parser takes a null for an argument that is not given, whatever its type.

    Args:
        path: Path of the class in the configuration, such as ``data``.
        given: Its ``class_path`` and ``init_args``; anything else is not checked.

    Raises:
        ValueError: An argument is null; the message names it and its type.
    """
    if isinstance(given, Namespace):
        given = given.as_dict()
    if not isinstance(given, Mapping) or not isinstance(given.get("init_args"), Mapping):
        return
    parameters = get_signature_parameters(trusted.resolve(given.get("class_path"), object), "__init__")
    hints = {each.name: each.annotation for each in parameters}
    for name, value in given["init_args"].items():
        if value is None and not _admits_none(hints.get(name, Any)):
            raise ValueError(f"{path}.{name}: expected {_name(hints[name])}, got null")
        check_nulls(f"{path}.{name}", value)


def _admits_none(hint: Any) -> bool:
    if hint in (Any, object, inspect.Parameter.empty, None, type(None)):
        return True
    return get_origin(hint) in (Union, types.UnionType) and any(map(_admits_none, get_args(hint)))


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def check_filenames(trainer: Trainer) -> None:
    """Check that the file names of checkpoints stay within their folder.

    Raises:
        MisconfigurationException: A file name leads out of it.
    """
    for each in trainer.checkpoint_callbacks:
        name = each.filename if isinstance(each, ModelCheckpoint) else None
        if name is not None and (not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts):
            raise MisconfigurationException(
                f"checkpoint.filename must be a name within the folder of the checkpoints, got {shortened(name)}"
            )


@rank_zero_only
def check_loggers(trainer: Trainer) -> None:
    """Check that a user's logger writes into no earlier run's folder.

    Raises:
        MisconfigurationException: Its folder is not empty.
    """
    for logger in trainer.loggers:
        folder = getattr(logger, "log_dir", None)
        if isinstance(folder, str) and "://" not in folder and Path(folder).is_dir() and any(Path(folder).iterdir()):
            raise MisconfigurationException(
                f"trainer.logger: {shortened(folder)} holds a run already: choose another version, or go on with that "
                "run by --ckpt_path"
            )
