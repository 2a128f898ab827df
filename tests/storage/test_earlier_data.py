"""Arguments of datamodules of earlier versions, which were one list: refused by name, and moved by the converter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

import callbacks  # noqa: F401  (makes the names of the commands known)
import datamodules
from datamodules import LongPairs, SyntheticPairs, SyntheticPrior, TablePairs
from datamodules.pairs import CacheOptions, ProcessOptions, SyntheticEvaluation
from datamodules.pairs.cache import EARLIER as UNNAMED
from datamodules.prior import ScmOptions
from tabattn.convert import main as convert
from tabattn.storage import earlier
from tabattn.training.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
EARLIER: dict[str, dict[str, Any]] = {
    "SyntheticPairs": {
        **{"kind": "const", "points": [9, 7], "context": 3, "eval_context": 4, "regime": "interp"},
        **{"val_regime": "shuffle", "eps": 0.1, "length": [0.4, 0.9], "period": None, "val_batches": 1},
        **{"test_batches": 1, "oracle": "known", "cache_file": "tasks.h5", "cache_batches": 0, "batch_size": 2},
    },
    "TablePairs": {
        **{"path": str(EXAMPLES / "rooms.csv"), "columns": ["outside", "inside"], "x": "time", "unit": "h"},
        **{"cycle": 24, "window": 16, "stride": 8, "context": 4, "eval_context": [4, 5], "swap_roles": True},
        **{"drift": 0.1, "shares": [0.6, 0.2, 0.2], "batch_size": 2},
    },
    "LongPairs": {
        **{"path": str(EXAMPLES / "populations.csv"), "infer": "lynxes", "context": 3, "from_start": False},
        **{"columns": {"task": "island", "member": "animal", "x": "year", "y": "log_count"}, "ordered": False},
        **{"sequences": ["hares", "lynxes"], "unit": "D", "test_regime": "interp", "batch_size": 2},
    },
    "SyntheticPrior": {
        **{"batch_size": 1, "rows": [12, 16], "features": [2, 3], "max_cells": 90, "grow": 0, "views": 1},
        **{"scm": {"noise": [0.001, 0.1], "trees": 0.1, "categorical": 0.1, "missing": 0.0, "unrelated": 0.05}},
        **{"tables": ["sklearn:iris"], "folds": 2, "max_rows": 60, "seed": 3},
    },
    "TableTasks": {
        **{"source": "sklearn:wine", "target": None, "num_tasks": None, "val_tasks": 2, "test_tasks": 2, "rows": 30},
        **{"context": 20, "permute_labels": False, "permute_columns": True, "fixed_columns": False, "held_out": 0.4},
        **{"batch_size": 2, "cache_dir": None},
    },
}
"""Arguments in a configuration of such a version."""

TODAY: dict[str, dict[str, Any]] = {
    "SyntheticPairs": {
        **{"kind": "const", "points": [9, 7], "context": 3, "regime": "interp", "batch_size": 2},
        "process": {"eps": 0.1, "length": [0.4, 0.9], "period": None},
        "evaluation": {
            **{"context": 4, "val_regime": "shuffle", "val_batches": 1, "test_batches": 1, "oracle": "known"},
        },
        "cache": {"file": "tasks.h5", "batches": 0},
    },
    "TablePairs": {
        **{"path": str(EXAMPLES / "rooms.csv"), "columns": ["outside", "inside"], "context": 4, "batch_size": 2},
        "windows": {"x": "time", "unit": "h", "cycle": 24, "length": 16, "stride": 8},
        "evaluation": {"context": [4, 5], "shares": [0.6, 0.2, 0.2]},
        "augmentation": {"swap_roles": True, "drift": 0.1},
    },
    "LongPairs": {
        **{"path": str(EXAMPLES / "populations.csv"), "infer": "lynxes", "context": 3, "batch_size": 2},
        "columns": {"task": "island", "member": "animal", "x": "year", "y": "log_count"},
        "series": {"names": ["hares", "lynxes"], "unit": "D", "from_start": False, "ordered": False},
        "evaluation": {"test_regime": "interp"},
    },
    "SyntheticPrior": {
        **{"batch_size": 1, "rows": [12, 16], "features": [2, 3], "tables": ["sklearn:iris"], "seed": 3},
        "batches": {"max_cells": 90, "grow": 0, "views": 1},
        "scm": {
            "network": {"noise": [0.001, 0.1], "trees": 0.1},
            "columns": {"categorical": 0.1, "missing": 0.0},
            "classes": {"unrelated": 0.05},
        },
        "evaluation": {"folds": 2, "max_rows": 60},
    },
    "TableTasks": {
        **{"source": "sklearn:wine", "num_tasks": None, "rows": 30, "context": 20, "batch_size": 2},
        "draws": {"permute_labels": False, "permute_columns": True, "fixed_columns": False},
        "evaluation": {"val_tasks": 2, "test_tasks": 2, "held_out": 0.4},
        "reading": {"target": None, "cache_dir": None},
    },
}
"""The same today."""

TASKS = {name: "PairInference" if "Pairs" in name else "PriorClassification" for name in EARLIER}
MODULES = [getattr(datamodules, name) for name in datamodules.__all__]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["fit", *arguments])
    assert leaving.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def config(name: str, arguments: dict[str, Any], path: Path) -> Path:
    content = {
        "model": {"class_path": TASKS[name]},
        "data": {"class_path": f"datamodules.{name}", "init_args": arguments},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "limit_test_batches": 1, "logger": False},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("name", EARLIER)
def test_an_earlier_configuration_becomes_one_of_today(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    old = config(name, EARLIER[name], Path("old.yaml"))
    line = refused(capsys, f"--config={old}")
    assert line.startswith("error: data")
    assert line.endswith(" today, and python -m tabattn.convert OLD.yaml NEW.yaml rewrites a configuration")
    assert convert([str(old), "new.yaml"]) == 0
    said = capsys.readouterr().out
    flat = [*EARLIER[name], *(f"scm.{option}" for option in EARLIER[name].get("scm", ()))]
    moved = [argument for argument in flat if argument in getattr(datamodules, name).moved]
    assert said.startswith(f"old.yaml: {len(moved)} arguments moved\n")
    assert "left out" not in said
    content = yaml.safe_load(Path("new.yaml").read_text())
    assert content["data"] == {"class_path": f"datamodules.{name}", "init_args": TODAY[name]}
    assert main(["test", "--config=new.yaml"]) == 0


@pytest.mark.parametrize(
    ("name", "flag", "today"),
    [
        ("SyntheticPairs", "eval_context=3", "evaluation.context"),
        ("SyntheticPairs", "eps=0.1", "process.eps"),
        ("SyntheticPairs", "cache_file=x.h5", "cache.file"),
        ("TablePairs", "window=8", "windows.length"),
        ("TablePairs", "swap_roles=true", "augmentation.swap_roles"),
        ("LongPairs", "sequences=[a,b]", "series.names"),
        ("LongPairs", "shares=[0.7,0.2,0.1]", "evaluation.shares"),
        ("SyntheticPrior", "max_cells=100", "batches.max_cells"),
        ("SyntheticPrior", "scm.tails=0.3", "scm.columns.tails"),
        ("PriorDump", "folds=3", "evaluation.folds"),
        ("TabiclPrior", "max_rows=60", "evaluation.max_rows"),
        ("TableTasks", "permute_labels=true", "draws.permute_labels"),
    ],
)
def test_an_earlier_flag_is_refused_with_the_one_of_today(
    name: str, flag: str, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "PairInference" if "Pairs" in name else "PriorClassification"
    said = refused(capsys, f"--model={task}", f"--data={name}", f"--data.{flag}")
    assert f"; it is --data.{today} today, and python -m tabattn.convert " in said


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SyntheticPairs(eps=0.1), "eps of SyntheticPairs is process.eps today"),  # type: ignore[call-arg]
        (lambda: TablePairs("a.csv", ("a", "b"), window=3), "window of TablePairs is windows.length today"),  # type: ignore[call-arg]
        (lambda: LongPairs("a.csv", ordered=True), "ordered of LongPairs is series.ordered today"),  # type: ignore[call-arg]
        (lambda: SyntheticPrior(views=2), "views of SyntheticPrior is batches.views today"),  # type: ignore[call-arg]
        (lambda: ScmOptions(tails=0.1), "tails of ScmOptions is columns.tails today"),  # type: ignore[call-arg]
    ],
)
def test_an_earlier_argument_is_refused_from_python(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()


@pytest.mark.parametrize("cls", MODULES)
def test_every_moved_argument_is_an_argument_today(cls: type) -> None:
    moved = earlier.moves(cls)
    assert len(set(moved.values())) == len(moved)
    for path in moved.values():
        place: Any = cls
        for word in path.split("."):
            hints = get_type_hints(place.__init__ if place is cls else place)
            assert word in hints, path
            place = hints[word]


def test_arguments_of_two_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="eps is of an earlier version and process of today"):
        earlier.upgraded(SyntheticPairs, {"eps": 0.1, "process": {"shift": 2.0}})


def test_a_cache_file_says_what_it_said_in_earlier_versions(tmp_path: Path) -> None:
    data = SyntheticPairs(
        "const",
        (9, 7),
        (2, 4),
        regime="interp",
        swap_roles=True,
        process=ProcessOptions(eps=0.1, length=(0.4, 0.9), shift=1.0),
        evaluation=SyntheticEvaluation(context=3, val_regime="shuffle", val_batches=1, test_batches=2),
        cache=CacheOptions(str(tmp_path / "x.h5"), batches=1),
        batch_size=2,
        seed=6,
    )
    assert data.cache is not None
    assert data.cache.facts == {
        **{"structure": '"shift"', "sizes": '"fixed"', "points": "[9, 7]", "context": "[2, 4]"},
        **{"x_range": "[5.0, 15.0]", "eps": "0.1", "kernel": '"rbf"', "length": "[0.4, 0.9]"},
        **{"amplitude": "[1.0, 1.0]", "period": "[0.5, 1.5]", "correlation": "[-0.95, 0.95]", "shift": "1.0"},
        **{"kind": '"const"', "eval_context": "[3, 3]", "regime": '["interp"]', "val_regime": '["shuffle"]'},
        **{"test_regime": '["forecast"]', "cache_batches": "1", "val_batches": "1", "test_batches": "2"},
        **{"swap_roles": "true", "oracle": '"known"', "batch_size": "2", "seed": "6"},
        **UNNAMED,
    }
