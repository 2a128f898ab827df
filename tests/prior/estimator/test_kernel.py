"""The kernel member: leave-one-out in closed form, its cells and choices, and its share of the prediction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax

from tabattn import TabularClassifier
from tabattn.prior.estimator import kernel
from tabattn.prior.estimator.ensemble import RANKS, STANDARD, Scales, averaged
from tabattn.prior.estimator.kernel import KernelClassifier
from tabattn.prior.estimator.relevance import Metric
from tabattn.storage.checksum import KEY
from tests.prior.estimator.tiny import MakeTable, tiny_network

Made = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]


def mixed(rows: int = 40) -> Made:
    """Two columns of numbers, one of codes, some cells missing; three classes that depend on them."""
    source = np.random.default_rng(1)
    x = np.column_stack([source.normal(size=(rows, 2)), source.integers(0, 3, rows)])
    y = (x[:, 0] > 0).astype(int) + (x[:, 2] == 1)
    x[3, 0] = x[5, 2] = np.nan
    return x, y, np.array([False, False, True])


def fitted(made: Made, limit: int = 2000, seed: int = 0) -> KernelClassifier:
    x, y, categorical = made
    return KernelClassifier(x, y, categorical, Scales(x), limit, seed)


def expected_kernel(x: NDArray[np.float64], width: float, metric: Metric | None = None) -> NDArray[np.float64]:
    """Kernel of ``mixed`` written out, with a column for each category."""
    views = Scales(x)(x)
    numbers = np.nan_to_num(np.column_stack([views[STANDARD][:, :2], views[RANKS][:, :2]])) * np.sqrt(0.5)
    codes = np.nan_to_num(x[:, 2:], nan=-1.0) == np.array([-1.0, 0.0, 1.0, 2.0])
    cells = np.column_stack([numbers, codes])
    weights = np.ones(8) if metric is None else np.concatenate([metric.numbers, np.repeat(metric.codes, 4)])
    distance = (weights * np.abs(cells[:, None] - cells[None])).sum(-1) / 3
    return np.exp(-width * distance) + cells @ cells.T / 3


def test_leave_one_out_is_that_of_fits_without_each_row() -> None:
    made = mixed()
    x, y, _ = made
    model = fitted(made)
    width, ridge = 1.0, 0.1
    found, sharpness, _ = model._solve(expected_kernel(x, width), ridge)
    targets = np.eye(3)[y] - model.priors
    matrix = expected_kernel(x, width)
    left_out = np.empty((40, 3))
    for row in range(40):
        rest = np.delete(np.arange(40), row)
        weights = np.linalg.solve(matrix[np.ix_(rest, rest)] + ridge * np.eye(39), targets[rest])
        left_out[row] = model.priors + matrix[row, rest] @ weights
    loss = -log_softmax(sharpness * left_out, axis=1)[np.arange(40), y].mean()
    assert found == pytest.approx(loss, abs=1e-9)
    for other in (0.8, 1.25):
        assert -log_softmax(other * sharpness * left_out, axis=1)[np.arange(40), y].mean() > loss


def test_choices_have_the_least_leave_one_out_loss_in_turn() -> None:
    """The ridge at the first width, then the width; then the width again, with the learned metric."""
    made = mixed()
    model = fitted(made)

    def loss(width: float, ridge: float, metric: Metric | None = None) -> float:
        return model._solve(expected_kernel(made[0], width, metric), ridge)[0]

    first, best = model._first, model.solution
    assert first.ridge == min(kernel.RIDGES, key=lambda ridge: loss(kernel.WIDTH, ridge))
    assert first.width == min((kernel.WIDTH, *kernel.WIDTHS), key=lambda width: loss(width, first.ridge))
    assert first.loss == pytest.approx(loss(first.width, first.ridge))
    widths = [factor * first.width for factor in (0.5, 1, 2)]
    assert best.width == min(widths, key=lambda width: loss(width, first.ridge, best.metric))
    assert best.loss == pytest.approx(loss(best.width, first.ridge, best.metric))
    assert best.loss < first.loss


def test_widths_around_the_first_are_tried_with_the_learned_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    search = KernelClassifier._search

    def noted(self: KernelClassifier, metric: Metric, *grid: Any) -> kernel.Solution:
        tried.append(grid)
        return search(self, metric, *grid)

    monkeypatch.setattr(KernelClassifier, "_search", noted)
    model = fitted(mixed())
    assert model.solution.loss > 0
    first = model._first
    assert tried[0] == (kernel.WIDTH, kernel.WIDTHS, kernel.RIDGES)
    assert tried[1:] == [(first.width, (first.width / 2, 2 * first.width), (first.ridge,))]


def test_predictions_are_those_of_the_kernel_written_out() -> None:
    made = mixed()
    x = made[0]
    model = fitted(made)
    best = model.solution
    matrix = expected_kernel(x, best.width, best.metric)
    expected = log_softmax(best.sharpness * (model.priors + matrix @ best.weights), axis=1)
    np.testing.assert_allclose(model.log_probabilities(x), np.maximum(expected, np.log(1e-6)), atol=1e-9)


def test_chunks_and_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mixed()
    expected = fitted(made).log_probabilities(made[0])
    monkeypatch.setattr(kernel, "CHUNK_ROWS", 7)
    np.testing.assert_allclose(fitted(made).log_probabilities(made[0]), expected, atol=1e-12)
    assert fitted(made).log_probabilities(made[0][:0]).shape == (0, 3)


def test_of_many_rows_a_stratified_sample_by_seed_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mixed()
    assert np.bincount(fitted(made, limit=12).y).min() >= 1
    assert len(fitted(made, limit=12).y) == 12
    assert not np.array_equal(fitted(made, 12, 0).context.numbers, fitted(made, 12, 1).context.numbers)
    monkeypatch.setattr(kernel, "MOST_ROWS", 10)
    assert len(fitted(made).y) == 10
    monkeypatch.setattr(kernel, "MOST_ROWS", 2)
    assert len(fitted(made).y) == 3


def test_outliers_and_sure_rows_stay_within_bounds() -> None:
    x, y, categorical = mixed()
    x[:, 0] = 10.0 * y
    model = fitted((x, y, categorical))
    far = x.copy()
    far[:, 1] = 1e300
    found = model.log_probabilities(far)
    assert np.isfinite(found).all()
    assert found.min() >= np.log(1e-6)
    assert np.abs(model._cells(far).numbers).max() <= 8.0


def test_it_learns_an_interaction_of_categories() -> None:
    source = np.random.default_rng(0)
    x = pd.DataFrame({name: source.choice(["a", "b", "c"], 300) for name in ("p", "q", "r")})
    y = (x["p"] == x["q"]).to_numpy()
    model = TabularClassifier(kernel_weight=1).fit(x[:200], y[:200])
    assert model.score(x[200:], y[200:]) > 0.95


def test_a_learned_metric_that_is_no_better_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "learned_metric", lambda rows, fit: Metric(np.array([0.0, 0, 0, 6]), np.zeros(1)))
    model = fitted(mixed())
    assert model.solution is model._first
    assert model.solution.metric.numbers.tolist() == [1, 1, 1, 1]
    assert model.relevance.tolist() == [0, 6, 0]


def test_columns_that_matter_are_the_most_relevant() -> None:
    source = np.random.default_rng(3)
    x = np.column_stack([source.normal(size=(200, 4)), source.integers(0, 4, (200, 2))])
    y = ((x[:, 2] > 0) ^ (x[:, 5] == 1)).astype(int)
    model = fitted((x, y, np.array([False] * 4 + [True] * 2)))
    assert set(np.argsort(-model.relevance)[:2]) == {2, 5}
    assert model.solution.loss < 0.8 * model._first.loss
    assert model.relevance.sum() == pytest.approx(12)


@pytest.mark.parametrize("scale", ["logits", "probabilities"])
def test_average_weights_the_kernel_member(scale: str) -> None:
    source = np.random.default_rng(0)
    members = np.log(source.dirichlet(np.ones(3), (2, 5))).astype(np.float32)
    of_kernel = np.log(source.dirichlet(np.ones(3), 5))
    alone, other = averaged(members, None, 0.0, scale), averaged(None, of_kernel, 1.0, scale)
    np.testing.assert_allclose(other, np.exp(of_kernel))
    found = averaged(members, of_kernel, 0.3, scale)
    mixture = alone**0.7 * other**0.3 if scale == "logits" else 0.7 * alone + 0.3 * other
    np.testing.assert_allclose(found, mixture / mixture.sum(1, keepdims=True), rtol=1e-6)


def test_defaults_depend_on_the_model(table: MakeTable) -> None:
    x, y = table()
    fits: list[tuple[TabularClassifier, int, float]] = [
        (TabularClassifier(), 2, 0.7),
        (TabularClassifier(tiny_network()), 8, 0.0),
        (TabularClassifier(plain=True), 1, 0.0),
        (TabularClassifier(kernel_weight=0), 8, 0.0),
        (TabularClassifier(tiny_network(), kernel_weight=0.4), 2, 0.4),
    ]
    for model, members, weight in fits:
        found = model.fit(x, y).predict_proba(x)
        explicit = TabularClassifier(model.model, plain=model.plain, n_estimators=members, kernel_weight=weight)
        np.testing.assert_array_equal(explicit.fit(x, y).predict_proba(x), found)


def test_parts_are_the_ends_of_the_weight(table: MakeTable) -> None:
    x, y = table(30)
    model = TabularClassifier(n_estimators=2).fit(x, y)
    mixture = model.predict_proba(x)
    network = model.set_params(kernel_weight=0).predict_proba(x)
    of_kernel = model.set_params(kernel_weight=1.0).predict_proba(x)
    expected = network**0.3 * of_kernel**0.7
    np.testing.assert_allclose(mixture, expected / expected.sum(1, keepdims=True), rtol=1e-6)
    model = TabularClassifier(kernel_weight=1).fit(x, y)
    model.predict_proba(x)
    assert model.cached_bytes == 0


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), "half", True])
def test_bad_weights(table: MakeTable, weight: Any) -> None:
    with pytest.raises(ValueError, match=f"kernel_weight must be between 0 and 1, got {weight!r}"):
        TabularClassifier(kernel_weight=weight).fit(*table())


def test_plain_has_no_kernel_member(table: MakeTable) -> None:
    with pytest.raises(ValueError, match=r"kernel_weight must be 0 with plain=True, got 0\.5"):
        TabularClassifier(plain=True, kernel_weight=0.5).fit(*table())


def test_round_trip_keeps_the_defaults_of_the_packaged_weights(table: MakeTable, tmp_path: Path) -> None:
    x, y = table()
    model = TabularClassifier().fit(x, y)
    model.save(tmp_path / "a.safetensors")
    again = TabularClassifier.load(tmp_path / "a.safetensors")
    assert (again.n_estimators, again.kernel_weight) == (2, 0.7)
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_a_file_from_before_the_option_has_no_kernel_member(table: MakeTable, tmp_path: Path) -> None:
    x, y = table()
    path = tmp_path / "a.safetensors"
    model = TabularClassifier(kernel_weight=0, n_estimators=3).fit(x, y)
    model.save(path)
    with safe_open(path, "pt") as file:
        text = file.metadata()
    header = json.loads(text["header"])
    del text[KEY], text["sealed"], header["parameters"]["kernel_weight"]
    save_file(load_file(path), path, text | {"header": json.dumps(header)})
    again = TabularClassifier.load(path)
    assert again.kernel_weight == 0
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_of_many_columns_the_network_reads_the_most_relevant() -> None:
    source = np.random.default_rng(0)
    x, y = source.normal(size=(60, 40)), source.integers(0, 2, 60)
    x[:, 35] += 3 * y
    model = TabularClassifier(kernel_weight=0.5, n_estimators=2).fit(x, y)
    mixture = model.predict_proba(x)
    part = np.sort(np.argsort(-model._kernel.relevance)[:30])
    assert 35 in part
    few = TabularClassifier(kernel_weight=0, n_estimators=2).fit(x[:, part], y)
    expected = np.sqrt(few.predict_proba(x[:, part]) * np.exp(log_softmax(model._kernel.log_probabilities(x), axis=1)))
    np.testing.assert_allclose(mixture, expected / expected.sum(1, keepdims=True), rtol=1e-4)
    assert model.cached_bytes == few.cached_bytes > 0
    reader = model._narrow
    np.testing.assert_array_equal(model.predict_proba(x), mixture)
    assert model._narrow is reader


def test_the_weight_after_the_fit_says_which_columns_the_network_reads() -> None:
    source = np.random.default_rng(0)
    x, y = source.normal(size=(60, 40)), source.integers(0, 2, 60)
    found = [TabularClassifier(kernel_weight=w, n_estimators=2).fit(x, y) for w in (0, 0.5)]
    expected = [model.predict_proba(x) for model in found]
    assert found[0].cached_bytes > 1.2 * found[1].cached_bytes
    for model, other, weight in ((found[0], expected[1], 0.5), (found[1], expected[0], 0)):
        np.testing.assert_array_equal(model.set_params(kernel_weight=weight).predict_proba(x), other)
