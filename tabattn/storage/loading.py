"""Checkpoints of tasks: hyperparameters as they are saved, and checks against the task that loads them."""

import inspect
import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from tabattn.storage import earlier, trusted
from tabattn.storage.checkpoint_files import read
from tabattn.storage.hyperparameters import import_path, plain
from tabattn.storage.matching import is_of
from tabattn.storage.weights import of_fixed_shape


def saved_hyperparameters(task: type[LightningModule], given: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with factories as class paths, and without ``init_from``.

    Args:
        task: Class of the task.
        given: Its hyperparameters; those of the command line are in plain form already.
    """
    kept = {name: value for name, value in given.items() if name != "init_from"}
    if "_instantiator" in kept:
        return kept
    return {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": import_path(task),
        **{name: plain(value) for name, value in kept.items()},
    }


def upgraded_source(task: type[LightningModule], path: str | Path) -> str | Path | io.BytesIO:
    """Return what Lightning can load a checkpoint from: its file, or a copy with migrated hyperparameters.

    Raises:
        ValueError: The path is not that of a local file, or the checkpoint is one of another task.
        DataError: The file is damaged or not a checkpoint.
    """
    checkpoint = read(path)
    given = checkpoint.get("hyper_parameters", {})
    today = hyperparameters_of(task, given)
    if today == given:
        return path
    copy = io.BytesIO()
    torch.save(checkpoint | {"hyper_parameters": today}, copy)
    copy.seek(0)
    return copy


def hyperparameters_of(task: type[LightningModule], given: dict[str, Any]) -> dict[str, Any]:
    """Migrate the hyperparameters of a checkpoint to the present arguments of a task.

    Args:
        task: The task that loads the checkpoint.
        given: Hyperparameters of any version.

    Raises:
        ValueError: They are those of another task, or the task has no such argument.
    """
    named = given.get("_class_path")
    found = task if named is None else trusted.resolve(named, LightningModule)
    if not issubclass(found, task):
        raise ValueError(f"its task is {named}, not {task.__name__}")
    given = earlier.upgraded(found, given)
    parameters = inspect.signature(found).parameters
    unknown = given.keys() - parameters.keys() - {"_class_path", "_instantiator"}
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ValueError(f"{found.__name__} has no argument {', '.join(sorted(unknown))}")
    return given


def check_own(task: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Check that a checkpoint is one of this task and of this network.

    Raises:
        ValueError: It is one of another task, or of a network of other sizes.
    """
    given = checkpoint.get("hyper_parameters", {})
    if not is_of(given.get("_class_path"), type(task)):
        raise ValueError(f"the checkpoint is one of {given['_class_path']}, the model is {type(task).__name__}")
    state, weights = of_fixed_shape(task.state_dict()), checkpoint.get("state_dict", {})
    if not task.strict_loading or all(name in weights and weights[name].shape == state[name].shape for name in state):
        return
    present = {name: plain(value) for name, value in task.hparams.items() if name in given and name[0] != "_"}
    other = [f"{name} {given[name]} (here {value})" for name, value in present.items() if value != given[name]]
    if other:
        raise ValueError(
            f"the checkpoint's network is another, with {', '.join(other)}: {type(task).__name__}."
            "load_from_checkpoint builds it, init_from takes over the weights that fit"
        )
