"""Docstrings of Python's standard library: English text that every machine has."""

import ast
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tabattn.storage.files import write_file

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
"""Folders without modules of the library itself."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(cache: Path) -> list[str]:
    """Return the docstrings of each module of the standard library, as one text for each, in the order of their paths.

    Args:
        cache: Folder in which they are kept, as reading them takes seconds.
    """
    name = "".join(character if character.isalnum() else "-" for character in sys.version.partition("(")[0].strip())
    kept = cache / f"docstrings-{sys.implementation.name}-{name}.json"
    try:
        found = json.loads(kept.read_bytes())
    except (OSError, ValueError):
        found = list(_texts(Path(sysconfig.get_path("stdlib"))))
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_file(kept, json.dumps(found).encode())
    return [str(text) for text in found]


def _texts(library: Path) -> Iterator[str]:
    """Yield the docstrings of each module that can be parsed and has any."""
    for path in sorted(library.rglob("*.py")):
        if LEFT_OUT.intersection(path.relative_to(library).parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # Templates of code, and tests of the parser.
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
        if text := "\n\n".join(each for each in found if each):
            yield text
