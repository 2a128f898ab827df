"""The estimator keeps scikit-learn's contract."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import tabattn
from tabattn import TabularClassifier
from tabattn.prior.network import PriorNetwork
from tests.prior.estimator.tiny import MakeTable

EXPECTED_FAILURES = {"check_classifiers_train": "asks for accuracy, which a network of random weights has not"}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [TabularClassifier(n_estimators=2)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=False,  # some of the tables of this check are so small that chance may do
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_package_itself_imports_nothing() -> None:
    program = "import sys, tabattn; assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)


def test_package_names_the_estimator() -> None:
    assert tabattn.TabularClassifier is TabularClassifier
    with pytest.raises(AttributeError, match="no attribute 'TabularClusterer'"):
        _ = tabattn.TabularClusterer


def test_clone_keeps_arguments(network: PriorNetwork) -> None:
    model = TabularClassifier(network, n_estimators=3, temperature=0.7)
    copied = clone(model)
    assert copied.get_params()["n_estimators"] == 3
    for name, value in network.state_dict().items():
        torch.testing.assert_close(copied.model.state_dict()[name], value, rtol=0, atol=0)


def test_pickle_keeps_predictions_and_leaves_the_kv_cache(table: MakeTable) -> None:
    x, y = table()
    model = TabularClassifier().fit(x, y)
    expected = model.predict_proba(x)
    assert model.cached_bytes > 0
    again = pickle.loads(pickle.dumps(model))
    assert again.cached_bytes == 0
    np.testing.assert_array_equal(again.predict_proba(x), expected)


def test_random_state_decides(table: MakeTable) -> None:
    x, y = table()

    def fitted(seed: Any) -> Any:
        return TabularClassifier(random_state=seed, n_estimators=1).fit(x, y).predict_proba(x)

    np.testing.assert_array_equal(fitted(3), fitted(3))
    np.testing.assert_array_equal(fitted(3), fitted(np.random.RandomState(3)))
    assert np.abs(fitted(3) - fitted(4)).max() > 1e-4


def test_a_callers_network_stays_as_it_is(network: PriorNetwork, table: MakeTable) -> None:
    x, y = table()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = TabularClassifier(network).fit(x, y)
    model.predict(x)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert model.network_ is not network
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_fit_leaves_global_random_numbers_alone(table: MakeTable) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    x, y = table()
    TabularClassifier().fit(x, y).predict(x)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)  # noqa: NPY002


def test_in_a_pipeline_and_a_search(table: MakeTable) -> None:
    x, y = table(30)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), TabularClassifier()), {"tabularclassifier__n_estimators": [1, 2]}, cv=2
    )
    assert search.fit(x, y).predict_proba(x).shape == (30, 3)
    assert cross_val_predict(TabularClassifier(), x, y, cv=2, method="predict_proba").shape == (30, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_estimators": 0}, "n_estimators must be at least 1, got 0"),
        ({"max_context": 1}, "max_context must be at least 2, got 1"),
        ({"chunk_rows": 0}, "chunk_rows must be at least 1, got 0"),
        (
            {"plain": True, "n_estimators": 8},
            "n_estimators must be 1 with plain=True, as all members are the same, got 8",
        ),
        ({"plain": "yes", "n_estimators": 1}, "plain must be True or False, got 'yes'"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite, got 0.0"),
        ({"average": "median"}, "average must be one of logits, probabilities, got 'median'"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({"dtype": "bfloat16", "device": "cpu"}, "dtype must be float32 on a CPU, got bfloat16"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used"),
    ],
)
def test_bad_arguments_say_value_and_bound(table: MakeTable, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TabularClassifier(**arguments).fit(*table())


def test_arguments_may_change_after_fit(table: MakeTable) -> None:
    x, y = table()
    model = TabularClassifier().fit(x, y)
    first = model.predict_proba(x)
    model.set_params(temperature=5.0)
    assert np.abs(model.predict_proba(x) - first).max() > 1e-4
    with pytest.raises(ValueError, match="chunk_rows must be at least 1"):
        model.set_params(chunk_rows=0).predict(x)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (pd.Series([0, 1] * 6, dtype="Int64"), "i"),
        (pd.Series([0, 1] * 6, dtype="UInt8"), "u"),
        (pd.Series([0.0, 1.0] * 6, dtype="Float32"), "f"),
        (pd.Series([True, False] * 6, dtype="boolean"), "b"),
        (pd.Index([0, 1] * 6, dtype="Int64"), "i"),
        (pd.Series(["b", "a"] * 6, index=range(24, 0, -2)), "O"),
        (np.array([1, 0] * 6, np.int8), "i"),
        (np.array([1, 0] * 6, object), "i"),
        (np.array([1.0, 0.0] * 6, np.float32), "f"),
        (["b", "a"] * 6, "U"),
        ([b"b", b"a"] * 6, "S"),
    ],
    ids=str,
)
def test_labels_come_back_as_they_were(table: MakeTable, labels: Any, kind: str) -> None:
    x, _ = table(12)
    model = TabularClassifier().fit(x, labels)
    assert model.classes_.dtype.kind == kind
    assert model.predict(x).dtype == model.classes_.dtype
    assert model.classes_.tolist() == sorted(set(labels))
    assert model.score(x, labels) == np.mean(model.predict(x) == np.asarray(labels))
    with pytest.warns(sklearn.exceptions.DataConversionWarning, match="column-vector"):
        again = TabularClassifier().fit(x, pd.DataFrame({"label": labels}))
    np.testing.assert_array_equal(again.classes_, model.classes_)


def test_arrow_labels_come_back_as_they_were(table: MakeTable) -> None:
    pytest.importorskip("pyarrow")
    x, _ = table(12)
    for name, kind in (("int64[pyarrow]", "i"), ("bool[pyarrow]", "b"), ("float[pyarrow]", "f")):
        model = TabularClassifier().fit(x, pd.Series([0, 1] * 6).astype(name))
        assert model.classes_.dtype.kind == kind
