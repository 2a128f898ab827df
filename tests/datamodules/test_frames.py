"""A DataFrame in place of the path of a table gives the same tasks."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from datamodules import LongPairs, SyntheticPrior, TablePairs, TableTasks
from datamodules.pairs import LongNames, WindowOptions
from datamodules.prior import ReadingOptions
from datamodules.tables.real import load_tables

ROOT = Path(__file__).parents[2]
ROOMS, POPULATIONS = ROOT / "examples" / "rooms.csv", ROOT / "examples" / "populations.csv"
ROLES = {"task": "island", "member": "animal", "x": "year", "y": "log_count"}
LONG: dict[str, Any] = {"infer": "lynxes", "context": 3, "batch_size": 4}
WIDE: dict[str, Any] = {"columns": ("outside", "inside"), "context": 4, "batch_size": 4}
WIDE["windows"] = WindowOptions(x="time", length=16)


def iris() -> pd.DataFrame:
    return load_iris(as_frame=True).frame


def first(data: Any, stage: str = "test") -> Any:
    return next(iter(getattr(data, f"{stage}_dataloader")()))


def same(one: Any, other: Any) -> None:
    for left, right in zip(one, other, strict=True):
        if isinstance(left, torch.Tensor):
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
        else:
            assert left == right


def test_table_tasks(tmp_path: Path) -> None:
    frame = iris().rename(columns={"target": "kind"})[["kind", *iris().columns[:4]]]
    frame.index = frame.index[::-1]
    before = frame.copy()
    frame.to_csv(tmp_path / "iris.csv", index=False)
    sizes: dict[str, Any] = {"rows": 30, "context": 20, "reading": ReadingOptions(target="kind")}
    same(first(TableTasks(frame, **sizes)), first(TableTasks(str(tmp_path / "iris.csv"), **sizes)))
    pd.testing.assert_frame_equal(frame, before)


def test_tables_that_score_a_prior() -> None:
    named = iris()
    named.attrs["name"] = "flowers"
    data = SyntheticPrior(tables=(named, iris(), "sklearn:iris", iris()))
    assert data.tables == ("flowers", "table", "iris", "table 2")
    assert SyntheticPrior(tables=iris()).tables == ("table",)  # type: ignore[arg-type]
    same(first(SyntheticPrior(tables=(iris(),))), first(SyntheticPrior(tables=("sklearn:iris",))))


def test_columns_over_time() -> None:
    frame = pd.read_csv(ROOMS)
    same(first(TablePairs(frame, **WIDE)), first(TablePairs(str(ROOMS), **WIDE)))
    frame["time"] = pd.to_datetime(frame["time"])
    same(first(TablePairs(frame, **WIDE)), first(TablePairs(str(ROOMS), **WIDE)))


def test_long_tables_with_columns_by_their_roles() -> None:
    frame = pd.read_csv(POPULATIONS)
    path = LongPairs(str(POPULATIONS), LongNames(**ROLES), **LONG)
    same(first(LongPairs(frame, ROLES, **LONG)), first(path))
    renamed = frame.rename(columns={"year": "x", "log_count": "y"})
    same(first(LongPairs(renamed, {"task": "island", "member": "animal"}, **LONG)), first(path))


def test_roles_are_checked() -> None:
    frame = pd.read_csv(POPULATIONS)
    with pytest.raises(ValueError, match=r"columns has no role 'membr' \(did you mean 'member'\?\)"):
        LongPairs(frame, {"membr": "animal"}, **LONG)
    with pytest.raises(ValueError, match="columns must name those of the roles task, member, x, y"):
        LongPairs(frame, ["island", "animal"], **LONG)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (3, "a table is the path of a file or a DataFrame of pandas, got int"),
        (iris().iloc[:0], "the DataFrame holds 0 rows"),
        (pd.concat([iris(), iris()], axis=1), "the DataFrame has 2 columns 'sepal length"),
        (iris()["target"], "a table is the path of a file or a DataFrame of pandas, got Series"),
    ],
)
def test_what_is_no_table_is_refused(source: Any, said: str) -> None:
    for read in (
        lambda: TableTasks(source),
        lambda: load_tables((source,), 100, 0),
        lambda: TablePairs(source, columns=(0, 1)),
        lambda: LongPairs(source),
    ):
        with pytest.raises(ValueError, match=said[:40]):
            read()


@pytest.mark.parametrize("name", ["pyarrow", "polars"])
def test_a_frame_of_another_library_is_refused_with_the_way_to_give_it(name: str) -> None:
    library = pytest.importorskip(name)
    made = library.Table if name == "pyarrow" else library
    source = made.from_pandas(iris())
    for read in (lambda: TableTasks(source), lambda: load_tables(source, 100, 0), lambda: LongPairs(source)):
        with pytest.raises(ValueError, match=rf"got \w+ of {name}; give it as \.to_pandas\(\)$"):
            read()


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"the DataFrame has no column 'targt' \(did you mean 'target'\?\)"):
        TableTasks(iris(), reading=ReadingOptions(target="targt"))
