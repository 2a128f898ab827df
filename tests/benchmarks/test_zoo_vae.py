"""Benchmark of the autoencoder of networks: its command line, and its variants."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import zoo_vae, zoo_variants
from benchmarks.zoo_quality import quality
from datamodules.zoo.generate import generate
from datamodules.zoo.imported import Table, import_networks
from tests.test_configs import Parsed

CONFIG = f"--config={Path(__file__).parents[2] / 'configs' / 'zoo.yaml'}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ablation", "--seeds=-1"], "seeds must be at least 0, got -1"),
        (["--checkpoint=none.ckpt"], "checkpoint: there is no file none.ckpt"),
        (["--original=."], "original: . is no checkout of it"),
        (["--sweep", "--model.attention=Local"], "--model.attention is not to be chosen"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        zoo_vae.arguments(words)
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", zoo_variants.LOSSES.values(), ids=zoo_variants.LOSSES)
def test_variants_of_the_loss_are_arguments_of_the_task(words: list[str]) -> None:
    loss = Parsed(["fit", CONFIG, *words]).config["fit"]["model"]["init_args"]["loss"]
    given = [word.removeprefix("--model.loss.").split("=") for word in words if word.startswith("--model.loss.")]
    assert all(str(loss[name]) == str(type(loss[name])(value)) for name, value in given)


def test_a_zoo_of_classes_is_refused(tmp_path: Path) -> None:
    x = torch.randn(20, 2)
    zoo = import_networks(tmp_path / "a.h5", [nn.Linear(2, 3)], Table(x, torch.arange(20) % 3, labels=True))
    with pytest.raises(ValueError, match="must have targets that are numbers, got classes in 1 of its tasks"):
        quality(tmp_path / "none.ckpt", zoo)


@pytest.mark.slow
def test_a_training_step_is_measured(tmp_path: Path) -> None:
    zoo = generate(tmp_path / "zoo.h5", networks=60, steps=10)
    rows = zoo_vae.steps(zoo, None)
    assert len(rows) == 1
    assert all(float(figure) > 0 for figure in rows[0][1:])
    assert len(zoo_vae.table(["a", "b", "c", "d"], rows)) == 3


@pytest.mark.slow
def test_variants_are_trained_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    zoo = generate(tmp_path / "zoo.h5", networks=60, tasks=4, steps=10)
    further = [f"--data.path={zoo}", "--trainer.max_steps=2"]
    head, rows = zoo_variants.compared({"all parts": [], "not told": ["--model.network.meta=none"]}, [0], further)
    assert head[1:] == list(zoo_variants.SCORES)
    assert [len(row) for row in rows] == [len(head)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["zoo.h5"]
