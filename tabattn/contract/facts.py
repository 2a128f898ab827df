"""Facts that a task asks of its datamodule: each is required, or optional with a default."""

from collections.abc import Mapping
from inspect import getattr_static
from typing import Any, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException

REQUIRED: Any = object()
"""Default of a fact that a datamodule must have."""


class Fact(NamedTuple):
    """Attribute or property that a task asks of its datamodule.

    Attributes:
        kind: Type of its value, for ``isinstance``.
        what: What it is and what it is for, in words, for messages.
        default: Value where a datamodule lacks it, or has None; not given = it is required.
    """

    kind: Any
    what: str
    default: Any = REQUIRED


def check_facts(datamodule: Any, facts: Mapping[str, Fact], task: str) -> None:
    """Check that a datamodule has all required facts, and that none is of a wrong type; None is not checked.

    Raises:
        MisconfigurationException: It lacks one, or has one of a wrong type; in one line that names the datamodule's
            class, the fact, and what it is for.
    """
    for name, fact in facts.items():
        fact_of(datamodule, name, fact, task)


def fact_of(datamodule: Any, name: str, fact: Fact, task: str) -> Any:
    """Return a fact of a datamodule, or its default; see ``check_facts``.

    Of a trainer with loaders alone, which has no datamodule, a required fact is None.
    """
    if datamodule is None:
        return None if fact.default is REQUIRED else fact.default
    owner = type(datamodule).__name__
    needs = f"{task} needs {name} of its datamodule ({fact.what})"
    try:
        value = getattr(datamodule, name)
    except AttributeError:
        if getattr_static(datamodule, name, None) is not None:
            raise  # A property that fails is not one that is lacking.
        if fact.default is REQUIRED:
            raise MisconfigurationException(f"{needs}, {owner} lacks it: add an attribute or property {name}") from None
        return fact.default
    if value is None and fact.default is not REQUIRED:
        return fact.default
    if not isinstance(value, fact.kind):
        raise MisconfigurationException(
            f"{needs} as {fact.kind.__name__}, {owner}.{name} is of type {type(value).__name__}"
        )
    return value
