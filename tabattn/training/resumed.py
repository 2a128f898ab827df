"""Optimizer and schedule of a resumed run: those of the checkpoint, changed by flags."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from torch.optim import Optimizer

from tabattn.contract.errors import DataError
from tabattn.optim.settings import KEY
from tabattn.storage import trusted

PARTS = ("optimizer", "lr_scheduler")


class Resumed(NamedTuple):
    """Optimizer settings of a resumed run.

    Attributes:
        parts: Configuration of optimizer and schedule, as far as the checkpoint holds it.
        lines: Message lines about differences between checkpoint and command line.
        problem: Reason why the run cannot be resumed; None = it can.
    """

    parts: dict[str, Any]
    lines: list[str]
    problem: str | None = None


def resumed(checkpoint: Mapping[str, Any], config: Namespace, defaults: Namespace, words: Sequence[str]) -> Resumed:
    """Merge the flags of a command line into the optimizer settings of a checkpoint.

    Args:
        checkpoint: Checkpoint of the run to resume.
        config: Parsed configuration.
        defaults: Defaults of the parser.
        words: The command line.

    Raises:
        DataError: The checkpoint's settings are malformed.
    """
    saved = _described(checkpoint, config)
    parts: dict[str, Any] = {}
    lines: list[str] = []
    for part in PARTS:
        if part not in saved:
            continue
        before, now = saved[part], as_dict(config.get(part))
        asked = set(_asked(words, part, now))
        if _class(before) == _class(now):
            parts[part] = before
            if before is not None and now is not None:
                parts[part] = {**before, "init_args": _arguments(part, before, now, asked, lines)}
            continue
        names = [name.rpartition(".")[2] for name in (_class(before), _class(now))]
        by_default = now == as_dict(defaults.get(part))
        if part == "optimizer" and ("class" in asked or not by_default):
            problem = (
                f"ckpt_path: the checkpoint's optimizer is {names[0]}, the command line's {names[1]}: a training goes "
                "on with the one it began with; to begin anew from its weights use --model.init_from"
            )
            return Resumed(parts, lines, problem)
        parts[part] = now if asked and part != "optimizer" else before
        if parts[part] is now:
            lines.append(f"{part}: {names[1]} (checkpoint: {names[0]})")
        elif not by_default:
            lines.append(f"{part} of the checkpoint: {names[0]} (configuration: {names[1]})")
    return Resumed(parts, lines)


def _arguments(
    part: str, before: Mapping[str, Any], now: Mapping[str, Any], asked: set[str], lines: list[str]
) -> dict[str, Any]:
    """Merge the arguments given by flags into those of the checkpoint; append a line for each difference."""
    old, new = before.get("init_args") or {}, now.get("init_args") or {}
    for name in new:
        if name not in old or _plain(old[name]) == _plain(new[name]):
            continue
        if name in asked:
            lines.append(f"{part}.{name}: {new[name]} (checkpoint: {old[name]})")
        else:
            lines.append(f"{part}.{name} of the checkpoint: {old[name]} (configuration: {new[name]})")
    return {**old, **{name: new[name] for name in new if name in asked}}


def any_asked(words: Sequence[str]) -> bool:
    """Whether a command line has flags of the optimizer or the schedule."""
    return any(re.match(rf"--({'|'.join(PARTS)})([.=]|$)", word) for word in words)


def _described(checkpoint: Mapping[str, Any], config: Namespace) -> dict[str, Any]:
    """Optimizer settings in a checkpoint; without any, those in the optimizer's state if the class is the same."""
    record = checkpoint.get(KEY)
    if record is None:
        now, states = as_dict(config.get("optimizer")), checkpoint.get("optimizer_states") or []
        if now is None or len(states) != 1 or not states[0].get("param_groups"):
            return {}
        group = states[0]["param_groups"][0]
        saved = {**group, "lr": group.get("initial_lr", group.get("lr"))}
        restored = {name: saved.get(name, value) for name, value in (now.get("init_args") or {}).items()}
        return {"optimizer": {**now, "init_args": restored}}
    described = record.get("described") if isinstance(record, dict) else record
    if described is None:
        return {}
    if not isinstance(described, dict):
        raise DataError(f"ckpt_path: {KEY} of the checkpoint are damaged")
    for part in PARTS:
        given = described.get(part)
        if given is None:
            if part == "optimizer":
                return {}
            continue
        arguments = given.get("init_args", {}) if isinstance(given, dict) else None
        if not isinstance(arguments, dict) or not isinstance(given.get("class_path"), str):
            raise DataError(f"ckpt_path: {part} of the checkpoint is damaged")
    try:
        trusted.check_all(described)
        trusted.resolve(described["optimizer"]["class_path"], Optimizer)
    except ValueError as ex:
        raise DataError(f"ckpt_path: optimizer of the checkpoint: {ex}") from ex
    return {part: described[part] for part in PARTS if part in described}


def _asked(words: Sequence[str], part: str, now: dict[str, Any] | None) -> Iterator[str]:
    """Names of the arguments that flags give to optimizer or schedule; ``class`` if they name or remove it."""
    for word, behind in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag == f"--{part}":
            value = value if equals else behind
            yield "class"
            if now is not None and (not re.fullmatch(r"[\w.]+", value) or Path(value).is_file()):
                yield from now.get("init_args") or {}
        elif flag.startswith(f"--{part}."):
            yield next(name for name in [*flag.split(".")[1:], ""] if name not in ("init_args", "class_path"))


def _class(part: dict[str, Any] | None) -> str:
    """Class path of an optimizer or schedule, independent of where it was imported from."""
    if part is None:
        return "none"
    found = trusted.resolve(part["class_path"], object)
    return f"{found.__module__}.{found.__qualname__}"


def as_dict(part: Any) -> dict[str, Any] | None:
    """Optimizer or schedule of a configuration as plain values."""
    return part.as_dict() if isinstance(part, Namespace) else part


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
