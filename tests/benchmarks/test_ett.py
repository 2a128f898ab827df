"""Benchmark on ETTh1: baselines, windows and report."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from benchmarks import ett

HOURS = 700
TINY = [
    "--model.network.dim=8",
    "--model.network.heads=2",
    "--model.network.hidden=8",
    "--model.network.layers=1",
    "--data.batch_size=8",
]
TINY += ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--data.steps_per_epoch=2"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The column OT is the day of the hour; MUFL is HUFL less an hour's share of the day."""
    source = np.random.default_rng(0)
    time = pd.date_range("2016-07-01", periods=HOURS, freq="h")
    load = source.normal(0, 1, HOURS).cumsum()
    frame = pd.DataFrame({"date": time, "HUFL": load, "MUFL": load - time.hour / 24, "OT": np.arange(HOURS) // 24})
    path = tmp_path / "ETTh1.csv"
    frame.to_csv(path, index=False)
    return path


def test_naive_methods() -> None:
    task = ett.Task(torch.randn(3, 10), torch.randn(3, 4), torch.randn(3, 6))
    for row in range(3):
        given, shown = task.given[row].numpy(), task.shown[row].numpy()
        model = Ridge(1.0).fit(given[:4, None], shown)
        np.testing.assert_allclose(ett.ridge(task)[row], model.predict(given[4:, None]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ett.offset(task)[row], given[4:] + np.mean(shown - given[:4]), rtol=1e-5, atol=1e-6)
        assert ett.last_value(task)[row].item() == shown[-1]
        np.testing.assert_allclose(ett.context_mean(task)[row], shown.mean(), rtol=1e-5, atol=1e-6)


def test_the_windows_are_those_of_the_test_part(table: Path) -> None:
    data = ett.build(ett.arguments([str(table), *TINY]), "MUFL", 0).datamodule
    task = ett.windows(data)
    frame = pd.read_csv(table)[["HUFL", "MUFL"]]
    columns = ((frame - frame[:490].mean()) / frame[:490].std(ddof=0)).to_numpy()
    starts = range(560, HOURS - 63, 16)
    assert (len(task.given), task.given.shape[1], task.shown.shape[1], task.hidden.shape[1]) == (
        len(starts),
        64,
        16,
        48,
    )
    for row, start in enumerate(starts):
        np.testing.assert_allclose(task.given[row], columns[start : start + 64, 0], rtol=1e-4, atol=1e-5)
        both = torch.cat([task.shown[row], task.hidden[row]])
        np.testing.assert_allclose(both, columns[start : start + 64, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_report_adds_up(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "ett.md"
    ett.main([str(table), "--seeds=2", f"--out={out}", *TINY])
    text = out.read_text()
    assert capsys.readouterr().out == text
    found = pd.read_csv(out.with_suffix(".csv"))
    assert (found["windows"] == 5).all()
    lines = [line.split(" | ") for line in text.splitlines()]
    for column, inferred in enumerate(ett.INFERRED, 1):
        own = found[found["pair"] == f"HUFL->{inferred}"].groupby("method")["mse"].mean()
        rest = own.drop(["network", "mean of the networks"])
        assert list(rest.index.sort_values()) == sorted(ett.NAIVE)
        shown = {line[0].removeprefix("| "): line[column].removesuffix(" |") for line in lines if len(line) == 3}
        assert shown["zero"] == f"{own['zero']:.4f}"
        assert shown["network"].startswith(f"{own['network']:.4f} ± ")
        assert shown["network / best naive one"] == f"{own['network'] / rest.min():.2f}"
        assert own["mean of the networks"] <= own["network"]  # the error is convex
        assert shown["mean of the networks"] == f"{own['mean of the networks']:.4f}"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--seeds=0"], "seeds must be at least 1, got 0"), (["steps"], "unrecognized argument steps")],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ett.arguments(["ETTh1.csv", *words])
    assert message in capsys.readouterr().err


def test_every_network_is_built_before_the_first_is_trained(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def build(options: object, inferred: str, seed: int) -> None:
        asked.append(inferred)
        if inferred == list(ett.INFERRED)[-1]:
            raise ValueError("no such thing")

    monkeypatch.setattr(ett, "build", build)
    monkeypatch.setattr(ett, "scores", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit) as caught:
        ett.main([str(table), f"--out={tmp_path / 'ett.md'}", *TINY])
    assert caught.value.code == 2
    assert asked == list(ett.INFERRED)


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ett.main([str(tmp_path / "none.csv")])
    assert f"there is no file {tmp_path / 'none.csv'}" in capsys.readouterr().err
