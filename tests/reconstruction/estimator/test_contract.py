"""The estimators keep scikit-learn's contract."""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import tabattn
from tabattn.attention import Local
from tabattn.reconstruction.estimator import NPTClassifier, TrainingSettings
from tests.reconstruction.estimator.tiny import classifier, imputer, mixed, regressor

UNTRAINED = "asks for accuracy, which two steps do not give"
EXPECTED_FAILURES = {
    "NPTClassifier": {"check_classifiers_train": UNTRAINED},
    "NPTRegressor": {"check_regressors_train": UNTRAINED},
    "TabularImputer": {},
}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [classifier(), regressor(), imputer()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator).__name__],
    xfail_strict=False,  # chance may do
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("name", ["NPTClassifier", "NPTRegressor", "TabularImputer"])
def test_the_package_names_the_estimators(name: str) -> None:
    from tabattn.reconstruction import estimator

    assert getattr(tabattn, name) is getattr(estimator, name)


def test_the_task_imports_no_estimator() -> None:
    homes = ("datamodules", "tabattn.reconstruction.estimator")
    program = f"import sys, tabattn.reconstruction; assert not [n for n in sys.modules if n.startswith({homes})]"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)


def data(rows: int = 30) -> tuple[Any, Any]:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(rows, 3))
    return x, (x[:, 0] > 0).astype(int)


def test_random_state_decides() -> None:
    x, y = data()

    def fitted(seed: Any) -> Any:
        return regressor(random_state=seed).fit(x, y).predict(x)

    np.testing.assert_array_equal(fitted(3), fitted(3))
    np.testing.assert_array_equal(fitted(3), fitted(np.random.RandomState(3)))
    assert np.abs(fitted(3) - fitted(4)).max() > 1e-6


def test_fit_leaves_global_random_numbers_and_warnings_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    filters = list(warnings.filters)
    classifier().fit(*data()).predict(data()[0])
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)  # noqa: NPY002
    assert list(warnings.filters) == filters


def test_it_is_silent_unless_verbose(capfd: pytest.CaptureFixture[str]) -> None:
    classifier().fit(*data())
    assert capfd.readouterr() == ("", "")
    classifier(verbose=True).fit(*data())
    assert "Epoch" in "".join(capfd.readouterr())


def test_clone_and_pickle() -> None:
    x, y = data()
    model = classifier(attention="Pooling", n_members=2).fit(x, y)
    assert clone(model).get_params()["attention"] == "Pooling"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x))


def test_in_a_pipeline() -> None:
    x, y = data()
    x[3, 1] = np.nan
    assert cross_val_predict(make_pipeline(imputer(), classifier()), x, y, cv=2, method="predict_proba").shape == (
        30,
        2,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_members": 0}, "n_members must be at least 1, got 0"),
        ({"max_steps": 1.5}, r"max_steps must be a whole number \(int\), at least 1, got 1.5"),
        ({"patience": True}, "patience must be a whole number"),
        ({"context_rows": 1}, "context_rows must be at least 2, got 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must be at least 0 and below 1, got 1.0"),
        ({"attention": "Sofmax"}, r"attention must be one of .*got 'Sofmax' \(did you mean Softmax\?\)"),
        ({"attribute_attention": "none"}, "attribute_attention must be one of"),
        ({"settings": {"rows": 3}}, "settings must be None or TrainingSettings, got"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used"),
    ],
)
def test_bad_arguments_say_value_and_bound(arguments: Any, message: str) -> None:
    for model in (classifier(**arguments), regressor(**arguments)):
        with pytest.raises(ValueError, match=message):
            model.fit(*data())
    with pytest.raises(ValueError, match=message):
        imputer(**arguments).fit(data()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 1}, "rows must be at least 2, got 1"),
        ({"hidden": (0.5, 0.2)}, r"hidden must be two shares, 0 <= least <= largest < 1, got \[0.5, 0.2\]"),
        ({"targets": 0.0}, "targets must be above 0 and at most 1, got 0.0"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1, got 1.0"),
        ({"clip": 0.0}, "clip must be above 0, got 0.0"),
    ],
)
def test_bad_settings(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**arguments)


def test_columns_of_every_kind_and_unseen_ones() -> None:
    frame = mixed()
    y = np.arange(len(frame)) % 3
    model = classifier(max_steps=4).fit(frame, y)
    known = model.predict_proba(frame)
    assert known.shape == (24, 3)
    np.testing.assert_allclose(known.sum(1), 1)
    other, blank = frame.copy(), frame.copy()
    other["word"], blank["word"] = "never seen", None
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(blank))
    blank[["number", "whole", "day"]] = pd.DataFrame(
        {"number": np.nan, "whole": pd.array([pd.NA] * 24, "Int64"), "day": pd.NaT}, index=frame.index
    )
    assert np.isfinite(model.predict_proba(blank)).all()
    far = frame.assign(number=1e300)
    assert np.isfinite(model.predict_proba(far)).all()


def test_a_row_does_not_depend_on_the_others() -> None:
    x, y = data()
    model = regressor(max_steps=4, context_rows=8).fit(x, y)
    assert len(model.members_.contexts) == 4
    whole = model.predict(x)
    np.testing.assert_allclose(np.concatenate([model.predict(x[:11]), model.predict(x[11:])]), whole, rtol=1e-5)


def test_labels_come_back_as_they_were() -> None:
    x, _ = data(12)
    for labels in (["b", "a"] * 6, [True, False] * 6, pd.Series(pd.Categorical(["n", "y"] * 6)), [2.0, 1.0] * 6):
        model = classifier().fit(x, labels)
        assert set(model.predict(x)) <= set(labels)
        assert model.score(x, labels) == np.mean(model.predict(x) == np.asarray(labels))


def test_one_class_needs_no_training(tmp_path: Path) -> None:
    x, _ = data()
    model = classifier().fit(x, ["same"] * 30)
    model.save(tmp_path / "a.safetensors")
    assert set(NPTClassifier.load(tmp_path / "a.safetensors").predict(x[:4])) == {"same"}


def test_no_column_tells_anything() -> None:
    y = np.arange(12) % 2
    model = classifier().fit(np.ones((12, 2)), y)
    assert model.predict_proba(np.zeros((3, 2))).shape == (3, 2)


def test_mechanisms_are_those_of_the_registry() -> None:
    x, y = data()
    model = regressor(attention=Local, attribute_attention="Scratch").fit(x, y)
    names = {type(module).__name__ for module in model.members_.networks[0].modules()}
    assert {"Local", "Scratch"} <= names
