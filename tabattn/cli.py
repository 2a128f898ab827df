"""Command line with every task, datamodule and callback of the project known by name."""

import importlib.util
import sys
from pathlib import Path


def hidden(package: str) -> str | None:
    """Report in one line a module, such as a file of the user, that shadows a package of this project; or None.

    Args:
        package: Name of a top-level package beside ``tabattn``.
    """
    found = importlib.util.find_spec(package)
    origin = None if found is None else found.origin
    if origin is not None and Path(origin).resolve().parents[1] == Path(__file__).resolve().parents[1]:
        return None
    other = origin or next(iter(found.submodule_search_locations or ()), package) if found else "nothing"
    return f"the package {package} of tabattn is hidden by {other}: rename that, or start in another folder"


for name in ("callbacks", "datamodules"):
    if problem := hidden(name):
        # This module cannot work without these packages.
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)

import callbacks  # noqa: E402, F401
import datamodules  # noqa: E402, F401
import tabattn.tasks  # noqa: E402, F401
from tabattn.training.cli import CLI, main  # noqa: E402

__all__ = ["CLI", "main"]

if __name__ == "__main__":
    sys.exit(main())
