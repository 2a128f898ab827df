"""Run folders: locking, numbering and content."""

import csv
import multiprocessing
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

import datamodules  # noqa: F401  (makes the names of the command line known)
import tabattn.tasks  # noqa: F401
from tabattn.training.checkpoint_arguments import run_names
from tabattn.training.cli import CLI, main
from tabattn.training.commands import _written, closing
from tabattn.training.run_files import MetricsTable
from tabattn.training.runs import RunFolder, path_of
from tests.training.test_cli import FIT, TEST

NAMED = [*FIT, "--run.version=one", "--lr_scheduler=null"]
PAIRS = ["--model=PairInference", "--data=SyntheticPairs", "--trainer.accelerator=cpu"]
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


def test_what_is_tested_lies_below_its_run(caplog: pytest.LogCaptureFixture) -> None:
    """Numbered for each command, also where the configuration of the run names a version; a flag says otherwise."""
    main(NAMED)
    before = contents(FOLDER)
    checkpoint = f"--ckpt_path={FOLDER}/checkpoints/best.ckpt"
    of_run = ["--config", str(FOLDER / "config.yaml"), checkpoint]
    for command, number in (("test", 0), ("test", 1), ("validate", 0), ("predict", 0)):
        caplog.clear()
        assert main([command, *of_run]) == 0
        folder = FOLDER / f"{command}_{number}"
        assert yaml.safe_load((folder / "config.yaml").read_text())["ckpt_path"] == checkpoint.partition("=")[2]
        assert f"The {command} run is in {folder}: " in caplog.text
        assert ("tensorboard --logdir" in caplog.text) is (command != "predict")
        assert (f"Predictions are in {folder}/predictions" in caplog.text) is (command == "predict")
    assert {path: content for path, content in contents(FOLDER).items() if path in before} == before
    assert (FOLDER / "test_1" / "metrics.csv").exists()
    assert main(["test", *of_run, "--run.root=elsewhere", "--run.version=x"]) == 0
    assert Path("elsewhere/tiny/Softmax/x/metrics.csv").exists()


def test_what_is_tested_without_a_run_is_numbered_by_itself() -> None:
    assert main(TEST) == 0
    assert main(FIT) == 0
    assert main(TEST) == 0
    assert {path.name for path in Path("runs/tiny/Softmax").iterdir()} == {"version_0", "test_0", "test_1"}


def test_the_end_of_a_training_says_what_comes_next(caplog: pytest.LogCaptureFixture) -> None:
    """And what it says can be typed."""
    assert main(FIT) == 0
    (said,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("The fit run is in ")]
    folder = "runs/tiny/Softmax/version_0"
    first, *commands = said.splitlines()
    assert first == (
        f"The fit run is in {folder}: config.yaml, hparams.yaml, metrics.csv, events for TensorBoard, "
        "checkpoints/best.ckpt, checkpoints/last.ckpt"
    )
    test, resume, look = (shlex.split(line.partition(":")[2]) for line in commands)
    assert look == ["tensorboard", "--logdir", folder]
    assert main(test[test.index("test") :]) == 0
    assert Path(folder, "test_0/metrics.csv").exists()
    assert main([*resume[resume.index("fit") :], "--lr_scheduler=null"]) == 0
    last = torch.load("runs/tiny/Softmax/version_1/checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 3


def test_the_end_of_a_training_has_the_folders_of_the_projector_together(tmp_path: Path) -> None:
    files = ["00010/a/tensors.tsv", "00010/a/metadata.tsv", "00020/a/tensors.tsv", "figures/a.png", "config.yaml"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    said = closing("predict", tmp_path, [], Trainer(logger=False, accelerator="cpu"))
    assert said == (
        f"The predict run is in {tmp_path}: config.yaml, points for the projector in 00010 to 00020, figures/a.png"
    )


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], "pairs/Softmax"),
        (["--model.network=TNPD"], "pairs/Softmax"),
        (["--model.network=TNPA"], "pairs/TNPA-Softmax"),
        (
            ["--model.network=SeedNetwork", "--run.name=mine/{attention}"],
            "mine/SeedNetwork-Softmax",
        ),
    ],
)
def test_two_networks_do_not_share_a_run_folder(flags: list[str], folder: str) -> None:
    """The path names a network that is not the default one of the task."""
    model = CLI([*PAIRS, *flags], run=False).config
    assert path_of(model.run.name, run_names(model.model)) == folder


def test_names_take_the_attention() -> None:
    for attention in ("Near", "Softmax"):
        assert main([*FIT, f"--model.attention={attention}", "--run.name=mine/{attention}/{task}"]) == 0
        assert Path(f"runs/mine/{attention}/tiny/version_0").exists()


class Refuses(Callback):
    """Refuses a run once its folder is claimed and its configuration saved."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert list(Path("runs").rglob("config.yaml"))
        raise MisconfigurationException("this run is refused")


@pytest.mark.parametrize("version", [[], ["--run.version=mine"]])
def test_a_refused_run_leaves_no_folder(version: list[str]) -> None:
    Path("runs").mkdir()
    assert main([*FIT, "--trainer.callbacks+=Refuses", *version]) == 2
    assert list(Path("runs").iterdir()) == []
    Path("kept").write_text("no folder")
    refused([*FIT, "--checkpoint.dirpath=kept/below", *version])
    assert list(Path("runs").iterdir()) == []


def test_a_refused_run_leaves_what_was_there() -> None:
    assert main(NAMED) == 0
    before = contents(FOLDER)
    last = f"--ckpt_path={FOLDER}/checkpoints/last.ckpt"
    assert main([*NAMED, last, "--trainer.callbacks+=Refuses"]) == 2
    assert before.keys() <= contents(FOLDER).keys()


def test_a_logger_of_a_fixed_version_is_not_written_twice(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=mine", "--trainer.logger.version=0"]
    assert main([*FIT, *flags]) == 0
    before = contents(Path("mine"))
    refused([*FIT, *flags])
    assert "error: trainer.logger: mine/lightning_logs/version_0 holds a run already" in capsys.readouterr().err
    assert contents(Path("mine")) == before


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--checkpoint.filename=../../../x", "checkpoint.filename must be a name within the folder of the checkpoints"),
        ("--checkpoint.filename=/tmp/x", "checkpoint.filename must be a name within the folder of the checkpoints"),
        ("--run.version=", "run.version must be the name of a folder, got none"),
        ("--ckpt_path=", "ckpt_path: expected the path of a checkpoint, best, last or hpc, got nothing"),
    ],
)
def test_names_that_name_nothing_or_lead_out(capsys: pytest.CaptureFixture[str], flag: str, said: str) -> None:
    refused([*FIT, flag])
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")
    assert not Path("runs").exists()


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


def _claim(meeting: Any, answers: Any, turns: int) -> None:
    """Claim a number and then a name in each turn, at the same moment as another process."""
    for turn in range(turns):
        for version in (None, f"named_{turn}"):
            run = RunFolder(version=version)
            meeting.wait()
            try:
                run.loggers("tiny")
            except ValueError as ex:
                answers.put((version, str(ex)))
            else:
                answers.put((version, str(run.folder)))
            meeting.wait()
            run.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")
def test_two_processes_claim_at_the_same_moment() -> None:
    """Each gets a number of its own, and a name goes to one of them; of 20 each."""
    context = multiprocessing.get_context("fork")
    meeting, answers = context.Barrier(2, timeout=60), context.Queue()
    claimants = [context.Process(target=_claim, args=(meeting, answers, 20)) for _ in range(2)]
    for claimant in claimants:
        claimant.start()
    found = [answers.get(timeout=60) for _ in range(80)]
    for claimant in claimants:
        claimant.join(60)
    assert [claimant.exitcode for claimant in claimants] == [0, 0]
    numbered = sorted(answer for version, answer in found if version is None)
    assert numbered == sorted(f"runs/tiny/version_{number}" for number in range(40))
    for turn in range(20):
        told = (answer for version, answer in found if version == f"named_{turn}")
        mine, refusal = sorted(told, key=lambda answer: "another run is writing" in answer)
        assert mine == f"runs/tiny/named_{turn}"
        assert f"another run is writing to {mine} at this moment" in refusal


@pytest.mark.parametrize("version", [None, "one"])
def test_a_folder_that_another_run_removes_in_between_is_made_anew(
    version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run was refused: it removes its empty folder between this one's look and its lock."""
    opened, removed = os.open, []

    def late(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = opened(path, *arguments, **options)
        if not removed:
            removed.append(path)
            os.rmdir(path)
        return descriptor

    monkeypatch.setattr("tabattn.training.runs.os.open", late)
    run = RunFolder(version=version)
    run.loggers("tiny")
    assert removed
    assert run.folder is not None
    assert run.folder.is_dir()
    other = RunFolder(version=run.folder.name)
    with pytest.raises(ValueError, match="another run is writing"):
        other.loggers("tiny")
    run.release()


@pytest.mark.parametrize(("command", "number"), [("fit", 6), ("test", 11), ("predict", 0)])
def test_a_number_is_behind_the_largest_there_is(command: str, number: int) -> None:
    """One of a run that was removed is not given to another, and other names do not count."""
    for name in ("version_0", "version_5", "version_x", "version_best_9", "test_10"):
        Path("runs/tiny", name).mkdir(parents=True)
    run = RunFolder()
    run.loggers("tiny", command=command)
    assert run.folder == Path("runs/tiny", f"{'version' if command == 'fit' else command}_{number}")
    run.release()


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


def test_files_in_folders_of_folders_are_named_by_their_path(tmp_path: Path) -> None:
    for stage in ("validation_000025", "validation_000050"):
        (tmp_path / "figures" / stage).mkdir(parents=True)
        (tmp_path / "figures" / stage / "price.png").touch()
    assert list(_written(tmp_path)) == ["figures/validation_000025/price.png", "figures/validation_000050/price.png"]
