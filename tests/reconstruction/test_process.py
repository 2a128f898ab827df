"""Gaussian processes of target columns, and the network that corrects them."""

import copy
from functools import partial
from math import log

import lightning
import pandas
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions
from tabattn.contract.cells import Column
from tabattn.reconstruction import ProcessTransformer
from tabattn.reconstruction.covariances import LEAST, cholesky_factor
from tabattn.reconstruction.process import GaussianProcess
from tabattn.reconstruction.stacked import StackedProcesses
from tabattn.tasks import TableReconstruction

COLUMNS = (
    Column("size"),
    Column("shape", ("flat", "round", "square")),
    Column("age"),
    Column("kind", ("a", "b"), target=True),
    Column("price", target=True),
)
KIND, PRICE = 3, 4


def table(rows: int = 24) -> torch.Tensor:
    """Draw true cells, whose price depends on size and shape, and whose kind on size."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(rows, len(COLUMNS), generator=generator)
    truth[:, 1] = torch.randint(3, (rows,), generator=generator).float()
    truth[:, KIND] = (truth[:, 0] > 0).float()
    truth[:, PRICE] = (2 * truth[:, 0]).sin() + 0.5 * (truth[:, 1] == 1) + 0.05 * truth[:, PRICE]
    return truth


def masked(truth: torch.Tensor, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells and mask, of one table, with the targets hidden behind the context."""
    hidden = torch.zeros(truth.shape, dtype=torch.bool)
    hidden[context:, KIND:] = True
    return torch.where(hidden, 0.0, truth)[None], hidden[None]


def process(target: int = PRICE, most_rows: int = 1000) -> GaussianProcess:
    """Make one with hyperparameters that differ from their defaults."""
    made = GaussianProcess(COLUMNS, target, most_rows)
    made.scale.fill_(log(1.5))
    made.noise.fill_(log(0.04 - LEAST))
    made.lengths.copy_(torch.tensor([0.7, 1.1, 2.0, 1.3, 0.9]).log())
    made.slopes.fill_(log(0.3))
    return made


def inputs(truth: torch.Tensor) -> torch.Tensor:
    """Features as the process sees them: numbers, and indicators of shapes."""
    return torch.cat([truth[:, :1], torch.nn.functional.one_hot(truth[:, 1].long(), 3), truth[:, 2:3]], dim=1).double()


def reference() -> GaussianProcessRegressor:
    """The same process by scikit-learn."""
    matern = Matern([0.7, 1.1, 2.0, 1.3, 0.9], nu=2.5)
    kernel = ConstantKernel(1.5) * matern + ConstantKernel(0.09) * DotProduct(0.0, "fixed") + WhiteKernel(0.04)
    return GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)


def test_predictions_are_those_of_scikit_learn() -> None:
    truth = table()
    found = process()(*masked(truth, 16), 16)
    mean, std = reference().fit(inputs(truth)[:16], truth[:16, PRICE]).predict(inputs(truth)[16:], return_std=True)
    torch.testing.assert_close(found.mean[0, 16:], torch.tensor(mean).float())
    torch.testing.assert_close(found.std[0, 16:], torch.tensor(std).float())
    assert not found.residual[0, 16:].any()


def test_rows_whose_label_is_seen_are_predicted_from_the_others() -> None:
    truth = table()
    found = process()(*masked(truth, 16), 16)
    for row in (0, 7):
        others = [each for each in range(16) if each != row]
        fitted = reference().fit(inputs(truth)[others], truth[others, PRICE])
        mean, std = fitted.predict(inputs(truth)[row : row + 1], return_std=True)
        assert found.mean[0, row] == pytest.approx(mean[0], abs=1e-5)
        assert found.std[0, row] == pytest.approx(std[0], abs=1e-5)
        assert found.residual[0, row] == pytest.approx(float(truth[row, PRICE]) - mean[0], abs=1e-5)


def test_a_label_does_not_change_its_own_prediction() -> None:
    x, hidden = masked(table(), 16)
    before = process()(x, hidden, 16).mean
    x[0, 5, PRICE] += 3
    after = process()(x, hidden, 16).mean
    torch.testing.assert_close(before[0, 5], after[0, 5], atol=1e-5, rtol=0.0)
    assert not torch.allclose(before[0, 6:], after[0, 6:])


def test_hidden_labels_and_rows_behind_the_context_are_not_conditioned_on() -> None:
    x, hidden = masked(table(), 16)
    hidden[0, 3, PRICE] = True
    before = process()(x, hidden, 16)
    x[0, 3, PRICE], x[0, 20, PRICE], x[0, 20, 0] = 9.0, 9.0, 9.0
    after = process()(x, hidden, 16)
    others = [row for row in range(24) if row != 20]
    torch.testing.assert_close(before.mean[0, others], after.mean[0, others])
    assert not before.residual[0, 3].any()


def test_only_so_many_points_are_conditioned_on() -> None:
    truth = table()
    found = process(most_rows=4)(*masked(truth, 16), 16)
    rows = [0, 5, 10, 15]
    mean = reference().fit(inputs(truth)[rows], truth[rows, PRICE]).predict(inputs(truth))
    rest = [row for row in range(24) if row not in rows]
    torch.testing.assert_close(found.mean[0, rest], torch.tensor(mean[rest]).float())
    assert found.residual[0, 1] == pytest.approx(float(truth[1, PRICE]) - mean[1], abs=1e-5)


def test_without_a_label_the_prior_is_predicted() -> None:
    x, hidden = masked(table(), 16)
    hidden[:, :, PRICE] = True
    found = process()(x, hidden, 16)
    assert not found.mean.any()
    linear = 0.09 * inputs(x[0]).square().sum(1)
    torch.testing.assert_close(found.std[0].double(), (1.5 + 0.04 + linear).sqrt(), atol=1e-5, rtol=1e-5)


def test_hidden_features_count_as_their_mean() -> None:
    x, hidden = masked(table(), 16)
    hidden[0, 2, :2] = True
    x[0, 2, :2] = 0.0
    assert not process()._inputs(x[0], hidden[0])[2, :4].any()


def test_a_table_without_features_has_the_mean_of_its_labels() -> None:
    made = GaussianProcess((Column("price", target=True),), 0)
    truth = torch.tensor([[1.0], [1.2], [0.8], [1.1]])
    made.fit(truth)
    found = made(truth[None], torch.tensor([[[False], [False], [False], [True]]]), 3)
    assert found.mean[0, 3] == pytest.approx(1.0, abs=0.1)


def test_the_fit_raises_the_likelihood_and_finds_the_relevant_columns() -> None:
    truth = table(80)
    fitted = GaussianProcess(COLUMNS, PRICE)
    logs = [each.double() for each in (fitted.scale, fitted.noise, fitted.lengths, fitted.slopes)]
    before = fitted._negative_posterior(fitted._inputs(truth, truth.isnan()), truth[:, PRICE].double()[:, None], logs)
    truth[:3, 0], truth[4, PRICE] = torch.nan, torch.nan
    fitted.fit(truth)
    logs = [each.double() for each in (fitted.scale, fitted.noise, fitted.lengths, fitted.slopes)]
    filled = truth[5:]
    after = fitted._negative_posterior(fitted._inputs(filled, filled.isnan()), filled[:, PRICE].double()[:, None], logs)
    assert after < before - 0.5
    assert fitted.lengths[0] < fitted.lengths[4] - 1
    assert fitted.noise.exp() < 0.2


def test_priors_keep_hyperparameters_of_which_the_rows_say_little() -> None:
    truth = table(3)
    made = GaussianProcess(COLUMNS, PRICE)
    made.fit(truth)
    assert (made.lengths - 0.5 * log(5)).abs().max() < 2
    assert (made.slopes + 2).abs().max() < 2
    logs = [made.scale.double() + 2, made.noise.double() * 0 - 1, made.lengths.double() * 0 + 0.5 * log(5) + 1]
    assert float(made._log_prior([*logs, made.slopes.double() * 0 - 1])) == pytest.approx(
        -0.5 * ((float(made.scale) + 2) ** 2 / 4 + 1 + 5 + 5)
    )


def test_a_fit_to_fewer_than_two_labels_changes_nothing() -> None:
    truth = table()
    truth[1:, PRICE] = torch.nan
    made = GaussianProcess(COLUMNS, PRICE)
    before = copy.deepcopy(made.state_dict())
    made.fit(truth)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def corrected() -> ProcessTransformer:
    """Make a small network with fitted processes."""
    torch.manual_seed(0)
    made = ProcessTransformer(COLUMNS, dim=8, heads=2, hidden=16, layers=1).eval()
    made.begin(table())
    return made


def test_an_untrained_network_predicts_as_the_process() -> None:
    made, (x, hidden) = corrected(), masked(table(), 16)
    found = made(x, hidden, 16)
    price = made.processes[0](x, hidden, 16)
    torch.testing.assert_close(found.mean[..., -1], price.mean)
    first = found.density.component_distribution
    torch.testing.assert_close(first.mean[0, :, -1, 0], price.mean[0])
    torch.testing.assert_close(first.stddev[0, :, -1, 0], price.std[0])


def test_the_network_reads_residuals_of_other_rows_and_never_its_own_hidden_label() -> None:
    made, (x, hidden) = corrected(), masked(table(), 16)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    before = made(x, hidden, 16).mean[0, :, -1] - made.processes[0](x, hidden, 16).mean[0]
    x[0, 20, PRICE] = 7.0
    torch.testing.assert_close(made(x, hidden, 16).mean[0, :, -1] - made.processes[0](x, hidden, 16).mean[0], before)
    x[0, 2, PRICE] += 2.0
    after = made(x, hidden, 16).mean[0, :, -1] - made.processes[0](x, hidden, 16).mean[0]
    assert not torch.allclose(after[16:], before[16:])


def test_processes_are_fitted_once_before_training() -> None:
    rows = pandas.DataFrame(load_diabetes().data).iloc[:120].assign(target=load_diabetes().target[:120])
    data = TableCells(rows.set_axis([*"abcdefghij", "target"], axis=1), "target", steps_per_epoch=2)
    task = TableReconstruction(partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1))
    trainer = lightning.Trainer(
        max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(task, data)
    network = task.network
    assert isinstance(network, ProcessTransformer)
    expected = StackedProcesses(data.columns, 10)
    expected.fit(next(iter(data.train_dataloader())).truth[0])
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(network.processes[0].state_dict()[name], value, atol=1e-2, rtol=1e-2)
    assert trainer.test(task, data, verbose=False)[0]["test/rmse"] < 70


def test_the_share_of_corrections_counts_all_training_rows_and_not_those_of_a_batch() -> None:
    rows = pandas.DataFrame(load_diabetes().data).iloc[:100].assign(target=load_diabetes().target[:100])
    frame = rows.set_axis([*"abcdefghij", "target"], axis=1)
    data = TableCells(frame, "target", steps_per_epoch=1, context=ContextOptions(rows=20))
    task = TableReconstruction(partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1))
    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(task, data)
    count = int((data.roles == 0).sum())
    assert count == 70
    assert task.network.share == pytest.approx(count / (count + 1000))


def test_each_target_has_a_process() -> None:
    made = corrected()
    assert [process.target for process in made.processes] == [PRICE]
    assert [process.target for process in made.class_processes] == [KIND]


def test_rows_that_are_alike_to_rounding_have_finite_predictions() -> None:
    made = process()
    made.scale.fill_(12.0)
    made.slopes.fill_(12.0)
    made.noise.fill_(-12.0)
    truth = table()[:1].repeat(300, 1)
    found = made(*masked(truth, 200), 200)
    assert all(part.isfinite().all() for part in found)


def test_of_two_maxima_the_more_probable_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    maxima = iter([(0.5, -1.0), (0.2, -2.0), (0.1, -3.0), (0.4, -4.0)])
    made = process()

    def found(*_: object) -> tuple[float, list[torch.Tensor]]:
        loss, value = next(maxima)
        return loss, [torch.full_like(each, value) for each in (made.scale, made.noise, made.lengths, made.slopes)]

    monkeypatch.setattr(made, "_maximised", found)
    made.fit(table())
    assert float(made.scale) == -2.0
    made.fit(table())
    assert float(made.noise) == -3.0


def test_a_covariance_that_is_far_from_positive_definite_is_raised_further() -> None:
    covariance = torch.tensor([[1.0, 1.05], [1.05, 1.0]]).double()
    factor = cholesky_factor(covariance)
    raised = (factor @ factor.T - covariance).diagonal()
    torch.testing.assert_close(raised, torch.full_like(raised, 0.1))


def test_variances_have_a_floor() -> None:
    made = process()
    made.noise.fill_(-12.0)
    made.scale.fill_(-12.0)
    made.slopes.fill_(-12.0)
    assert made(*masked(table(), 16), 16).std.min() >= LEAST**0.5


def test_a_covariance_that_is_not_positive_definite_is_raised() -> None:
    factor = cholesky_factor(torch.ones(5, 5).double() - 1e-9 * torch.eye(5).double())
    assert factor.isfinite().all()
    torch.testing.assert_close(factor @ factor.T, torch.ones(5, 5).double(), atol=1e-3, rtol=0.0)


def test_corrections_are_shrunk_in_evaluation_by_the_number_of_rows() -> None:
    made, (x, hidden) = corrected(), masked(table(), 16)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    assert made.share == pytest.approx(24 / 1024)
    price, kind = made.processes[0](x, hidden, 16).mean, made.class_processes[0].classify(x, hidden, 16).logits
    shrunk = made(x, hidden, 16)
    made.share.fill_(1.0)
    whole = made(x, hidden, 16)
    torch.testing.assert_close(shrunk.mean[..., -1] - price, (whole.mean[..., -1] - price) * 24 / 1024)
    at = made.kinds.categorical.index(KIND)
    torch.testing.assert_close(
        shrunk.logits[:, :, at, :2] - kind, (whole.logits[:, :, at, :2] - kind) * 24 / 1024, atol=1e-5, rtol=1e-4
    )
    centres = [each.density.component_distribution.loc[..., -1, 1] for each in (shrunk, whole)]
    torch.testing.assert_close(centres[1] - centres[0], whole.mean[..., -1] - shrunk.mean[..., -1])


def test_corrections_are_whole_in_training() -> None:
    made = ProcessTransformer(COLUMNS, dim=8, heads=2, hidden=16, layers=1, dropout=0.0)
    made.begin(table())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, hidden = masked(table(), 16)
    trained = made(x, hidden, 16).mean
    made.eval().share.fill_(1.0)
    torch.testing.assert_close(made(x, hidden, 16).mean, trained)
