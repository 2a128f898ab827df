"""Columns of a table as tasks: windows stay in their split; mistakes are one-line messages."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules import TablePairs
from tabattn.contract.batches import PairBatch
from tabattn.contract.errors import DataError, TableWarning
from tests.helpers import build

ROWS = 100
SMALL = {"windows__length": 8, "windows__stride": 4, "context": 3, "batch_size": 5, "steps_per_epoch": 4}


def wave(rows: int = ROWS) -> pd.DataFrame:
    place = np.arange(rows, dtype=float)
    columns = {"a": np.sin(place) + place / 10, "b": np.cos(place) * 3, "c": place**2}
    return pd.DataFrame({"time": pd.date_range("2020-01-01 05:00", periods=rows, freq="2h").astype(str), **columns})


def write(frame: pd.DataFrame, path: Path) -> str:
    text = frame.to_csv(index=False, sep="\t" if ".tsv" in path.name else ",")
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    return write(wave(), tmp_path / "t.csv")


def pairs(path: str, columns: tuple[str | int, ...] = ("a", "b"), **options: Any) -> TablePairs:
    return build(TablePairs, path, columns, **{**SMALL, **options})


def all_batches(data: TablePairs, stage: str) -> list[PairBatch]:
    batches = data.batches(stage)
    return [batches[index] for index in range(len(batches))]


def standard(values: NDArray[np.float64], rows: int = 70) -> Tensor:
    return torch.from_numpy((values - values[:rows].mean()) / values[:rows].std()).float()


def same(one: PairBatch, other: PairBatch) -> bool:
    return all(torch.equal(mine, its) for mine, its in zip(one[:3], other[:3], strict=True))


def test_test_windows_are_those_of_the_protocol(table: str) -> None:
    batches = all_batches(pairs(table), "test")
    starts = range(80, ROWS - 8 + 1, 4)
    a, b = standard(wave()["a"].to_numpy()), standard(wave()["b"].to_numpy())
    expected = torch.stack([torch.cat([a[start : start + 8], b[start : start + 8]]) for start in starts])
    assert [batch.context for batch in batches] == [11] * len(batches)
    torch.testing.assert_close(torch.cat([batch.y for batch in batches]), expected)
    axis = torch.arange(8.0).repeat(2)
    assert all(torch.equal(batch.x, axis.expand_as(batch.x)) for batch in batches)
    assert all(torch.equal(batch.member, (torch.arange(16) // 8).expand_as(batch.x)) for batch in batches)


def test_the_named_column_is_inferred(table: str) -> None:
    data = pairs(table, ("b", "a", "c"), infer="a")
    batch = all_batches(data, "test")[0]
    assert (data.members, data.names, batch.context) == (3, ("b", "a", "c"), 19)
    assert set(batch.member[:, 19:].flatten().tolist()) == {1}
    assert batch.member[0, :19].tolist() == [0] * 8 + [2] * 8 + [1] * 3


@pytest.mark.parametrize("regime", ["forecast", "interp", "full_infer"])
def test_several_columns_are_inferred_at_once(table: str, regime: str) -> None:
    options = {"evaluation__test_regime": regime, "infer": ("c", "b")}
    batch = all_batches(pairs(table, ("b", "a", "c"), **options), "test")[0]
    assert batch.context == 8 + 3 + 3
    for row, member in enumerate(batch.member):
        # A full inference draws which sequences are inferred, in the test too.
        shown = member[:14].bincount(minlength=3).tolist()
        assert sorted(shown) == [3, 3, 8] if regime == "full_infer" else shown == [3, 8, 3]
        assert [8 - count for count in shown] == member[14:].bincount(minlength=3).tolist()
        assert (batch.x[row, 14:].diff() >= 0).all()
    if regime == "forecast":
        assert batch.x[0, 14:].tolist() == [place for place in range(3, 8) for _ in range(2)]
    values = {name: standard(wave()[name].to_numpy()) for name in "bac"}
    first = [list(values.values())[member][80 + int(x)] for x, member in zip(batch.x[0], batch.member[0], strict=True)]
    torch.testing.assert_close(batch.y[0], torch.stack(first))


def test_a_column_alone_is_inferred_from_its_own_past(table: str) -> None:
    data = pairs(table, ("b",))
    batch = all_batches(data, "test")[0]
    assert (data.members, data.infer, batch.context) == (1, (0,), 3)
    torch.testing.assert_close(batch.y[0], standard(wave()["b"].to_numpy())[80:88])
    assert {data.batches("train")[index].context for index in range(80)} == set(range(1, 8))


def test_all_columns_may_be_inferred(table: str) -> None:
    batch = all_batches(pairs(table, infer=("a", "b")), "test")[0]
    assert batch.context == 6
    assert batch.member[0, 6:].bincount().tolist() == [5, 5]


def test_as_many_columns_as_are_inferred_swap_roles(table: str) -> None:
    data = pairs(table, ("a", "b", "c"), infer=("a", "b"), regime="forecast", augmentation__swap_roles=True)
    asked = [data.batches("train")[index] for index in range(12)]
    sets = {tuple(row[batch.context :].unique().tolist()) for batch in asked for row in batch.member}
    assert sets == {(0, 1), (0, 2), (1, 2)}


def test_columns_by_number_and_every_format(tmp_path: Path) -> None:
    expected = all_batches(pairs(write(wave(), tmp_path / "t.csv")), "val")
    for name in ("t.tsv", "t.csv.gz"):
        found = all_batches(pairs(write(wave(), tmp_path / name), (1, 2)), "val")
        assert all(same(*both) for both in zip(expected, found, strict=True))


def test_training_windows_stay_in_their_part(table: str) -> None:
    """Values of the column c tell the row they are from."""
    data = pairs(table, ("c", "a"), batch_size=200)
    batches = data.batches("train")
    rows = torch.cat([batches[index].y[batches[index].member == 0] for index in range(3)])
    rows = (rows * data.std[0] + data.mean[0]).sqrt().round().long()
    assert set(rows.tolist()) == set(range(70))
    for stage, part in (("val", range(80)), ("test", range(ROWS))):
        rows = torch.cat([batch.y[batch.member == 0] for batch in all_batches(data, stage)])
        rows = (rows * data.std[0] + data.mean[0]).sqrt().round().long()
        assert rows.max() < part.stop
        assert rows.min() >= part.stop - (10 if stage == "val" else 20)


def test_a_batch_is_a_function_of_seed_and_number(table: str) -> None:
    one, again, other = (pairs(table, seed=seed).batches("train") for seed in (1, 1, 2))
    _ = one[0]
    assert same(one[3], again[3])
    assert not same(one[3], one[4])
    assert not same(one[3], other[3])
    assert not same(one[0], pairs(table, seed=1, regime="shuffle").batches("test")[0])


def test_loaders(table: str) -> None:
    data = pairs(table)
    assert len(list(data.train_dataloader())) == 4
    loaded = [list(loader) for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader())]
    assert [sum(len(batch.x) for batch in batches) for batches in loaded] == [1, 4, 4]


def test_roles_swap_in_training_only(table: str) -> None:
    data = pairs(table, regime="forecast", augmentation__swap_roles=True)
    batches = [data.batches("train")[index] for index in range(4)]
    assert all((batch.member[:, 11:] == batch.member[:, 11:12]).all() for batch in batches)
    assert {0, 1} == {member for batch in batches for member in batch.member[:, 11].tolist()}
    assert all((batch.member[:, 11:] == 1).all() for batch in all_batches(data, "test"))


def test_levels_drift_in_training_only(table: str) -> None:
    still, drifting = (pairs(table, seed=1, augmentation__drift=drift) for drift in (0.0, 2.0))
    one, other = still.batches("train")[0], drifting.batches("train")[0]
    assert torch.equal(one.x, other.x)
    moved = other.y - one.y
    for member in (0, 1):
        added = moved[one.member == member].view(len(moved), -1)
        torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=0, atol=1e-5)
    assert 1 < moved.std() < 4
    assert same(all_batches(still, "test")[0], all_batches(drifting, "test")[0])


def test_context_is_drawn_from_its_range(table: str) -> None:
    data = pairs(table, context=(1, 6), evaluation__context=2, regime="forecast")
    assert {data.batches("train")[index].context for index in range(60)} == {8 + shown for shown in range(1, 7)}
    assert {batch.context for batch in all_batches(data, "test")} == {10}


def test_dates_give_an_axis_in_their_unit(table: str) -> None:
    hours, days = (pairs(table, windows__x="time", windows__unit=unit) for unit in ("h", "D"))
    assert tuple(hours.scaling) == (0, 14, 0, 1)
    assert all_batches(hours, "test")[0].x[0, :3].tolist() == [0, 2, 4]
    torch.testing.assert_close(all_batches(days, "test")[0].x, all_batches(hours, "test")[0].x / 24)


def test_a_cycle_tells_the_time_of_day(table: str) -> None:
    data = pairs(table, windows__x="time", windows__cycle=24)
    assert tuple(data.scaling) == (0, 48, 0, 1)
    # Row 80 is 160 hours after five in the morning.
    assert all_batches(data, "test")[0].x[:, 0].tolist() == [(5 + 160 + 8 * window) % 24 for window in range(4)]
    assert tuple(pairs(table, windows__cycle=5).scaling) == (0, 20, 0, 1)


def test_an_axis_of_numbers(tmp_path: Path) -> None:
    frame = wave().assign(depth=np.arange(ROWS) ** 1.5)
    data = pairs(write(frame, tmp_path / "t.csv"), windows__x="depth")
    depth = frame["depth"].to_numpy()
    expected = torch.from_numpy(depth[80:88] - depth[80]).float()
    torch.testing.assert_close(all_batches(data, "test")[0].x[0, :8], expected)


def test_missing_cells_are_neither_shown_nor_scored(tmp_path: Path) -> None:
    frame = wave()
    frame.loc[81, "a"] = frame.loc[[82, 86], "b"] = np.nan
    # Nothing left to score in the window that starts at 92.
    frame.loc[95:, "b"] = np.nan
    data = pairs(write(frame, tmp_path / "t.csv"))
    test, predict = (torch.cat([batch.y for batch in all_batches(data, stage)]) for stage in ("test", "predict"))
    assert test[0].isnan().nonzero().flatten().tolist() == [1, 10, 14]
    assert (len(test), len(predict)) == (3, 4)
    assert predict[3, 11:].isnan().all()
    assert not data.complete
    assert pairs(write(wave(), tmp_path / "whole.csv")).complete


def test_no_row_is_left_without_a_prediction(table: str) -> None:
    data = pairs(table, windows__stride=5)
    ends = {stage: int(data.numbers[stage].max()) + SMALL["windows__length"] for stage in ("test", "predict")}
    assert ends == {"test": 98, "predict": ROWS}
    batches = all_batches(data, "predict")
    assert torch.cat([batch.task for batch in batches]).tolist() == data.numbers["predict"].tolist()


def test_what_is_missing_is_not_chosen_as_context(tmp_path: Path) -> None:
    frame = wave()
    frame.loc[::2, "b"] = np.nan
    data = pairs(write(frame, tmp_path / "t.csv"), regime="interp", context=4)
    batches = [data.batches("train")[index] for index in range(4)]
    assert not any(batch.y[:, : batch.context].isnan().any() for batch in batches)


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        (("a", "B_"), {}, r"no column 'B_' \(did you mean 'b'\?\); columns: time, a, b, c"),
        ((0, 9), {}, r"columns 0 to 3, got 9; columns: time"),
        (("a", "a"), {}, "columns must be different, got 'a' twice"),
        ((), {}, "columns must name at least 1 column of .*, got none"),
        (("a", "time"), {}, "column 'time' of .* must hold finite numbers, got 2020-01-01 05:00:00, row 0"),
        (("a", "b"), {"infer": "c"}, "infer must be of the sequences, got 'c'; columns: a, b"),
        (("a", "b"), {"infer": ("a", "B_")}, r"infer must be of the sequences, got 'B_' \(did you mean 'b'\?\)"),
        (("a", "b"), {"infer": ("a", "a")}, r"infer must name different sequences, at least 1, got \['a', 'a'\]"),
        (("a", "b"), {"infer": ()}, r"infer must name different sequences, at least 1, got \[\]"),
        (("a", "b"), {"windows__x": "when"}, "no column 'when'"),
        (("a", "b"), {"windows__x": "b"}, "x column 'b' of .* must never fall, but does at row 1"),
        (
            ("a", "b"),
            {"windows__length": 11},
            r"each part must hold 11 rows \(a window\), got train 70, val 10, test 20",
        ),
        (("a", "b"), {"windows__length": 1}, "windows.length must be at least 2, got 1"),
        (("a", "b"), {"context": 8}, "context must be less than the window's 8 rows, got 8"),
        (
            ("a", "b"),
            {"evaluation__context": (2, 9)},
            "evaluation.context must be less than the window's 8 rows, got 9",
        ),
        (("a", "b"), {"context": (5, 2)}, r"context must be two numbers, 1 <= fewest <= most, got \[5, 2\]"),
        (("a", "b"), {"windows__stride": 0}, "stride must be at least 1, got 0"),
        (("a", "b"), {"augmentation__drift": -1.0}, "drift must be at least 0, got -1"),
        (("a", "b"), {"windows__cycle": -1.0}, "cycle must be greater than 0, got -1"),
        (
            ("a", "b"),
            {"evaluation__shares": (0.7, 0.3, 0.3)},
            r"shares must be greater than 0 and sum to 1, got \[0.7, 0.3, 0.3\]",
        ),
        (("a", "b"), {"regime": "guess"}, "regime must be of shuffle, .*, got guess"),
        (("a", "b"), {"regime": ()}, "regime must be of shuffle, .*, got none"),
    ],
)
def test_mistakes_are_named(table: str, columns: tuple[str | int, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pairs(table, columns, **options)


@pytest.mark.parametrize(
    ("rows", "column", "value", "options", "words"),
    [
        (slice(0, 70), "b", 1.0, {}, "column 'b' has always the same value in the training part"),
        (slice(0, 70), "b", np.nan, {}, "column 'b' has no value in the training part"),
        (slice(71, 100), "b", np.nan, {}, "no task to val on has known values of .*; none has of 'b'"),
        (slice(3, 4), "b", np.inf, {}, "column 'b' of .* must hold finite numbers, got inf, row 3"),
        (slice(3, 4), "c", np.nan, {"windows__x": "c"}, "x column 'c' must have no gaps, got one at row 3"),
        (slice(3, 4), "time", "noon", {"windows__x": "time"}, "x column 'time' must hold numbers or dates of one form"),
        (slice(0, 100), "c", 2.0, {"windows__x": "c"}, "x column 'c' must rise within a window of 8 rows"),
    ],
)
def test_tables_that_will_not_do(
    tmp_path: Path, rows: slice, column: str, value: Any, options: dict[str, Any], words: str
) -> None:
    frame = wave()
    frame.loc[frame.index[rows], column] = value
    path = write(frame, tmp_path / "t.csv")
    with pytest.raises(ValueError, match=words):
        pairs(path, **options)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        pairs(str(tmp_path / "none.csv"))
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="holds no rows"):
        pairs(str(tmp_path / "t.csv"))


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    rows = "".join(f"{day}.{month}.2020;{day},5;{day * month}.000\n" for month in range(1, 5) for day in range(1, 26))
    path = tmp_path / "t.csv"
    path.write_text(f"when;a;b\n{rows.replace('5.000', 'n/a', 1)}")
    data = pairs(str(path), windows__x="when", windows__unit="D")
    batch = data.tasks.take(torch.tensor([0]))
    assert batch.x[0, :8].tolist() == list(range(8))
    expected = torch.arange(1.5, 9)
    torch.testing.assert_close(batch.y[0, :8] * data.std[0] + data.mean[0], expected)
    assert batch.y[0, 8:].isnan().tolist() == [False] * 4 + [True] + [False] * 3


@pytest.mark.parametrize(("cell", "shown"), [("x", "x"), ("1e400", "inf"), ("inf", "inf"), ("9" * 400, "inf")])
def test_a_bad_cell_is_named(tmp_path: Path, cell: str, shown: str) -> None:
    frame = wave().astype({"b": object})
    frame.loc[7, "b"] = cell
    with pytest.raises(ValueError, match=f"column 'b' of .* must hold finite numbers, got {shown}, row 7"):
        pairs(write(frame, tmp_path / "t.csv"))


@pytest.mark.parametrize("row", [3, 95])
def test_a_value_beside_which_the_others_are_equal_is_refused(tmp_path: Path, row: int) -> None:
    frame = wave()
    frame.loc[row, "b"] = 1e30 if row < 70 else 1e300
    with pytest.raises(ValueError, match=r"column 'b' has a value of 1e\+30.*"):
        pairs(write(frame, tmp_path / "t.csv"))


def test_a_value_that_makes_nearly_all_variance_is_said(tmp_path: Path) -> None:
    frame = wave()
    frame.loc[3, "b"] = 1e4
    with pytest.warns(TableWarning, match="column 'b' has a value of 10000 in the training part that makes 99% of its"):
        pairs(write(frame, tmp_path / "t.csv"))


def test_unix_seconds_as_values_keep_their_differences(tmp_path: Path) -> None:
    frame = wave().assign(b=1.7e9 + 10 * np.arange(ROWS))
    data = pairs(write(frame, tmp_path / "t.csv"))
    values = data.tasks.take(torch.tensor([0])).y[0, 8:]
    torch.testing.assert_close(values.diff() * data.std[1], torch.full((7,), 10.0))
