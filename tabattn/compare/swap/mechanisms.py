"""Mechanisms that a trained network is given in place of its own: as written on the command line, and by default."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from tabattn.attention import MECHANISMS, Mechanism, Softmax
from tabattn.attention.choice import as_factory
from tabattn.compare.cells import OPTION
from tabattn.compare.swap.trained import Description
from tabattn.contract.checks import nearest
from tabattn.storage.described import mechanism_named
from tabattn.storage.hyperparameters import import_path

GRID: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "Local": [{"window": width} for width in (32, 64, 128, 256, 512)],
    "Sparse": [{"window": 512}],
    "Nystrom": [{"landmarks": 64}, {"landmarks": 256}],
    "TopK": [{"keep": 16}, {"keep": 64}],
    "Entmax": [{"alpha": 1.1}, {"alpha": 1.5}],
    "Sparsefinder": [{}],
    "Inducing": [{"points": 64}],
    "Pooling": [{"points": 64}],
}
"""Settings that are tried where none are named; of other mechanisms their defaults."""


class Choice(NamedTuple):
    """Mechanism with its settings.

    Attributes:
        label: As written, such as ``Local:window=8``.
        attention: Name of the mechanism.
        options: Its settings that were given.
    """

    label: str
    attention: str
    options: dict[str, Any]

    @property
    def described(self) -> Description:
        """The mechanism in plain values."""
        return {"class_path": import_path(MECHANISMS[self.attention]), "init_args": self.options}


def chosen(texts: Iterable[str]) -> list[Choice]:
    """Mechanisms that are named on the command line, each once.

    Args:
        texts: Names with settings, such as ``Local:window=8``.

    Raises:
        ValueError: There is no such mechanism, or it has no such setting.
    """
    found = {}
    for text in texts:
        name, *given = OPTION.split(text)
        as_factory(name, "--attention")
        known = [each.name for each in _settings(MECHANISMS[name])]
        options = {}
        for each in given:
            key, _, value = each.partition("=")
            if key not in known:
                raise ValueError(
                    f"{name} has no setting {key!r}{nearest(key, known)}, but {', '.join(known) or 'none'}"
                )
            options[key] = yaml.safe_load(value)
        choice = Choice(text, name, options)
        found[text] = choice
        _check(choice)
    return list(found.values())


def default_choices() -> list[Choice]:
    """Every mechanism of the registry, some with several settings."""
    return chosen(
        ":".join([name, *(f"{key}={value}" for key, value in options.items())])
        for name in MECHANISMS
        for options in GRID.get(name, [{}])
    )


def label_of(described: Any) -> Choice:
    """Mechanism of a trained task, with the settings that are not the defaults.

    Raises:
        ValueError: The description names no mechanism that is known.
    """
    made: Any = (mechanism_named(described, "the checkpoint") or Softmax)(1, 1)
    own, known = made.arguments(), {each.name: each.default for each in _settings(type(made))}
    options = {key: value for key, value in own.items() if value != known.get(key)}
    name = type(made).__name__
    return Choice(":".join([name, *(f"{key}={value}" for key, value in options.items())]), name, options)


def _settings(mechanism: type[Mechanism]) -> list[inspect.Parameter]:
    parameters = inspect.signature(mechanism).parameters.values()
    return [each for each in parameters if each.kind is each.KEYWORD_ONLY]


def _check(choice: Choice) -> None:
    """Refuse settings out of their range, before any work."""
    try:
        MECHANISMS[choice.attention](1, 1, **choice.options)
    except (TypeError, ValueError) as ex:
        raise ValueError(f"--attention {choice.label}: {ex}") from ex
