"""Command line of comparisons: from the flags to the report, again and further, and what it refuses."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tabattn.compare import command, runner, worker
from tabattn.compare.command import main
from tabattn.compare.executors import Finished
from tabattn.compare.store import Store
from tabattn.storage import trusted
from tests.compare.tiny import FLAGS


class InProcess:
    """Executor that runs the worker in this process.

    Args:
        folder: Folder of the comparison.
    """

    slots = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: list[str] = []

    def submit(self, key: str) -> None:
        self.keys.append(key)

    def poll(self) -> list[Finished]:
        return (
            [Finished(key, worker.main([str(self.folder), key]), "") for key in (self.keys.pop(),)] if self.keys else []
        )

    def stop(self) -> None:
        """Nothing runs."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "PAUSE", 0.0)
    monkeypatch.setattr(command, "executor_of", lambda text, folder, threads, gpu: InProcess(folder))
    monkeypatch.setattr(command, "score_baselines", lambda store: None)


def compare(*words: str, out: str = "out") -> int:
    return main(["--out", out, "--no-timing", *words])


FIRST = ("--config=pairs", "--budget=2steps", "--seeds=1", *FLAGS)


def test_a_comparison_is_run_once_and_grows(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare("--attention=Softmax,Local:window=0", *FIRST, out="the out") == 1
    store = Store(Path("the out"))
    assert [(cell.label, cell.state) for cell in store.cells()] == [("Softmax", "done"), ("Local:window=0", "failed")]
    shown = capfd.readouterr().out
    assert "Softmax" in shown
    assert "window must be at least 1" in shown
    first = (store.cell(store.cells()[0].key) / "result.json").read_bytes()
    assert compare("--attention=Softmax,Linear", *FIRST, out="the out") == 1
    assert [cell.label for cell in store.cells()] == ["Softmax", "Local:window=0", "Linear"]
    assert compare("--seeds=2", out="the out") == 1
    states = {(cell.label, cell.seed): cell.state for cell in store.cells()}
    assert states.pop(("Local:window=0", 1)) == states.pop(("Local:window=0", 0)) == "failed"
    assert states == {("Softmax", 0): "done", ("Linear", 0): "done", ("Softmax", 1): "done", ("Linear", 1): "done"}
    assert (store.cell(store.cells()[0].key) / "result.json").read_bytes() == first
    assert all(len(store.attempts(cell.key)) == 1 for cell in store.cells() if cell.state == "done")
    with Path("the out", "report.csv").open() as file:
        assert len(list(csv.DictReader(file))) >= 4
    assert json.loads(Path("the out", "report.json").read_text())["results"]


def test_the_command_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["compare", *words])
        compare(*words)
        return str(Store(Path("out")).comparison()["command"]).removeprefix("python -m tabattn.compare ")

    first = shlex.join(["--attention=Softmax", *FIRST])
    assert written("--attention=Softmax", *FIRST) == first
    assert written() == first
    assert written("--attention=Linear") == "--attention=Linear"


def test_a_dry_run_lists_the_cells_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("--attention=Softmax,Local:window=0", "--dry-run", *FIRST) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["Softmax", "seed", "0"]
    assert lines[0].endswith("waiting")
    assert "refused: window must be at least 1" in lines[1]
    assert lines[2] == "2 cells, 1 to run"
    assert not Path("out").exists()


def test_changed_code_makes_new_cells_and_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepared() -> list[str]:
        monkeypatch.setattr(command, "Runner", Idle)
        compare("--attention=Softmax", *FIRST)
        return [cell.key for cell in Store(Path("out")).cells()]

    before = prepared()
    assert prepared() == before
    assert "has changed" not in capsys.readouterr().err
    monkeypatch.setattr(command.plan.cells, "code_version", lambda: "other")
    (key,) = prepared()
    assert key not in before
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("the code has changed: the cells are run anew")]
    assert Store(Path("out")).cell(before[0]).is_dir()


class Idle:
    """Runner that runs nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def run(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attention=Sofmax", *FIRST], "did you mean Softmax"),
        (["--attention=Softmax", "--config=pairs", "--budget=5"], "--budget must be"),
        (["--attention=Softmax", "--config=pairs", "--seeds=0"], "--seeds must be at least 1, got 0"),
        (
            ["--attention=Softmax", "--config=pairs", "--sedes=2"],
            "unrecognized argument: --sedes (did you mean --seeds?)",
        ),
        (["--attention=Softmax", "--config=pairs", "more"], "unrecognized argument: more"),
        (["--attention=Softmax", "--config=pairs", "--executor=local=x"], "SLOTS must be at least 1, got 'x'"),
        (["--attention=Softmax", "--config=pairs", "--data.nonsense=1"], "nonsense"),
        (["--attention=Softmax", "--config=pairz"], "did you mean pairs"),
        (["--attention=Softmax", "--vary=data.seed=1,2", "--config=pairs"], "give one of them"),
        (["--vary=seed", "--config=pairs"], "--vary must be an argument of train.py"),
        (["--attention=Softmax"], "--config is required, as out holds no comparison yet"),
        (["--config=pairs"], "--attention is required, as out holds no comparison yet"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare(*words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert compare("--attention=Softmax", *FIRST, out="file") == 2
    assert "file is a file" in capsys.readouterr().err
    assert compare("--attention=Softmax", *FIRST, out="/proc/nowhere") in (2, 3)
    assert capsys.readouterr().err.startswith("error: ")


def test_another_budget_needs_another_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Runner", Idle)
    compare("--attention=Softmax", *FIRST)
    assert compare("--attention=Softmax", "--config=pairs", "--budget=3steps", *FLAGS) == 2
    assert "holds a comparison with --budget 2steps, not --budget 3steps" in capsys.readouterr().err


def test_other_arguments_than_attention_can_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Runner", Idle)
    compare("--vary=data.kind=const,rbf_const_2D", *FIRST)
    first, second = Store(Path("out")).cells()
    assert (first.label, second.label) == ("const", "rbf_const_2D")
    assert "--data.kind=rbf_const_2D" in second.arguments


def test_tasks_and_data_of_packages_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Runner", Idle)
    monkeypatch.delenv(trusted.VARIABLE)
    own = [f"--{part}=tests.compare.own.{name}" for part, name in (("model", "OwnTask"), ("data", "OwnPairs"))]
    small = [flag for flag in FLAGS if not flag.startswith("--data.")]
    compare("--attention=Softmax", "--config=pairs", "--budget=2steps", "--seeds=2", "--allow=tests", *own, *small)
    store = Store(Path("out"))
    assert store.comparison()["task"] == "pairs"
    assert store.comparison()["fresh"] is False
    assert not any(word.startswith("--data.seed") for cell in store.cells() for word in cell.arguments)
    assert "tests" not in trusted.allowed()


@pytest.mark.parametrize(("gpu", "threads"), [(True, 8), (False, 1)])
def test_cells_on_a_gpu_share_the_cores(monkeypatch: pytest.MonkeyPatch, gpu: bool, threads: int) -> None:
    monkeypatch.setattr(command, "Runner", Idle)
    monkeypatch.setattr(command.machine, "cores", lambda: 8)
    monkeypatch.setattr(command.machine, "gpus", lambda: ["H100"])
    monkeypatch.setattr(command.plan, "gpu", lambda config: gpu)
    compare("--attention=Softmax", *FIRST)
    assert Store(Path("out")).comparison()["threads"] == threads
    compare("--attention=Softmax", *FIRST, "--executor=local=2")
    assert Store(Path("out")).comparison()["threads"] == threads, "those of the folder stay"


def test_flags_whose_value_is_a_word_of_its_own_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Runner", Idle)
    compare("--attention", "Softmax", "--data.seed", "3", *FIRST)
    assert Store(Path("out")).description(Store(Path("out")).cells()[0].key)["config"]["data"]["init_args"]["seed"] == 3
