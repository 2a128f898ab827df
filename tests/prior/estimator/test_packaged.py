"""The packaged weights: accuracy and size."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

import tabattn
from tabattn import TabularClassifier, TabularRegressor

FOLDER = Path(tabattn.__file__).parent / "pretrained"
WEIGHTS, NUMBERS = FOLDER / "prior.safetensors", FOLDER / "regression.safetensors"
NEEDS_ACCURACY = "check_classifiers_train"

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the package has no weights")


def test_checks_that_ask_for_accuracy() -> None:
    model = TabularClassifier(WEIGHTS, n_estimators=2)
    names = []
    for estimator, check in estimator_checks_generator(model):
        if getattr(check, "func", check).__name__ == NEEDS_ACCURACY:
            names.append(NEEDS_ACCURACY)
            check(estimator)
    assert names


def test_the_regressors_network_predicts_smooth_and_linear_targets() -> None:
    source = np.random.default_rng(0)
    x = source.normal(size=(260, 3))
    y = 50 + 10 * np.sin(x[:, 0]) + 5 * x[:, 1] + source.normal(size=260)
    model = TabularRegressor(NUMBERS, n_estimators=2).fit(x[:200], y[:200])
    assert model.score(x[200:], y[200:]) > 0.9
    low, high = model.predict(x[200:], "quantiles", quantiles=[0.05, 0.95]).T
    assert 0.7 < ((low < y[200:]) & (y[200:] < high)).mean() <= 1


@pytest.mark.parametrize("path", [WEIGHTS, NUMBERS], ids=lambda path: path.stem)
def test_size(path: Path) -> None:
    assert path.stat().st_size <= 20_000_000
