"""Networks in files: their weights as safetensors, and beside them in the header all it takes to build them again."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tabattn.attention import MECHANISMS, AttentionFactory, Mechanism, Softmax
from tabattn.contract.errors import DataError
from tabattn.prior.encoders import CellEncoder, LegacyCellEncoder
from tabattn.prior.network import PriorNetwork
from tabattn.prior.network_check import check_network, check_shapes
from tabattn.prior.options import DEFAULT_OPTIONS, PriorOptions
from tabattn.storage import trusted
from tabattn.storage.checkpoint_files import REMOTE, find
from tabattn.storage.checkpoint_files import read as read_parts
from tabattn.storage.finite import non_finite_weight
from tabattn.storage.weight_files import read, write

PREFIX = "network."
"""Weights of the network stand under this prefix, in our files as in a task's checkpoints."""

ATTENTIONS = ("attention", "feature_attention", "target_attention", "cell_attention")
ARGUMENTS = tuple(inspect.signature(PriorNetwork).parameters)

__all__ = [
    "ARGUMENTS",
    "ATTENTIONS",
    "PREFIX",
    "build",
    "described",
    "load_network",
    "packaged_path",
    "read",
    "read_checkpoint",
    "restore",
    "write",
]


def packaged_path() -> Path:
    """Where the weights that ship with the package lie."""
    return Path(str(resources.files("tabattn"))) / "pretrained" / "prior.safetensors"


def load_network(source: str | Path | None = None) -> PriorNetwork:
    """Load a trained network.

    Args:
        source: A file of ours (.safetensors) or a checkpoint of the task ``PriorClassification`` (.ckpt); None = the
            weights that ship with the package.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not hold such a network, or is named by a URL.
    """
    if source is not None and REMOTE.match(str(source)):
        find(source)
    path = packaged_path() if source is None else Path(source)
    if not path.is_file():
        hint = "" if source is not None else "; give a file or a network as model, or install the complete package"
        raise FileNotFoundError(f"there are no weights at {path}{hint}")
    if path.suffix == ".safetensors":
        tensors, header = read(path)
        return restore(tensors, header, str(path))
    weights, arguments, _ = read_checkpoint(path)
    return build(arguments, weights, str(path))


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Read a task's checkpoint.

    Returns:
        The network's weights, its arguments, and facts of its training.

    Raises:
        ValueError: The file is no checkpoint of ``PriorClassification``.
    """
    try:
        checkpoint = read_parts(path)
    except DataError as ex:
        raise ValueError(str(ex)) from ex
    known = checkpoint.get("hyper_parameters", {})
    task = str(known.get("_class_path", "")).rpartition(".")[2]
    if task != "PriorClassification":
        raise ValueError(f"{path} is no checkpoint of PriorClassification: its task is {task or 'not named'}")
    weights = {k.removeprefix(PREFIX): v for k, v in checkpoint["state_dict"].items() if k.startswith(PREFIX)}
    facts = {"steps": checkpoint.get("global_step"), "epoch": checkpoint.get("epoch")}
    data = {k: v for k, v in checkpoint.get("datamodule_hyper_parameters", {}).items() if not k.startswith("_")}
    arguments = {name: known[name] for name in ARGUMENTS if name in known}
    return weights, arguments, facts | {"data": data} if data else facts


def restore(tensors: Mapping[str, Tensor], header: Mapping[str, Any], where: str) -> PriorNetwork:
    """Build the network that ``described`` described; see ``build``."""
    if not isinstance(header.get("network"), dict):
        raise ValueError(f"{where} describes no network")
    weights = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return build(header["network"], weights, where)


def build(arguments: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> PriorNetwork:
    """Build a network, for use rather than training, without touching the global state of random numbers.

    Args:
        arguments: Arguments of ``PriorNetwork``; an attention as its ``class_path`` and ``init_args``.
        weights: All its weights.
        where: Where they come from, for messages.

    Raises:
        ValueError: Arguments and weights do not fit.
    """
    given: dict[str, Any] = dict(arguments)
    if given.get("profile") == "legacy":
        # Files may still say what a legacy network has none of: it was accepted, and did nothing.
        given |= {"thinking_rows": None, "feature_group": None}
    given |= {name: _factory(given[name], where) for name in ATTENTIONS if name in given}
    try:
        if isinstance(given.get("options"), dict):
            given["options"] = PriorOptions(**given["options"])
        check_network(given, weights)
        with plain_defaults(), torch.random.fork_rng(devices=[]):
            with torch.device("meta"):
                check_shapes(PriorNetwork(**given), weights)
            network = PriorNetwork(**given)
        network.load_state_dict(dict(weights))
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError, LookupError) as ex:
        raise ValueError(f"{where} does not hold the network it describes: {' '.join(str(ex).split())}") from ex
    if name := non_finite_weight(network, weights):
        raise ValueError(f"{where} holds weights that are not finite, in {name}: its training had diverged")
    return network.eval().requires_grad_(False)


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Torch's own defaults for new tensors, float32 on the CPU, whatever the process has set in their place."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def described(network: PriorNetwork) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a network under ``PREFIX``, and its arguments in plain values."""
    block: Any = network.blocks[0]
    legacy = isinstance(network.cells, LegacyCellEncoder)
    if legacy:
        context, target = block.rows.context, block.rows.target.mechanism
        attention = Softmax(1, 1) if context is None else context.mechanism
    else:
        stage: Any = block if network.rows is None else network.rows.blocks[0]
        attention, target = stage.rows.attention.mechanism, stage.rows.outside
    arguments = {
        "dim": block.features.dim,
        "heads": block.features.heads,
        "hidden": block.mlp[0].out_features,
        "layers": len(network.blocks),
        "classes": network.classes,
        "attention": _describe(attention),
        "feature_attention": _describe(block.features.mechanism),
        "target_attention": None if target is None else _describe(target),
        "profile": "legacy" if legacy else "default",
    }
    if isinstance(network.cells, CellEncoder):
        thinking = network.thinking if network.rows is None else network.rows.thinking
        arguments["thinking_rows"] = 0 if thinking is None else thinking.numel() // thinking.shape[-1]
        arguments["feature_group"] = network.cells.group
    if network.options != DEFAULT_OPTIONS:
        arguments["options"] = network.options.described()
    if network.rows is not None:
        arguments["cell_attention"] = _describe(block.rows.attention.mechanism)
    return {PREFIX + name: value for name, value in network.state_dict().items()}, arguments


def _describe(mechanism: Mechanism) -> dict[str, Any]:
    name = type(mechanism).__name__
    home = "tabattn.attention" if MECHANISMS.get(name) is type(mechanism) else type(mechanism).__module__
    return {"class_path": f"{home}.{name}", "init_args": mechanism.arguments()}


def _factory(given: Any, where: str) -> AttentionFactory | None:
    """The factory that a description means: a class of an allowed package, checked before anything is imported."""
    if given is None:
        return None
    path = given.get("class_path") if isinstance(given, dict) else given
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    found = MECHANISMS.get(name) if module.startswith("tabattn.attention") else None
    if found is None:
        try:
            found = trusted.resolve(path, Mechanism)  # type: ignore[type-abstract]
        except ValueError as ex:
            raise ValueError(f"{where} names an attention that is not known: {ex}") from ex
    arguments = given.get("init_args") or {} if isinstance(given, dict) else {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{where} has arguments of {name} that are not named: {trusted.shortened(arguments)}")
    return partial(found, **arguments) if isinstance(given, dict) else found
