"""TabularRegressor: scikit-learn's contract, its outputs and parts, and what it refuses."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.utils.estimator_checks import parametrize_with_checks

from tabattn import TabularClassifier, TabularRegressor
from tabattn.attention import Local
from tabattn.prior import weights
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tests.prior.estimator.tiny import tiny_network

Made = tuple[NDArray[np.float64], NDArray[np.float64]]
LEVELS = [0.05, 0.5, 0.95]


def network(**changes: Any) -> ContextClassifier:
    """Tiny network of numbers."""
    return tiny_network(options=PriorOptions(targets="numbers"), **({"classes": 12} | changes))


def numbers(rows: int = 40) -> Made:
    source = np.random.default_rng(0)
    x = source.normal(size=(rows, 3))
    return x, 100 + 10 * np.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * source.normal(size=rows)


EXPECTED_FAILURES = {"check_estimators_overwrite_params": "compares pickles of networks, which differ between copies"}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [TabularRegressor(), TabularRegressor(network(), n_estimators=2, kernel_weight=0.5)],
    expected_failed_checks=lambda estimator: {} if estimator.model is None else EXPECTED_FAILURES,
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_outputs() -> None:
    x, y = numbers()
    model = TabularRegressor(network(), kernel_weight=0.5, n_estimators=3).fit(x, y)
    found = model.distribution(x)
    np.testing.assert_array_equal(model.predict(x), found.mean())
    deciles = model.predict(x, output_type="quantiles")
    assert deciles.shape == (40, 9)
    np.testing.assert_allclose(found.cdf(deciles), np.tile(np.arange(1, 10) / 10, (40, 1)), atol=1e-5)
    np.testing.assert_allclose(model.predict(x, "median"), deciles[:, 4])
    chosen = model.predict(x, "quantiles", quantiles=(0.9, 0.1))
    np.testing.assert_allclose(chosen, deciles[:, [8, 0]])
    np.testing.assert_array_equal(model.log_density(x, y), found.log_density(y))
    assert model.score(x, y) == r2_score(y, model.predict(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_type": "mode"}, "output_type must be one of mean, median, quantiles, got 'mode'"),
        ({"output_type": "quantiles", "quantiles": [0.5, 1.0]}, "quantiles must be above 0 and below 1, got 1.0"),
        ({"output_type": "quantiles", "quantiles": [0]}, "quantiles must be above 0 and below 1, got 0"),
        ({"output_type": "quantiles", "quantiles": [float("nan")]}, "quantiles must be above 0 and below 1, got nan"),
        ({"output_type": "quantiles", "quantiles": ["a"]}, "quantiles must be above 0 and below 1, got 'a'"),
        (
            {"output_type": "quantiles", "quantiles": []},
            r"quantiles must be a list of at least 1 probability, got \[\]",
        ),
        ({"output_type": "quantiles", "quantiles": 0.5}, "quantiles must be a list of at least 1 probability, got 0.5"),
        ({"quantiles": [0.5]}, r"quantiles must be None where output_type is 'mean', got \[0.5\]"),
    ],
)
def test_bad_questions(arguments: Any, message: str) -> None:
    x, y = numbers(8)
    model = TabularRegressor().fit(x, y)
    with pytest.raises(ValueError, match=message):
        model.predict(x, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_estimators": 0}, "n_estimators must be at least 1, got 0"),
        ({"kernel_weight": 1.5}, "kernel_weight must be between 0 and 1, or stacked, got 1.5"),
        ({"kernel_weight": "some"}, "kernel_weight must be between 0 and 1, or stacked, got 'some'"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite, got -1.0"),
        ({"max_context": 1}, "max_context must be at least 2, got 1"),
        ({"chunk_rows": 2.5}, "chunk_rows must be a whole number"),
        ({"cache": "yes"}, "cache must be True or False, got 'yes'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({"model": 3}, "model must be None, the path of a file or a network, got 3"),
    ],
)
def test_bad_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularRegressor(**arguments).fit(*numbers(8))


def test_targets_of_another_number() -> None:
    x, y = numbers(8)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[8, 7\]"):
        TabularRegressor().fit(x, y[:7])
    model = TabularRegressor().fit(x, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[8, 7\]"):
        model.log_density(x, y[:7])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.log_density(x, np.full(8, np.nan))


def test_networks_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    x, y = numbers(8)
    with pytest.raises(ValueError, match="of a TabularRegressor must predict numbers, this one classes"):
        TabularRegressor(tiny_network()).fit(x, y)
    with pytest.raises(ValueError, match="of a TabularClassifier must predict classes, this one numbers"):
        TabularClassifier(network()).fit(x, y > 100)
    TabularClassifier(tiny_network()).fit(x, y > 100).save(tmp_path / "classifier.safetensors")
    TabularRegressor(network()).fit(x, y).save(tmp_path / "regressor.safetensors")
    with pytest.raises(ValueError, match=r"classifier\.safetensors holds no estimator that fits together"):
        TabularRegressor.load(tmp_path / "classifier.safetensors")
    with pytest.raises(ValueError, match=r"regressor\.safetensors holds no estimator that fits together"):
        TabularClassifier.load(tmp_path / "regressor.safetensors")


def test_the_mixture_has_the_weights() -> None:
    x, y = numbers()
    model = TabularRegressor(network(), kernel_weight=0.3, n_estimators=4).fit(x, y)
    mixed, density = model.predict(x), model.log_density(x, y)
    model.set_params(kernel_weight=0.0)
    alone, alone_density = model.predict(x), model.log_density(x, y)
    model.set_params(kernel_weight=1)
    of_kernel, kernel_density = model.predict(x), model.log_density(x, y)
    np.testing.assert_allclose(mixed, 0.7 * alone + 0.3 * of_kernel)
    np.testing.assert_allclose(np.exp(density), 0.7 * np.exp(alone_density) + 0.3 * np.exp(kernel_density))
    assert np.abs(alone - of_kernel).max() > 1


def test_the_kernel_member_alone_needs_no_network() -> None:
    x, y = numbers()
    model = TabularRegressor(kernel_weight=1).fit(x, y)
    assert model.network_ is None
    assert model.score(x, y) > 0.95
    assert model.cached_bytes == 0
    with pytest.raises(ValueError, match=r"kernel_weight must be 1 without a network, got 0\.5: fit with a model"):
        model.set_params(kernel_weight=0.5).predict(x)


def test_defaults_depend_on_the_model() -> None:
    x, y = numbers()
    fits: list[tuple[dict[str, Any], int, Any]] = [
        ({}, 4, "stacked"),
        ({"model": network()}, 8, 0.0),
        ({"model": network(), "kernel_weight": 0.4}, 4, 0.4),
    ]
    for given, members, weight in fits:
        model = TabularRegressor(**given).fit(x, y)
        assert model._reader is not None
        assert len(model._reader.ensemble.members) == members
        explicit = TabularRegressor(network(), n_estimators=members, kernel_weight=weight).fit(x, y)
        np.testing.assert_array_equal(explicit.predict(x), model.predict(x))


def test_the_network_reads_standardised_targets_and_the_joint_forward_agrees() -> None:
    x, y = numbers()
    x[2, 1] = np.nan
    model = TabularRegressor(network(), n_estimators=4, device="cpu").fit(x[:30], y[:30])
    parts = model._reader
    assert parts is not None
    context, target = parts.scales(parts.x), parts.scales(x[30:])
    found = parts.logits(x[30:], model.checked_run())
    for question in parts.ensemble.questions:
        member = parts.ensemble.members[question.member]
        rows = np.concatenate([context[member.scale], target[member.scale]])[:, member.columns]
        labels = torch.from_numpy(question.targets(y[:30])).float()
        assert float(labels.std(correction=0)) == pytest.approx(1, abs=1e-5)
        expected = model.network_(torch.from_numpy(rows)[None], labels[None], 30)[0]
        np.testing.assert_allclose(found[question.member], expected.numpy(), atol=1e-4)
    chunks = model.set_params(chunk_rows=3).predict(x)
    np.testing.assert_allclose(model.set_params(chunk_rows=512).predict(x), chunks, rtol=1e-5)


def test_temperature_sharpens() -> None:
    x, y = numbers()
    model = TabularRegressor(network(), n_estimators=1).fit(x, y)
    wide, narrow = (
        np.ptp(model.set_params(temperature=value).predict(x, "quantiles", LEVELS), axis=1) for value in (1.0, 0.2)
    )
    assert narrow.mean() < 0.9 * wide.mean()


def test_large_tables_are_sampled_and_it_is_said() -> None:
    x, y = numbers(60)
    with pytest.warns(UserWarning, match="has 60 rows: each member of the ensemble reads a sample of 20") as said:
        model = TabularRegressor(network(), n_estimators=2, kernel_weight=0.5, max_context=20).fit(x, y)
    assert said[0].filename == __file__
    assert model._reader is not None
    assert all(len(question.rows) == 20 for question in model._reader.ensemble.questions)
    assert len(model._kernel.y) == 20
    assert model.predict(x).shape == (60,)


@pytest.mark.parametrize("value", [1e30, 1e-30, 0.0, 7.0])
def test_constant_and_extreme_targets(value: float) -> None:
    x, y = numbers()
    model = TabularRegressor(network(), n_estimators=4, kernel_weight=0.5)
    constant = model.fit(x, np.full(40, value))
    np.testing.assert_allclose(constant.predict(x), value, rtol=1e-4, atol=2.0 * (value == 0))
    if value:
        assert model.fit(x, y * value).score(x, y * value) == pytest.approx(model.fit(x, y).score(x, y), abs=1e-3)


def test_integer_targets_are_those_as_floats() -> None:
    x, y = numbers()
    whole = y.astype(np.int32)
    expected = TabularRegressor().fit(x, whole.astype(float)).predict(x)
    np.testing.assert_array_equal(TabularRegressor().fit(x, whole).predict(x), expected)
    assert expected.dtype == np.float64


def test_a_column_of_targets_is_said() -> None:
    x, y = numbers()
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = TabularRegressor().fit(x, y[:, None])
    assert model.predict(x).shape == (40,)


def test_any_columns() -> None:
    x, y = numbers(60)
    frame = pd.DataFrame({"a": x[:, 0], "word": np.where(x[:, 1] > 0, "up", "down"), "constant": 1})
    frame.loc[::7, "a"] = np.nan
    model = TabularRegressor().fit(frame, y)
    assert model.score(frame, y) > 0.7
    assert list(model.feature_names_in_) == ["a", "word", "constant"]
    nothing = TabularRegressor(network(), kernel_weight=0.5).fit(frame[["constant"]], y)
    np.testing.assert_allclose(nothing.predict(frame[["constant"]]), y.mean(), atol=30)


def test_a_fit_that_fails_leaves_an_earlier_one_alone() -> None:
    x, y = numbers()
    model = TabularRegressor().fit(x, y)
    expected = model.predict(x)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.fit(x[:, :2], np.full(40, np.nan))
    np.testing.assert_array_equal(model.predict(x), expected)


def test_clone_pickle_and_random_state() -> None:
    x, y = numbers()
    model = clone(TabularRegressor(network(), n_estimators=2, kernel_weight=0.5)).fit(x, y)
    expected = model.predict(x)
    again = pickle.loads(pickle.dumps(model))
    assert model.cached_bytes > 0
    assert again.cached_bytes == 0
    np.testing.assert_array_equal(again.predict(x), expected)
    other = TabularRegressor(network(), n_estimators=2, kernel_weight=0.5, random_state=np.random.RandomState(1))
    assert np.abs(other.fit(x, y).predict(x) - expected).max() > 1e-6
    assert cross_val_predict(TabularRegressor(), x, y, cv=2).shape == (40,)
    assert repr(TabularRegressor(network(), n_estimators=2)) == "TabularRegressor(model=<PriorNetwork>, n_estimators=2)"


@pytest.mark.parametrize("with_network", [False, True])
def test_round_trip(tmp_path: Path, with_network: bool) -> None:
    x, y = numbers()
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(word=np.where(x[:, 2] > 0, "up", "down"))
    given: dict[str, Any] = {"model": network(), "kernel_weight": 0.4} if with_network else {"kernel_weight": 1}
    model = TabularRegressor(**given, temperature=0.8, chunk_rows=np.int64(50), random_state=np.int64(9)).fit(frame, y)
    model.save(tmp_path / "a.safetensors")
    again = TabularRegressor.load(tmp_path / "a.safetensors")
    for output in ("mean", "median", "quantiles"):
        np.testing.assert_array_equal(again.predict(frame, output), model.predict(frame, output))
    made = {"model": None, "n_estimators": 4, "kernel_weight": 0.4 if with_network else 1.0}
    assert again.get_params() | {"model": None} == model.get_params() | made
    assert (again.network_ is None) == (not with_network)
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(frame.rename(columns={"a": "z"}))


def test_attention_comes_back_and_a_file_of_weights_is_read(tmp_path: Path) -> None:
    x, y = numbers()
    made = network(attention=lambda heads, dim: Local(heads, dim, window=3))
    tensors, described = weights.described(made)
    weights.write(tmp_path / "w.safetensors", tensors, {"network": described})
    model = TabularRegressor(tmp_path / "w.safetensors").fit(x, y)
    model.save(tmp_path / "a.safetensors")
    again = TabularRegressor.load(tmp_path / "a.safetensors")
    assert isinstance(again.network_, PriorNetwork)
    np.testing.assert_array_equal(again.predict(x), TabularRegressor(made).fit(x, y).predict(x))
