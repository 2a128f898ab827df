"""Mechanism factories from a class, a partial of a class, another factory, or a name."""

import difflib
from functools import partial
from typing import Any

from torch import nn

from tabattn import attention
from tabattn.attention.mechanism import AttentionFactory, Mechanism

ELSEWHERE = {
    "Original": "Softmax",
    "Optimized Local": "Local",
    "Einstein": "Sparse",
    "Full": "Softmax",
    "Dense": "Softmax",
    "Sliding": "Local",
    "ISAB": "Inducing",
    "Nystromformer": "Nystrom",
    "Sparsemax": "Entmax",
}
"""Names of mechanisms in other programs, such as the attention fork of nanoTabPFN, with those here."""

FORMS = "a mechanism's class, functools.partial(<class>, name=value), or a name"


def as_factory(given: AttentionFactory | str, argument: str = "attention") -> AttentionFactory:
    """Mechanism factory from a factory or a name in ``MECHANISMS``.

    Args:
        given: Factory called with ``(heads, head_dim)``, or a name such as ``"Local"``.
        argument: Name of the argument, for the message.

    Raises:
        ValueError: The name is unknown, or the value makes no mechanism.
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


def called(name: str) -> str:
    """Return " (... is ... here)" for the name of a mechanism in another program; empty for other names."""
    known = {other.lower().replace(" ", ""): other for other in ELSEWHERE}
    other = known.get(name.lower().replace(" ", "").replace("_", ""))
    return f" ({other} is {ELSEWHERE[other]} here)" if other else ""


def _named(name: str, argument: str) -> AttentionFactory:
    known = attention.MECHANISMS
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), {each.lower(): each for each in known}, n=1)
    hint = called(name) or next((f" (did you mean {each}?)" for each in known if each.lower() in near), "")
    raise ValueError(f"{argument} must be one of {', '.join(known)}, got {name!r}{hint}")
