"""Where the network of a picture comes from: a run's checkpoint, weights that ship, or a weight file."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tabattn.training.configurations import CONFIGS
from tabattn.training.runs import home_of

WEIGHTS = CONFIGS.parent / "tabattn" / "pretrained"
SHIPPED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "shipped": ("prior_pretrain", "prior", {}),
    "shipped:pairs_const": ("pairs_pretrain", "pairs_const", {}),
    "shipped:pairs_rbf_const_2D": ("pairs_pretrain", "pairs_rbf_const_2D", {"kind": "rbf_const_2D"}),
    "shipped:pairs_rbf_rbf_2D": ("pairs_pretrain", "pairs_rbf_rbf_2D", {"kind": "rbf_rbf_2D"}),
}
"""Packaged configuration, file of weights and arguments of the datamodule, by name."""


class Source(NamedTuple):
    """A trained network and its configuration.

    Attributes:
        config: Configuration of its run.
        flags: Flags by which a run of the command line loads it.
        home: Folder of its run, or the current one.
    """

    config: dict[str, Any]
    flags: list[str]
    home: Path


def source_of(checkpoint: str, config: str | None) -> Source:
    """Find the configuration of a trained network.

    Args:
        checkpoint: Path of a checkpoint or weight file, or a name of ``SHIPPED``.
        config: Path or packaged name of a configuration; None = that of the run.

    Raises:
        ValueError: There is no such checkpoint, or no configuration.
    """
    if checkpoint in SHIPPED:
        packaged, weights, arguments = SHIPPED[checkpoint]
        found = _read(_path(config or packaged))
        found["data"]["init_args"] = {**found["data"].get("init_args", {}), **arguments}
        return Source(found, [f"--model.init_from={WEIGHTS / f'{weights}.safetensors'}"], Path())
    if not Path(checkpoint).is_file():
        names = "" if "/" in checkpoint else f"; the names of networks in the package are {', '.join(SHIPPED)}"
        raise ValueError(f"checkpoint: there is no file {checkpoint}{names}")
    home = home_of(checkpoint)
    if config is None and home is None:
        raise ValueError(f"checkpoint: {checkpoint} is in no run's folder with a config.yaml: give one by --config")
    found = _read(_path(config) if config is not None else Path(str(home), "config.yaml"))
    flag = "--model.init_from" if checkpoint.endswith(".safetensors") else "--ckpt_path"
    return Source(found, [f"{flag}={checkpoint}"], home or Path())


def _path(config: str) -> Path:
    packaged = CONFIGS / f"{config.removeprefix('configs/').removesuffix('.yaml')}.yaml"
    if not Path(config).is_file() and packaged.is_file() and CONFIGS in packaged.resolve().parents:
        return packaged
    return Path(config)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError as ex:
        raise ValueError(f"config: there is no file {path}, and no packaged configuration is called so") from ex
    except (yaml.YAMLError, UnicodeDecodeError) as ex:
        raise ValueError(f"config: {path} cannot be read: {ex}") from ex
    if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in ("model", "data")):
        raise ValueError(f"config: {path} describes no model and data")
    return found
