"""Meta-features: pymfe's values, those of numeric targets, and what happens where they are undefined."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabattn.metafeatures import NAMES, MetaFeatures, MetaScaler, get_meta_features
from tests.metafeatures.tables import Table, classification, regression

RECORDED = json.loads(Path(__file__).with_name("pymfe.json").read_text())
TABLES: dict[str, Table] = {**classification(), "regression": regression()}


@pytest.mark.parametrize("name", TABLES)
def test_the_values_of_pymfe(name: str) -> None:
    """Those of a numeric target are pymfe's for the classes it is cut into."""
    found = get_meta_features(*TABLES[name], seed=RECORDED["seed"])
    recorded = RECORDED[name]
    assert len(recorded) == 37
    assert found.names[:37] == tuple(recorded)
    expected = np.array([np.nan if value is None else value for value in recorded.values()])
    np.testing.assert_array_equal(found.valid[:37], ~np.isnan(expected))
    np.testing.assert_allclose(found.values[:37], np.nan_to_num(expected), rtol=1e-6, atol=1e-12)


def test_classes_may_have_any_labels() -> None:
    columns, classes = TABLES["iris"]
    expected = get_meta_features(columns, classes)
    for labels in (np.array(["a", "b", "c"])[classes], classes * 0.5, classes[:, None], classes.astype(object)):
        found = get_meta_features(columns, labels, task="classification")
        np.testing.assert_array_equal(found.values, expected.values)
    assert not expected.valid[37:].any()


def test_the_group_of_numeric_targets() -> None:
    source = np.random.default_rng(0)
    columns = source.normal(size=(500, 3))
    linear = get_meta_features(columns, columns @ [3.0, 4.0, 0.0] + 7)
    assert linear.valid.all()
    assert linear["ridge_r2"] > 0.9999
    assert linear["y_cor.mean"] == pytest.approx((0.6 + 0.8) / 3, abs=0.05)
    assert linear["knn_r2"] == pytest.approx(0.92, abs=0.05)
    assert linear["noise"] < 0.1
    noise = get_meta_features(columns, source.exponential(size=500))
    assert abs(noise["ridge_r2"]) < 0.05
    assert noise["noise"] == pytest.approx(1, abs=0.2)
    assert noise["y_skewness"] == pytest.approx(2, abs=0.6)
    steps = get_meta_features(columns, (columns[:, 0] > 0) + 0.5 * (columns[:, 1] > 0))
    assert (steps["tree_reg_leaves"], steps["tree_reg_depth"]) == (4, 2)


def test_ridge_is_scored_without_the_row_that_it_predicts() -> None:
    source = np.random.default_rng(3)
    x, y = source.normal(size=(30, 4)), source.normal(size=30)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    errors = []
    for row in range(30):
        kept = np.arange(30) != row
        design = np.column_stack([np.ones(29), x[kept]])
        weights = np.linalg.solve(design.T @ design + np.diag([0.0, 1, 1, 1, 1]), design.T @ y[kept])
        errors.append((y[row] - weights @ [1, *x[row]]) ** 2)
    assert get_meta_features(x, y)["ridge_r2"] == pytest.approx(1 - np.mean(errors), rel=1e-6)


def test_neighbours_of_duplicated_rows_are_not_themselves() -> None:
    source = np.random.default_rng(4)
    columns = np.repeat(source.normal(size=(10, 2)), 30, axis=0)
    assert get_meta_features(columns, source.normal(size=300))["knn_r2"] < 0.1


def test_scale_and_order_of_columns_do_not_matter_to_what_is_relative() -> None:
    columns, target = regression()
    found, other = get_meta_features(columns, target), get_meta_features(columns[:, ::-1] * 1e3, target * 8)
    for name in ("cor", "kurtosis", "skewness", "attr_ent", "mut_inf", "f1", "f2", "y_cor", "ridge_r2", "knn_r2"):
        np.testing.assert_allclose(
            get_meta_features(columns, target, [name]).values,
            get_meta_features(columns[:, ::-1] * 1e3, target * 8, [name]).values,
            rtol=1e-6,
        )
    assert other["cov.mean"] == pytest.approx(1e6 * found["cov.mean"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("numeric", [True, False])
@pytest.mark.parametrize(
    "columns",
    [
        np.zeros((9, 3)),
        np.arange(2.0)[:, None],
        np.full((30, 2), 1e300) * np.linspace(-1, 1, 30)[:, None],
        np.full((30, 2), 1e-310) * np.linspace(-1, 1, 30)[:, None],
        np.where(np.eye(20, 6) > 0, np.nan, 1.0),
        np.tile([1.0, 2.0, np.inf], (12, 1)),
        np.linspace(0, 1, 90).reshape(3, 30),
    ],
)
def test_tables_without_variance_or_of_any_magnitude(columns: np.ndarray, numeric: bool) -> None:
    for target in (np.arange(len(columns)) // 3 * 1.5, np.zeros(len(columns))):
        found = get_meta_features(columns, target, task="regression" if numeric else "classification")
        assert len(found) == len(NAMES)
        assert np.isfinite(found.values).all()
        assert (found.values[~found.valid] == 0).all()


def test_what_is_undefined_is_marked() -> None:
    source = np.random.default_rng(0)
    constant = np.column_stack([source.normal(size=(50, 2)), np.ones(50)])
    columns, target = constant[:, :2], source.normal(size=50)
    with_constant, without = get_meta_features(constant, target), get_meta_features(columns, target)
    for name in ("cor.mean", "skewness.mean", "kurtosis.mean", "kurtosis.sd", "f1.mean", "f2.mean"):
        assert with_constant[name] == pytest.approx(without[name]), name
    one_class = get_meta_features(columns, np.zeros(50, int))
    undefined = {name for name, valid in zip(NAMES[:37], one_class.valid, strict=False) if not valid}
    assert {"gravity", "f2.mean", "leaves_per_class.mean", "tree_depth.mean"} <= undefined
    assert undefined.isdisjoint({"attr_ent.mean", "class_ent", "cor.mean", "nodes_per_attr"})
    for nothing in (one_class, get_meta_features(np.ones((50, 2)), target)):
        assert not nothing.valid[[NAMES.index("ns_ratio"), NAMES.index("eq_num_attr")]].any()


def test_padding_and_rows_without_a_target_are_left_out() -> None:
    columns, target = regression()
    padded = np.full((320, 6), np.nan)
    padded[:300, :4] = columns
    found = get_meta_features(padded, np.concatenate([target, np.full(20, np.nan)]))
    np.testing.assert_array_equal(found.values, get_meta_features(columns, target).values)


def test_missing_values_of_any_kind() -> None:
    """None, NaN and what data frames have in their place; in labels too, where they are no class."""
    source = np.random.default_rng(0)
    columns, target = source.normal(size=(40, 2)), source.normal(size=40)
    absent = np.arange(40) % 4 == 0
    expected = get_meta_features(np.where(absent[:, None], np.nan, columns), target)
    labels = np.where(columns[:, 0] > 0, "a", "b").astype(object)
    of_labels = get_meta_features(columns[~absent], labels[~absent])
    of_numbers = get_meta_features(columns[~absent], target[~absent])

    class Missing:
        """Of which no comparison is true or false, as of pandas' NA."""

        def __ne__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise TypeError("boolean value of NA is ambiguous")

    for mark in (None, np.nan, Missing()):
        cells = columns.astype(object)
        cells[absent] = mark
        np.testing.assert_array_equal(get_meta_features(cells, target).values, expected.values)
        found = [np.where(absent, mark, each) for each in (labels, target.astype(object))]
        np.testing.assert_array_equal(get_meta_features(columns, found[0]).values, of_labels.values)
        np.testing.assert_array_equal(get_meta_features(columns, found[1]).values, of_numbers.values)


def test_what_is_no_number_is_named() -> None:
    target = np.arange(3.0)
    for cells, message in (
        (np.array([[1, 2], [3, "x"], [5, 6]], object), "parameters must be numbers, got x in column 1 of row 1"),
        (np.array([["1", "2"], ["y", "4"], ["5", "6"]]), "parameters must be numbers, got y in column 0 of row 1"),
        (np.array([["2020"] * 2] * 3, "M8[Y]"), r"parameters must be numbers, got datetime64\[Y\]"),
        (np.ones((3, 2), complex), "parameters must be numbers, got complex128"),
    ):
        with pytest.raises(ValueError, match=message):
            get_meta_features(cells, target)
    with pytest.raises(ValueError, match="target must be numbers, got complex128"):
        get_meta_features(np.ones((3, 2)), target + 1j)

    class Frame:
        """Table with names of columns."""

        columns = ("width", "colour")

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return np.array([[1, "red"]] * 3, object)

    with pytest.raises(ValueError, match="parameters must be numbers, got red in column 'colour' of row 0"):
        get_meta_features(Frame(), target)


def test_whether_a_target_is_numeric() -> None:
    columns = np.random.default_rng(0).normal(size=(400, 2))
    for target, classes in [
        (np.arange(400) % 10, 10),
        (np.arange(400) % 20 * 1.0, 20),
        (np.arange(400) % 21, 7),
        (np.arange(400) % 3 + 0.5, 3),
        (np.arange(400) % 2 == 0, 2),
    ]:
        assert get_meta_features(columns, target)["nr_class"] == classes


def test_values_by_place_and_by_name() -> None:
    found = get_meta_features(*regression(), names=["cor", "nr_attr"])
    assert found.names == ("cor.mean", "cor.sd", "nr_attr")
    assert list(found) == [found["cor.mean"], found["cor.sd"], 4.0] == found[:3]
    np.testing.assert_array_equal(np.asarray(found), found.values)
    assert isinstance(found, MetaFeatures)
    assert get_meta_features(*regression(), names="cor").names == ("cor.mean", "cor.sd")
    with pytest.raises(KeyError, match=r"no meta-feature is called 'cor.men' \(did you mean 'cor.mean'\?\)"):
        found["cor.men"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": np.zeros(3)}, r"parameters must have the shape \(rows, columns\), got \(3,\)"),
        ({"target": np.zeros(3)}, r"target must have the shape \(9,\), a label for each row, got \(3,\)"),
        ({"target": np.zeros((9, 2))}, r"target must have the shape \(9,\)"),
        ({"target": np.full(9, np.nan)}, "at least 2 rows with a target, got 0"),
        ({"parameters": np.full((9, 2), np.nan)}, "at least 1 column with a number, got none of 2"),
        ({"names": ["kor"]}, r"no meta-feature is called 'kor'"),
        ({"names": "kor"}, r"no meta-feature is called 'kor'"),
        ({"seed": -1}, "seed must be 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be 0 to 4294967295, got 4294967296"),
        ({"task": "ranking"}, "task must be auto, regression, classification, got 'ranking'"),
        ({"task": "regression", "target": ["a"] * 9}, "needs a target of numbers, got <U1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"parameters": np.zeros((9, 2)), "target": np.arange(9.0), **arguments}
    with pytest.raises(ValueError, match=message):
        get_meta_features(**given)  # type: ignore[arg-type]


def test_scaling() -> None:
    source = np.random.default_rng(0)
    found = [
        get_meta_features(source.normal(size=(count, 3)), source.normal(size=count)) for count in range(40, 100, 4)
    ]
    values, valid = np.stack([each.values for each in found]), np.stack([each.valid for each in found])
    valid[0] = False
    values[0] = 1e9
    scaler = MetaScaler.fit(values, valid)
    scaled = scaler(values, valid)
    assert scaled.dtype == np.float32
    assert (scaled[0] == 0).all()
    varying = scaled[1:].std(0) > 1e-6
    assert varying.sum() > 35
    np.testing.assert_allclose(scaled[1:].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[1:, varying].std(0), 1, atol=1e-5)
    place = NAMES.index("inst_to_attr")
    logged = np.log1p(values[1:, place])
    np.testing.assert_allclose(scaled[1:, place], (logged - logged.mean()) / logged.std(), rtol=1e-5)
    assert scaler(np.full(len(NAMES), 1e30), np.ones(len(NAMES), bool)).max() == 5
    assert scaler(np.full(len(NAMES), -1e30), np.ones(len(NAMES), bool)).min() == -5
    with pytest.raises(ValueError, match=r"values and valid must both have the shape \(tasks, 46\)"):
        scaler(values[:, :3], valid[:, :3])
    with pytest.raises(ValueError, match=r"mean and std must have the shape \(46,\)"):
        MetaScaler(np.zeros(2), np.ones(2))
