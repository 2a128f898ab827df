"""Ensemble members: class codes, samples of rows, scalings."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from tabattn import TabularClassifier
from tabattn.prior.estimator.codes import class_codes, sample_rows
from tabattn.prior.estimator.ensemble import RANKS, STANDARD, Scales, draw
from tests.prior.estimator.tiny import MakeTable, tiny_network


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 9, 16, 17, 25, 70])
def test_questions_tell_all_classes_apart(classes: int) -> None:
    order = np.random.default_rng(0).permutation(classes)
    questions = np.stack(class_codes(order, 4))
    assert (questions[0] >= 0).all()
    assert questions.max() < 4
    assert len({tuple(column) for column in questions.T}) == classes
    for codes in questions:
        assert set(codes[codes >= 0]) == set(range(codes.max() + 1))
        assert codes.max() >= 1
    assert len(questions) == (1 if classes <= 4 else len(questions))
    sizes = np.unique(questions[0], return_counts=True)[1]
    assert np.ptp(sizes) <= 1


@pytest.mark.parametrize("classes", [3, 5, 25, 70])
def test_products_over_questions_are_probabilities(classes: int) -> None:
    random = np.random.default_rng(0)
    total = np.zeros(classes)
    for codes in class_codes(random.permutation(classes), 4):
        part = codes >= 0
        total[part] += np.log(random.dirichlet(np.ones(codes.max() + 1)))[codes[part]]
    assert np.exp(total).sum() == pytest.approx(1)


def test_a_network_with_one_output_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes apart, this one has 1 output"):
        class_codes(np.arange(3), 1)


@pytest.mark.parametrize("limit", [4, 5, 11, 40, 99, 100, 200])
def test_samples_are_stratified(limit: int) -> None:
    y = np.repeat(np.arange(4), [1, 2, 17, 80])
    rows = sample_rows(y, limit, np.random.RandomState(0))
    assert len(rows) == min(limit, 100) == len(set(rows))
    counts = np.bincount(y[rows], minlength=4)
    share = np.array([1, 2, 17, 80]) * min(1, limit / 100)
    assert (counts >= 1).all()
    assert (np.abs(counts - np.maximum(share, 1)) < 3).all()


def test_more_classes_than_rows_to_draw() -> None:
    with pytest.raises(ValueError, match=r"max_context must be at least the number of classes \(6\), got 5"):
        sample_rows(np.arange(6), 5, np.random.RandomState(0))


def test_scales() -> None:
    x = np.array([[1.0, 0.0], [2.0, np.nan], [2.0, 0.0], [1000.0, 1.0]])
    plain, ranks, raw = Scales(x)(x)
    np.testing.assert_allclose(np.nanmean(plain, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(plain, axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(ranks[:, 0], norm.ppf([1 / 8, 1 / 2, 1 / 2, 7 / 8]), atol=1e-6)
    assert np.isnan(plain[1, 1])
    np.testing.assert_array_equal(raw, x.astype(np.float32))
    assert np.isnan(ranks[1, 1])
    beyond = Scales(x)(np.array([[-5.0, 9.0], [1.5, 0.5]]))[1]
    assert beyond[0, 0] == ranks[0, 0]
    assert ranks[0, 0] < beyond[1, 0] < ranks[1, 0]


def test_scales_survive_extreme_columns() -> None:
    x = np.array([[1e300, np.nan, 5e-324], [-1e300, np.nan, 0.0], [0.0, 3.0, 0.0]])
    for view in Scales(x)(x):
        assert np.isfinite(view[~np.isnan(x)]).all()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_members_meet_every_class_under_every_number_on_every_scale(classes: int) -> None:
    y = np.arange(20) % classes
    members, questions = draw(y, np.arange(6), 4 * classes, 4, 100, seed=0)
    for scale in (STANDARD, RANKS):
        codes = np.stack([q.codes for q in questions if members[q.member].scale == scale])
        for column in codes.T:
            assert set(column) == set(range(classes))
    assert any((a.columns != b.columns).any() for a, b in pairwise(members))


def test_members_sample_their_own_rows() -> None:
    y = np.arange(60) % 3
    _, questions = draw(y, np.arange(2), 3, 4, 20, seed=0)
    assert all(len(question.rows) == 20 for question in questions)
    assert len({tuple(question.rows) for question in questions}) == 3


@pytest.mark.parametrize("classes", [5, 25])
def test_more_classes_than_outputs(classes: int) -> None:
    random = np.random.default_rng(0)
    y = np.arange(3 * classes) % classes
    x = random.standard_normal((len(y), 3)) + y[:, None]
    model = TabularClassifier(tiny_network(), n_estimators=3).fit(x, y)
    probabilities = model.predict_proba(x)
    assert probabilities.shape == (len(y), classes)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    assert (probabilities > 0).all()


def test_average_and_temperature(table: MakeTable) -> None:
    x, y = table()
    model = TabularClassifier(n_estimators=4, kernel_weight=0, temperature=1.0).fit(x, y)
    single = [
        TabularClassifier(n_estimators=1, temperature=1.0, random_state=seed).fit(x, y).predict_proba(x)
        for seed in range(2)
    ]
    assert np.abs(single[0] - single[1]).max() > 1e-4
    logits = model.predict_proba(x)
    probabilities = model.set_params(average="probabilities").predict_proba(x)
    assert 1e-7 < np.abs(logits - probabilities).max() < 0.2
    sharp = model.set_params(temperature=0.01).predict_proba(x)
    assert sharp.max(1).mean() > probabilities.max(1).mean() + 0.1
