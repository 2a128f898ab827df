"""Atomic fits: an estimator is as before where its fit fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from tabattn import NPTClassifier, NPTRegressor, TabularClassifier, TabularImputer, TabularRegressor
from tabattn.contract.columns import TableEncoder
from tabattn.contract.fitting import atomic
from tests.reconstruction.estimator.tiny import classifier, imputer, regressor


class Estimator:
    def __init__(self) -> None:
        self.argument = 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_attributes_are_those_from_before(error: type[BaseException]) -> None:
    made = Estimator()
    with atomic(made):
        made.first_ = [1]  # type: ignore[attr-defined]
    before = dict(vars(made))

    def fail() -> None:
        with atomic(made):
            made.first_, made.second_ = [2], 3  # type: ignore[attr-defined]
            raise error

    with pytest.raises(error):
        fail()
    assert vars(made) == before == {"argument": 1, "first_": [1]}


X = np.random.default_rng(0).normal(size=(30, 3))
KINDS = np.array(["a", "b", "c"] * 10)
NOTHING = np.full(30, np.nan)
MAKE: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "NPTClassifier": (classifier, KINDS, "predict_proba"),
    "NPTRegressor": (regressor, X[:, 0], "predict"),
    "TabularClassifier": (lambda: TabularClassifier(n_estimators=1, device="cpu"), KINDS, "predict_proba"),
    "TabularRegressor": (TabularRegressor, X[:, 0], "predict"),
}


@pytest.mark.parametrize("name", MAKE)
def test_a_fit_that_fails_leaves_an_earlier_one_alone(name: str) -> None:
    make, y, ask = MAKE[name]
    model = make()
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.fit(X[:, :2], NOTHING)
    with pytest.raises(NotFittedError):
        model.predict(X)
    before = getattr(model.fit(X, y), ask)(X)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.fit(X[:, :2], NOTHING)
    np.testing.assert_array_equal(getattr(model, ask)(X), before)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_training_that_fails_leaves_an_earlier_fit_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    models: list[NPTClassifier | NPTRegressor | TabularImputer] = [classifier(), regressor(), imputer()]
    fitted = [classifier().fit(X, KINDS), regressor().fit(X, X[:, 0]), imputer().fit(X)]
    gaps = np.where(X > 1, np.nan, X)
    before = [each.transform(gaps) if isinstance(each, TabularImputer) else each.predict(X) for each in fitted]

    def fail(*_: Any) -> None:
        raise error

    for module in ("predictor", "imputer"):
        monkeypatch.setattr(f"tabattn.reconstruction.estimator.{module}.fit_members", fail)
    for model, other, y in zip(models, fitted, (KINDS, X[:, 0], None), strict=True):
        for each in (model, other):
            with pytest.raises(error):
                each.fit(X[:, :2], y)
        with pytest.raises(NotFittedError):
            (model.transform if isinstance(model, TabularImputer) else model.predict)(X)
    for each, want in zip(fitted, before, strict=True):
        np.testing.assert_array_equal(
            each.transform(gaps) if isinstance(each, TabularImputer) else each.predict(X), want
        )


def test_encoders_too() -> None:
    encoder = TableEncoder().fit(X)
    with pytest.raises(TypeError, match="must be a string or a number"):
        encoder.fit(np.array([[1.0, {}], [2.0, {}]], dtype=object))
    assert encoder.transform(X).shape == X.shape
