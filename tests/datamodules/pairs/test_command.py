"""Command that plots tasks before a training."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from callbacks.task_panels import Example, draw_examples
from datamodules.pairs.__main__ import main
from tests.pairs.test_task import CONFIG

TABLE = Path(CONFIG).with_name("pairs_table.yaml")
ROOMS = Path(CONFIG).parents[1] / "examples" / "rooms.csv"


@pytest.fixture(autouse=True)
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """What is drawn, and a folder to write into."""
    found: list[Example] = []
    monkeypatch.chdir(tmp_path)

    def watched(tasks: list[Example], *more: Any) -> Any:
        found.extend(tasks)
        return draw_examples(tasks, *more)

    monkeypatch.setattr("callbacks.task_panels.draw_examples", watched)
    return found


def test_without_more_the_default_kind_is_plotted(drawn: list[Example], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plot", "--tasks=2"]) == 0
    assert capsys.readouterr().out == "tasks.png: 2 training and 2 test tasks of SyntheticPairs\n"
    with Image.open("tasks.png") as picture:
        assert picture.width > picture.height > 500
    assert [example.title for example in drawn] == ["training 0", "training 1", "test 0", "test 1"]
    assert all(example.exact is not None for example in drawn)
    assert [example.batch.y.isfinite().all().item() for example in drawn] == [True] * 4


def test_options_change_a_configuration(drawn: list[Example], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plot=rbf.png", "--config", CONFIG, "--data.kind=rbf", "--data.points=[9,6]", "--tasks=1"]) == 2
    assert "context must be at most 5 of 6 points, got 8" in capsys.readouterr().err
    assert not drawn
    words = ["--data.kind=rbf", "--data.points=[9,6]", "--data.context=[3,3]", "--data.regime=forecast", "--tasks=3"]
    assert main(["--plot=rbf.png", "--config", CONFIG, *words]) == 0
    assert Path("rbf.png").exists()
    assert [(example.batch.x.shape[1], example.batch.context) for example in drawn] == [(15, 12)] * 6


def test_the_tasks_of_a_table_are_plotted(drawn: list[Example], capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration describes a model and more, which is left."""
    assert main([f"--config={TABLE}", f"--data.path={ROOMS}", "--data.batch_size=2", "--tasks=3"]) == 0
    assert "3 training and 3 test tasks of TablePairs" in capsys.readouterr().out
    assert all(example.exact is None for example in drawn)
    tests = [example.batch.task[example.number].item() for example in drawn[3:] if example.batch.task is not None]
    assert len(set(tests)) == 3


def test_of_few_batches_several_tasks_are_plotted(drawn: list[Example]) -> None:
    words = ["--data.evaluation.test_batches=2", "--data.batch_size=2", "--tasks=3"]
    assert main(words) == 0
    assert [example.number for example in drawn] == [0, 0, 0, 0, 0, 1]
    assert len({example.batch.y[example.number, 0].item() for example in drawn}) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot=tasks.pdf"], "plot: the name of the file must end in .png, got tasks.pdf"),
        (["--tasks=0"], r"tasks: must be in [1, 12], got 0"),
        (["--tasks=13"], r"tasks: must be in [1, 12], got 13"),
        (["--data.kind=rbff"], "data.kind: expected one of 'const', 'rbf'"),
        (["--config=none"], "config: there is no file none, and no configuration is called so"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(Path().glob("*.p*"))


def test_other_tasks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.yaml").write_text("model: TNPD\n")
    assert main(["--config=empty.yaml"]) == 2
    assert capsys.readouterr().err == "error: config: empty.yaml describes no data\n"
    assert main(["--data=TableCells", "--data.table=sklearn:iris"]) == 2
    assert "data: TableCells has no tasks of sequences" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plot=missing/tasks.png", "--tasks=1"]) == 3
    assert "missing" in capsys.readouterr().err
