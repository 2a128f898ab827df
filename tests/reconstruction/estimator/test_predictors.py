"""Classifier and regressor: they learn, their densities are in the units of the labels, and trainings stop."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from tabattn.contract.columns import TableEncoder
from tabattn.contract.errors import DivergenceError
from tabattn.nn.densities import mixture
from tabattn.optim.fitting import BestAverage
from tabattn.reconstruction import ProcessTransformer
from tabattn.reconstruction.estimator import NPTClassifier, NPTRegressor
from tabattn.reconstruction.estimator import regressor as regressor_file
from tabattn.reconstruction.estimator.batches import HeldOutRows, Hiding, TrainingRows, contexts_of, partition
from tabattn.reconstruction.estimator.cells import columns_of, held_out, in_units, standardised
from tests.reconstruction.estimator.tiny import TINY, classifier, regressor

QUICK = replace(TINY, decay=0.5)


def line(rows: int = 120) -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    return x, 1000 + 50 * x[:, 0]


def test_the_regressor_learns_a_line() -> None:
    x, y = line()
    model = regressor(settings=QUICK, max_steps=100, patience=100).fit(x[:100], y[:100])
    assert model.score(x[100:], y[100:]) > 0.8
    mean, std = model.predict(x[100:], return_std=True)
    assert mean.shape == std.shape == (20,)
    assert (std > 0).all()
    low, middle, high = model.predict_quantiles(x[100:], (0.1, 0.5, 0.9)).T
    assert (low < middle).all()
    assert (middle < high).all()
    near = model.log_density(x[100:], mean)
    assert (near > model.log_density(x[100:], mean + 200)).all()


def test_the_classifier_learns_a_threshold() -> None:
    x, y = line()
    model = classifier(settings=QUICK, max_steps=100, patience=100).fit(x[:100], np.where(y[:100] > 1000, "up", "down"))
    assert model.score(x[100:], np.where(y[100:] > 1000, "up", "down")) > 0.8


def test_scores_are_weighted_by_rows() -> None:
    x, y = line(40)
    model = classifier().fit(x, y > 1000)
    truth = model.predict(x)
    truth[:10] = ~truth[:10]
    weights = np.arange(40.0)
    assert model.score(x, truth) == 0.75
    assert model.score(x, truth, weights) == pytest.approx(1 - weights[:10].sum() / weights.sum())


def test_a_network_is_prepared_by_all_rows_that_it_learns_from() -> None:
    process = partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1)
    model = regressor(settings=replace(TINY, network=process, rows=20), validation_fraction=0.1).fit(*line(100))
    assert model.members_.networks[0].state_dict()["share"] == pytest.approx(90 / 1090)


def test_several_labels() -> None:
    x, y = line(40)
    model = regressor().fit(x, np.stack([y, -y], axis=1))
    assert model.predict(x[:5]).shape == (5, 2)
    assert model.predict_quantiles(x[:5]).shape == (5, 2, 3)
    assert model.log_density(x[:5], np.ones((5, 2))).shape == (5, 2)
    means = model.predict(x)
    assert means[:, 0].mean() == pytest.approx(1000, rel=0.1)
    assert means[:, 1].mean() == pytest.approx(-1000, rel=0.1)


def test_quantiles_are_those_of_the_mixture() -> None:
    density = mixture(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 10.0]]]), torch.ones(1, 1, 2))
    assert float(regressor_file._quantile(density, 0.25)) == pytest.approx(0.0, abs=1e-4)
    assert float(regressor_file._quantile(density, 0.75)) == pytest.approx(10.0, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_bad_quantiles(level: float) -> None:
    model = regressor().fit(*line(20))
    with pytest.raises(ValueError, match=f"quantiles must be above 0 and below 1, got {level}"):
        model.predict_quantiles(line(20)[0], (0.5, level))


def test_densities_are_in_the_units_of_the_labels() -> None:
    x, y = line(40)
    model = regressor().fit(x, y)
    found = model._predict(x)
    _, mean, std = regressor_file.parts(found.density)
    scale = model.members_.columns[-1].std
    assert scale == pytest.approx(y.std())
    one = replace(TINY, network=TINY.network)
    assert one.network is TINY.network
    mixed = torch.logsumexp(
        found.density.mixture_distribution.logits[0, :, -1].log_softmax(-1)
        + Normal(mean[0, :, -1], std[0, :, -1]).log_prob(torch.tensor((y - y.mean()) / y.std())[:, None].float()),
        dim=-1,
    )
    np.testing.assert_allclose(model.log_density(x, y), mixed.numpy() - np.log(y.std()), rtol=1e-4)
    np.testing.assert_allclose(
        model.predict(x, return_std=True)[1], found.density.stddev[0, :, -1].numpy() * y.std(), rtol=1e-4
    )


def test_constant_labels() -> None:
    x, _ = line(20)
    model = regressor().fit(x, np.full(20, 7.0))
    np.testing.assert_allclose(model.predict(x), 7.0, atol=0.5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_labels_must_be_finite(wrong: float) -> None:
    x, y = line(20)
    y[3] = wrong
    with pytest.raises(ValueError, match="Input y contains"):
        regressor().fit(x, y)


def test_it_stops_without_improvement_and_keeps_the_best() -> None:
    x, y = line(40)
    y = np.random.default_rng(1).normal(size=40)
    model = regressor(settings=QUICK, max_steps=400, patience=3).fit(x, y)
    losses = model.validation_losses_[0]
    assert len(losses) < 200
    assert int(np.argmin(losses)) == len(losses) - 4


def test_all_steps_are_taken_without_validation_rows() -> None:
    x, y = line(40)
    assert regressor(validation_fraction=0).fit(x, y).validation_losses_ == [[]]
    assert regressor().fit(x[:9], y[:9]).validation_losses_ == [[]]


def test_the_average_is_validated_and_the_weights_are_put_back() -> None:
    class Module:
        network = torch.nn.Linear(1, 1)

    class Run:
        callback_metrics = {"val/loss": torch.tensor(0.5)}  # noqa: RUF012
        should_stop = False

    best: Any = BestAverage(0.5, 1)
    module: Any = Module()
    run: Any = Run()
    best.on_train_start(run, module)
    for value in (0.0, 1.0):
        with torch.no_grad():
            module.network.weight.fill_(value)
        best.on_train_batch_end(run, module)
    best.on_validation_start(run, module)
    assert float(module.network.weight.detach()) == 0.5
    best.on_validation_end(run, module)
    assert float(module.network.weight.detach()) == 1.0
    assert not run.should_stop
    best.on_validation_start(run, module)
    best.on_validation_end(run, module)
    assert run.should_stop
    with torch.no_grad():
        module.network.weight.fill_(3.0)
    best.on_train_batch_end(run, module)
    best.on_train_end(run, module)
    assert float(module.network.weight.detach()) == 0.5, "the best average, not the last one"
    best.on_train_end(run, module)
    assert float(module.network.weight.detach()) == 0.5


def test_a_diverged_training_is_one_line() -> None:
    from functools import partial

    from torch.optim import SGD

    x, y = line(40)
    settings = replace(TINY, optimizer=partial(SGD, lr=1e30), clip=1e30)
    with (
        pytest.raises(DivergenceError, match="a lower learning rate in settings may help"),
        pytest.warns(UserWarning, match="the gradient is"),
    ):
        regressor(settings=settings, max_steps=40).fit(x, y)


def test_members_differ() -> None:
    x, y = line(40)
    model = regressor(n_members=2).fit(x, y)
    first, second = (network.state_dict()["embedding.mask"] for network in model.members_.networks)
    assert not torch.equal(first, second)
    assert len(model.validation_losses_) == 2


def test_training_batches_hide_labels_behind_the_context_alone() -> None:
    cells = torch.randn(50, 4)
    cells[3, 1] = torch.nan
    labels = torch.tensor([False, False, False, True])
    batches = TrainingRows(
        cells, torch.arange(40), labels, None, Hiding((0.2, 0.2), cells[:0].isnan(), 0.0), 0.5, 20, 0
    )
    assert len(batches) == 2
    first, second, later = batches[0], batches[1], batches[2]
    assert sorted([*first.row[0].tolist(), *second.row[0].tolist()]) == list(range(40))
    assert first.row.tolist() != later.row.tolist()
    assert first.context == 10
    assert not first.hidden[0, :10, 3].any()
    assert first.hidden[0, 10:, 3].all()
    assert first.scored[0, 10:, 3].all()
    assert not (first.scored & first.truth.isnan()).any()
    assert (first.x[first.hidden] == 0).all()
    torch.testing.assert_close(batches[0].hidden, first.hidden)
    shares = torch.stack([batches[number].scored[0, :, :3].float().mean() for number in range(40)])
    assert float(shares.mean()) == pytest.approx(0.2, abs=0.03)


def test_hidden_shares_vary_between_rows() -> None:
    cells = torch.zeros(400, 50)
    batches = TrainingRows(
        cells,
        torch.arange(400),
        torch.zeros(50, dtype=torch.bool),
        None,
        Hiding((0.1, 0.6), cells[:0].isnan(), 0.0),
        0.5,
        400,
        0,
    )
    rates = batches[0].hidden[0].float().mean(1)
    assert 0.02 < float(rates.min()) < 0.2
    assert 0.5 < float(rates.max()) < 0.8
    contexts = {batches[number].context for number in range(20)}
    assert min(contexts) < 300
    assert max(contexts) > 300


def test_validation_batches_hide_what_they_are_told() -> None:
    cells = torch.randn(12, 2)
    cells[10, 1] = torch.nan
    hidden = torch.tensor([[False, True]]).expand(1, 4, 2)
    batches = HeldOutRows(cells, torch.arange(8), torch.arange(8, 12), hidden, 3)
    assert len(batches) == 2
    assert batches[0].row.tolist() == [[*range(8), 8, 9, 10]]
    assert batches[0].scored[0].nonzero().tolist() == [[8, 1], [9, 1]]
    assert batches[1].row.tolist() == [[*range(8), 11]]
    with pytest.raises(IndexError):
        batches[2]


def test_parts_have_the_shares_of_the_classes() -> None:
    classes = torch.tensor([0] * 30 + [1] * 10)
    parts = partition(torch.arange(40), classes, 4, torch.Generator().manual_seed(0))
    assert [int(classes[part].sum()) for part in parts] in ([3, 3, 2, 2], [2, 2, 3, 3], [3, 2, 3, 2], [2, 3, 2, 3])
    contexts = contexts_of(torch.arange(40), classes, 10, 2, 0)
    assert [len(rows) for rows in contexts] == [10, 10]
    assert contexts_of(torch.arange(40), classes, 40, 2, 0)[0].tolist() == list(range(40))


def test_held_out_rows_have_the_shares_of_the_classes() -> None:
    classes = np.array([0] * 30 + [1] * 10)
    train, val = held_out(40, classes, 0.2, 0)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(40))
    assert int(classes[val.numpy()].sum()) == 2
    for seed in range(5):
        train, val = held_out(40, np.array([0] * 29 + [1] * 10 + [2]), 0.2, seed)  # a class of a single row
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(40))
        assert np.bincount(np.searchsorted([29, 39], val.numpy(), side="right"), minlength=3).tolist() == [6, 2, 0]


def test_outliers_are_drawn_in_and_keep_their_order() -> None:
    x = np.random.default_rng(0).normal(size=(50, 1))
    encoder = TableEncoder()
    columns = columns_of(encoder, encoder.fit_encode(x), target=False)
    z = standardised(np.array([[0.0], [1e3], [1e30], [-1e308]]), columns)
    assert z[1] < z[2] < 120
    assert -800 < z[3] < -20
    np.testing.assert_allclose(standardised(x, columns), (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-5)
    assert columns[0].quantiles[0] == pytest.approx(float(standardised(x, columns).min()))


def test_a_classifier_hides_features_and_a_regressor_none() -> None:
    assert NPTClassifier.defaults.hidden == (0.0, 0.3)
    assert NPTRegressor.defaults.hidden == (0.0, 0.0)


def test_labels_of_another_shape_have_no_density() -> None:
    x, y = line(40)
    model = regressor().fit(x, y)
    assert model.log_density(x, y).shape == (40,)
    for wrong in (np.r_[y, y], np.c_[y, y], y[:39]):
        with pytest.raises(ValueError, match=r"y must be of the shape \(40,\), got"):
            model.log_density(x, wrong)
    with pytest.raises(ValueError, match="NaN"):
        model.log_density(x, np.where(np.arange(40) == 3, np.nan, y))


@pytest.mark.parametrize("quantiles", [0.5, [], [1.5], ["a"]])
def test_what_are_no_quantiles(quantiles: Any) -> None:
    x, y = line(40)
    with pytest.raises(ValueError, match="quantiles must be"):
        regressor().fit(x, y).predict_quantiles(x, quantiles)


def test_rows_are_left_to_learn_from() -> None:
    train, val = held_out(12, None, 0.99, 0)
    assert (len(train), len(val)) == (1, 11)


@pytest.mark.filterwarnings("ignore:.* encountered in reduce:RuntimeWarning")  # scikit-learn's check of y
def test_labels_near_the_largest_number_have_finite_quantiles() -> None:
    x = np.arange(20.0)[:, None]
    y = np.where(x[:, 0] % 2 == 0, 1.7e308, -1.7e308)
    model = regressor().fit(x, y)
    quantiles = model.predict_quantiles(x, [0.001, 0.5, 0.999])
    assert np.isfinite(quantiles).all()
    assert (quantiles[:, 0] < quantiles[:, 1]).all()
    assert (quantiles[:, 1] < quantiles[:, 2]).all()
    mean, std = model.predict(x, return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert np.isfinite(model.log_density(x, y)).all()


def test_units_of_the_data() -> None:
    np.testing.assert_allclose(in_units(np.array([-1.0, 2.0]), 3.0, 0.5), [2.5, 4.0])
    assert in_units(np.array([3.0]), 1e308, 1e308)[0] == np.finfo(np.float64).max
    assert in_units(np.array([-3.0]), 1e308, 1e308)[0] == pytest.approx(-np.finfo(np.float64).max)
