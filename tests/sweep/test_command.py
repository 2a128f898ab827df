"""Command line of a sweep."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tabattn.sweep import __main__ as command
from tabattn.sweep.folder import Folder, Settings
from tabattn.sweep.trial import steps_of

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "pairs.yaml")
GIVEN = ["--config", CONFIG, "--trials=3", "--budget=10steps", "--tune=optimizer.lr=log:1e-3..1e-1"]
SMALL = ["--model.network.layers=2", "--model.network.dim=8", "--model.network.heads=2", "--model.network.hidden=8"]
SMALL += ["--data.batch_size=2", "--data.evaluation.val_batches=1", "--data.points=[8,8]", "--data.context=3"]


def settings(*words: str) -> Settings:
    """Settings of a command line."""
    options, further = command.parser().parse_known_args([*GIVEN, "--out=x", *words])
    return command.settings_of(options, further)


def test_settings() -> None:
    found = settings("--tune=model.attention=Softmax,Local", "--seed=3", *SMALL)
    assert found.flags == [f"--config={CONFIG}", *SMALL]
    assert (found.metric, found.mode, found.seed, found.prune, found.validations) == ("val/ll", "max", 3, True, 5)
    assert found.budget == {"kind": "steps", "value": 10}
    other = settings("--metric=val/rmse", "--mode=min", "--no-prune", "--validations=2", "--budget=60s")
    assert (other.metric, other.mode, other.prune, other.validations) == ("val/rmse", "min", False, 2)
    assert other.budget == {"kind": "seconds", "value": 60.0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trials=0"], "--trials must be at least 1, got 0"),
        (["--workers=0"], "--workers must be at least 1, got 0"),
        (["--budget=10"], "--budget must be a number of steps or a time"),
        (["--tune=optimizer.lr=0.1,0.2"], "--tune optimizer.lr is given twice"),
        (["--optimizer.lr=0.1"], "--optimizer.lr is given and tuned"),
        (["--trainer.max_steps=5"], "--trainer.max_steps is set by the sweep itself"),
        (["--tune=run.root=a,b"], "--run.root is set by the sweep itself"),
        (["--metric=val/rmse"], "--mode: max or min must be given for val/rmse"),
        (["--checkpoint.monitor=null"], "--metric: the configuration has no checkpoint.monitor"),
        (["--tune=model.network.dims=8,16"], "did you mean dim"),
        (["--tune=model.attention=Softmax,Locl"], "no class is called 'Locl'"),
        (["--tune=data.batch_size=2,x"], "batch_size"),
        (["--modle.x=1"], "unrecognized argument: --modle.x=1"),
        (["x"], "unrecognized argument: x"),
        (["--model.network.dim", "8"], "flags of a training are given as --model.x=y"),
    ],
)
def test_refusals(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*GIVEN, *words, f"--out={tmp_path / 'sweep'}"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "sweep").exists()


def test_a_missing_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert command.main([*GIVEN, f"--out={tmp_path / 'sweep'}"]) == 2
    assert capsys.readouterr().err == "error: the package optuna is missing: pip install 'tabattn[sweep]'\n"
    assert not (tmp_path / "sweep").exists()


def test_steps_of_seconds(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.agree(Settings([], [], {"kind": "seconds", "value": 60.0}, "val/ll", "max"))
    folder.trial(0).mkdir(parents=True)
    for pace, steps in ((0.5, 120), (0.7, 85), (100.0, 5)):
        (folder.trial(0) / "pace.json").write_text(json.dumps({"seconds": pace}))
        assert steps_of(folder, 0) == steps


def start(out: Path, *words: str) -> subprocess.Popen[str]:
    """Start a sweep in a process."""
    call = [sys.executable, "-m", "tabattn.sweep", *GIVEN, *SMALL, "--tune=model.attention=Softmax,Local"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*call, f"--out={out}", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def done(process: subprocess.Popen[str]) -> str:
    """Wait for a sweep; return what it printed."""
    said, errors = process.communicate(timeout=1000)
    assert process.returncode == 0, errors[-3000:]
    return said


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_started_again(tmp_path: Path) -> None:
    """Its trials are those of an undisturbed sweep, and ``best.yaml`` trains as its trial did."""
    done(start(tmp_path / "a"))
    killed = start(tmp_path / "b")
    while not (tmp_path / "b" / "trials" / "1" / "run" / "config.yaml").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    done(start(tmp_path / "b"))
    tables = [pd.read_csv(tmp_path / name / "trials.csv").drop(columns=["trial", "seconds"]) for name in "ab"]
    pd.testing.assert_frame_equal(*tables)
    fit = [sys.executable, str(ROOT / "train.py"), "fit", f"--config={tmp_path / 'a' / 'best.yaml'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    fit += ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=2"]
    subprocess.run(fit, check=True, cwd=tmp_path, env=environment, capture_output=True)
    (metrics,) = (tmp_path / "runs").rglob("metrics.csv")
    assert pd.read_csv(metrics)["val/ll"].max() == pytest.approx(tables[0]["best"].max(), rel=1e-6)
    assert yaml.safe_load((tmp_path / "a" / "best.yaml").read_text())["trainer"]["max_steps"] == 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_share_a_sweep(tmp_path: Path) -> None:
    both = [start(tmp_path / "a", "--trials=4") for _ in range(2)]
    said = [done(process) for process in both]
    table = pd.read_csv(tmp_path / "a" / "trials.csv")
    assert len(table) == 4
    assert not table.duplicated(["optimizer.lr", "model.attention"]).any()
    lines = [line for text in said for line in text.splitlines() if line.startswith("trial  ") and "=" in line]
    assert len(lines) == 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_interrupted_with_a_budget_of_seconds(tmp_path: Path) -> None:
    process = start(tmp_path / "a", "--budget=2s", "--trials=1")
    while not (tmp_path / "a" / "trials" / "0" / "run" / "config.yaml").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143
    assert errors.endswith("interrupted: the same command goes on with the sweep\n")
    done(start(tmp_path / "a", "--budget=2s", "--trials=1"))
    table = pd.read_csv(tmp_path / "a" / "trials.csv")
    assert table["state"].tolist() == ["complete"]
    assert table["steps"][0] % 5 == 0
