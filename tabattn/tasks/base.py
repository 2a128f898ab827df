"""What every task shares: weights to start from, a way to be looked at, checkpoints that load safely."""

import pickle
import sys
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tabattn.errors import DataError


class Task(LightningModule):
    """A loss and its metrics around a network.

    Args:
        init_from: Checkpoint whose matching weights start the network. Unlike ``--ckpt_path`` it keeps the command
            line's model, so a trained network can be run with another mechanism.
    """

    task_name: ClassVar[str]
    """Name of the task's run folder."""

    def __init__(self, init_from: str | None = None) -> None:
        super().__init__()
        # With more processes than batches, predict has none for some.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.init_from = init_from
        self.network: nn.Module

    def setup(self, stage: str) -> None:
        """Load the weights to start from, once."""
        if self.init_from is not None:
            load_matching(self.network, self.init_from)
            self.init_from = None

    def of_data(self, name: str) -> Any:
        """An attribute of the datamodule; None where it has none."""
        return getattr(getattr(self.trainer, "datamodule", None), name, None)

    def probe(self, batch: Any) -> Any:
        """Run the network on a batch for a look inside: no loss, no logging, no collective call."""
        return self.predict_step(batch, 0)

    def token_names(self, batch: Any) -> dict[str, list[str]] | None:
        """Names of the tokens of each attention site, by a part of its module path; None = no names."""
        return None

    def token_metadata(self, layer: str, batch: Any, output: Tensor) -> dict[str, list[Any]] | None:
        """Columns that describe the tokens a layer puts out, flattened; None = only their indices."""
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write factories as class paths, so that the checkpoint loads with ``weights_only=True``."""
        hparams = checkpoint.get("hyper_parameters")
        if hparams is None:
            return
        hparams.pop("init_from", None)
        if "_instantiator" in hparams:
            return
        checkpoint["hyper_parameters"] = {
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
            "_class_path": _path(type(self)),
            **{name: plain(value) for name, value in hparams.items()},
        }


def plain(value: Any) -> Any:
    """A class, partial or dataclass as the dictionary that stands for it in a config."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, partial):
        return {"class_path": _path(value.func), "init_args": dict(value.keywords)}
    return {"class_path": _path(value)} if isinstance(value, type) else value


def _path(cls: Any) -> str:
    """The shortest path a class can be imported by: the one that the command line writes."""
    words = cls.__module__.split(".")
    prefixes = (".".join(words[:length]) for length in range(1, len(words)))
    public = (prefix for prefix in prefixes if getattr(sys.modules.get(prefix), cls.__qualname__, None) is cls)
    return f"{next(public, cls.__module__)}.{cls.__qualname__}"


def load_matching(network: nn.Module, path: str) -> None:
    """Load the weights of a task's checkpoint that fit a network, and say which did not.

    Raises:
        DataError: The file cannot be read as a checkpoint, or holds no weight that fits.
    """
    given = network_weights(path)
    own = network.state_dict()
    fits = {name: weight for name, weight in given.items() if name in own and own[name].shape == weight.shape}
    if not fits:
        raise DataError(f"init_from: no weight of {path} fits this network")
    network.load_state_dict(fits, strict=False)
    for text, names in (
        ("left out of the checkpoint", given.keys() - fits),
        ("left as initialised", own.keys() - fits),
    ):
        if names:
            rank_zero_info(f"init_from {path}: {text}: {', '.join(sorted(names))}")


def network_weights(path: str) -> dict[str, Tensor]:
    """The network's weights in a task's checkpoint.

    Raises:
        DataError: The file cannot be read as a checkpoint.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as ex:
        reason = str(ex).partition("\n")[0] or type(ex).__name__
        raise DataError(f"{path} cannot be read as a checkpoint: {reason}") from ex
    prefix = "network."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
