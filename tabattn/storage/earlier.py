"""Arguments of earlier versions: checkpoints and configurations hold them, and they are found elsewhere today.

A class says in its attribute ``moved`` where: by the name of each earlier argument, the path of today's in a
configuration, such as ``network.init_args.dim``. Where values changed too, its class method ``upgraded`` translates
them.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any


def upgraded(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of any version as those of today; today's as they are.

    Raises:
        ValueError: They are of an earlier version and make no sense.
    """
    if not is_earlier(cls, arguments):
        return dict(arguments)
    translate = getattr(cls, "upgraded", None)
    return dict(translate(arguments)) if translate else relocate(arguments, moves(cls))


def is_earlier(cls: type, arguments: Mapping[str, Any]) -> bool:
    """Whether arguments hold any of an earlier version."""
    return not moves(cls).keys().isdisjoint(arguments)


def moves(cls: type) -> Mapping[str, str]:
    """Return where each earlier argument of a class is found today."""
    found: Mapping[str, str] = getattr(cls, "moved", {})
    return found


def flag(path: str) -> str:
    """Return the path of an argument in a configuration as its flag is written: without the words for classes."""
    return ".".join(word for word in path.split(".") if word not in {"init_args", "class_path"})


def relocate(arguments: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments with those that moved in their new places; see ``upgraded``.

    Raises:
        ValueError: They are of two versions.
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
    """Yield a line for each argument that changed its place, or is gone because its class has no use for it."""
    for name in before:
        if name in moved:
            there: Any = after
            for word in moved[name].split("."):
                there = there.get(word) if isinstance(there, Mapping) else None
            yield f"{name}: {before[name]} -> " + ("left out" if there is None else f"{flag(moved[name])}: {there}")
