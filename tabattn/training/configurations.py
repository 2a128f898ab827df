"""Configuration files on the command line: resolving their names, and checking that they can be merged."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType

from tabattn.task import Task
from tabattn.training.parser import nearest

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
"""Folder of the packaged configurations, in a checkout and in an installed package."""

NAME = re.compile(r"[\w./-]+")
"""Names and paths, as opposed to YAML text."""


def two_tasks(words: Sequence[str]) -> str | None:
    """Report two configurations of different tasks in one line; None if they can be merged.

    The parser would otherwise build the later class with arguments of the earlier one.

    Args:
        words: A command line.
    """
    described = [(path, task) for path in configurations(words) if (task := _task_of(path)) is not None]
    for (first, one), (second, other) in pairwise(described):
        if not issubclass(one, other) and not issubclass(other, one):
            return (
                f"config: {first} describes {one.__name__}, {second} {other.__name__}: configurations of two tasks "
                "cannot be laid over one another, give one of them"
            )
    return None


def configurations(words: Sequence[str]) -> Iterator[str]:
    """Yield the values of ``--config``, in order."""
    given = iter(words)
    for word in given:
        if word == "--config":
            yield from (value for value in [next(given, None)] if value is not None)
        elif word.startswith("--config="):
            yield word.removeprefix("--config=")


def _task_of(path: str) -> type[Task] | None:
    """Task class that a file names; None if it names none, or cannot be read (which the parser reports)."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    model = content.get("model") if isinstance(content, dict) else None
    named = model.get("class_path") if isinstance(model, dict) else model
    name = named.rpartition(".")[2] if isinstance(named, str) else None
    return next((task for task in _subclasses(Task) if task.__name__ == name), None)


def _subclasses(base: Any) -> Iterator[type[Task]]:
    for task in base.__subclasses__():
        yield task
        yield from _subclasses(task)


def with_packaged(words: ArgsType) -> ArgsType:
    """Resolve names of packaged configurations in a command line to their paths.

    ``--config`` takes a file, or the name of a configuration (``prior``, ``experiments/adult``); wherever a value is
    ``configs/...yaml`` and there is no such file, it means the package's.

    Args:
        words: A command line; a nested dictionary is returned as it is.

    Raises:
        MisconfigurationException: ``--config`` names neither a file nor a configuration.
    """
    if not isinstance(words, list):
        return words
    found = []
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if word.startswith("--") and equals:
            found.append(f"{flag}={_path(value, named=flag == '--config')}")
        else:
            found.append(_path(word, named=place > 0 and words[place - 1] in ("--config", "-c")))
    return found


def _path(value: str, named: bool) -> str:
    """Path of the configuration that a value refers to, or the value itself."""
    inner = value.removeprefix("configs/")
    # A folder of the name of a configuration, such as one of results, does not hide it.
    there = os.path.exists(value) and not os.path.isdir(value)
    if not NAME.fullmatch(value) or value.startswith("-") or (inner == value and not named) or there:
        return value
    names = (inner, f"{inner}.yaml") if named else (inner,)
    for path in (CONFIGS / name for name in names):
        if os.path.isfile(path) and CONFIGS in path.resolve().parents:
            return str(path)
    if named:
        known = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))
        listed = ", ".join(name for name in known if "/" not in name)
        raise MisconfigurationException(
            f"config: there is no file {value}, and no configuration is called so; there are: {listed}"
            f"{nearest(value, known)}"
        )
    return value
