"""A mechanism as a program gives it: a class, a partial of one, another factory, or the name of one."""

import difflib
from functools import partial
from typing import Any

from torch import nn

from tabattn import attention
from tabattn.attention.mechanism import AttentionFactory, Mechanism

FORMS = "a mechanism's class, functools.partial(<class>, name=value), or a name"


def as_factory(given: AttentionFactory | str, argument: str = "attention") -> AttentionFactory:
    """Return the factory of a mechanism that is given as one, or by its name in ``MECHANISMS``.

    Args:
        given: What makes a mechanism from ``(heads, head_dim)``, or a name such as ``"Local"``.
        argument: What it is given for, for the message.

    Raises:
        ValueError: No mechanism has this name, or the value is nothing that makes one.
    """
    if isinstance(given, str):
        return _named(given, argument)
    maker: Any = given
    while isinstance(maker, partial):
        maker = maker.func
    wrong = not issubclass(maker, Mechanism) if isinstance(maker, type) else isinstance(maker, nn.Module)
    if wrong or not callable(maker):
        shown = maker.__name__ if isinstance(maker, type) else type(maker).__name__
        raise ValueError(
            f"{argument} must be {FORMS}, got {'an object ' if isinstance(maker, nn.Module) else ''}{shown}"
        )
    return given


def _named(name: str, argument: str) -> AttentionFactory:
    known = attention.MECHANISMS
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), {each.lower(): each for each in known}, n=1)
    hint = next((f" (did you mean {each}?)" for each in known if each.lower() in near), "")
    raise ValueError(f"{argument} must be one of {', '.join(known)}, got {name!r}{hint}")
