"""The folder of a run: claimed by one run at a time, and no other's."""

import csv
import os
from pathlib import Path

import pytest
import yaml

from tabattn.training.cli import main
from tabattn.training.run_files import MetricsTable
from tabattn.training.runs import RunFolder
from tests.training.test_cli import FIT, TEST

NAMED = [*FIT, "--run.version=one", "--lr_scheduler=null"]
FOLDER = Path("runs/tiny/Softmax/one")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps() -> list[int]:
    with (FOLDER / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2


def test_a_later_run_does_not_write_into_an_earlier_one(capsys: pytest.CaptureFixture[str]) -> None:
    main(NAMED)
    before = contents(Path("."))
    other = [*FIT, "--run.version=two"]
    main(other)
    checkpoint = "--ckpt_path=runs/tiny/Softmax/two/checkpoints/last.ckpt"
    tested = [*TEST, "--run.version=one", checkpoint]
    for again in (NAMED, [*NAMED, checkpoint, "--trainer.max_epochs=3"], tested, [*TEST, "--run.version=one"]):
        capsys.readouterr()
        refused(again)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: run.version: runs/tiny/Softmax/one holds a run already: choose another version")
    after = contents(Path("."))
    assert {path: after[path] for path in before} == before
    assert sorted(path.name for path in Path("runs/tiny/Softmax").iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("flags", "folder", "last"),
    [
        (["--checkpoint.dirpath=kept"], "kept", "runs/tiny/Softmax/version_0/checkpoints/last.ckpt"),
        (
            ["--trainer.logger=false", "--trainer.default_root_dir=here"],
            "here/checkpoints",
            "here/checkpoints/last.ckpt",
        ),
    ],
)
def test_a_later_run_does_not_overwrite_checkpoints(
    capsys: pytest.CaptureFixture[str], flags: list[str], folder: str, last: str
) -> None:
    """Wherever they are kept; the run that they are of may go on there."""
    assert main([*FIT, *flags]) == 0
    before = contents(Path(folder))
    assert main([*FIT, *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: checkpoint.dirpath: ")
    assert f"{folder} holds best.ckpt of an earlier run: choose another folder" in line
    assert contents(Path(folder)) == before
    assert main([*FIT, *flags, f"--ckpt_path={last}", "--trainer.max_epochs=3", "--lr_scheduler=null"]) == 0
    assert contents(Path(folder)) != before


def test_two_runs_at_the_same_time(capsys: pytest.CaptureFixture[str]) -> None:
    first = RunFolder(version="one")
    first.loggers("tiny/Softmax")
    before = contents(Path("runs"))
    refused(NAMED)
    assert "error: run.version: another run is writing to runs/tiny/Softmax/one at this moment" in (
        capsys.readouterr().err
    )
    assert contents(Path("runs")) == before
    refused([*NAMED, "--ckpt_path=runs/tiny/Softmax/one/checkpoints/last.ckpt"])
    first.release()
    main(NAMED)
    assert (FOLDER / "checkpoints" / "last.ckpt").exists()


def test_a_resumed_run_goes_on_in_its_folder() -> None:
    """Rows and events of the first part stay, a row that a kill cut short goes."""
    main(NAMED)
    with (FOLDER / "metrics.csv").open("a") as file:
        file.write("1,0.5")
    before = contents(FOLDER)
    last = f"--ckpt_path={FOLDER}/checkpoints/last.ckpt"
    more = "--trainer.callbacks+=LearningRateMonitor"
    assert main([*NAMED, last, "--trainer.max_epochs=3", more]) == 0
    assert steps() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    events = [path for path in before if "tfevents" in path]
    assert [Path(path).read_bytes() for path in events] == [before[path] for path in events]
    assert len(list(FOLDER.glob("events*"))) == 2
    assert yaml.safe_load((FOLDER / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    with (FOLDER / "metrics.csv").open() as file:
        assert {"lr-AdamW", "train/loss", "val/loss"} <= set(next(csv.reader(file)))


def test_a_trained_runs_folder_takes_its_test_and_one_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    main(NAMED)
    before = contents(FOLDER)
    flags = ["--run.version=one", f"--ckpt_path={FOLDER}/checkpoints/best.ckpt"]
    assert main([*TEST, *flags]) == 0
    assert main(["predict", *TEST[1:], *flags]) == 0
    assert (FOLDER / "config.yaml").read_bytes() == before[str(FOLDER / "config.yaml")]
    assert {"config_test.yaml", "config_predict.yaml", "predictions"} <= set(os.listdir(FOLDER))
    table = (FOLDER / "metrics.csv").read_text()
    assert "test/loss" in table
    assert steps() == [0, 1, 2, 3, 4, 5]
    refused(["predict", *TEST[1:], *flags])
    assert "has predictions already" in capsys.readouterr().err


def test_a_root_that_is_a_url_is_refused() -> None:
    with pytest.raises(ValueError, match="a run's root must be a folder of this machine, got s3://bucket/runs"):
        RunFolder(root="s3://bucket/runs")


def test_an_empty_folder_is_free() -> None:
    FOLDER.mkdir(parents=True)
    assert main(NAMED) == 0


def test_other_ranks_claim_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the folder of the first, which has files by then."""
    first = RunFolder(version="one")
    first.loggers("tiny")
    monkeypatch.setattr("tabattn.training.runs.rank_zero_only.rank", 1)
    table = RunFolder(version="one").loggers("tiny")[1]
    assert isinstance(table, MetricsTable)
    table.log_metrics({"loss": 1.0})
    assert table.log_dir == "runs/tiny/one"
    first.release()


def test_a_free_number_is_taken_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another process takes the same number by name in the same moment."""
    first, second = RunFolder(), RunFolder()
    assert first.loggers("tiny")[0].version == 0
    assert second.loggers("tiny")[0].version == 1
    taken = RunFolder()
    monkeypatch.setattr(taken, "_take", lambda path: path.name != "version_2")
    assert taken.loggers("tiny")[0].version == 3
    first.release()
    second.release()


def test_a_child_lets_go_of_the_folder() -> None:
    """A loader's worker may outlive a killed run: it must not hold the folder."""
    first = RunFolder(version="one")
    first.loggers("tiny")
    reading, writing = os.pipe()
    waiting, ending = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"x")
        os.read(waiting, 1)
        os._exit(0)
    os.read(reading, 1)
    first.release()
    second = RunFolder(version="one")
    second._claim(Path("runs/tiny/one"), "runs/tiny/one/x.ckpt", None)
    second.release()
    os.write(ending, b"x")
    os.waitpid(child, 0)
