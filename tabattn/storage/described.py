"""Networks described by plain values in files: their classes, resolved by the allow list, and their mechanisms."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from tabattn.attention import MECHANISMS, AttentionFactory, Mechanism
from tabattn.storage import trusted


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Context in which new tensors are float32 on the CPU, whatever defaults the process has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        # The context of a device slows every operation, so it is entered only where it changes something.
        with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def mechanism_named(given: Any, where: str) -> AttentionFactory | None:
    """Mechanism factory from its description in plain values."""
    if given is None:
        return None
    path = given.get("class_path") if isinstance(given, dict) else given
    found = class_named(path, MECHANISMS, "tabattn.attention", Mechanism, "an attention", where)
    arguments = given.get("init_args") or {} if isinstance(given, dict) else {}
    if not isinstance(arguments, dict):
        raise ValueError(
            f"{where} has arguments of {found.__name__} that are not named: {trusted.shortened(arguments)}"
        )
    return partial(found, **arguments) if isinstance(given, dict) else found


def class_named(path: Any, known: Mapping[str, Any], home: str, base: type, what: str, where: str) -> Any:
    """Class of a path of any version; that its package is allowed is checked before the import.

    Args:
        path: The class path.
        known: Classes of this project by name, which may have moved.
        home: Package in which they are or were.
        base: Required base class.
        what: What it is called in messages.
        where: Name of the file, for messages.

    Raises:
        ValueError: There is no such class, or it is not allowed.
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if module.startswith(home) and name in known:
        return known[name]
    try:
        return trusted.resolve(path, base)
    except ValueError as ex:
        raise ValueError(f"{where} names {what} that is not known: {ex}") from ex
