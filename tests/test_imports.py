"""Every module can be imported without extras and without network access."""

import ast
import configparser
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"tabattn", "datamodules", "callbacks", "benchmarks", "examples", "tests", "train"}

EXTRAS = (
    "adasplash",
    "cmaes",
    "distributed",
    "optuna",
    "pyarrow",
    "pymoo",
    "pytorch_optimizer",
    "rich",
    "schedulefree",
    "submitit",
    "tabicl",
    "tokenizers",
    "transformers",
    "xgboost",
)

LIBRARIES = ("lightning.pytorch", "matplotlib", "pandas", "sklearn", "torchmetrics")
"""Imported first: these may use an extra where it is installed."""

PROGRAM = """
import importlib
import sys

libraries, extras, modules = (argument.split(",") for argument in sys.argv[1:])
for library in libraries:
    importlib.import_module(library)
sys.modules.update(dict.fromkeys(extras))  # importing what is None here fails
for module in modules:
    importlib.import_module(module)
    assert "openml" not in sys.modules, f"{module} imports openml"
"""


def modules() -> list[str]:
    """Return the name of every module of the project's packages."""
    tops = ("tabattn", "datamodules", "callbacks")
    below = (
        found.name for top in tops for found in pkgutil.walk_packages([str(ROOT / top)], f"{top}.", onerror=_unreadable)
    )
    return [*tops, *(name for name in below if not name.endswith("__main__")), "train"]


def _unreadable(name: str) -> None:
    raise ImportError(f"{name} cannot be imported")


def run(*lists: Iterable[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *(",".join(names) for names in lists)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_plain_install() -> None:
    names = modules()
    assert {"tabattn.attention.softmax", "tabattn.prior.task", "tabattn.training.cli"} <= set(names)
    result = run(LIBRARIES, EXTRAS, names)
    assert result.returncode == 0, result.stderr


def test_an_extra_would_be_seen() -> None:
    result = run(["json"], ["decimal"], ["statistics"])
    assert result.returncode != 0
    assert "import of decimal halted" in result.stderr


def required(*extras: str) -> set[str]:
    """Return the names of all packages that the project installs, with some of its extras."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    return {re.split(r"[^\w-]", line)[0].lower() for text in lists for line in text.split("\n") if line}


def imported(folder: str) -> Iterator[str]:
    """Yield the packages of others that the modules of a folder import by name."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).partition(".")[0]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("tabattn", ("cluster", "gpu", "report", "slurm", "sweep")),
        ("datamodules", ()),
        ("callbacks", ()),
        ("tests", ("dev",)),
    ],
)
def test_what_is_imported_is_required(folder: str, extras: tuple[str, ...]) -> None:
    """Not only by another package that is required, which may cease to do so."""
    homes = packages_distributions()
    names = set(imported(folder)) - OURS - sys.stdlib_module_names
    assert names
    missing = {name for name in names if not required(*extras) & {home.lower() for home in homes.get(name, [name])}}
    assert missing == set()
