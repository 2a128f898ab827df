"""Two ranks on the CPU: same tasks, steps and metrics as one process."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
SIZES = ("dim=16", "heads=2", "hidden=16", "layers=2", "thinking_rows=2")
MODEL = [*(f"network.{size}" for size in SIZES), "permutations=2"]
DATA = ["batch_size=3", "steps_per_epoch=4", "rows=[16,24]", "features=[2,3]", "num_workers=0", "evaluation.folds=3"]
TABLES = '--data.tables=["sklearn:iris","sklearn:wine"]'
ONE = ["--trainer.accumulate_grad_batches=2", "--data.steps_per_epoch=8"]
TWO = ["--trainer.strategy=ddp", "--trainer.devices=2"]


PRIOR = ["prior.yaml", *(f"--model.{flag}" for flag in MODEL), *(f"--data.{flag}" for flag in DATA), TABLES]
PRIOR += ["--data.classes=[2,3]"]
PAIRS = ["pairs.yaml", *(f"--model.network.{size}" for size in ("dim=16", "heads=2", "hidden=16", "layers=2"))]
PAIRS += ["--data.points=[8,8]", "--data.context=3", "--data.batch_size=3", "--data.steps_per_epoch=4"]
PAIRS += [
    "--data.evaluation.val_batches=3",
    "--data.evaluation.test_batches=3",
    "--model.joint=true",
    "--data.regime=forecast",
]


def run(folder: Path, command: str, *arguments: str, task: list[str] = PRIOR) -> Path:
    """Run train.py in a process of its own; return the run's folder."""
    config, *flags = task
    call = [sys.executable, str(ROOT / "train.py"), command, "--config", str(ROOT / "configs" / config), *flags]
    call += ["--optimizer=SGD", "--optimizer.lr=0.1", "--lr_scheduler=null"]
    call += ["--trainer.accelerator=cpu", "--trainer.gradient_clip_val=0", "--trainer.enable_progress_bar=false"]
    call += [f"--run.root={folder}", "--run.name=run", "--run.version=0", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, capture_output=True, text=True, timeout=240, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run" / "0"


def last(folder: Path, prefix: str) -> dict[str, float]:
    """The last logged value of each metric."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {k: float(v) for row in rows for k, v in row.items() if k.startswith(prefix) and v}


@pytest.mark.slow
def test_two_processes_share_a_folder_with_the_next_number(tmp_path: Path) -> None:
    """The second process may look for the next number when the first has made its folder."""
    table = [
        "--data.table=sklearn:iris",
        "--model.network.dim=8",
        "--model.network.layers=1",
        "--model.network.heads=2",
    ]
    for number in range(2):
        flags = ["--trainer.max_steps=2", "--data.steps_per_epoch=2", "--run.version=null", *TWO]
        run(tmp_path, "fit", *flags, task=["reconstruction.yaml", *table])
        written = {path.name for path in (tmp_path / "run" / f"version_{number}").iterdir()}
        assert {"checkpoints", "config.yaml", "metrics.csv"} <= written
    assert len(list((tmp_path / "run").iterdir())) == 2


@pytest.mark.slow
def test_two_processes_train_and_test_as_one(tmp_path: Path) -> None:
    """Two ranks see what one process sees in twice the batches, take its steps, and score the same rows once."""
    folders = {}
    for name, flags in (("one", ONE), ("two", TWO)):
        (tmp_path / name).mkdir()
        folders[name] = run(
            tmp_path / name, "fit", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", *flags
        )
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in folders.values()
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)
    scores = [last(folder, "val/") for folder in folders.values()]
    assert scores[0].keys() == scores[1].keys()
    assert scores[0]["val/iris/auroc"] == pytest.approx(scores[1]["val/iris/auroc"], abs=1e-6)
    checkpoint = f"--ckpt_path={folders['one'] / 'checkpoints' / 'last.ckpt'}"
    tests = []
    for name, flags in (("test one", []), ("test two", TWO)):
        (tmp_path / name).mkdir()
        tests.append(last(run(tmp_path / name, "test", checkpoint, *flags), "test/"))
    assert tests[0].keys() == tests[1].keys()
    assert {"test/iris/auroc", "test/wine/log_loss", "test/reliance"} <= tests[0].keys()
    for name, value in tests[0].items():
        assert tests[1][name] == pytest.approx(value, abs=1e-6), name
    few = [checkpoint, "--data.tables=[sklearn:iris]", "--data.evaluation.folds=2"]
    (tmp_path / "idle").mkdir()
    idle = last(run(tmp_path / "idle", "test", *few, "--trainer.strategy=ddp", "--trainer.devices=3"), "test/")
    assert 0 <= idle["test/iris/auroc"] <= 1, "a process without a fold must not stop the others"


@pytest.mark.slow
def test_two_processes_infer_pairs_as_one(tmp_path: Path) -> None:
    """The same steps from the same tasks, and sums over three test batches that do not share out evenly."""
    folders = {}
    for name, flags in (("one", ONE), ("two", TWO)):
        (tmp_path / name).mkdir()
        every = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
        folders[name] = run(tmp_path / name, "fit", *every, *flags, task=PAIRS)
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in folders.values()
    ]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)
    checkpoint = f"--ckpt_path={folders['one'] / 'checkpoints' / 'last.ckpt'}"
    tests = []
    for name, flags in (("test one", []), ("test four", ["--trainer.strategy=ddp", "--trainer.devices=4"])):
        (tmp_path / name).mkdir()
        tests.append(last(run(tmp_path / name, "test", checkpoint, *flags, task=PAIRS), "test/"))
    assert {"test/ll", "test/ll_joint", "test/ll_oracle", "test/rmse_first", "test/r2"} <= tests[0].keys()
    assert tests[1] == pytest.approx(tests[0], rel=1e-4, abs=1e-5)
    found = []
    for name, flags in (("predict one", []), ("predict four", ["--trainer.strategy=ddp", "--trainer.devices=4"])):
        (tmp_path / name).mkdir()
        folder = run(
            tmp_path / name,
            "predict",
            checkpoint,
            "--model.inference.num_steps=2",
            "--model.inference.context_p=5",
            *flags,
            task=PAIRS,
        )
        found.append({path.name: dict(np.load(path)) for path in sorted(folder.glob("predictions/*.npz"))})
    assert list(found[0]) == ["batch00000.npz", "batch00001.npz", "batch00002.npz"] == list(found[1])
    for name, arrays in found[0].items():
        for part, array in arrays.items():
            np.testing.assert_allclose(found[1][name][part], array, rtol=1e-4, atol=1e-5, err_msg=f"{name} {part}")


@pytest.mark.slow
def test_two_processes_reconstruct_a_table_of_numbers_as_one(tmp_path: Path) -> None:
    """Columns of one kind alone, rows that are kept, and test rows that do not share out evenly."""
    source = np.random.default_rng(0)
    x = source.normal(size=(97, 2))
    table = np.column_stack([x, np.sin(2 * x[:, 0]) + x[:, 1]])
    np.savetxt(tmp_path / "numbers.csv", table, delimiter=",", header="a,b,y", comments="")
    sizes = ("dim=8", "heads=2", "hidden=8", "layers=1", "dropout=0.0", "most_rows=40")
    flags = [f"--data.table={tmp_path / 'numbers.csv'}", "--data.target=y", "--data.context.rows=40"]
    task = ["reconstruction.yaml", *(f"--model.network.{size}" for size in sizes), *flags]
    steps = {"one": ONE, "two": [*TWO, "--data.steps_per_epoch=4"]}
    every = ["--trainer.max_steps=4", "--trainer.check_val_every_n_epoch=1", "--trainer.callbacks=null"]
    folders = {}
    for name, flags in steps.items():
        (tmp_path / name).mkdir()
        folders[name] = run(tmp_path / name, "fit", *every, *flags, task=task)
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in folders.values()
    ]
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)
    checkpoint = f"--ckpt_path={folders['one'] / 'checkpoints' / 'last.ckpt'}"
    tests, found = [], []
    for name, ranks in (("one", []), ("two", TWO)):
        (tmp_path / f"test {name}").mkdir()
        (tmp_path / f"predict {name}").mkdir()
        tests.append(last(run(tmp_path / f"test {name}", "test", checkpoint, *ranks, task=task), "test/"))
        predicted = run(tmp_path / f"predict {name}", "predict", checkpoint, *ranks, task=task) / "predictions"
        found.append({path.name: path.read_text() for path in sorted(predicted.glob("*.csv"))})
    assert "test/rmse" in tests[0]
    assert tests[1] == pytest.approx(tests[0], rel=1e-4, abs=1e-6)
    assert found[0].keys() == found[1].keys() == {"batch00000.csv"}
    rows = [np.genfromtxt(text["batch00000.csv"].splitlines(), delimiter=",", skip_header=1) for text in found]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-4, atol=1e-5)
