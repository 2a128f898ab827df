"""Migration of arguments: those of earlier versions in checkpoints and configurations.

The attribute ``moved`` of a class maps the path of an earlier argument, such as ``dim``, to that of today's in a
configuration, such as ``network.init_args.dim``. Where values changed too, the class method ``upgraded`` translates
them.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, ClassVar, Final, Self

ABSENT: Final = object()
"""Stands for an argument that is not given; None is one that is."""


class Movable:
    """Mixin of classes with earlier arguments: from Python these are refused with their names today.

    Attributes:
        moved: Path of each earlier argument today.
    """

    moved: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Create an instance.

        Raises:
            TypeError: An argument is of an earlier version.
        """
        for name in kwargs:
            if name in cls.moved:
                raise TypeError(f"{name} of {cls.__name__} is {flag(cls.moved[name])} today")
        return super().__new__(cls)


def upgraded(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate arguments of any version to today's; today's are returned unchanged.

    Raises:
        ValueError: They are of an earlier version and invalid.
    """
    if not is_earlier(cls, arguments):
        return dict(arguments)
    translate = getattr(cls, "upgraded", None)
    return dict(translate(arguments)) if translate else relocate(arguments, moves(cls))


def is_earlier(cls: type, arguments: Mapping[str, Any]) -> bool:
    """Whether arguments include any of an earlier version."""
    return any(_held(arguments, name) is not ABSENT for name in moves(cls))


def moves(cls: type) -> Mapping[str, str]:
    """Map of earlier argument names of a class to their paths today."""
    found: Mapping[str, str] = getattr(cls, "moved", {})
    return found


def flag(path: str) -> str:
    """Flag of an argument path: without ``class_path`` and ``init_args``."""
    return ".".join(word for word in path.split(".") if word not in {"init_args", "class_path"})


def relocate(arguments: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    """Move earlier arguments to their paths today; see ``upgraded``.

    Raises:
        ValueError: The arguments mix two versions.
    """
    found = copy.deepcopy(dict(arguments))
    for name in sorted(name for name in moved if _held(arguments, name) is not ABSENT):
        group = _group(name, moved[name])
        if group and _held(arguments, group) is not ABSENT:
            raise ValueError(f"{name} is of an earlier version and {group} of today: give only one of the two")
        *groups, last = name.split(".")
        value = _nested(found, groups).pop(last)
        *groups, last = moved[name].split(".")
        _nested(found, groups)[last] = value
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any], moved: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each argument that moved, or was dropped because the class no longer has it."""
    for name, path in moved.items():
        if (value := _held(before, name)) is not ABSENT:
            there = _held(after, path)
            yield f"{name}: {value} -> " + ("left out" if there is ABSENT else f"{flag(path)}: {there}")


def _held(arguments: Any, path: str) -> Any:
    """Value at a path of nested mappings; ``ABSENT`` where there is none."""
    for word in path.split("."):
        if not isinstance(arguments, Mapping) or word not in arguments:
            return ABSENT
        arguments = arguments[word]
    return arguments


def _nested(arguments: dict[str, Any], groups: Iterable[str]) -> dict[str, Any]:
    """The mapping at a path of nested ones, which is made where there is none."""
    for group in groups:
        arguments = arguments.setdefault(group, {})
    return arguments


def _group(name: str, path: str) -> str:
    """The outermost group of a path that the earlier name is not in; empty if there is none."""
    words, earlier = path.split("."), name.split(".")
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, earlier, strict=False)))
    return ".".join(words[: shared + 1]) if shared + 1 < len(words) else ""
