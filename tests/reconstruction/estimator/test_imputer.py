"""Imputer: what it fills, in which types, by which probabilities, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from tabattn.contract.errors import TableWarning
from tabattn.nn.densities import mixture
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.estimator import TabularImputer
from tabattn.reconstruction.estimator.batches import Hiding
from tabattn.reconstruction.estimator.filling import draw_column
from tests.reconstruction.estimator.tiny import imputer, mixed


def test_a_frame_keeps_its_types_and_known_cells() -> None:
    frame = mixed()
    frame.index = pd.Index(range(100, 124), name="id")
    found = imputer().fit_transform(frame)
    assert found.dtypes.to_dict() == frame.dtypes.to_dict()
    assert found.index.equals(frame.index)
    assert list(found.columns) == list(frame.columns)
    assert not found.isna().any().any()
    for name in frame:
        known = frame[name].notna()
        assert (found.loc[known, name] == frame.loc[known, name]).all(), name
        (cell,) = found.loc[~known, name]
        if name in ("word", "level", "object", "same"):
            assert cell in set(frame[name].dropna())
        if name == "mass":
            assert cell.endswith(" kg")
            assert 10 <= float(cell.removesuffix(" kg")) <= 20
        if name in ("number", "whole", "day"):
            assert frame[name].min() <= cell <= frame[name].max()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_array_stays_an_array(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype)
    x[2, 1] = np.nan
    found = imputer().fit_transform(x)
    assert isinstance(found, np.ndarray)
    assert found.dtype == dtype
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[~np.isnan(x)], x[~np.isnan(x)])


def test_other_containers() -> None:
    words = np.array([["a", 1.0], ["b", 2.0], [None, 3.0], ["a", np.nan]] * 5, dtype=object)
    found = imputer().fit_transform(words)
    assert found.dtype == object
    assert set(found[:, 0]) <= {"a", "b"}
    assert imputer().fit_transform(words.tolist()).dtype == object
    assert imputer().fit_transform(sparse.csr_array(np.eye(12))).shape == (12, 12)
    records = [{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}, {"a": 2.0, "b": None}] * 5
    assert list(imputer().fit_transform(records).columns) == ["a", "b"]


def test_pandas_output_of_an_array() -> None:
    x = np.random.default_rng(0).normal(size=(12, 2))
    found = imputer().set_output(transform="pandas").fit_transform(x)
    assert list(found.columns) == ["x0", "x1"]


def test_rows_without_a_value_and_columns_that_were_complete_in_fit() -> None:
    frame = mixed().ffill().bfill()
    model = imputer().fit(frame)
    blank = frame.iloc[:3].copy()
    for name in blank:
        blank[name] = pd.Series([None] * 3, index=blank.index, dtype=frame[name].dtype)
    found = model.transform(blank)
    assert not found.isna().any().any()
    assert (found["same"] == "only").all()
    pd.testing.assert_series_equal(found["number"], found["number"].iloc[[0, 0, 0]].set_axis(found.index))


def test_an_unseen_category_stays_and_says_nothing() -> None:
    frame = mixed()
    model = imputer(max_steps=4).fit(frame)
    row = frame.iloc[[12, 12]].reset_index(drop=True)
    row["word"] = ["never seen", None]
    row.loc[:, "number"] = np.nan
    found = model.transform(row)
    assert found["word"][0] == "never seen"
    assert found["word"][1] in {"red", "green", "blue"}
    assert found["number"][0] == found["number"][1]


def test_a_category_that_the_type_of_new_rows_lacks_is_added() -> None:
    frame = mixed()
    model = imputer().fit(frame)
    row = frame.iloc[[12]].assign(level=pd.Categorical([None], categories=["other"]))
    assert model.transform(row)["level"].iloc[0] in {"low", "high"}


def test_numeric_categories_and_intervals_are_filled_by_the_nearest() -> None:
    frame = pd.DataFrame(
        {
            "level": pd.Categorical([1, 5, None, 1] * 6, categories=[1, 5, 9]),
            "span": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), None, (4, 5), (0, 1)] * 6)),
        }
    )
    found = imputer().fit_transform(frame)
    assert found.dtypes.to_dict() == frame.dtypes.to_dict()
    assert set(found["level"]) == {1, 5}
    assert set(found["span"]) == {pd.Interval(0, 1), pd.Interval(4, 5)}
    blank = frame.iloc[[1]][["span"]].assign(level=frame["level"].iloc[[1]])[["level", "span"]]
    with pytest.raises(ValueError, match=r"column 'span' of the type .* has no entry that a cell could be filled by"):
        imputer().fit(frame).transform(blank)


@pytest.mark.parametrize("kept", [False, True])
def test_columns_without_a_value(kept: bool) -> None:
    frame = mixed().assign(empty=np.nan, none=pd.Series([None] * 24, dtype=object))
    model = imputer(keep_empty_features=kept)
    words = "filled with 0" if kept else "left out"
    with pytest.warns(TableWarning, match=f"columns without any value are {words}.*: 'empty', 'none'"):
        found = model.fit(frame).transform(frame)
    names = list(frame.columns) if kept else [name for name in frame if name not in ("empty", "none")]
    assert list(found.columns) == list(model.get_feature_names_out()) == names
    if kept:
        assert (found["empty"] == 0).all()


def test_nothing_but_constants_needs_no_network(tmp_path: Path) -> None:
    x = np.array([[1.0, np.nan], [1.0, 2.0], [np.nan, 2.0]])
    model = imputer().fit(x)
    assert model.members_ is None
    model.save(tmp_path / "a.safetensors")
    for each in (model, TabularImputer.load(tmp_path / "a.safetensors")):
        np.testing.assert_array_equal(each.transform(x), [[1.0, 2.0]] * 3)
        assert each.cell_probabilities(x) == {}


def test_probabilities_of_cells() -> None:
    frame = mixed()
    model = imputer(max_steps=4).fit(frame)
    found = model.cell_probabilities(frame)
    assert list(found) == ["word", "level", "object"]
    filled = model.transform(frame)
    for name, table in found.items():
        np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-5)
        assert (table.idxmax(axis=1) == filled[name].astype(object)).all()
        assert ((table == 1.0).any(axis=1) == frame[name].notna()).all()
    unseen = frame.iloc[[12]].assign(word="never seen")
    assert (model.cell_probabilities(unseen)["word"] == 0).all(axis=None)


def test_draws_vary_and_known_cells_do_not() -> None:
    frame = mixed(40)
    frame.loc[:9, "number"] = np.nan
    frame.loc[:9, "word"] = None
    model = imputer(max_steps=4).fit(frame)
    first, second = model.sample(frame, 2, random_state=0)
    assert (first["number"] != second["number"])[:10].all()
    assert (first["word"] != second["word"]).any()
    pd.testing.assert_frame_equal(first[10:].dropna(), second[10:].dropna())
    again = model.sample(frame, 2, random_state=0)
    pd.testing.assert_frame_equal(again[1], second)
    with pytest.raises(ValueError, match="n must be a whole number, at least 1, got 0"):
        model.sample(frame, 0)


def test_draws_have_the_moments_of_their_mixture() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(60, 2))
    members = imputer().fit(x).members_
    shape = (1, 4000, 2, 2)
    logits, means = torch.tensor([0.25, 0.75]).log().expand(shape), torch.tensor([-0.5, 0.5]).expand(shape)
    density = mixture(logits, means, torch.tensor([0.1, 0.4]).expand(shape))
    found = Reconstruction(torch.zeros(shape[:3]), density, torch.zeros(1, 4000, 0, 0))
    drawn = draw_column(members, found, 1, np.random.RandomState(0))
    z = (drawn - x[:, 1].mean()) / x[:, 1].std()
    variance = 0.25 * 0.1**2 + 0.75 * 0.4**2 + 0.25 * 0.75
    assert z.mean() == pytest.approx(0.25, abs=0.03)
    assert z.var() == pytest.approx(variance, rel=0.05)


def test_draws_are_of_the_density_and_of_each_other() -> None:
    """Two columns that are equal stay so in draws, though each varies: a cell is drawn given those before."""
    draws = np.random.default_rng(0)
    value = draws.choice(["a", "b"], 200)
    x = pd.DataFrame({"one": value, "two": value})
    from dataclasses import replace

    from tests.reconstruction.estimator.tiny import TINY_IMPUTER

    model = imputer(settings=replace(TINY_IMPUTER, decay=0.5), max_steps=100, patience=100).fit(x)
    blank = pd.DataFrame({"one": [None] * 100, "two": [None] * 100}, dtype="str")
    (found,) = model.sample(blank, 1, random_state=0)
    assert 25 < (found["one"] == "a").sum() < 75
    assert (found["one"] == found["two"]).mean() > 0.9


def test_filling_uses_the_other_columns() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(150, 1)) * np.ones((1, 3))
    x[:, 2] = -x[:, 2] + 7
    gaps = draws.random(x.shape) < 0.2
    from dataclasses import replace

    from tests.reconstruction.estimator.tiny import TINY_IMPUTER

    model = imputer(settings=replace(TINY_IMPUTER, decay=0.5), max_steps=120, patience=100)
    found = model.fit_transform(np.where(gaps, np.nan, x))
    alone = gaps & (gaps.sum(1, keepdims=True) == 1)
    assert np.sqrt(np.square(found - x)[alone].mean()) < 0.5
    assert min(model.validation_losses_[0]) < 0.8 * model.validation_losses_[0][0]


def test_a_row_does_not_depend_on_the_others() -> None:
    frame = mixed()
    model = imputer(max_steps=4, context_rows=10).fit(frame)
    whole = model.transform(frame)
    pd.testing.assert_frame_equal(model.transform(frame.iloc[:7]), whole.iloc[:7])


def test_what_cannot_be_read_as_a_number_is_filled_and_said() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    model = imputer().fit(x)
    bad = x[:2].copy()
    bad[0, 0] = np.inf
    with pytest.warns(TableWarning, match="taken as missing"):
        assert np.isfinite(model.transform(bad)).all()


def test_names_out() -> None:
    model = imputer().fit(mixed())
    assert list(model.get_feature_names_out()) == list(mixed().columns)
    with pytest.raises(ValueError, match="input_features"):
        model.get_feature_names_out(["a"])


def test_large_tables_go_by_parts() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(500, 2))
    x[::7, 0] = np.nan
    model = imputer(context_rows=100)
    found = model.fit_transform(x)
    assert np.isfinite(found).all()
    assert [len(rows) for rows in model.members_.contexts] == [100] * 4
    assert len(torch.cat(model.members_.contexts).unique()) == 400


def hiding(borrowed: float, missing: int = 2) -> Hiding:
    """Make one of a table whose last column alone has missing cells."""
    cells = torch.zeros(40, 3)
    cells[:missing, 2] = torch.nan
    return Hiding.of(cells, (0.2, 0.6), borrowed)


def test_training_hides_what_other_rows_lack() -> None:
    source = torch.Generator().manual_seed(0)
    drawn = hiding(1.0).draw(300, source)
    assert drawn[:, 2].all()
    assert not drawn[:, :2].any()
    half = hiding(0.5).draw(4000, source).float().mean(0)
    torch.testing.assert_close(half, torch.tensor([0.2, 0.2, 0.7]), atol=0.04, rtol=0.0)
    for complete in (hiding(0.0), hiding(1.0, missing=0)):
        shares = complete.draw(4000, source).float().mean(0)
        torch.testing.assert_close(shares, torch.full((3,), 0.4), atol=0.04, rtol=0.0)


def test_validation_hides_what_other_rows_lack_and_some_cells_at_random() -> None:
    low, middle, high = hiding(0.5).held_out(2000, 0)
    for borrowed in (low, high):
        assert borrowed[:, 2].all()
        assert not borrowed[:, :2].any()
    assert float(middle.float().mean()) == pytest.approx(0.4, abs=0.03)
    rates = hiding(0.0).held_out(2000, 0).float().mean((1, 2))
    torch.testing.assert_close(rates, torch.tensor([0.28, 0.4, 0.52]), atol=0.03, rtol=0.0)
    assert torch.equal(hiding(0.5).held_out(9, 1), hiding(0.5).held_out(9, 1))


def test_the_default_follows_the_relation_of_columns_at_once() -> None:
    """Columns that are multiples of one another are filled by a network that has hardly been trained."""
    draws = np.random.default_rng(0)
    x = np.sort(draws.normal(size=(60, 1)), axis=0) * [1.0, -2.0, 5.0] + [0.0, 3.0, 100.0]
    gaps = np.zeros(x.shape, dtype=bool)
    gaps[20:40, 1] = True
    found = TabularImputer(max_steps=1, device="cpu").fit_transform(np.where(gaps, np.nan, x))
    assert np.sqrt(np.square(found - x)[gaps].mean()) < 0.1 * x[:, 1].std()


def test_numbers_near_the_largest_stay_finite() -> None:
    x = np.random.default_rng(0).choice([-1.7e308, 1.7e308], (30, 2))
    x[:5, 0] = np.nan
    model = imputer().fit(x)
    assert np.isfinite(model.transform(x)).all()
    assert all(np.isfinite(each).all() for each in model.sample(x, 3, random_state=0))
