"""Sizes of the context: all sizes in training unless a range is given, the given size in evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules import LongPairs, SyntheticPairs, TablePairs
from datamodules.pairs.long_series import LongNames
from tabattn.contract.batches import PairBatch
from tests.helpers import build

POINTS = 9
REGIMES = ["forecast", "interp", "full_infer", "shuffle"]
SIZES: dict[str, Any] = {"batch_size": 2, "steps_per_epoch": 300}


def synthetic(folder: Path, **changes: Any) -> SyntheticPairs:
    return build(
        SyntheticPairs, **{"points": (POINTS, POINTS), "context": 3, "evaluation__test_batches": 3, **SIZES, **changes}
    )


def table(folder: Path, **changes: Any) -> TablePairs:
    rows = np.arange(200)
    pd.DataFrame({"a": np.sin(rows / 3), "b": np.cos(rows / 3)}).to_csv(folder / "t.csv", index=False)
    arguments = {"columns": ("a", "b"), "windows__length": POINTS, "context": 3, **SIZES, **changes}
    return build(TablePairs, str(folder / "t.csv"), **arguments)


def long(folder: Path, **changes: Any) -> LongPairs:
    rows = [(task, name, x, np.sin(x + task)) for task in range(20) for name in "ab" for x in range(POINTS)]
    pd.DataFrame(rows, columns=list(LongNames())).to_csv(folder / "l.csv", index=False)
    return build(LongPairs, str(folder / "l.csv"), **{"context": 3, **SIZES, **changes})


MAKERS = [synthetic, table, long]


def context(batches: Any) -> list[int]:
    return [batch.context for batch in batches]


def training(data: Any) -> list[PairBatch]:
    loader = data.train_dataloader()
    return [loader.dataset[index] for index in range(SIZES["steps_per_epoch"])]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("regime", REGIMES)
def test_training_sees_every_size_and_half_the_time_the_one_that_is_scored(
    make: Any, regime: str, tmp_path: Path
) -> None:
    data = make(tmp_path, regime=regime, evaluation__test_regime="forecast")
    sizes = context(training(data))
    scored = {POINTS + 3}
    if regime == "shuffle":
        assert set(sizes) == set(range(2, 2 * POINTS))
        scored = {6}
    else:
        assert set(sizes) == {POINTS + shown for shown in range(1, POINTS)}
    assert 0.4 < np.mean([size in scored for size in sizes]) < 0.75
    assert set(context(data.test_dataloader())) == {POINTS + 3}
    assert set(context(data.val_dataloader())) == {POINTS + 3}


@pytest.mark.parametrize("make", MAKERS)
def test_a_range_is_all_that_training_sees(make: Any, tmp_path: Path) -> None:
    narrow = make(tmp_path, context=(2, 4), evaluation__context=5, regime="forecast")
    assert set(context(training(narrow))) == {POINTS + 2, POINTS + 3, POINTS + 4}
    assert set(context(narrow.test_dataloader())) == {POINTS + 5}
    alone = make(tmp_path, context=(3, 3), regime="forecast")
    assert set(context(training(alone))) == {POINTS + 3}


@pytest.mark.parametrize("make", MAKERS)
def test_half_of_training_shows_what_is_scored_where_that_is_said_apart(make: Any, tmp_path: Path) -> None:
    sizes = context(training(make(tmp_path, context=3, evaluation__context=6, regime="forecast")))
    assert 0.4 < np.mean(np.array(sizes) == POINTS + 6) < 0.75


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ({"kind": "const"}, 31),
        ({"kind": "const", "points": (24, 24)}, 23),
        ({"kind": "icm", "points": (7, 30, 8), "context": 2}, 7),
        ({"kind": "icm", "points": (7, 30), "context": 2}, 29),
        ({"kind": "single_rbf", "points": (20,), "context": 4, "regime": "forecast"}, 19),
        ({"kind": "rbf_const_2D", "points": (20, 20), "context": 5}, 19),
        ({"kind": "tnp", "points": (20,), "context": 5}, 17),
    ],
)
def test_kinds_have_no_size_of_their_own_to_train_on(arguments: dict[str, Any], most: int) -> None:
    plan = build(SyntheticPairs, **{"regime": "forecast", **arguments, "batch_size": 1})
    counts = [plan.train_dataloader().dataset.draw(index, False).points.shown for index in range(400)]
    assert (min(counts), max(counts)) == (1, most)


def test_the_single_protocol_keeps_its_own_sizes() -> None:
    data = build(SyntheticPairs, "tnp", batch_size=1)
    sizes = [data.train_dataloader().dataset.draw(index, False).points.shown for index in range(600)]
    assert (min(sizes), max(sizes)) == (3, 46)
    assert max(sizes.count(size) for size in set(sizes)) < 40


def test_points_of_either_sequence_by_chance_leave_one_to_infer() -> None:
    data = build(SyntheticPairs, "rbf_rbf_2D", points=(6, 6), context=2, batch_size=1, regime="forecast")
    batches = [data.train_dataloader().dataset[index] for index in range(200)]
    assert min(batch.x.shape[1] - batch.context for batch in batches) == 1
    shown = [int((batch.member[0, : batch.context] == 1).sum()) for batch in batches]
    assert min(shown) == 1
    assert max(shown) > 6


def test_gaps_leave_a_known_value_to_infer(tmp_path: Path) -> None:
    """Of a column with gaps as many points are shown as leave one known value, in the task that is drawn from."""
    rows = np.arange(120)
    frame = pd.DataFrame({"a": np.sin(rows / 3), "b": np.where(rows % 4 == 0, np.cos(rows / 3), np.nan)})
    frame.to_csv(tmp_path / "g.csv", index=False)
    for regime in ("forecast", "interp"):
        data = build(
            TablePairs, str(tmp_path / "g.csv"), ("a", "b"), windows__length=12, context=6, regime=regime, batch_size=1
        )
        batches = [data.batches("train")[index] for index in range(200)]
        half = [batch for batch in batches if batch.context != 18]
        assert len(half) > 40
        assert all(batch.y[:, batch.context :].isfinite().any() for batch in half)


def test_tasks_whose_first_value_is_missing_are_trained_on(tmp_path: Path) -> None:
    rows = np.arange(80)
    frame = pd.DataFrame({"a": np.sin(rows / 3), "b": np.where(rows % 2, np.cos(rows / 3), np.nan)})
    frame.to_csv(tmp_path / "g.csv", index=False)
    data = build(TablePairs, str(tmp_path / "g.csv"), ("a", "b"), windows__length=8, context=1, evaluation__context=2)
    assert len(data.numbers["train"].remainder(2).unique()) == 2


def test_sequences_of_unequal_length_all_have_targets(tmp_path: Path) -> None:
    """A short task beside long ones is not shown as a whole nearly always."""
    lengths = {task: 4 if task % 2 else 40 for task in range(40)}
    rows = [(t, name, x, np.sin(x + t)) for t, count in lengths.items() for name in "ab" for x in range(count)]
    pd.DataFrame(rows, columns=list(LongNames())).to_csv(tmp_path / "l.csv", index=False)
    data = build(LongPairs, str(tmp_path / "l.csv"), context=3, regime="forecast", batch_size=8)
    shown = [data.batches("train")[index] for index in range(200)]
    counts = np.array([int((batch.member[0, : batch.context] == 1).sum()) for batch in shown])
    assert counts.max() > 30
    assert np.mean(counts <= 3) > 0.6
