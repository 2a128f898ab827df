"""Optimizer settings of a resumed run: changed ones take effect, all others are restored."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from tabattn.contract.errors import DataError

KEY = "optimizer_settings"
"""Key in the checkpoint of a dictionary: ``described`` of ``OptimizerSettings``, and ``built``, a list by optimizer."""

Built = dict[str, Any]
"""Optimizer before its first step: class, parameter groups without the parameters, and state of its schedule."""


class OptimizerSettings(Callback):
    """Callback that applies changed settings of optimizer and schedule to a resumed run.

    Lightning restores whole parameter groups and schedules, so that a new learning rate has no effect. A checkpoint
    therefore also holds the initial settings of the optimizer; where those of the resumed run differ, they are written
    into the restored state. A changed learning rate or schedule acts as if it had been set from the first step.

    Args:
        described: Configuration of optimizer and schedule, for the checkpoint: ``optimizer`` and ``lr_scheduler``, each
            with ``class_path`` and ``init_args``. None = those of the task's ``optimizer_settings``; its
            ``optimizer_is_default`` tells whether the user set any.
        asked: Whether the user set any; otherwise the settings of a checkpoint without a description are kept.
    """

    def __init__(self, described: Mapping[str, Any] | None = None, asked: bool = False) -> None:
        self.described = described
        self.asked = asked
        self.built: list[Built] = []
        self.loaded: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write changed settings into the checkpoint, before its optimizers are restored.

        Raises:
            MisconfigurationException: The checkpoint is of another optimizer.
            DataError: Its settings are malformed.
        """
        self.built = [
            _built(optimizer, _schedule(trainer, place)) for place, optimizer in enumerate(trainer.optimizers)
        ]
        loaded, self.loaded = self.loaded, None
        if loaded is None or len(loaded.get("optimizer_states", [])) != len(self.built):
            return
        _check_states(loaded)
        saved = _saved(loaded)
        asked = self.asked or loaded.get(KEY, {}).get("described") is not None
        if self.described is None:
            asked = not getattr(pl_module, "optimizer_is_default", False)
        for place, (before, now) in enumerate(zip(saved, self.built, strict=True)):
            _check_class(before, now)
            changed = _differences(before, now)
            if asked:
                _apply(trainer, loaded, place, before, changed)
            if changed and self.described is None:
                rank_zero_info(_line(before, now, changed, asked))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.built:
            return
        described = getattr(pl_module, "optimizer_settings", None) if self.described is None else self.described
        checkpoint[KEY] = {"described": described, "built": self.built}


def _schedule(trainer: Trainer, place: int) -> Any:
    """Schedule of an optimizer; None without one."""
    optimizer = trainer.optimizers[place]
    found = (each.scheduler for each in trainer.lr_scheduler_configs if each.scheduler.optimizer is optimizer)
    return next(found, None)


def _built(optimizer: Optimizer, schedule: LRScheduler | None) -> Built:
    state = None if schedule is None else copy.deepcopy(schedule.state_dict())
    return {
        "class": _name(optimizer),
        "groups": _groups(optimizer.param_groups),
        "schedule": None if schedule is None else {"class": _name(schedule), "state": state},
    }


def _check_states(loaded: Mapping[str, Any]) -> None:
    """Raise DataError where the states of optimizers and schedules are not of the form that torch writes."""
    parts: list[Any] = [loaded.get(KEY, {}), *loaded.get("lr_schedulers", [])]
    for state in loaded["optimizer_states"]:
        groups = state.get("param_groups") if isinstance(state, dict) else None
        parts += groups if isinstance(groups, list) else [groups]
    if not all(isinstance(part, dict) for part in parts):
        raise DataError(
            "ckpt_path: the checkpoint does not fit this run: the states of its optimizers or schedules are damaged"
        )


def _saved(loaded: Mapping[str, Any]) -> list[Built]:
    """Initial settings of a checkpoint's optimizers; in one without them, as far as the optimizer states tell."""
    states = loaded["optimizer_states"]
    built = loaded.get(KEY, {}).get("built")
    if built is None:
        return [{"class": None, "groups": _groups(state["param_groups"]), "schedule": None} for state in states]
    try:
        for each in built:
            schedule = each["schedule"] or {"class": "", "state": {}}
            texts, tables = (each["class"], schedule["class"]), (schedule["state"], *each["groups"])
            if not all(isinstance(text, str) for text in texts) or not all(isinstance(part, dict) for part in tables):
                raise TypeError
        if len(built) != len(states):
            raise ValueError
    except (TypeError, ValueError, LookupError) as ex:
        raise DataError(f"the {KEY} of the checkpoint are damaged") from ex
    return list(built)


def _groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Settings of parameter groups, with the initial learning rate, which a schedule changes."""
    return [
        {
            **{key: copy.copy(value) for key, value in group.items() if key not in ("params", "initial_lr")},
            "lr": group.get("initial_lr", group.get("lr")),
        }
        for group in groups
    ]


def _name(part: Any) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _check_class(before: Built, now: Built) -> None:
    """Raise MisconfigurationException if a state is of another optimizer, or of other parameter groups."""
    own = {key for group in now["groups"] for key in group}
    given = {key for group in before["groups"] for key in group}
    foreign = not (own <= given or given <= own) if before["class"] is None else before["class"] != now["class"]
    if foreign:
        name = now["class"].rpartition(".")[2]
        other = f"one of {before['class'].rpartition('.')[2]}" if before["class"] else f"no state of {name}"
        raise MisconfigurationException(
            f"ckpt_path: the checkpoint's optimizer is {other}, this run's {name}: a training goes on with the one "
            "it began with; to begin anew from its weights use init_from"
        )
    if len(before["groups"]) != len(now["groups"]):
        raise MisconfigurationException(
            f"ckpt_path: the checkpoint's optimizer has {len(before['groups'])} groups of parameters, this run's "
            f"{len(now['groups'])}: a training goes on with the groups it began with"
        )


def _differences(before: Built, now: Built) -> dict[str, Any]:
    """Differences of two settings: values of the groups by ``key`` or ``key of group <n>``, and ``schedule``."""
    changed: dict[str, Any] = {}
    for number, (old, new) in enumerate(zip(before["groups"], now["groups"], strict=True)):
        where = f" of group {number}" if number else ""
        for key in (key for key in new if key in old):
            if _plain(old[key]) != _plain(new[key]):
                changed[key + where] = (number, key, old[key], new[key])
    if before["class"] is not None and before["schedule"] != now["schedule"]:
        old, new = (part["schedule"] and part["schedule"]["class"].rpartition(".")[2] for part in (before, now))
        changed["schedule"] = (None, "schedule", old, new)
    return changed


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _apply(trainer: Trainer, loaded: dict[str, Any], place: int, before: Built, changed: dict[str, Any]) -> None:
    """Write changed settings into the state of an optimizer and of its schedule."""
    groups = loaded["optimizer_states"][place]["param_groups"]
    for number, key, _, new in changed.values():
        if key not in ("lr", "schedule"):
            groups[number][key] = new
    rates = [change for change in changed.values() if change[1] == "lr"]
    if not rates and "schedule" not in changed:
        return
    optimizer, schedule = trainer.optimizers[place], _schedule(trainer, place)
    if schedule is None:
        for group, built in zip(groups, optimizer.param_groups, strict=True):
            group["lr"] = built["lr"]
            group.pop("initial_lr", None)
        loaded["lr_schedulers"] = []
    elif isinstance(schedule, ReduceLROnPlateau):
        _follow(schedule, loaded, place, before, groups, rates)
    else:
        _replay(schedule, loaded, place, groups)


def _follow(
    schedule: ReduceLROnPlateau, loaded: dict[str, Any], place: int, before: Built, groups: Any, rates: Any
) -> None:
    """Scale the learning rates of a schedule that follows a metric, and keep its record of the metric."""
    for number, _, old, new in rates:
        groups[number]["lr"] = groups[number]["lr"] * new / old if old else new
    states, fresh = loaded["lr_schedulers"], schedule.state_dict()
    saved = before["schedule"]
    if saved is None or saved["class"] != _name(schedule) or place >= len(states):
        for group, built in zip(groups, schedule.optimizer.param_groups, strict=True):
            group["lr"] = built["lr"]
        loaded["lr_schedulers"] = [*states[:place], fresh]
        return
    states[place].update({key: value for key, value in fresh.items() if saved["state"].get(key) != value})


def _replay(schedule: LRScheduler, loaded: dict[str, Any], place: int, groups: Any) -> None:
    """Step a newly built schedule as often as the training did, and take over its state and learning rates."""
    states = loaded["lr_schedulers"]
    steps = states[place].get("last_epoch") if place < len(states) and "base_lrs" in states[place] else None
    built = schedule.optimizer.param_groups
    initial = [dict(group) for group in built]
    with warnings.catch_warnings():
        # torch warns of schedule steps without an optimizer step before them.
        warnings.filterwarnings("ignore", message=r".*lr_scheduler.step\(\)")
        for _ in range(loaded["global_step"] if steps is None else steps):
            schedule.step()
    for group, before, after in zip(groups, initial, built, strict=True):
        changed = {key for key, value in after.items() if key != "params" and _plain(value) != _plain(before.get(key))}
        group.update({key: after[key] for key in changed | {"lr", "initial_lr"}})
    loaded["lr_schedulers"] = [*states[:place], schedule.state_dict(), *states[place + 1 :]]


def _line(before: Built, now: Built, changed: dict[str, Any], asked: bool) -> str:
    """Message about a setting of a resumed run and its value in the checkpoint."""
    name = now["class"].rpartition(".")[2]
    if asked:
        parts = [f"{label} {new} (checkpoint: {old})" for label, (_, _, old, new) in changed.items()]
    else:
        parts = [f"{label} {old} of the checkpoint (default: {new})" for label, (_, _, old, new) in changed.items()]
    return f"{name} goes on with {', '.join(parts)}"
