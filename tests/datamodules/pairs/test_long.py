"""Long tables as tasks: sequences of any length at any locations, with padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import LongPairs
from datamodules.pairs.long_series import LongNames
from tabattn.contract.batches import PairBatch
from tabattn.pairs import InferenceOptions, lay_out
from tests.helpers import build

TASKS = 20


def long(tasks: int = TASKS) -> pd.DataFrame:
    """Task t has 3 + t % 4 observations of "low" and 4 of "up", in no order."""
    source = np.random.default_rng(0)
    lines = []
    for task in range(tasks):
        for member, size in (("low", 3 + task % 4), ("up", 4)):
            lines += [(f"task {task}", member, 100 * task + place, task + place) for place in source.random(size) * 10]
    frame = pd.DataFrame(lines, columns=["task", "member", "x", "y"])
    return frame.iloc[source.permutation(len(frame))]


def write(frame: pd.DataFrame, folder: Path) -> str:
    path = folder / "long.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    return write(long(), tmp_path)


def pairs(path: str, **options: Any) -> LongPairs:
    return build(LongPairs, path, **{"context": 2, "batch_size": 4, **options})


def all_batches(data: LongPairs, stage: str) -> list[PairBatch]:
    batches = data.batches(stage)
    return [batches[index] for index in range(len(batches))]


def values(data: LongPairs, batch: PairBatch) -> torch.Tensor:
    return batch.y * torch.tensor(data.std)[batch.member] + torch.tensor(data.mean)[batch.member]


def test_every_task_comes_whole_and_once(table: str) -> None:
    data = pairs(table, series__from_start=False)
    frame = long()
    seen: list[float] = []
    for stage in ("val", "test"):
        for batch in all_batches(data, stage):
            known = batch.y.isfinite()
            # Each value is its place, less 99 times the number of its task.
            task = (batch.x / 100).floor()
            torch.testing.assert_close((values(data, batch) + 99 * task)[known], batch.x[known], rtol=0, atol=1e-3)
            seen += task[:, 0].tolist()
            for number, row in zip(task[:, 0].tolist(), known, strict=True):
                assert row.sum() == (frame["task"] == f"task {number:g}").sum()
    assert len(seen) == len(set(seen)) == 6


def test_a_forecast_shows_the_first_observations(table: str) -> None:
    for infer, member in (("up", 1), ("low", 0)):
        for batch in all_batches(pairs(table, infer=infer), "test"):
            assert (batch.member[:, batch.context :] == member).all()
            shown = (batch.member == member)[:, : batch.context] & batch.y[:, : batch.context].isfinite()
            assert (shown.sum(1) == 2).all()
            last = batch.x[:, : batch.context].masked_fill(~shown, -1).amax(1)
            assert (batch.x[:, batch.context :] > last[:, None]).all()


@pytest.mark.parametrize("infer", ["low", "up"])
def test_only_what_exists_is_inferred(table: str, infer: str) -> None:
    data = pairs(table, infer=infer, batch_size=20)
    (batch,) = all_batches(data, "predict")
    assert batch.padding is not None
    assert batch.task is not None
    assert (batch.padding == batch.y.isnan()).all()
    laid = lay_out(batch, InferenceOptions())
    assert laid.padding is not None
    there = ~laid.padding
    rows = long().groupby(["task", "member"]).size()
    # Tasks are numbered as they come in the table.
    names = list(dict.fromkeys(long()["task"]))
    for item, number in enumerate(batch.task.tolist()):
        targets = there[item, laid.context :]
        assert int(targets.sum()) == rows[names[number], infer] - 2
        assert (laid.member[item, laid.context :][targets] == data.infer[0]).all()
        assert int(there[item].sum()) == rows[names[number]].sum()


def test_all_sequences_are_inferred_at_once(table: str) -> None:
    """Of unequal length: each shows its first points, and what pads it is neither shown nor scored."""
    data = pairs(table, infer=("low", "up"), regime="forecast")
    for batch in all_batches(data, "test"):
        assert batch.context == 4
        for row in range(len(batch.x)):
            for member in (0, 1):
                own = batch.member[row] == member
                order = batch.x[row][own & batch.y[row].isfinite()]
                assert int((own[:4]).sum()) == 2
                assert torch.equal(order[2:].sort().values, order[2:])
                assert order[:2].max() < order[2:].min()
    assert len({data.batches("train")[index].context for index in range(30)}) > 1


def test_a_sequence_alone_is_inferred_from_its_own_past(table: str) -> None:
    data = pairs(table, series__names=("low",))
    batch = all_batches(data, "test")[0]
    assert (data.members, batch.context) == (1, 2)
    assert (batch.member == 0).all()


def test_training_takes_any_regime(table: str) -> None:
    data = pairs(table, regime=("mix", "half_half"), context=(1, 5), augmentation__swap_roles=True)
    batches = [data.batches("train")[index] for index in range(40)]
    assert all(0 < batch.context < batch.x.shape[1] for batch in batches)
    assert all(batch.y[:, : batch.context].isfinite().any(1).all() for batch in batches)
    assert {member for batch in batches for member in batch.member[:, batch.context :].flatten().tolist()} == {0, 1}


def test_a_batch_is_a_function_of_seed_and_number(table: str) -> None:
    one, again = (pairs(table, seed=3).batches("train") for _ in range(2))
    _ = one[0]
    torch.testing.assert_close(one[5], again[5], rtol=0, atol=0, equal_nan=True)
    assert len(one[5].y) == 4


def test_the_split_is_seeded_or_in_order(table: str) -> None:
    assert pairs(table, series__ordered=True).numbers["test"].tolist() == list(range(16, 20))
    one, again, other = (pairs(table, seed=seed).numbers["test"].tolist() for seed in (0, 0, 1))
    assert one == again != other


def test_places_from_the_start(table: str) -> None:
    data = pairs(table, series__from_start=True)
    assert data.scaling.x_low == 0
    assert data.scaling.x_high < 10
    assert all(torch.equal(batch.x.amin(1), torch.zeros(len(batch.x))) for batch in all_batches(data, "test"))


def test_names_of_columns_and_sequences(tmp_path: Path) -> None:
    frame = pd.concat([long(), long().assign(member="other")])
    path = write(frame.rename(columns={"x": "place", "member": "kind"}), tmp_path)
    data = pairs(path, columns=LongNames(member="kind", x="place"), series__names=("up", "low"))
    assert (data.names, data.members) == (("up", "low"), 2)
    assert data.infer == (1,)
    assert pairs(path, columns=LongNames(member="kind", x="place")).names == ("low", "other", "up")


def test_unknown_values_are_asked_for(tmp_path: Path) -> None:
    frame = long().sort_values("x")
    rows = (frame["task"] == "task 19") & (frame["member"] == "up")
    frame.loc[frame["x"].where(rows).nlargest(3).index, "y"] = np.nan
    data = pairs(write(frame, tmp_path), infer="up", series__ordered=True, context=1)
    assert data.numbers["test"].tolist() == [*range(16, 19)]
    assert data.numbers["predict"].tolist() == [*range(16, 20)]
    asked = data.tasks.take(torch.tensor([19]))
    assert asked.y[asked.member == 1].isfinite().sum() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": LongNames(y="value")}, r"no column 'value'; columns: task, member, x, y"),
        ({"series__names": ("low", "Ups")}, r"no sequence 'Ups' \(did you mean 'up'\?\); sequences: low, up"),
        ({"series__names": ()}, "long.csv must have at least 1 sequence to read, got none"),
        ({"infer": "middle"}, "infer must be of the sequences, got 'middle'"),
        ({"columns": LongNames(y="member")}, "column 'member' of .* must hold finite numbers"),
        ({"context": 9}, "no task to val on has known values of every sequence, .*; none has of 'up'"),
        ({"context": (9, 9)}, "no task to train on has known values of every sequence, .*; none has of 'up'"),
        ({"evaluation__shares": (0.97, 0.02, 0.01)}, "each part must hold 1 task, got train 19, val 1, test 0"),
    ],
)
def test_mistakes_are_named(table: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pairs(table, **options)


def test_a_row_must_belong_somewhere(tmp_path: Path) -> None:
    frame = long().reset_index(drop=True)
    frame.loc[4, "task"] = np.nan
    with pytest.raises(ValueError, match=r"column 'task' of .* must have no gaps, got one at row 4"):
        pairs(write(frame, tmp_path))


def test_an_axis_too_fine_is_refused(tmp_path: Path) -> None:
    frame = long().assign(x=lambda rows: rows["x"] + 1e9)
    path = write(frame, tmp_path)
    with pytest.raises(ValueError, match=r"single precision does not tell apart.*from_start"):
        pairs(path)
    assert pairs(path, series__from_start=True).scaling.x_high < 10


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("x", "soon", "x column .x. must hold numbers or dates of one form, such as .*, got .soon. at row 4"),
        ("x", None, "x column 'x' must have no gaps, got one at row 4"),
        ("y", "high", "column 'y' of .* must hold finite numbers, got high, row 4"),
        ("member", None, "column 'member' of .* must have no gaps, got one at row 4"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, column: str, cell: str | None, words: str) -> None:
    frame = long().reset_index(drop=True).astype({column: object})
    frame.loc[4, column] = cell
    with pytest.raises(ValueError, match=words) as caught:
        pairs(write(frame, tmp_path))
    assert caught.value.__cause__ is None


def test_sequences_and_tasks_of_any_plain_type(tmp_path: Path) -> None:
    frame = long().assign(member=lambda rows: rows["member"].map({"low": 1, "up": 2}))
    assert pairs(write(frame, tmp_path)).names == ("1", "2")
