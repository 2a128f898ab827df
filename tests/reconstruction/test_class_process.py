"""Least-squares classification by a Gaussian process, and the network that corrects it."""

import copy
from math import log

import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from tabattn.contract.cells import Column
from tabattn.reconstruction import ProcessTransformer
from tabattn.reconstruction.class_process import STEEPNESS, ClassProcess
from tabattn.reconstruction.covariances import LEAST

COLUMNS = (*map(Column, "abcd"), Column("kind", ("x", "y", "z"), target=True))
KIND = 4


def iris() -> torch.Tensor:
    """Cells of iris, standardised and in random order."""
    data = load_iris()
    features = torch.tensor(data.data).float()
    cells = torch.cat([(features - features.mean(0)) / features.std(0), torch.tensor(data.target).float()[:, None]], 1)
    return cells[torch.randperm(150, generator=torch.Generator().manual_seed(0))]


def asked(cells: torch.Tensor, context: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """One table whose labels behind the context are hidden."""
    hidden = torch.zeros(cells.shape, dtype=torch.bool)
    hidden[context:, KIND] = True
    return torch.where(hidden, 0.0, cells)[None], hidden[None], context


def fitted(context: int = 100) -> ClassProcess:
    """Fit one to the first rows of iris."""
    made = ClassProcess(COLUMNS, KIND)
    made.fit(iris()[:context])
    return made


def kernel_of(made: ClassProcess) -> ConstantKernel:
    """The same kernel by scikit-learn."""
    scale, length, slope = (float(each.exp()) for each in (made.scale, made.lengths, made.slopes))
    return ConstantKernel(scale) * Matern(length, nu=2.5) + ConstantKernel(slope**2) * DotProduct(0.0, "fixed")


def test_logits_are_linear_in_the_regression_of_one_hot_labels() -> None:
    made, cells = fitted(), iris()
    inputs = made._inputs(cells, cells.isnan()).numpy()
    kernel = kernel_of(made)
    covariance = torch.tensor(kernel(inputs[:100])) + (LEAST + made.noise.double().exp()) * torch.eye(100).double()
    labels = torch.nn.functional.one_hot(cells[:100, KIND].long(), 3) - made.shares.double()
    mean = torch.tensor(kernel(inputs[100:], inputs[:100])) @ torch.linalg.solve(covariance, labels)
    expected = made.steepness.exp() * mean.float() + made.biases
    torch.testing.assert_close(made.classify(*asked(cells, 100)).logits[0, 100:], expected, atol=1e-3, rtol=1e-3)


def test_it_predicts_iris_with_calibrated_probabilities() -> None:
    cells = iris()
    logits = fitted().classify(*asked(cells, 100)).logits[0, 100:]
    labels = cells[100:, KIND].long()
    assert (logits.argmax(-1) == labels).float().mean() > 0.9
    assert torch.nn.functional.cross_entropy(logits, labels) < 0.25


def test_a_label_does_not_change_its_own_logits() -> None:
    made, (x, hidden, context) = fitted(), asked(iris(), 100)
    before = made.classify(x, hidden, context)
    x[0, 5, KIND] = (x[0, 5, KIND] + 1) % 3
    after = made.classify(x, hidden, context)
    torch.testing.assert_close(before.logits[0, 5], after.logits[0, 5], atol=1e-4, rtol=0.0)
    assert not torch.allclose(before.logits[0, 100:], after.logits[0, 100:])
    change = after.residual[0, 5] - before.residual[0, 5]
    assert sorted(change.round().tolist()) == [-1.0, 0.0, 1.0]


def test_residuals_are_of_seen_labels_only() -> None:
    made, (x, hidden, context) = fitted(), asked(iris(), 100)
    hidden[0, 3, KIND], hidden[0, 120, KIND] = True, False
    found = made.classify(x, hidden, context)
    assert not found.residual[0, 3].any()
    assert not found.residual[0, 100:].any()
    label = torch.nn.functional.one_hot(x[0, 4, KIND].long(), 3)
    torch.testing.assert_close(found.residual[0, 4], label - found.logits[0, 4].softmax(-1))


def test_without_labels_the_shares_of_the_categories_are_predicted() -> None:
    cells = iris()
    cells = cells[(cells[:, KIND] < 2) | (torch.arange(150) < 60)]
    made = ClassProcess(COLUMNS, KIND)
    made.fit(cells)
    x, hidden, context = asked(cells, 30)
    hidden[..., KIND] = True
    counts = torch.bincount(cells[:, KIND].long(), minlength=3) + 1
    torch.testing.assert_close(made.shares, counts / counts.sum())
    probabilities = made.classify(x, hidden, context).logits.softmax(-1)
    assert (probabilities - made.biases.softmax(-1)).abs().max() < 1e-5
    assert (probabilities[0, 0] - made.shares).abs().max() < 0.1


def test_the_calibration_maximises_the_posterior_of_leave_one_out_predictions() -> None:
    made, cells = fitted(), iris()[:100]
    mean = made.infer(cells[None], cells.isnan()[None], 100, None).mean[0].float()

    def loss(steepness: torch.Tensor, biases: torch.Tensor) -> float:
        entropy = torch.nn.functional.cross_entropy(mean * steepness.exp() + biases, cells[:, KIND].long())
        prior = (steepness - log(STEEPNESS)).square() + (biases - made.shares.log()).square().sum()
        return float(entropy * 100 + 0.5 * prior)

    best = loss(made.steepness, made.biases)
    for by in (-0.1, 0.1):
        assert loss(made.steepness + by, made.biases) > best
        assert loss(made.steepness, made.biases + by * torch.tensor([1.0, 0.0, -1.0])) > best


@pytest.mark.parametrize("labels", [[], [1.0]])
def test_a_fit_to_fewer_than_two_labels_changes_nothing(labels: list[float]) -> None:
    cells = iris()[:10]
    cells[:, KIND] = torch.nan
    cells[: len(labels), KIND] = torch.tensor(labels)
    made = ClassProcess(COLUMNS, KIND)
    before = copy.deepcopy(made.state_dict())
    made.fit(cells)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_one_category_alone_is_predicted() -> None:
    cells = iris()
    cells[:, KIND] = 1.0
    made = ClassProcess(COLUMNS, KIND)
    made.fit(cells[:50])
    probabilities = made.classify(*asked(cells, 50)).logits.softmax(-1)
    assert probabilities[0, 50:, 1].min() > 0.8


def test_an_untrained_network_predicts_as_the_process_and_a_trained_one_adds_to_it() -> None:
    torch.manual_seed(0)
    network = ProcessTransformer(COLUMNS, dim=8, heads=2, hidden=16, layers=1).eval()
    network.begin(iris()[:60])
    batch = asked(iris(), 60)
    expected = network.class_processes[0].classify(*batch).logits
    torch.testing.assert_close(network(*batch).logits[:, :, 0], expected)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    shown: list[torch.Tensor] = []
    network.told_classes[0].register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    assert (network(*batch).logits[:, :, 0] - expected).abs().max() > 0.1
    torch.testing.assert_close(shown[0], torch.cat(network.class_processes[0].classify(*batch), dim=-1))


def test_the_fit_maximises_the_likelihood_of_all_outputs() -> None:
    made, cells = fitted(40), iris()[:40]
    inputs, labels = made._inputs(cells, cells.isnan()), made._labels(cells)
    logs = [each.double() for each in (made.scale, made.noise, made.lengths, made.slopes)]
    zeros, covariance = torch.zeros(40).double(), made._covariance(inputs, logs)
    normal = torch.distributions.MultivariateNormal(zeros, covariance)
    constant = 40 * 3 * 0.5 * log(2 * torch.pi)
    expected = -(normal.log_prob(labels.T).sum() + constant + made._log_prior(logs)) / 40
    torch.testing.assert_close(made._negative_posterior(inputs, labels, logs), expected)
