"""Configuration files of a command line, looked at before they are merged."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tabattn.task import Task


def two_tasks(words: Sequence[str]) -> str | None:
    """Say in one line that two configurations are of different tasks; None where they can be laid over one another.

    The parser would take the later class with whatever arguments of the earlier one have the same names.

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
    """The task that a file names; None where it names none, or cannot be read, which the parser says."""
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
