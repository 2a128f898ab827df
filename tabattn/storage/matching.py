"""Partial weight loading: from a checkpoint of another network, by matching name and shape."""

from collections.abc import Iterable

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from tabattn.contract.errors import DataError
from tabattn.storage import trusted, weight_files
from tabattn.storage.checkpoint_files import read
from tabattn.storage.finite import non_finite_weight
from tabattn.storage.weights import of_fixed_shape

FEW = 0.5
"""Share of matching tensors below which a warning is given."""

NETWORKS = (weight_files.FORMAT, "tabattn.pairs")
"""Kinds of weight files that hold the network of a task, whose name is their last word."""

LISTED = 4
"""Most names of tensors in a message."""


def load_matching(
    network: nn.Module, path: str, task: type[LightningModule] | None = None, filled: Iterable[str] = ()
) -> None:
    """Load the weights that match a network by name and shape, and report their number.

    Args:
        network: Changed in place.
        path: A checkpoint, or a file of weights (.safetensors).
        task: Task of the network, which the file must share; None = any.
        filled: Beginnings of the names of what was filled from another file: it is left as it is.

    Raises:
        DataError: The file cannot be read, is one of another task, or holds no weight that fits, or one that is not
            finite.
    """
    given = network_weights(path, task)
    apart = tuple(filled)
    own, given = (
        {name: each for name, each in of_fixed_shape(state).items() if not name.startswith(apart)}
        for state in (network.state_dict(), given)
    )
    fits = {name: weight for name, weight in given.items() if name in own and own[name].shape == weight.shape}
    if not fits:
        raise DataError(f"init_from: no weight of {path} fits this network")
    if name := non_finite_weight(network, fits):
        raise DataError(f"init_from: {path} holds weights that are not finite, in {name}: its training had diverged")
    network.load_state_dict(fits, strict=False)
    rest = [
        f"{text}: {_listed(names)}"
        for text, names in (
            ("left as initialised", [name for name in own if name not in fits]),
            ("of another shape, or not of this network", [name for name in given if name not in fits]),
        )
        if names
    ]
    if rest:
        say = rank_zero_warn if len(fits) < FEW * len(own) else rank_zero_info
        say(f"init_from {path}: {len(fits)} of {len(own)} tensors fit; {'; '.join(rest)}")


def network_weights(path: str, task: type[LightningModule] | None = None) -> dict[str, Tensor]:
    """Read the network's weights from a checkpoint of a task, or from a weight file (.safetensors).

    Raises:
        ValueError: The path is a URL or a folder, or there is no such file.
        DataError: The file cannot be read as a checkpoint, or as weights, or is one of another task.
    """
    if path.endswith(".safetensors"):
        try:
            given, _, written = weight_files.read_any(path, NETWORKS)
        except ValueError as ex:
            raise DataError(f"init_from: {ex}") from ex
        kind = written.rpartition(".")[2]
        if task is not None and all(vars(base).get("task_name") != kind for base in task.__mro__):
            raise DataError(f"init_from: {path} holds weights of the task {kind}, the model is {task.__name__}")
    else:
        checkpoint = read(path)
        given = checkpoint["state_dict"]
        named = checkpoint.get("hyper_parameters", {}).get("_class_path")
        if task is not None and not is_of(named, task):
            raise DataError(f"init_from: {path} is a checkpoint of {named}, the model is {task.__name__}")
    prefix = "network."
    return {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}


def is_of(named: str | None, task: type[LightningModule]) -> bool:
    """Whether a checkpoint is of a task: of its class, or of one that shares a task class with it.

    True for a checkpoint that names no class, or one that cannot be imported.
    """
    if named is None:
        return True
    try:
        found = trusted.resolve(named, LightningModule)
    except ValueError:
        return True
    shared = [base for base in found.__mro__ if base in task.__mro__ and base not in LightningModule.__mro__]
    return any(issubclass(base, LightningModule) and hasattr(base, "task_name") for base in shared) or found is task


def _listed(names: Iterable[str]) -> str:
    """List the first names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
