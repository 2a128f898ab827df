"""Error messages: the first one meant for the user."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from tabattn.contract.errors import DataError, message_of
from tabattn.training.cli import main
from tests.helpers import MeanTask

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]


class Damaged(Dataset[list[Tensor]]):
    """Cannot be read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> list[Tensor]:
        try:
            raise OSError("bad sector")
        except OSError as ex:
            raise DataError(f"tasks.h5 is damaged: task {index}\nand more") from ex


class DamagedData(LightningDataModule):
    """Loads what cannot be read.

    Args:
        workers: Processes that load.
    """

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers

    def test_dataloader(self) -> DataLoader[list[Tensor]]:
        return DataLoader(Damaged(), batch_size=None, num_workers=self.workers)


class Strict(MeanTask):
    """Refuses its argument, because of an error of another library.

    Args:
        kind: Type of the cause.
    """

    def __init__(self, kind: str = "") -> None:
        causes = {"UserWarning": UserWarning("a format"), "ValueError": ValueError("inner"), "KeyError": KeyError("x")}
        if kind:
            raise ValueError(f"column 'date' holds no dates, got {kind}") from causes[kind]
        super().__init__()


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_data_errors_of_workers_are_one_message(workers: int, capfd: Any) -> None:
    assert main(["test", "--model=MeanTask", "--data=DamagedData", f"--data.workers={workers}", *QUIET]) == 3
    error = capfd.readouterr().err
    assert error.endswith("error: tasks.h5 is damaged: task 0\nand more\n")
    assert "Traceback" not in error


def test_other_messages_stay() -> None:
    for text in ("Caught in the act", "\ntabattn.errors.DataError: x", "plain"):
        assert message_of(DataError(text)) == text


@pytest.mark.parametrize("kind", ["UserWarning", "ValueError", "KeyError"])
def test_what_a_constructor_says_is_not_lost_to_its_cause(kind: str, capfd: Any) -> None:
    with pytest.raises(SystemExit) as left:
        main(["test", "--model=Strict", f"--model.kind={kind}", "--data=DamagedData", *QUIET])
    assert left.value.code == 2
    assert capfd.readouterr().err.strip().splitlines()[-1] == f"error: column 'date' holds no dates, got {kind}"


def test_kinds_that_are_unknown_are_listed(capfd: Any) -> None:
    import datamodules  # noqa: F401  (makes their names known)

    torch.manual_seed(0)
    with pytest.raises(SystemExit):
        main(["test", "--model=MeanTask", "--data=SyntheticPairs", "--data.kind=foo", *QUIET])
    line = capfd.readouterr().err.strip()
    assert line.startswith("error: data.kind: expected one of 'const', 'rbf'")
    assert line.endswith("got foo")


class Untouched(LightningDataModule):
    """Must not be asked for data."""

    def prepare_data(self) -> None:
        raise AssertionError("data were made")

    train_dataloader = prepare_data


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("Calibration", "predicts no distributions"),
        ("PrecisionRecall", "predicts no distributions"),
        ("OutputCurves", "has no networks to plot"),
        ("PredictionPlots", "keeps no predictions to plot"),
        ("GraphScoreTable", "scores no graphs"),
        ("Trajectories", "draws no trajectories"),
    ],
)
def test_callbacks_refuse_a_class_of_task_before_any_data(callback: str, said: str, capfd: Any) -> None:
    import callbacks  # noqa: F401  (makes their names known)

    words = ["fit", "--model=MeanTask", "--data=Untouched", f"--trainer.callbacks+=callbacks.{callback}", *QUIET]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith(f"error: MeanTask {said}")
    assert not Path("runs").exists()


class Failing(LightningDataModule):
    """Meets an error while a progress bar is open."""

    def test_dataloader(self) -> DataLoader[list[Tensor]]:
        self.bar = tqdm(total=2)
        self.bar.update()
        raise DataError("a fault")


def test_an_error_begins_a_line_below_a_progress_bar(capfd: Any) -> None:
    assert main(["test", "--model=MeanTask", "--data=Failing", *QUIET]) == 3
    assert capfd.readouterr().err.split("\n")[-2:] == ["error: a fault", ""]
