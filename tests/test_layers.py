"""Who may import whom: imports point down, and the heart knows torch and entmax alone."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tabattn", "datamodules", "callbacks", "train", "tests", "benchmarks", "examples")

SHARED = {
    f"datamodules.{name}" for name in ("checks", "counter", "draws", "hdf5", "hdf5_probe", "hdf5_write", "splits")
}
"""What every kind of data may use."""

BELOW: dict[str, set[str]] = {
    "tabattn": {"tabattn.estimator"},
    "tabattn.attention": set(),
    "tabattn.batches": set(),
    "tabattn.checkpoint_files": {"tabattn.checksum", "tabattn.errors", "tabattn.trusted"},
    "tabattn.checkpoints": {"tabattn.checkpoint_files", "tabattn.trusted"},
    "tabattn.checksum": {"tabattn.errors"},
    "tabattn.encode": {"tabattn.errors"},
    "tabattn.divergence": {"tabattn.errors", "tabattn.finite"},
    "tabattn.errors": set(),
    "tabattn.finite": set(),
    "tabattn.files": {"tabattn.checksum"},
    "tabattn.checkpoint_io": {"tabattn.checksum", "tabattn.files"},
    "tabattn.run_files": {"tabattn.files"},
    "tabattn.metrics": {"tabattn.batches"},
    "tabattn.muon": set(),
    "tabattn.optim": {"tabattn.muon"},
    "tabattn.pair_metrics": {"tabattn.batches", "tabattn.nn"},
    "tabattn.predictions": set(),
    "tabattn.resumption": set(),
    "tabattn.signals": {"tabattn.checkpoints"},
    "tabattn.runs": {"tabattn.files", "tabattn.run_files"},
    "tabattn.network_check": {"tabattn.models"},
    "tabattn.schedule_free": {"tabattn.trusted"},
    "tabattn.trusted": set(),
    "tabattn.guard": {"tabattn.trusted"},
    "tabattn.nanotabpfn": {"tabattn.errors"},
    "tabattn.nn": {"tabattn.attention"},
    "tabattn.models": {"tabattn.attention", "tabattn.batches", "tabattn.nn"},
    "tabattn.inference": {f"tabattn.{name}" for name in ("attention", "batches", "errors", "models")},
    "tabattn.weights": {
        f"tabattn.{name}"
        for name in (
            *(
                "attention",
                "checkpoint_files",
                "checksum",
                "errors",
                "files",
                "finite",
                "models",
                "network_check",
                "nn",
            ),
            "trusted",
        )
    },
    "tabattn.package_weights": {"tabattn.weights"},
    "tabattn.estimator": {f"tabattn.{name}" for name in ("attention", "encode", "finite", "models", "weights")},
    "tabattn.tasks": {
        f"tabattn.{name}"
        for name in (
            *("attention", "batches", "checkpoint_files", "checkpoints", "divergence", "errors", "finite", "guard"),
            *("inference", "metrics", "models", "nn", "pair_metrics", "trusted", "weights"),
        )
    },
    "tabattn.parser": {"tabattn.attention", "tabattn.trusted"},
    "tabattn.cli": {
        f"tabattn.{name}"
        for name in (
            *("checkpoint_files", "checkpoint_io", "checkpoints", "divergence", "errors", "files", "guard", "optim"),
            *("parser", "predictions", "resumption", "run_files", "runs", "schedule_free", "signals", "trusted"),
        )
    },
    "tabattn.convert": {
        f"tabattn.{name}" for name in ("attention", "errors", "files", "finite", "nanotabpfn", "tasks")
    },
    "datamodules": {f"datamodules.{name}" for name in ("dump", "pairs", "priors")},
    **{name: {"datamodules.hdf5_probe", "tabattn.checksum", "tabattn.errors"} for name in SHARED},
    "datamodules.tables": SHARED | {"tabattn.batches", "tabattn.encode", "tabattn.errors"},
    "datamodules.priors": SHARED | {"datamodules.tables", "tabattn.batches", "tabattn.encode", "tabattn.errors"},
    "datamodules.pairs": SHARED | {"datamodules.tables", "tabattn.batches", "tabattn.encode", "tabattn.errors"},
    "datamodules.dump": SHARED | {"datamodules.priors", "datamodules.tables", "tabattn.batches", "tabattn.errors"},
    "callbacks": {f"tabattn.{name}" for name in ("attention", "batches", "divergence", "finite", "inference")},
    "train": {"callbacks", "datamodules", "tabattn.tasks", "tabattn.cli"},
}
"""What each part may import beside itself."""

OUTSIDE: dict[str, set[str]] = {"tabattn.attention": {"torch", "entmax"}, "tabattn.batches": {"torch"}}
"""All that these may import from other projects."""

FILES = sorted(
    path
    for path in [ROOT / "train.py", *(file for top in PACKAGES[:3] for file in (ROOT / top).rglob("*.py"))]
    if "__pycache__" not in path.parts
)


def module_of(path: Path) -> str:
    """Return the name of the module in a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part(module: str) -> str:
    """Return the part of the project that a module belongs to."""
    words = module.split(".")
    return ".".join(words[:2]) if words[0] in {"tabattn", "datamodules"} else words[0]


def imports(source: str) -> Iterator[str]:
    """Yield the absolute name of every module, or of a name in a module, that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(module: str, source: str) -> set[str]:
    """Return what a module imports and should not."""
    own = part(module)
    wrong = set()
    for name in imports(source):
        top = name.partition(".")[0]
        if top in PACKAGES:
            allowed = part(name) == own or part(name) in BELOW[own]
        else:
            allowed = top in sys.stdlib_module_names or own not in OUTSIDE or top in OUTSIDE[own]
        if not allowed:
            wrong.add(name)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    assert violations(module_of(path), path.read_text()) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tabattn.attention.x", "import lightning"),
        ("tabattn.attention.x", "from tabattn.nn.multihead import MultiheadAttention"),
        ("tabattn.nn.x", "def f():\n    import tabattn.models.prior"),
        ("tabattn.tasks.x", "from datamodules import SyntheticPrior"),
        ("callbacks.x", "from tabattn.tasks import Task"),
        ("datamodules.tables.x", "import callbacks"),
        ("datamodules.tables.x", "from datamodules.priors.scm import Table"),
        ("datamodules.pairs.x", "from datamodules.priors.scm import Table"),
        ("datamodules.priors.x", "from datamodules.dump.read import Dump"),
        ("datamodules.hdf5", "from datamodules.dump.write import DumpPlan"),
        ("tabattn.cli", "import train"),
        ("tabattn.models.x", "from tests.helpers import TinyTask"),
    ],
)
def test_an_import_that_points_up_is_seen(module: str, source: str) -> None:
    assert violations(module, source)


def test_no_part_is_forgotten() -> None:
    assert {part(module_of(path)) for path in FILES} <= set(BELOW)
    assert len(FILES) > 20
