"""The cached context gives the joint forward's answers, in chunks of any size; what is left out is said."""

from typing import Any

import numpy as np
import pytest
import torch

from tabattn import TabularClassifier, TabularRegressor
from tabattn.attention import MECHANISMS
from tabattn.prior.classifier_network import ContextCache
from tabattn.prior.estimator import reader
from tabattn.prior.estimator.arguments import check_arguments
from tabattn.prior.estimator.ensemble import draw
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.network import PriorNetwork
from tests.prior.estimator.tiny import LEGACY, MakeTable, tiny_network


def joint(model: Any, x: Any) -> Any:
    """Members' probabilities by one forward pass over context and target rows, averaged over logits."""
    parts = model._reader
    context, target = parts.scales(parts.x), parts.scales(x)
    total = 0.0
    for question in parts.ensemble.questions:
        member = parts.ensemble.members[question.member]
        rows = np.concatenate([context[member.scale][question.rows], target[member.scale]])[:, member.columns]
        y = torch.from_numpy(question.codes[parts.y[question.rows]])
        logits = model.network_(torch.from_numpy(rows)[None], y[None], len(y))[0] / model.temperature
        total = total + logits[:, question.codes].log_softmax(-1).numpy()
    return torch.from_numpy(total / len(parts.ensemble.members)).double().softmax(-1).numpy()


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of contexts in each batch that a network reads from now on."""
    batches: list[int] = []
    prefill = PriorNetwork.prefill

    def watched(network: PriorNetwork, x: torch.Tensor, y: torch.Tensor) -> ContextCache:
        batches.append(len(x))
        return prefill(network, x, y)

    monkeypatch.setattr(PriorNetwork, "prefill", watched)
    return batches


@pytest.mark.parametrize("changes", [{}, LEGACY], ids=["default", "legacy"])
@pytest.mark.parametrize("attention", MECHANISMS)
def test_equals_the_joint_forward(table: MakeTable, changes: Any, attention: str) -> None:
    x, y = table()
    x[2, 1] = np.nan
    model = TabularClassifier(tiny_network(attention=MECHANISMS[attention], **changes), n_estimators=3)
    model.fit(x[:12], y[:12])
    expected = joint(model, x[12:])
    for _ in range(2):
        np.testing.assert_allclose(model.predict_proba(x[12:]), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3


@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 8, 100])
def test_chunks_change_nothing(table: MakeTable, chunk_rows: int) -> None:
    x, y = table()
    whole = TabularClassifier().fit(x, y).predict_proba(x)
    chunks = TabularClassifier(chunk_rows=chunk_rows).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(chunks, whole, atol=1e-6)


def test_context_is_read_once(table: MakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = table()
    model = TabularClassifier().fit(x, y)
    reads = watch(monkeypatch)
    first = model.predict_proba(x)
    once = len(reads)
    assert once >= 1
    np.testing.assert_array_equal(model.predict_proba(x), first)
    assert len(reads) == once
    assert model.cached_bytes > 0
    np.testing.assert_array_equal(model.set_params(cache=False).predict_proba(x), first)
    assert len(reads) == 2 * once
    assert model.cached_bytes == 0


def test_members_are_read_together(table: MakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = table()
    batches = watch(monkeypatch)
    model = TabularClassifier(n_estimators=5, device="cpu")
    together = model.fit(x, y).predict_proba(x)
    assert batches == [5]
    monkeypatch.setattr(reader, "BATCH_TOKENS", {"cpu": 1})
    np.testing.assert_allclose(model.fit(x, y).predict_proba(x), together, atol=1e-6)
    assert batches == [5, 1, 1, 1, 1, 1]


def test_a_context_that_does_not_fit_the_cache_is_said(table: MakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = table()
    expected = TabularClassifier().fit(x, y).predict_proba(x)
    monkeypatch.setattr(reader, "CACHE_BYTES", 100)
    model = TabularClassifier().fit(x, y)
    with pytest.warns(UserWarning, match="read anew at each call") as said:
        np.testing.assert_array_equal(model.predict_proba(x), expected)
    assert {warning.filename for warning in said} == {__file__}
    assert model.cached_bytes == 0


@pytest.mark.parametrize("method", ["predict", "distribution"])
def test_the_warning_names_the_line_that_asks_a_regressor(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHE_BYTES", 100)
    x = np.random.default_rng(0).normal(size=(20, 2))
    model = TabularRegressor(kernel_weight=0).fit(x, x[:, 0])
    with pytest.warns(UserWarning, match="read anew at each call") as said:
        getattr(model, method)(x)
    assert {warning.filename for warning in said} == {__file__}


def test_large_tables_are_sampled_and_it_is_said(table: MakeTable) -> None:
    x, y = table(60)
    model = TabularClassifier(max_context=20)
    with pytest.warns(UserWarning, match="has 60 rows: each member .* sample of 20") as said:
        model.fit(x, y)
    assert {warning.filename for warning in said} == {__file__}
    assert model._reader is not None
    assert all(len(question.rows) == 20 for question in model._reader.ensemble.questions)
    assert model.predict_proba(x).shape == (60, 3)


def test_rows_do_not_influence_one_another(table: MakeTable) -> None:
    x, y = table()
    model = TabularClassifier().fit(x, y)
    alone = np.concatenate([model.predict_proba(row[None]) for row in x])
    np.testing.assert_allclose(alone, model.predict_proba(x), atol=1e-6)


def test_labels_are_read(table: MakeTable) -> None:
    x, y = table()
    probabilities = TabularClassifier().fit(x, y).predict_proba(x)
    other = TabularClassifier().fit(x, np.roll(y, 1)).predict_proba(x)
    assert np.abs(probabilities - other).max() > 1e-3


def test_names_of_classes_do_not_matter(table: MakeTable) -> None:
    x, y = table()
    first = TabularClassifier(n_estimators=2).fit(x, y).predict_proba(x)
    renamed = TabularClassifier(n_estimators=2).fit(x, np.array(["a", "b", "c"])[y]).predict_proba(x)
    np.testing.assert_array_equal(first, renamed)


def test_batches_are_as_large_as_the_columns_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    source = np.random.default_rng(0)
    x, y = source.normal(size=(10, 6)), np.arange(10) % 2
    monkeypatch.setattr(reader, "BATCH_TOKENS", {"cpu": 2 * 10 * 3})
    run = check_arguments(TabularClassifier(n_estimators=2).get_params(deep=False))
    for columns, batches in ((np.array([1, 4]), 1), (np.arange(6), 2)):
        made = Reader(tiny_network(), x, y, draw(y, columns, 2, 4, 100, 0))
        assert len(list(made._batches(run))) == batches
