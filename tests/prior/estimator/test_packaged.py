"""The packaged weights: accuracy and size."""

from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

import tabattn
from tabattn import TabularClassifier

WEIGHTS = Path(tabattn.__file__).parent / "pretrained" / "prior.safetensors"
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


def test_size() -> None:
    assert WEIGHTS.stat().st_size <= 20_000_000
