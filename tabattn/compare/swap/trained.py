"""Trained tasks to swap the attention of: from checkpoints, weight files and the weights that ship with the package."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import instantiate_module
from torch import Tensor, nn

from tabattn.attention import Mechanism
from tabattn.pairs import weights as pairs
from tabattn.prior import weights as prior
from tabattn.storage import trusted
from tabattn.storage.checkpoint_files import read
from tabattn.storage.class_paths import guard
from tabattn.storage.hyperparameters import import_path, plain
from tabattn.storage.loading import hyperparameters_of
from tabattn.storage.weight_files import FORMAT, read_any
from tabattn.task import Task
from tabattn.tasks import PairInference, PriorClassification

SHIPPED = "shipped"
"""Name of the classifier's weights that ship with the package; those of pairs are called by their kind."""

ROWS, TARGETS = "attention", "target_attention"
"""Arguments of a task: mechanism between rows or tokens, and that from target rows to context rows."""

Description = Mapping[str, Any]
"""Mechanism in plain values: ``class_path`` and ``init_args``."""


class Trained(NamedTuple):
    """Trained task.

    Attributes:
        kind: Class of the task.
        arguments: Its constructor's arguments, in plain values.
        weights: Weights by name, as in the task's state.
        where: Source, for messages.
    """

    kind: type[Task]
    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    where: str

    def places(self) -> dict[str, str]:
        """Arguments that hold a mechanism, by where it acts: ``rows`` and ``columns``."""
        found = {}
        for name, parameter in inspect.signature(self.kind).parameters.items():
            default = parameter.default
            if name != TARGETS and isinstance(default, type) and issubclass(default, Mechanism):
                found["rows" if name == ROWS else "columns"] = name
        return found


def read_trained(source: str) -> Trained:
    """Read a trained task.

    Args:
        source: Checkpoint of any task (.ckpt); weight file of a classifier or of pairs (.safetensors); ``shipped`` for
            the classifier's weights that ship with the package, or the kind of those of pairs, such as ``const``.

    Raises:
        ValueError: There is no such file, or it holds no task.
        DataError: The file is damaged.
    """
    if source == SHIPPED or source in pairs.SHIPPED:
        return _of_file(str(prior.packaged_path() if source == SHIPPED else pairs.shipped_path(source)))
    if "." not in Path(source).name and not Path(source).exists():
        names = ", ".join((SHIPPED, *pairs.SHIPPED))
        raise ValueError(f"the checkpoint must be a file (.ckpt, .safetensors) or one of {names}, got {source!r}")
    return _of_file(source) if source.endswith(".safetensors") else _of_checkpoint(source)


def _of_checkpoint(path: str) -> Trained:
    checkpoint = read(path)
    given = checkpoint.get("hyper_parameters", {})
    if "_class_path" not in given:
        raise ValueError(f"{path} does not say which task it is of, so its network cannot be built")
    kind = trusted.resolve(given["_class_path"], Task)
    arguments = {name: value for name, value in hyperparameters_of(kind, given).items() if name[0] != "_"}
    return Trained(kind, arguments, checkpoint["state_dict"], path)


def _of_file(path: str) -> Trained:
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    kind = read_any(path, (FORMAT, pairs.KIND))[2]
    network: nn.Module
    if kind == FORMAT:
        network = classifier = prior.load_network(path)
        if classifier.targets != "classes":
            raise ValueError(f"{path} must hold a network that predicts classes, this one {classifier.targets}")
        described: Mapping[str, Any] = {
            "class_path": import_path(type(classifier)),
            "init_args": plain(classifier.arguments),
        }
    else:
        loaded = pairs.load_network(path)
        network, described = loaded.network, loaded.plain
    task: type[Task] = PriorClassification if kind == FORMAT else PairInference
    own = inspect.signature(task).parameters
    options = dict(described.get("init_args") or {})
    arguments = {name: options.pop(name) for name in list(options) if name in own and name != "network"}
    arguments["network"] = {"class_path": described["class_path"], "init_args": options}
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    return Trained(task, arguments, weights, path)


def build(trained: Trained, attention: Mapping[str, Description] | None = None) -> Task:
    """Build a trained task for evaluation, with its own or other mechanisms; weights are shared, not copied.

    Args:
        trained: The task. Weights that match by name and shape are taken; the others stay as they are initialised.
        attention: Mechanisms in plain values by argument of the task.

    Raises:
        ValueError: The network refuses a mechanism.
    """
    arguments = {"_class_path": import_path(trained.kind), **trained.arguments, **(attention or {})}
    with guard(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task: Task = instantiate_module(trained.kind, arguments)
    own = task.state_dict()
    shared = {name: value for name, value in trained.weights.items() if _fits(value, own.get(name))}
    task.load_state_dict(shared, strict=False, assign=True)
    # As when a checkpoint is loaded: weights must be finite, and pairs keep the units of their training.
    task.on_load_checkpoint({"state_dict": task.state_dict()})
    return task.eval().requires_grad_(False)


def _fits(value: Any, own: Any) -> bool:
    return isinstance(own, Tensor) and isinstance(value, Tensor) and own.shape == value.shape


def unmatched(trained: Trained, task: Task) -> tuple[list[str], list[str]]:
    """Names of the weights of a task that are not trained, and of trained weights that it does not have."""
    own = task.state_dict()
    fitting = {name for name, value in trained.weights.items() if _fits(value, own.get(name))}
    return [name for name in own if name not in fitting], [name for name in trained.weights if name not in fitting]
