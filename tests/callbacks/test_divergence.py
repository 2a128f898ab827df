"""A diverging training with all callbacks ends with a one-line message."""

from pathlib import Path

import pytest

import callbacks
from tabattn.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:step")

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
STEPS = [
    *("--trainer.max_steps=12", "--data.steps_per_epoch=4", "--trainer.check_val_every_n_epoch=1"),
    *("--trainer.gradient_clip_val=null", "--optimizer=torch.optim.SGD", "--optimizer.lr=1e30", "--lr_scheduler=null"),
]
NETWORK = ["--model.network.dim=8", "--model.network.heads=2", "--model.network.hidden=8", "--model.network.layers=2"]
TASKS = {
    "prior": ["--data.tables=[sklearn:iris]", "--data.num_workers=0", "--data.rows=[12,16]", "--data.features=[2,3]"],
    "pairs": ["--data.batch_size=4", "--data.evaluation.val_batches=1", "--data.evaluation.test_batches=1"],
    "reconstruction": ["--data.table=sklearn:iris"],
    "zoo": ["--data.batch_size=8", *(f"--data.zoo.{name}=20" for name in ("networks", "tasks", "steps"))],
}
ALL = {
    "prior": ("AttentionMaps", "Embeddings", "Calibration", "PrecisionRecall", "Provenance", "Weights", "History"),
    "pairs": ("AttentionMaps", "HeadSimilarity", "Weights", "Trajectories", "TaskExamples", "Throughput", "History"),
    "reconstruction": ("Embeddings", "PredictionPlots", "HParams", "Look", "History"),
    "zoo": ("AttentionMaps", "OutputCurves", "Weights", "Look", "History"),
}
ACTING = {"TimeBudget", "DivergenceGuard", "AlphaAnnealing", "Projections"}
"""Callbacks that change a run, and do not look on."""
ACTING |= {"CompiledBlocks", "CudaGraphs"}
ACTING |= {"QueryKeyRecorder", "GraphScoreTable", "AttentionSwap"}  # In predict and test alone.
OPTIONS = {
    "prior": [],
    "pairs": ["--trainer.callbacks.metric=val/ll"],
    "reconstruction": [],
    "zoo": ["--trainer.callbacks.metric=val/functional_r2"],
}


@pytest.mark.parametrize("task", TASKS)
def test_a_diverging_training_with_every_callback_is_one_line(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    looks = [f"--trainer.callbacks+={name}" for name in ALL[task]]
    config = f"--config={ROOT / 'configs' / f'{task}.yaml'}"
    assert main(["fit", config, *QUIET, *STEPS, *NETWORK, *TASKS[task], *looks, *OPTIONS[task]]) == 4
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert "diverged" in error[0]


def test_every_callback_looks_on() -> None:
    looking = {name for names in ALL.values() for name in names}
    assert looking | ACTING == set(callbacks.__all__)
