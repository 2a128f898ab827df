"""Synthetic regression tables: counter-based, standardised, varying; folds of real tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules import SyntheticRegression
from datamodules.counter import generator
from datamodules.prior.options import BatchOptions, FoldEvaluation
from datamodules.prior.scm import LEAST_SPREAD, draw_regression_table
from datamodules.prior.scm_options import ClassOptions, ScmOptions

SMALL: dict[str, Any] = {"batch_size": 3, "steps_per_epoch": 4, "rows": (12, 20), "features": (2, 4), "tables": ()}


def test_a_table_is_standardised_and_its_context_varies() -> None:
    for number in range(30):
        x, y = draw_regression_table(40, 5, 10, generator(0, number))
        assert x.shape == (40, 5)
        assert float(y.mean()) == pytest.approx(0, abs=1e-5)
        assert float(y.std(correction=0)) == pytest.approx(1, abs=1e-4)

    for number in range(150):
        assert float(draw_regression_table(12, 2, 4, generator(2, number)).y[:4].std()) > LEAST_SPREAD


@pytest.mark.parametrize(("unrelated", "least", "most"), [(0.0, 12, 20), (1.0, 0, 4)])
def test_targets_depend_on_the_cells(unrelated: float, least: int, most: int) -> None:
    """The nearest row predicts better than a random one in most tables, unless the targets are unrelated."""
    options, better = ScmOptions(classes=ClassOptions(unrelated=unrelated)), 0
    for number in range(20):
        x, y = draw_regression_table(300, 3, 200, generator(1, number), options)
        cells = (x.nan_to_num() - x.nan_to_num().mean(0)) / x.nan_to_num().std(0).clamp(min=1e-6)
        near = torch.cdist(cells[200:], cells[:200]).argmin(1)
        better += int((y[200:] - y[near]).square().mean() < 1.5 * (y[200:] - y[:200].mean()).square().mean())
    assert least <= better <= most


def test_batches_are_functions_of_seed_and_number() -> None:
    one, other = (SyntheticRegression(**SMALL).train_dataloader().dataset for _ in range(2))
    for number in (0, 7):
        a, b = one[number], other[number]
        assert torch.equal(a.y, b.y)
        assert torch.equal(a.x.nan_to_num(9), b.x.nan_to_num(9))
        assert a.y.dtype == torch.float32
        assert 12 <= a.x.shape[1] <= 20
        assert 4 <= a.context <= a.x.shape[1] - 4
    assert not torch.equal(one[0].y, SyntheticRegression(**SMALL, seed=1).train_dataloader().dataset[0].y)


def test_large_tables_come_in_smaller_batches() -> None:
    data = SyntheticRegression(**{**SMALL, "rows": (20, 20), "features": (4, 4)}, batches=BatchOptions(max_cells=170))
    assert len(data.train_dataloader().dataset[0].x) == 2


def test_folds_score_every_row_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(30.0), "b": list("xyz") * 10, "target": np.linspace(5, 6, 30)})
    frame.to_csv(tmp_path / "small.csv", index=False)
    source = f"{tmp_path / 'small.csv'}"
    data = SyntheticRegression(**{**SMALL, "tables": (source,)}, evaluation=FoldEvaluation(folds=5))
    assert data.tables == ("small",)
    assert data.column_names(0) == ("a", "b")
    assert (len(data.val), len(data.test)) == (2, 3)
    seen = np.concatenate([batch.y[0, batch.context :].numpy() for batch in (*data.val, *data.test)])
    assert np.allclose(np.sort(seen), frame["target"])
    shown = data.test[1]
    assert np.allclose(shown.y[0, shown.context :].numpy(), frame["target"].iloc[data.target_rows(1)])


def test_a_large_table_is_sampled(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(50.0), "target": np.arange(50.0) * 2})
    data = SyntheticRegression(**{**SMALL, "tables": (frame,)}, evaluation=FoldEvaluation(folds=2, max_rows=20))
    table = data.real[0]
    assert len(table.y) == len(set(table.rows)) == 20
    assert np.array_equal(table.y, frame["target"].iloc[table.rows])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": (6, 20)}, "rows must be two numbers"),
        ({"batches": BatchOptions(views=2)}, "batches.views must be 1 for regression, got 2"),
        ({"tables": ("sklearn:diabetes",), "evaluation": FoldEvaluation(folds=1)}, "folds must be between 2 and"),
        ({"tables": (pd.DataFrame({"a": range(9), "t": list("abcabcabc")}),)}, "target 't' of .* must be numbers"),
        ({"tables": (pd.DataFrame({"a": range(3), "t": [1.0, 2.0, np.inf]}),)}, "must be finite, got inf in row 2"),
        ({"tables": (pd.DataFrame({"a": [1] * 9, "t": range(9)}),)}, "every column of .* is constant"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SyntheticRegression(**{**SMALL, **changes})
