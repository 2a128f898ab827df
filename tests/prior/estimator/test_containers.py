"""Predictions do not depend on the container of a table or on settings of the process."""

import datetime as dt
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.model_selection import cross_val_score

from tabattn import TabularClassifier
from tabattn.contract.errors import TableWarning
from tests.prior.estimator.tiny import MakeTable

NAN = np.nan
Y = ["no", "yes", "no", "yes"] * 3


def rows() -> list[list[Any]]:
    """Numbers beside text, and missing cells of each."""
    kinds = [[NAN, "B"], [41.2, "A"], [3.5, None], [7.25, "A"], [1.0, "B"], [2.0, "A"]]
    return [list(row) for row in kinds * 2]


def probabilities(x: Any, test: Any = None) -> Any:
    return TabularClassifier().fit(x, Y).predict_proba(x if test is None else test)


CONTAINERS: dict[str, Callable[[], Any]] = {
    "lists": rows,
    "tuples": lambda: [tuple(row) for row in rows()],
    "object array": lambda: np.array(rows(), dtype=object),
    "structured array": lambda: np.array([tuple(row) for row in rows()], dtype=[("number", "f8"), ("text", "O")]),
    "masked array": lambda: np.ma.array(  # type: ignore[no-untyped-call]
        [[0.0 if number != number else number, text or "A"] for number, text in rows()],
        mask=[[number != number, text is None] for number, text in rows()],
        dtype=object,
    ),
    "frame": lambda: pd.DataFrame(rows()),
    "string": lambda: pd.DataFrame(rows()).astype({1: "string"}),
    "category": lambda: pd.DataFrame(rows()).astype({1: "category"}),
    "nullable": lambda: pd.DataFrame(rows()).convert_dtypes(),
    "numbers as text": lambda: pd.DataFrame(rows()).astype({0: "string"}),
    "bytes": lambda: pd.DataFrame([[number, text and text.encode()] for number, text in rows()]),
    "decimals": lambda: pd.DataFrame(
        [[None if number != number else Decimal(repr(number)), text] for number, text in rows()]
    ),
}


def foreign(name: str) -> Any:
    """The table as a frame of another library, where that is installed."""
    frame = pd.DataFrame(rows()).set_axis(["number", "text"], axis=1)
    if name == "records":
        return frame.to_dict("records")
    library = pytest.importorskip(name)
    if name == "pyarrow":
        return library.Table.from_pandas(frame)
    numbers, texts = zip(*rows(), strict=True)
    return library.DataFrame({"number": numbers, "text": texts})


@pytest.mark.parametrize("name", ["pyarrow", "polars", "records"])
def test_a_frame_of_another_library_is_a_table(name: str) -> None:
    x = foreign(name)
    frame = pd.DataFrame(rows()).set_axis(["number", "text"], axis=1)
    np.testing.assert_array_equal(probabilities(x), probabilities(frame))
    np.testing.assert_array_equal(probabilities(frame, x), probabilities(frame))


@pytest.mark.parametrize("dtype", [None, "dictionary"])
def test_labels_of_arrow_arrays(dtype: str | None) -> None:
    arrow = pytest.importorskip("pyarrow")
    y = arrow.array(Y) if dtype is None else arrow.array(Y).dictionary_encode()
    model = TabularClassifier(n_estimators=1).fit(foreign("pyarrow"), y)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(foreign("pyarrow"), y) == model.score(foreign("pyarrow"), Y)
    with pytest.raises(ValueError, match="Input y contains NaN: 1 of 12 rows have no label"):
        model.fit(foreign("pyarrow"), arrow.array([None, *Y[1:]]))


class Lazy:
    """A query of another library that has not run."""

    def collect(self) -> pd.DataFrame:
        return pd.DataFrame(rows())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Lazy, "a table must be a DataFrame, an array or a list of rows, got a Lazy: collect it first$"),
        (lambda: {"a": [1, 2]}, "a table must be a DataFrame, an array or a list of rows, got a dict$"),
        (lambda: iter(rows()), "got a list_iterator$"),
        (
            lambda: pytest.importorskip("pyarrow").chunked_array([[1.0] * 12]),
            "a table must be two-dimensional, got a ChunkedArray, which is no table: ",
        ),
    ],
)
def test_what_is_no_table_is_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        probabilities(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_table_means_the_same_in_every_container(name: str) -> None:
    np.testing.assert_array_equal(probabilities(CONTAINERS[name]()), probabilities(pd.DataFrame(rows())))


def test_arrow_tables_and_dtypes() -> None:
    arrow = pytest.importorskip("pyarrow")
    expected = probabilities(pd.DataFrame(rows(), columns=["a", "b"]))
    table = arrow.table({"a": [row[0] for row in rows()], "b": [row[1] for row in rows()]})
    np.testing.assert_array_equal(probabilities(table), expected)
    np.testing.assert_array_equal(probabilities(table.to_pandas(types_mapper=pd.ArrowDtype)), expected)


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "csr_matrix"])
def test_sparse_matrices(kind: str) -> None:
    dense = np.random.default_rng(0).integers(0, 3, (12, 4)).astype(float)
    np.testing.assert_array_equal(probabilities(getattr(sparse, kind)(dense)), probabilities(dense))


def test_a_sparse_matrix_too_large_to_spread_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparse table of 12 x 100000000 = 1200000000 cells is more than 100000000"):
        TabularClassifier().fit(sparse.csr_array((12, 10**8)), Y)


@pytest.mark.parametrize("dtype", ["i1", "u8", "f2", "f8", "?", "U3", "S3", "O", "datetime64[s]", "timedelta64[D]"])
def test_arrays_of_every_dtype(dtype: str) -> None:
    x = np.arange(24).reshape(12, 2) % 9
    x = (x % 2).astype(bool) if dtype == "?" else x.astype(dtype)
    expected = x.astype("i8").astype(float) if dtype != "O" else x.astype(float)
    np.testing.assert_allclose(probabilities(x), probabilities(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [[[1, 2], [3]], [[[1], [2]], [[3], [4]]], np.array([[1j, 2]] * 12), 3, "text", None])
def test_what_is_no_table_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        TabularClassifier().fit(bad, Y)


def test_unread_words_at_prediction_are_missing_and_said(table: MakeTable) -> None:
    x, y = table(12)
    model = TabularClassifier().fit(pd.DataFrame(x, columns=list("abcd")), y)
    test = pd.DataFrame(x[:2], columns=list("abcd")).astype(object)
    test.loc[0, "b"] = NAN
    expected = model.predict_proba(test)
    test.loc[0, "b"] = "broken"
    with pytest.warns(TableWarning, match="column 'b' has 'broken', which cannot be read as a number"):
        np.testing.assert_array_equal(model.predict_proba(test), expected)


def test_new_dates_at_prediction_are_days() -> None:
    train = pd.DataFrame({"when": [f"2020-01-{day:02}" for day in range(1, 25, 2)]})
    test = pd.DataFrame({"when": ["2020-01-04"]})
    days = pd.DataFrame({"when": np.arange(1, 25, 2.0)})
    for kind in (str, "datetime64[ns]", object):
        found = TabularClassifier().fit(train.astype(kind), Y).predict_proba(test)
        np.testing.assert_allclose(found, probabilities(days, pd.DataFrame({"when": [4.0]})), rtol=0, atol=1e-5)


def test_ordinary_tables_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = pd.DataFrame(rows(), columns=["number", "text"]).assign(when=pd.date_range("2020", periods=12))
        TabularClassifier().fit(frame, Y).predict(frame)


@pytest.mark.parametrize("output", ["pandas", "polars", "default"])
def test_any_output_that_scikit_learn_is_set_to(table: MakeTable, output: str) -> None:
    x, y = table()
    expected = TabularClassifier().fit(x, y).predict_proba(x)
    with sklearn.config_context(transform_output=output):
        found = TabularClassifier().fit(x, y).predict_proba(x)
    np.testing.assert_array_equal(found, expected)


def test_metadata_routing(table: MakeTable) -> None:
    x, y = table(30)
    with sklearn.config_context(enable_metadata_routing=True):
        assert len(cross_val_score(TabularClassifier(n_estimators=1), x, y, cv=2)) == 2


@pytest.fixture
def _torch_as_it_was() -> Any:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_torch_as_it_was")
@pytest.mark.parametrize(
    "setting",
    [
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float16),
        lambda: torch.set_default_device("meta"),
        lambda: torch.use_deterministic_algorithms(True),
    ],
    ids=["float64", "float16", "meta", "deterministic"],
)
def test_any_default_of_torch(table: MakeTable, setting: Callable[[], None], tmp_path: Any) -> None:
    x, y = table()
    first = TabularClassifier().fit(x, y)
    expected = first.predict_proba(x)
    first.save(tmp_path / "before.safetensors")
    setting()
    dtype = torch.get_default_dtype()
    model = TabularClassifier().fit(x, y)
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    model.save(tmp_path / "model.safetensors")
    for name in ("before", "model"):
        again = TabularClassifier.load(tmp_path / f"{name}.safetensors", device="cpu")
        np.testing.assert_array_equal(again.predict_proba(x), expected)
    assert torch.get_default_dtype() == dtype


LABELS: dict[str, list[Any]] = {
    "timestamps": [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-01")],
    "dates": [dt.date(2020, 1, 2), dt.date(2020, 1, 1)],
    "zoned": [pd.Timestamp("2020-01-02", tz="UTC"), pd.Timestamp("2020-01-01", tz="UTC")],
    "decimals": [Decimal("1.5"), Decimal("0.5")],
    "intervals": [pd.Interval(1, 2), pd.Interval(0, 1)],
    "periods": [pd.Period("2020-02"), pd.Period("2020-01")],
    "bytes": [b"b", b"a"],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_other_types(table: MakeTable, name: str) -> None:
    x, _ = table(12)
    labels = LABELS[name] * 6
    for y in (labels, pd.Series(labels), pd.Series(labels, dtype="category"), np.array([*labels, None], object)[:-1]):
        model = TabularClassifier().fit(x, y)
        assert len(model.classes_) == 2
        assert pd.Series(model.classes_).tolist() == sorted(set(pd.Series(y)))
        found = pd.Series(model.predict(x)).tolist()
        assert model.score(x, y) == np.mean([one == other for one, other in zip(found, pd.Series(y), strict=True)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", NAN, "b"] * 4, "Input y contains NaN: 4 of 12 rows have no label"),
        (["a", None, "b"] * 4, "Input y contains NaN: 4 of 12 rows have no label"),
        (["a", 1, "b"] * 4, "labels must be of one kind that can be sorted"),
        ([pd.NaT, pd.Timestamp(0), pd.Timestamp(1)] * 4, "4 of 12 rows have no label"),
        (np.array([1, 2j, 3] * 4), "."),
    ],
)
def test_labels_that_will_not_do(table: MakeTable, labels: Any, message: str) -> None:
    x, _ = table(12)
    with pytest.raises(ValueError, match=message):
        TabularClassifier().fit(x, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_estimators": "8"}, r"n_estimators must be a whole number \(int\), at least 1, got '8'"),
        ({"n_estimators": 2.0}, r"n_estimators must be a whole number \(int\), at least 1, got 2.0"),
        ({"n_estimators": True}, "n_estimators must be a whole number .* got True"),
        ({"max_context": None}, "max_context must be a whole number .* got None"),
        ({"max_context": "all"}, "max_context must be a whole number .* got 'all'"),
        ({"chunk_rows": [1]}, "chunk_rows must be a whole number"),
        ({"temperature": "hot"}, "temperature must be above 0 and finite, got 'hot'"),
        ({"temperature": NAN}, "temperature must be above 0 and finite, got nan"),
        ({"average": ["logits"]}, r"average must be one of logits, probabilities, got \['logits'\]"),
        ({"dtype": torch.float32}, "dtype must be one of float32, bfloat16, float16, got torch.float32"),
        ({"cache": "no"}, "cache must be True or False, got 'no'"),
        ({"device": 0}, "device must be a name"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"model": 5}, "model must be"),
    ],
)
def test_arguments_of_a_wrong_type(table: MakeTable, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularClassifier(**arguments).fit(*table())


def test_numpys_integers_are_integers(table: MakeTable, tmp_path: Any) -> None:
    x, y = table()
    model = TabularClassifier(n_estimators=np.int64(2), chunk_rows=np.uint8(9), temperature=np.float32(1)).fit(x, y)
    model.save(tmp_path / "model.safetensors")
    again = TabularClassifier.load(tmp_path / "model.safetensors", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_the_repr_of_a_loaded_classifier_is_a_short_line(table: MakeTable, tmp_path: Any) -> None:
    TabularClassifier(n_estimators=2).fit(*table()).save(tmp_path / "model.safetensors")
    model = TabularClassifier.load(tmp_path / "model.safetensors", device="cpu")
    assert repr(model) == "TabularClassifier(model=<PriorNetwork>, device='cpu', kernel_weight=0.7, n_estimators=2)"
    assert repr(TabularClassifier(n_estimators=2)) == "TabularClassifier(n_estimators=2)"


def test_a_saved_estimator_reads_columns_as_it_did(tmp_path: Any) -> None:
    count = range(12)
    frame = pd.DataFrame(
        {
            "money": [f"1.{index:03},5" for index in count],
            "when": [f"{index + 1}.2.2020" for index in count],
            "lasts": pd.to_timedelta([f"{index}h" for index in count]),
            "word": ["a", "b"] * 6,
        }
    )
    model = TabularClassifier().fit(frame, Y)
    assert [reading.kind for reading in model.encoder_.readings_] == ["number", "date", "duration", "category"]
    model.save(tmp_path / "model.safetensors")
    again = TabularClassifier.load(tmp_path / "model.safetensors", device="cpu")
    assert again.encoder_.readings_ == model.encoder_.readings_
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))
