"""Resolved configuration of a run, nested and as flat hyperparameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

PARTS = ("model", "data", "optimizer", "lr_scheduler", "trainer", "seed_everything")
OF_TRAINER = ("max_steps", "max_epochs", "gradient_clip_val", "accumulate_grad_batches", "precision", "devices")
"""Settings of the trainer that count as hyperparameters."""
LONGEST = 120
"""Most letters of a value."""


def configuration_of(trainer: Trainer, task: LightningModule, folder: Path) -> dict[str, Any]:
    """Configuration that the command line has resolved, or of a run from Python what task, data and optimizer tell.

    Args:
        trainer: Trainer of the run, set up.
        task: The task.
        folder: Folder of the run, into which the command line writes its configuration.
    """
    if any(isinstance(each, SaveConfigCallback) for each in trainer.callbacks):  # type: ignore[attr-defined]
        stage = getattr(trainer.state.fn, "value", "fit")
        paths = (
            [folder / "config.yaml"] if stage == "fit" else [folder / f"config_{stage}.yaml", folder / "config.yaml"]
        )
        for path in paths:
            if path.is_file():
                found = yaml.safe_load(path.read_text())
                return found if isinstance(found, dict) else {}
    parts: dict[str, Any] = {"model": _described(task)}
    if (data := getattr(trainer, "datamodule", None)) is not None:
        parts["data"] = _described(data)
    for optimizer in trainer.optimizers[:1]:
        group = {
            name: value for name, value in optimizer.param_groups[0].items() if name not in ("params", "initial_lr")
        }
        parts["optimizer"] = {"class_path": type(optimizer).__name__, "init_args": plain(group)}
    for schedule in trainer.lr_scheduler_configs[:1]:
        parts["lr_scheduler"] = {"class_path": type(schedule.scheduler).__name__}
    parts["trainer"] = {name: plain(getattr(trainer, name)) for name in OF_TRAINER[:4]}
    return parts


def _described(part: Any) -> dict[str, Any]:
    arguments = {name: plain(value) for name, value in getattr(part, "hparams", {}).items()}
    return {"class_path": type(part).__name__, "init_args": arguments}


def plain(value: Any) -> Any:
    """Value that YAML can hold: numbers, texts, and lists and dicts of them; of all else the name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "func"):
        return {"class_path": plain(value.func), "init_args": plain(getattr(value, "keywords", {}))}
    return str(value) if isinstance(value, Path) else type(value).__name__


def flat(config: Mapping[str, Any]) -> dict[str, float | str]:
    """Hyperparameters by dotted names: a class by its name, its arguments below it; without those that are null.

    ``{"model": {"class_path": "a.B", "init_args": {"dim": 8}}}`` becomes ``{"model": "B", "model.dim": 8}``. Values are
    numbers and texts, as TensorBoard takes no others.
    """
    found: dict[str, float | str] = {}
    for part in PARTS:
        value = config.get(part)
        if part == "trainer" and isinstance(value, Mapping):
            value = {name: value[name] for name in OF_TRAINER if name in value}
        _add(found, part, value)
    return found


def _add(found: dict[str, float | str], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        arguments = dict(value)
        if isinstance(path := arguments.pop("class_path", None), str):
            found[name] = path.rpartition(".")[2]
            arguments = {**(arguments.pop("init_args", None) or {}), **arguments}
        for key, each in arguments.items():
            if key not in ("_instantiator", "dict_kwargs"):
                _add(found, f"{name}.{key}", each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found[name] = value
    elif value is not None:
        text = value if isinstance(value, str) else str(plain(value))
        found[name] = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
