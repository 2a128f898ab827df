"""Two processes train a language model, and score it as one does."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mlm.texts import text_file

pytest.importorskip("transformers", minversion="5.0")
ROOT = Path(__file__).parents[2]
MODEL = ["--model.dim=16", "--model.hidden=16", "--model.heads=2", "--model.layers=1"]
DATA = [
    "--data.text=text.txt",
    "--data.vocabulary=300",
    "--data.length=16",
    "--data.layout=lines",
    "--data.batch_size=8",
]
TWO = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.steps_per_epoch=2"]


def scores(folder: Path, command: str, version: str, *arguments: str) -> dict[str, float]:
    """Run train.py in a process of its own; return the last value of each score."""
    call = [sys.executable, str(ROOT / "train.py"), command, f"--config={ROOT / 'configs/mlm.yaml'}", *MODEL, *DATA]
    call += ["--optimizer=SGD", "--optimizer.lr=0.1", "--lr_scheduler=null", "--trainer.gradient_clip_val=0"]
    call += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    call += ["--trainer.check_val_every_n_epoch=1", f"--run.version={version}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, capture_output=True, text=True, timeout=280, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with (folder / "runs/mlm/Entmax" / version / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: float(value) for row in rows for name, value in row.items() if name[:3] in ("val", "tes") and value}


@pytest.mark.slow
def test_scores_are_those_of_one_process(tmp_path: Path) -> None:
    """Both processes also make the tokenizer and the encoded text, of the same names, at the same time."""
    text_file(tmp_path)
    checkpoint = f"--ckpt_path={tmp_path}/runs/mlm/Entmax/two/checkpoints/last.ckpt"
    two = scores(tmp_path, "fit", "two", "--trainer.max_steps=4", *TWO)
    assert two["val/perplexity"] > 1
    tested = [
        scores(tmp_path, "test", version, checkpoint, *flags) for version, flags in (("test_1", []), ("test_2", TWO))
    ]
    assert tested[0] == pytest.approx(tested[1], rel=1e-5)
