"""Every module can be imported with the plain install: no extra, and nothing that reaches for a network."""

import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]

EXTRAS = (
    "adasplash",
    "optuna",
    "pyarrow",
    "pytorch_optimizer",
    "rich",
    "schedulefree",
    "tabicl",
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
    assert {"tabattn.attention.softmax", "tabattn.tasks.prior", "tabattn.cli"} <= set(names)
    result = run(LIBRARIES, EXTRAS, names)
    assert result.returncode == 0, result.stderr


def test_an_extra_would_be_seen() -> None:
    result = run(["json"], ["decimal"], ["statistics"])
    assert result.returncode != 0
    assert "import of decimal halted" in result.stderr
