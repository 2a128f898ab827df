"""A full disk during the output of a command: one line, status 3, and no partial file."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tabattn import convert
from tabattn.cli import main
from tests.storage.test_files import small_files

CONFIG = Path(__file__).parents[2] / "configs" / "pairs.yaml"
PREDICT = [
    *("predict", f"--config={CONFIG}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    *("--data.evaluation.test_batches=1", "--data.batch_size=2", "--model.network.dim=8", "--model.network.heads=2"),
    *("--model.network.layers=2", "--model.inference.samples=1", "--model.inference.num_steps=2"),
]
EARLIER = "model:\n  class_path: PairInference\n  init_args:\n    arch: tnpd\n    dim: 64\n    residual: nearest\n"


def full(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.filterwarnings("ignore:.*random|.*initialised")
def test_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tabattn.training.predictions.write_file", full)
    assert main(PREDICT) == 3
    assert [line for line in capsys.readouterr().err.splitlines() if "error" in line] == [
        "error: No space left on device"
    ]
    assert not list(tmp_path.rglob("predictions/*"))


def test_a_converted_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "old.yaml", tmp_path / "new.yaml"
    source.write_text(EARLIER)
    out.write_text("kept")
    with small_files(40):
        status = convert.main([str(source), str(out)])
    assert status == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert out.read_text() == "kept"
    assert source.read_text() == EARLIER
    assert sorted(os.listdir(tmp_path)) == ["new.yaml", "old.yaml"]
