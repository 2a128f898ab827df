"""Cells of a comparison: a configuration and a seed, named by the hash of all that decides its result."""

import contextlib
import hashlib
import inspect
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule

from datamodules.counter import Seed, Seeds
from tabattn.cli import CLI
from tabattn.contract.errors import message_of
from tabattn.storage import provenance, trusted
from tabattn.training.status import constructor_error

OWN = ("training.py", "validations.py", "recorder.py", "evaluation.py")
"""Files of this package on which a result depends; changes of the others leave cells as they are."""

OPTION = re.compile(r":(?=\w[\w.]*=)")
"""Separator of the options of a choice: ``Local:window=8:dropout=0.1``."""

UNUSED = ("run", "config", "ckpt_path", "seed_everything")
"""Parts of a configuration that do not decide the result, or are parts of the name of their own."""


@dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Args:
        attention: What is compared, such as the name of a mechanism.
        label: The same with its options, as given.
        seed: Seed of the training.
        arguments: Arguments of ``train.py fit``, without the budget.
        config: Resolved configuration.
        key: Name: the first 16 hexadecimal digits of a hash.
        refusal: Why its task cannot be built; None = it can.
    """

    attention: str
    label: str
    seed: int
    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    key: str
    refusal: str | None


class Resolved(CLI):
    """Command line that is parsed and whose task is built, but not run.

    Args:
        arguments: Words after ``fit``.

    Raises:
        SystemExit: The arguments are wrong.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.refusal: str | None = None
        super().__init__(["fit", *arguments])

    def _set_seed(self) -> None:
        """Leave the random states of this process as they are."""

    def instantiate_classes(self) -> None:
        """Build the task alone."""
        config = self.config.clone()
        part = config[self.subcommand]
        for name in [name for name in vars(part) if name != "model"]:
            del part[name]
        try:
            with torch.random.fork_rng(devices=()):
                self.parser.instantiate_classes(config)
        except (ValueError, MisconfigurationException) as ex:
            self.refusal = str(constructor_error(ex))

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    @property
    def plain(self) -> dict[str, Any]:
        """Resolved configuration as plain values."""
        found = self.config[self.subcommand].as_dict()
        kept = {name: value for name, value in found.items() if name not in UNUSED}
        plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
        return plain


def resolved(arguments: Sequence[str]) -> tuple[Resolved | None, str]:
    """Parse arguments of ``fit``.

    Returns:
        The command line, and an empty text; or None, and the parser's error.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return Resolved(arguments), ""
    except MisconfigurationException as ex:
        return None, message_of(ex)
    except SystemExit:
        return None, said.getvalue().strip().removeprefix("error: ")


def choices(text: str) -> list[str]:
    """Split a list at its commas, except those within brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def flags(varied: str, choice: str) -> tuple[str, list[str]]:
    """Flags of a choice.

    Args:
        varied: Argument that is varied, such as ``model.attention``.
        choice: Value with options, such as ``Local:window=8``.

    Returns:
        The value without options, and the flags.
    """
    value, *options = OPTION.split(choice)
    return value, [f"--{varied}={value}", *(f"--{varied}.{option}" for option in options)]


def training_seed(config: Mapping[str, Any], seed: int) -> list[str]:
    """Flags that give a seed training batches of its own, on the same splits and the same scored data.

    Args:
        config: Resolved configuration.
        seed: Number of the seed; 0 trains on the batches of the configuration.

    Returns:
        The flags; none for seed 0, and where the datamodule takes no second seed.
    """
    data = config.get("data") or {}
    given = (data.get("init_args") or {}).get("seed")
    if not seed or given is None or not fresh(config):
        return []
    seeds = Seeds.of(given)
    return [f"--data.seed=[{seeds.scored},{seeds.training + seed}]"]


def fresh(config: Mapping[str, Any]) -> bool:
    """Whether the datamodule of a configuration takes a seed of the training batches alone."""
    path = (config.get("data") or {}).get("class_path")
    if path is None:
        return False
    argument = inspect.signature(trusted.resolve(path, LightningDataModule)).parameters.get("seed")
    return argument is not None and argument.annotation == Seed


def key_of(config: Mapping[str, Any], code: str, data: str, seed: int, budget: Mapping[str, Any]) -> str:
    """Name of a cell."""
    content = {"config": config, "code": code, "data": data, "seed": seed, "budget": budget}
    return digest(json.dumps(content, sort_keys=True).encode())


def digest(content: bytes) -> str:
    """First 16 hexadecimal digits of the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


@cache
def code_version() -> str:
    """Checksum of the sources on which results depend, and of the versions of Python and the libraries that compute."""
    ours = Path(__file__).parent
    without = {*ours.rglob("*.py")} - {ours / name for name in OWN}
    libraries = f"{sys.version_info[:2]} {torch.__version__} {lightning.__version__}"
    return digest(f"{provenance.code_version(without)} {libraries}".encode())


def data_of(config: Mapping[str, Any]) -> str:
    """Fingerprint of the data of a configuration: that of its datamodule and of the weights that it begins with.

    Raises:
        OSError: A file cannot be read.
    """
    model = (config.get("model") or {}).get("init_args") or {}
    return provenance.data_fingerprint({"data": config.get("data"), "init_from": model.get("init_from")})
