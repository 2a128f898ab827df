"""Migration of arguments: those of earlier versions in checkpoints and configurations.

The attribute ``moved`` of a class maps the name of an earlier argument to the path of today's in a configuration, such
as ``network.init_args.dim``. Where values changed too, the class method ``upgraded`` translates them.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any


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
    return not moves(cls).keys().isdisjoint(arguments)


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
    found = {name: copy.deepcopy(value) for name, value in arguments.items() if name not in moved}
    for name in sorted(arguments.keys() & moved.keys()):
        *groups, last = moved[name].split(".")
        if groups and groups[0] in arguments:
            raise ValueError(f"{name} is of an earlier version and {groups[0]} of today: give only one of the two")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = copy.deepcopy(arguments[name])
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any], moved: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each argument that moved, or was dropped as its class has no use for it."""
    for name in before:
        if name in moved:
            there: Any = after
            for word in moved[name].split("."):
                there = there.get(word) if isinstance(there, Mapping) else None
            yield f"{name}: {before[name]} -> " + ("left out" if there is None else f"{flag(moved[name])}: {there}")
