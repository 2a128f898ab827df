"""The pairs task on the command line: documented commands run, refusals are one line."""

from pathlib import Path

import pytest

import datamodules  # noqa: F401  (makes the names of the command known)
import tabattn.tasks  # noqa: F401
from tabattn.training.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "pairs.yaml")
TINY = ["--model.network.dim=16", "--model.network.hidden=16", "--model.network.layers=1", "--data.batch_size=2"]
TINY += ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def fit(*arguments: str) -> int:
    return main(["fit", "--config", CONFIG, *TINY, *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the one line says that answers a command."""
    with pytest.raises(SystemExit) as ended:
        fit(*arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_another_kind_brings_its_own_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--data.kind=single_rbf") == (
        "error: points must be one number for single sequences, got [24, 24]"
    )
    assert fit("--data.kind=single_rbf", "--data.points=null", "--data.context=null", "--data.regime=null") == 0


@pytest.mark.parametrize("mechanism", ["Inducing", "Linear"])
def test_a_network_says_what_attention_it_needs(capsys: pytest.CaptureFixture[str], mechanism: str) -> None:
    line = refused(capsys, "--model.network=TNPA", f"--model.attention={mechanism}", "--model.network.layers=2")
    needs = "error: TNPA needs a target_attention whose mask has a row for each query, "
    assert line.startswith(f"{needs}{mechanism} cannot take one")
