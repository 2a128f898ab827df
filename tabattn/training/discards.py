"""Options that a change of class leaves behind: each is named in a warning.

Where a class is changed, such as by ``--model.network=TNPA`` after a configuration, the parser keeps the options that
the new class has too and drops the others, which it says in a log message for debugging alone.
"""

import inspect
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn

from tabattn.storage.class_paths import load_yaml
from tabattn.training.configurations import configurations
from tabattn.training.parser import LOGGER

DROPPED = re.compile(r"class_path change from '([^']+)' to '([^']+)', discarding init_args: (\{.*\})\.$", re.DOTALL)

Given = dict[tuple[str | None, str], Any]
"""Value of each option that was asked for, by the name of its class (None = a flag) and its own."""


class _Discards(logging.Handler):
    """Handler that turns the parser's message into a warning, for options that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.given: Given = {}
        self.said: set[tuple[str, str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        found = DROPPED.search(record.getMessage())
        if found is None:
            return
        old, new = (path.rpartition(".")[2] for path in found.groups()[:2])
        defaults = _defaults(found[1])
        left = {}
        for option in re.findall(r"[{ ]'([\w.]+)': ", found[3]):
            asked = next((key for key in ((None, option), (old, option)) if key in self.given), None)
            idle = asked is not None and option in defaults and self.given[asked] == defaults[option]
            if asked is not None and not idle and (old, new, option) not in self.said:
                self.said.add((old, new, option))
                left[option] = self.given[asked]
        if left:
            words = ", ".join(f"{option}={value}" for option, value in left.items())
            rank_zero_warn(f"{new} takes no {words}, which was given for {old}: left out")


def _defaults(path: str) -> dict[str, Any]:
    """Defaults of the arguments of a class that the parser has imported; nothing is lost where one is dropped."""
    module, _, name = path.rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    return {each.name: each.default for each in inspect.signature(cls).parameters.values()} if cls else {}


_HANDLER = _Discards()
LOGGER.addHandler(_HANDLER)


@contextmanager
def said_of(words: Sequence[str]) -> Iterator[None]:
    """Warn, while a command line is parsed, of options in it or in its configurations that a change of class drops."""
    _HANDLER.given, _HANDLER.said = dict(_asked_for(words)), set()
    try:
        yield
    finally:
        _HANDLER.given = {}


def _asked_for(words: Sequence[str]) -> Iterator[tuple[tuple[str | None, str], Any]]:
    for path in configurations(words):
        try:
            yield from _options(load_yaml(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # The parser says what is wrong with it.
    # A flag is given as --flag=value or as --flag value.
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        flag, equals, value = word.partition("=")
        if word.startswith("--") and (equals or not following.startswith("--")):
            parts = flag.removeprefix("--").split(".")
            yield from (
                ((None, ".".join(parts[start:])), value if equals else following) for start in range(1, len(parts))
            )


def _options(content: Any) -> Iterator[tuple[tuple[str | None, str], Any]]:
    """Yield the options of every class in a configuration."""
    if isinstance(content, Mapping):
        options = content.get("init_args")
        if isinstance(options, Mapping) and isinstance(path := content.get("class_path"), str):
            for name, value in _leaves(options):
                yield (path.rpartition(".")[2], name), value
        for part in content.values():
            yield from _options(part)
    elif isinstance(content, list):
        for part in content:
            yield from _options(part)


def _leaves(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield options, and those of groups by their path; a class with its own options is named by its path alone."""
    for name, value in options.items():
        if isinstance(value, Mapping) and "class_path" in value:
            yield f"{above}{name}", value["class_path"]
        elif isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
