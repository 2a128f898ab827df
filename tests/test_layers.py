"""Layers: imports point down."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tabattn", "datamodules", "callbacks", "train", "tests", "benchmarks", "examples")
BRICKS = {"tabattn.attention", "tabattn.contract", "tabattn.metafeatures", "tabattn.nn", "tabattn.storage"}
TASKS = {f"tabattn.{path.parent.name}" for path in (ROOT / "tabattn").glob("*/task.py")}
DATA = {f"datamodules.{path.parent.name}" for path in (ROOT / "datamodules").glob("*/__init__.py")}

ESTIMATOR, INFERRER = "tabattn.reconstruction.estimator", "tabattn.pairs.estimator"
"""Each trains a network of its task on tables that it is given, and so needs loaders."""

BELOW: dict[str, set[str]] = {
    "tabattn": {*TASKS, ESTIMATOR, INFERRER},
    "tabattn.attention": set(),
    "tabattn.contract": set(),
    "tabattn.metafeatures": {"tabattn.contract"},
    "tabattn.storage": {"tabattn.attention", "tabattn.contract"},
    "tabattn.nn": {"tabattn.attention", "tabattn.contract"},
    "tabattn.optim": {"tabattn.contract", "tabattn.storage"},
    "tabattn.task": {*BRICKS, "tabattn.optim"},
    **{task: {*BRICKS, "tabattn.optim", "tabattn.task"} for task in TASKS},
    ESTIMATOR: {*BRICKS, "tabattn.optim", "tabattn.reconstruction", "datamodules", "datamodules.reconstruction"},
    INFERRER: {*BRICKS, "tabattn.optim", "tabattn.pairs", "datamodules", "datamodules.pairs"},
    "tabattn.zoo": {*BRICKS, "tabattn.optim", "tabattn.task"},
    "tabattn.sparsity": {*BRICKS, "tabattn.optim", "tabattn.task"},
    "tabattn.tasks": {"tabattn.task", *TASKS},
    "tabattn.training": {"tabattn.attention", "tabattn.contract", "tabattn.storage", "tabattn.optim", "tabattn.task"},
    "tabattn.upgrade": {"tabattn.contract", "tabattn.storage", "tabattn.tasks", "datamodules"},
    "tabattn.convert": {*BRICKS, "tabattn.tasks", "tabattn.upgrade", *TASKS},
    "datamodules": {"tabattn.contract", "tabattn.storage", *DATA},
    **{kind: {"tabattn.contract", "tabattn.storage", "datamodules", "datamodules.tables"} for kind in DATA},
    "datamodules.pairs.__main__": {
        *("tabattn.contract", "tabattn.storage", "tabattn.training", "callbacks", "datamodules", "datamodules.pairs")
    },
    "datamodules.zoo": {*BRICKS - {"tabattn.attention", "tabattn.nn"}, "datamodules", "datamodules.tables"},
    "callbacks": {*BRICKS, "tabattn.optim", "tabattn.pairs", "datamodules", "datamodules.sparsity"},
    "tabattn.cli": {"callbacks", "datamodules", "tabattn.tasks", "tabattn.training"},
    "tabattn.compare": {
        *BRICKS,
        "tabattn.optim",
        "tabattn.training",
        "tabattn.tasks",
        "tabattn.cli",
        "callbacks",
        "datamodules",
        "tabattn.task",
        *TASKS,
        *DATA,
    },
    "tabattn.look": {"tabattn.cli", "tabattn.contract", "tabattn.storage", "tabattn.training", "callbacks"},
    "tabattn.sweep": {"callbacks", "tabattn.cli", "tabattn.compare", "tabattn.contract", "tabattn.storage"},
    "tabattn.__main__": {"tabattn.cli"},
    "train": {"tabattn.cli"},
}
"""What each part may import beside itself: task packages never import one another."""

OUTSIDE: dict[str, set[str]] = {"tabattn.attention": {"torch", "entmax", "adasplash"}}
"""All that these may import from other projects."""

SHARED = {f"datamodules.{path.stem}" for path in (ROOT / "datamodules").glob("*.py")} - {
    "datamodules.__init__",
    "datamodules.dump",
}
"""What every kind of data may use; these import no kind."""

FILES = sorted(
    path
    for path in [ROOT / "train.py", *(file for top in PACKAGES[:3] for file in (ROOT / top).rglob("*.py"))]
    if "__pycache__" not in path.parts
)


def module_of(path: Path) -> str:
    """Return the name of the module in a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part(module: str) -> str:
    """Return the part of the project that a module belongs to: the longest prefix with rules of its own."""
    words = module.split(".")
    return next(name for length in range(len(words), 0, -1) if (name := ".".join(words[:length])) in BELOW)


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
        if top not in PACKAGES:
            allowed = top in sys.stdlib_module_names or own not in OUTSIDE or top in OUTSIDE[own]
        elif top not in PACKAGES[:4]:
            allowed = False
        else:
            allowed = part(name) == own or part(name) in BELOW[own]
        if module in SHARED and top == "datamodules":
            allowed = part(name) == "datamodules"
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
        ("tabattn.nn.x", "def f():\n    import tabattn.prior.network"),
        ("tabattn.prior.x", "from tabattn.pairs.network import PairNetwork"),
        ("tabattn.pairs.x", "from tabattn.prior.network import PriorNetwork"),
        ("tabattn.prior.x", "from datamodules import SyntheticPrior"),
        ("tabattn.reconstruction.x", "from datamodules import TableCells"),
        ("tabattn.reconstruction.x", "from tabattn.reconstruction.estimator import NPTRegressor"),
        ("tabattn.reconstruction.estimator.x", "from tabattn.prior.estimator import TabularClassifier"),
        ("tabattn.contract.x", "from tabattn.nn.block import Block"),
        ("tabattn.training.x", "from tabattn.tasks import PriorClassification"),
        ("callbacks.x", "from tabattn.tasks import Task"),
        ("callbacks.x", "from tabattn.prior.network import PriorNetwork"),
        ("datamodules.tables.x", "import callbacks"),
        ("datamodules.tables.x", "from tabattn.nn.densities import crps"),
        ("datamodules.tables.x", "from datamodules.prior.scm import Table"),
        ("datamodules.pairs.x", "from datamodules.prior.scm import Table"),
        ("datamodules.prior.x", "from datamodules.pairs.series import Series"),
        ("datamodules.hdf5", "from datamodules.prior.dump.write import DumpPlan"),
        ("tabattn.cli", "import train"),
        ("tabattn.prior.x", "from tests.helpers import TinyTask"),
    ],
)
def test_an_import_that_points_up_is_seen(module: str, source: str) -> None:
    assert violations(module, source)


def test_no_part_is_forgotten() -> None:
    folders = {path.parent for path in FILES if len(path.relative_to(ROOT).parts) > 2}
    packages = {module_of(folder) for folder in folders}
    assert {name for name in packages if name.count(".") == 1} <= set(BELOW)
    assert len(FILES) > 20


MOST_ARGUMENTS, MOST_LINES = 12, 40


def constructors(source: str) -> Iterator[tuple[str, int, int]]:
    """Yield of each constructor of a source its class, its arguments and its lines; of a dataclass its fields."""
    for cls in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)):
        if any("dataclass" in ast.unparse(each) for each in cls.decorator_list):
            fields = [each for each in cls.body if isinstance(each, ast.AnnAssign)]
            yield cls.name, sum("ClassVar" not in ast.unparse(each.annotation) for each in fields), 0
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "__post_init__"):
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
                assert node.end_lineno is not None
                yield cls.name, count, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_constructors_are_short(path: Path) -> None:
    long = [each for each in constructors(path.read_text()) if each[1] > MOST_ARGUMENTS or each[2] > MOST_LINES]
    assert long == []


def test_a_constructor_that_is_too_long_is_seen() -> None:
    many = "".join(f"    a{number}: int = {number}\n" for number in range(13))
    source = f"@dataclass(frozen=True)\nclass A:\n    b: ClassVar[int] = 1\n{many}"
    source += "class B:\n    def __init__(self, a, *, b):\n" + "        x = 1\n" * 40
    assert list(constructors(source)) == [("A", 13, 0), ("B", 2, 41)]
