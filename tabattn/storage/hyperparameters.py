"""Hyperparameters in checkpoints: constructor arguments as the plain values of a configuration file."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial, reduce
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

from tabattn.attention import MECHANISMS, AttentionFactory, Mechanism

T = TypeVar("T")

FORMS = "give a class at the top of a module, functools.partial(<class>, name=value), or a mechanism by its name"


def plain(value: Any) -> Any:
    """Convert a constructor argument to the plain values of a configuration file, recursively.

    A class becomes ``{"class_path": ...}``, a partial of one has ``init_args`` beside it, a dataclass becomes a
    dictionary, and scalars of NumPy become Python's, so that a checkpoint loads with ``weights_only=True``.
    """
    if isinstance(value, type):
        return {"class_path": import_path(value)}
    if isinstance(value, partial):
        return {"class_path": import_path(_class_of(value)), "init_args": plain(value.keywords)}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, PurePath) else value


def check_saved(name: str, value: Any) -> None:
    """Check that a checkpoint can hold a constructor argument; it cannot hold a lambda.

    Raises:
        ValueError: The argument has no plain form.
    """
    if isinstance(value, Mapping) or type(value) in (list, tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            check_saved(name, entry)
    elif isinstance(value, type):
        if "<locals>" in value.__qualname__ or _imported(value.__module__, value.__qualname__) is not value:
            _refuse(name, value, "a class that cannot be imported by its name")
    elif isinstance(value, partial):
        if (cls := _class_of(value)) is None:
            positional = isinstance(value.func, type)
            _refuse(name, value.func, "a partial " + ("with positional arguments" if positional else "of no class"))
        check_saved(name, cls)
        check_saved(name, value.keywords)
    elif is_dataclass(value):
        for field in fields(value):
            check_saved(name, getattr(value, field.name))
    elif callable(value):
        _refuse(name, value, "a function" if hasattr(value, "__code__") else "an object")


def mechanism(given: AttentionFactory | str, name: str = "attention") -> AttentionFactory:
    """Mechanism factory from a class, a partial of a class, or a name.

    Args:
        given: Argument of a task.
        name: Name of that argument, for messages.

    Raises:
        ValueError: The name is unknown, or the argument makes no mechanism.
    """
    return factory(given, name, MECHANISMS, Mechanism)


def factory(given: T | str, name: str, known: Mapping[str, Any], base: type) -> T:
    """Factory from a class, a partial of a class, or a name.

    Args:
        given: Argument of a task.
        name: Name of that argument, for messages.
        known: Classes by name.
        base: Required base class.

    Raises:
        ValueError: The name is unknown, or the class is no subclass of ``base``.
    """
    if not isinstance(given, str):
        cls = class_of(given)
        if cls is None or not issubclass(cls, base):
            shown = given.func if isinstance(given, partial) else given
            _refuse(name, shown if cls is None else cls, f"something that is no {base.__name__}")
        return given
    if given not in known:
        near = difflib.get_close_matches(given.lower(), {each.lower(): each for each in known}, n=1)
        hint = next((f" (did you mean {each}?)" for each in known if each.lower() in near), "")
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}{hint}")
    found: T = known[given]
    return found


TASKS = "tabattn.tasks"
"""Module in the class paths of tasks, wherever they are defined."""


def import_path(cls: Any) -> str:
    """Return the shortest public class path of a class, as configurations and checkpoints name it."""
    words = cls.__module__.split(".")
    prefixes = [TASKS, *(".".join(words[:length]) for length in range(1, len(words)))]
    public = (prefix for prefix in prefixes if _imported(prefix, cls.__qualname__) is cls)
    return f"{next(public, cls.__module__)}.{cls.__qualname__}"


def class_of(factory: Any) -> type | None:
    """Class that a factory makes: a class, or a partial of one; None = another object."""
    return _class_of(factory) if isinstance(factory, partial) else factory if isinstance(factory, type) else None


def _class_of(factory: partial[Any]) -> type | None:
    """Class of a partial with keyword arguments, also in the form that jsonargparse builds; None = another object."""
    if isinstance(factory.func, type):
        return None if factory.args else factory.func
    parsed = factory.func.__module__.startswith("jsonargparse.") and factory.args
    return factory.args[-1] if parsed and isinstance(factory.args[-1], type) else None


def _imported(module: str, name: str) -> Any:
    """Look up a dotted name in a module that is already imported; None if there is none."""
    return reduce(lambda owner, part: getattr(owner, part, None), name.split("."), sys.modules.get(module))


def _refuse(name: str, value: Any, what: str) -> None:
    shown = getattr(value, "__qualname__", None) or type(value).__qualname__
    raise ValueError(f"{name} must be something that a checkpoint can name, got {what}, {shown}: {FORMS}")
