"""Allow list of the packages whose classes a file or a command line may name.

A *class path* is a dotted import path in a configuration, on the command line, in the hyperparameters of a checkpoint
or in the header of a saved estimator. Importing a module runs its code, and so does building an object of its classes.
Therefore a class path is resolved only

* in the packages of ``PACKAGES`` and in those that the user allows by ``--allow``, by the environment variable of
  ``VARIABLE`` or by ``allow``, which is checked before anything is imported;
* to a class, never to a function or another object;
* to a subclass of the type that is expected, which is checked before anything is called.

Classes that a program passes as objects are not affected.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any, TypeVar

PACKAGES = (
    "tabattn",
    "datamodules",
    "callbacks",
    "lightning",
    "pytorch_lightning",
    "lightning_fabric",
    "torch",
    "torchmetrics",
    "schedulefree",
    "pytorch_optimizer",
)
"""Packages whose classes may always be named, except those in modules whose name begins with an underscore."""

VARIABLE = "TABATTN_ALLOW"
"""Environment variable with the names of further packages, separated by commas."""

DEPTH = 32
"""Deepest nesting of plain values that is searched for class paths."""

T = TypeVar("T")

_allowed: set[str] = set()


class UntrustedPathError(ImportError, ValueError):
    """Error of a class path outside the allow list; its second base lets the parser report it."""


def allow(*packages: str) -> None:
    """Add packages or modules to the allow list of this process; ``--allow`` of the command line.

    Args:
        packages: Their dotted names. Their submodules are allowed too.

    Raises:
        ValueError: One is not the name of a package or module.
    """
    _allowed.update(names(packages))


@contextmanager
def allowing(packages: Iterable[str]) -> Iterator[None]:
    """Context in which further packages are allowed; see ``allow``."""
    before = set(_allowed)
    allow(*packages)
    try:
        yield
    finally:
        _allowed.clear()
        _allowed.update(before)


def allowed() -> tuple[str, ...]:
    """Return the allow list: ``PACKAGES``, those of ``VARIABLE`` and those of ``allow``."""
    return (*PACKAGES, *sorted(_allowed | names([os.environ.get(VARIABLE, "")])))


def check(path: Any) -> None:
    """Check that a class path lies in an allowed package; nothing is imported.

    Raises:
        UntrustedPathError: It lies elsewhere, or is no dotted path.
    """
    words = path.split(".") if isinstance(path, str) else []
    if len(words) < 2 or not all(word.isidentifier() for word in words):
        raise UntrustedPathError(f"expected the dotted path of a class, got {shortened(path)}")
    homes = [home for home in allowed() if path.startswith(f"{home}.")]
    hidden = any(word.startswith("_") for word in words[:-1])
    if not homes or (hidden and set(homes) <= set(PACKAGES)):
        raise UntrustedPathError(
            f"'{shortened(path)}' is not imported: class paths may name the classes of {', '.join(allowed())}; "
            f"if you trust its code, allow its package by --allow {words[0]} or by {VARIABLE}={words[0]}"
        )


def resolve(path: Any, base: type[T]) -> type[T]:
    """Import the class of an allowed class path.

    Args:
        path: The class path.
        base: Required base class.

    Raises:
        UntrustedPathError: Its package is not allowed.
        ValueError: There is no such class, or it is no subclass of ``base``.
    """
    check(path)
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError) as ex:
        raise ValueError(f"no class is called {shortened(path)}: {ex}") from ex
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{shortened(path)} is no subclass of {base.__name__}")
    return found


def check_all(value: Any) -> None:
    """Check every class path in nested plain values, such as hyperparameters; see ``check``.

    Raises:
        ValueError: A class path is not allowed, or the values are nested too deeply.
    """
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > DEPTH:
            raise ValueError(f"values are nested more than {DEPTH} deep")
        if isinstance(item, dict):
            for key in ("class_path", "_class_path"):
                if key in item:
                    check(item[key])
            stack += [(part, depth + 1) for part in item.values()]
        elif isinstance(item, (list, tuple, set)):
            stack += [(part, depth + 1) for part in item]


def names(lists: Iterable[str]) -> set[str]:
    """Split comma-separated lists of package names.

    Raises:
        ValueError: An entry is not the name of a package or module.
    """
    found = {name.strip() for text in lists for name in text.split(",") if name.strip()}
    for name in found:
        if not all(word.isidentifier() for word in name.split(".")):
            raise ValueError(f"--allow and {VARIABLE} take names of packages, such as my_package, got {name!r}")
    return found


def shortened(value: Any) -> str:
    """Format a value for a message: one line of at most 80 characters."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)[:200]
    return text if len(text) <= 80 else f"{text[:77]}..."


def shortened_path(path: str) -> str:
    """Format a path for a message: one line, and of a long path the last 77 characters, which have the file's name."""
    text = path if path.isprintable() else repr(path)
    return text if len(text) <= 80 else f"...{text[-77:]}"
