"""Joint Gaussian of the columns, and the network that corrects it."""

from functools import partial

import pytest
import torch
from torch import Tensor

from tabattn.contract.cells import Column
from tabattn.reconstruction import GaussianTransformer, joint
from tabattn.reconstruction.joint import JointGaussian
from tests.reconstruction.test_network import COLUMNS, cells, parts

NUMBERS = (Column("a"), Column("b"), Column("c"))
MIXED = (Column("a"), Column("kind", ("x", "y", "z")), Column("b"))


def related(rows: int, missing: float = 0.0) -> Tensor:
    """Draw rows of ``MIXED``: b follows a, and z is frequent where a is large."""
    generator = torch.Generator().manual_seed(4)
    truth = torch.randn(rows, 3, generator=generator)
    truth[:, 2] = 0.9 * truth[:, 0] + 0.3 * truth[:, 2]
    truth[:, 1] = torch.where(truth[:, 0] > 0.5, 2.0, (truth[:, 1] > 0).float())
    truth[torch.rand(truth.shape, generator=generator) < missing] = torch.nan
    return truth


def known() -> JointGaussian:
    """Make one of numbers, whose covariance is set by hand."""
    made = JointGaussian(NUMBERS)
    made.centre.copy_(torch.tensor([0.5, -0.2, 0.1]))
    made.covariance.copy_(torch.tensor([[1.0, 0.6, 0.3], [0.6, 1.2, -0.4], [0.3, -0.4, 0.9]]))
    return made


def conditional(x: Tensor, of: int, given: list[int]) -> tuple[float, float]:
    """Mean and standard deviation of a cell given others, by the textbook's formula."""
    centre, covariance = known().centre.double(), known().covariance.double()
    weights = torch.linalg.solve(covariance[given][:, given], covariance[given, of])
    mean = centre[of] + weights @ (x[given] - centre[given])
    return float(mean), float((covariance[of, of] - weights @ covariance[given, of]).sqrt())


def test_hidden_and_seen_cells_are_predicted_from_the_others_of_their_row() -> None:
    x = torch.tensor([[0.7, -1.0, 0.4], [0.7, -1.0, 0.4], [9.0, 9.0, 9.0]])
    hidden = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    found = known()(x[None], hidden[None])
    for row, column, given in ((0, 0, [1, 2]), (0, 1, [2]), (0, 2, [1]), (1, 0, [2]), (1, 1, [2])):
        mean, std = conditional(x[row].double(), column, given)
        assert found.mean[0, row, column] == pytest.approx(mean, abs=1e-5)
        assert found.std[0, row, column] == pytest.approx(std, abs=1e-5)
        residual = 0.0 if hidden[row, column] else float(x[row, column]) - mean
        assert found.residual[0, row, column] == pytest.approx(residual, abs=1e-5)
    torch.testing.assert_close(found.mean[0, 2], known().centre)
    torch.testing.assert_close(found.std[0, 2], known().covariance.diagonal().sqrt())


def test_probabilities_of_a_category_do_not_contain_it() -> None:
    made = JointGaussian(MIXED)
    truth = related(300)
    made.fit(truth)
    seen = made(truth[None], torch.zeros(1, 300, 3, dtype=torch.bool))
    hidden = torch.tensor([False, True, False]).expand(1, 300, 3)
    torch.testing.assert_close(seen.shares, made(truth[None], hidden).shares)
    torch.testing.assert_close(seen.shares.sum(-1), torch.ones(1, 300, 1))
    indicators = torch.nn.functional.one_hot(truth[:, 1].long())
    torch.testing.assert_close(seen.surprise[0, :, 0], indicators - seen.shares[0, :, 0])
    assert not made(truth[None], hidden).surprise.any()
    large = truth[:, 0] > 1
    assert seen.shares[0, large, 0, 2].mean() > 0.6
    assert seen.shares[0, ~large, 0, 2].mean() < 0.3


def test_the_fit_finds_mean_and_covariance_despite_missing_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    expected = known()
    factor = torch.linalg.cholesky(expected.covariance)
    truth = expected.centre + torch.randn(1000, 3, generator=generator) @ factor.T
    truth[torch.rand(truth.shape, generator=generator) < 0.3] = torch.nan
    made = JointGaussian(NUMBERS)
    made.fit(truth)
    torch.testing.assert_close(made.centre, expected.centre, atol=0.1, rtol=0.0)
    torch.testing.assert_close(made.covariance, expected.covariance, atol=0.12, rtol=0.0)


def test_cells_that_depend_on_what_hides_them_are_not_biased() -> None:
    """Where large values of one column hide another, its mean is not that of what is seen."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(800, 3, generator=generator)
    truth[:, 1] = truth[:, 0] + 0.3 * truth[:, 1]
    truth[truth[:, 0] > 0.3, 1] = torch.nan
    made = JointGaussian(NUMBERS)
    made.fit(truth)
    assert truth[:, 1].nanmean() < -0.4
    assert float(made.centre[1]) == pytest.approx(0.0, abs=0.1)


def test_the_ridge_is_small_where_cells_follow_from_one_another_and_large_where_not() -> None:
    generator = torch.Generator().manual_seed(2)
    alone = torch.randn(40, 3, generator=generator)
    exact = alone[:, :1] * torch.tensor([1.0, -1.0, 2.0])
    added = []
    for truth in (exact, alone):
        made = JointGaussian(NUMBERS)
        made.fit(truth)
        added.append(float(torch.linalg.eigvalsh(made.covariance)[0]))
    assert added[0] < 0.02
    assert added[1] > 0.5


def test_the_ridge_is_the_largest_where_no_cell_is_hidden_to_choose_it() -> None:
    made = JointGaussian(NUMBERS[:1])
    made.fit(torch.tensor([[1.0]]))
    assert float(made.covariance) == pytest.approx(0.3)
    assert float(made.centre) == 1.0


def test_the_expectation_step_is_the_textbooks() -> None:
    """Conditional means, and the sum of the conditional covariances, of rows that lack the same cells or others."""
    centre, covariance = known().centre.double(), known().covariance.double()
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    seen = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    filled, total = joint._expected(rows, seen, centre, covariance)
    expected, sums = rows.clone(), torch.zeros(3, 3).double()
    for row, own in enumerate(seen):
        a, b = (~own).nonzero()[:, 0], own.nonzero()[:, 0]
        gain = covariance[a][:, b] @ covariance[b][:, b].inverse()
        expected[row, a] = centre[a] + gain @ (rows[row, b] - centre[b])
        sums[a[:, None], a] += covariance[a][:, a] - gain @ covariance[b][:, a]
    torch.testing.assert_close(filled, expected)
    torch.testing.assert_close(total, sums)


def test_columns_and_rare_categories_beyond_the_width_have_a_mean_only() -> None:
    columns = (Column("a"), Column("b"), Column("kind", tuple("uvwxyz")))
    made = JointGaussian(columns, most_width=4)
    truth = torch.randn(200, 3, generator=torch.Generator().manual_seed(3))
    truth[:, 2] = torch.where(truth[:, 0] > 0, 5.0, 3.0)
    truth[:3, 2] = torch.tensor([0.0, 1.0, 2.0])
    made.fit(truth)
    found = made(truth[None], torch.tensor([False, False, True]).expand(1, 200, 3))
    best = found.shares[0, :, 0].argmax(-1)
    assert (best == torch.where(truth[:, 0] > 0, 5, 3)).float().mean() > 0.9
    assert (found.shares > 0).all()
    narrow = JointGaussian(NUMBERS, most_width=2)
    narrow.fit(related(50))
    found = narrow(related(50)[None], torch.zeros(1, 50, 3, dtype=torch.bool))
    assert not found.mean[..., 2].any()
    assert (found.std[..., 2] == 1).all()
    torch.testing.assert_close(found.residual[0, :, 2], related(50)[:, 2])


def test_rows_go_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = related(60, missing=0.2)
    whole = JointGaussian(MIXED)
    whole.fit(truth)
    expected = whole(truth.nan_to_num(0.0)[None], truth.isnan()[None])
    monkeypatch.setattr(joint, "ELEMENTS", 7 * 5**2)
    parted = JointGaussian(MIXED)
    parted.fit(truth)
    torch.testing.assert_close(parted.covariance, whole.covariance)
    for one, other in zip(parted(truth.nan_to_num(0.0)[None], truth.isnan()[None]), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_and_columns_without_a_value_have_finite_predictions(rows: int) -> None:
    truth = related(rows)
    truth[:, 2] = torch.nan
    made = JointGaussian(MIXED)
    made.fit(truth)
    found = made(truth.nan_to_num(0.0)[None], truth.isnan()[None])
    assert all(part.isfinite().all() for part in found)


def test_it_is_fitted_to_so_many_rows_at_most() -> None:
    truth = related(100)
    some, few = JointGaussian(MIXED, most_rows=4), JointGaussian(MIXED)
    some.fit(truth)
    few.fit(truth[[0, 33, 66, 99]])
    assert torch.equal(some.covariance, few.covariance)
    with pytest.raises(ValueError, match="most_rows must be at least 2, got 1"):
        JointGaussian(MIXED, most_rows=1)


make = partial(GaussianTransformer, dim=8, heads=2, hidden=8, layers=1)


def test_an_untrained_network_predicts_as_the_gaussian() -> None:
    network = make(MIXED).eval()
    truth = related(60, missing=0.3)
    network.begin(truth)
    found = network(truth.nan_to_num(0.0)[None], truth.isnan()[None], 40)
    first = network.joint(truth.nan_to_num(0.0)[None], truth.isnan()[None])
    torch.testing.assert_close(found.mean, first.mean)
    torch.testing.assert_close(found.logits.softmax(-1), first.shares)
    component = found.density.component_distribution
    torch.testing.assert_close(component.mean[..., 0], first.mean)
    torch.testing.assert_close(component.stddev[..., 0], first.std)
    assert network.joint.covariance[0, 1] > 0.3


def test_what_the_network_adds_depends_on_seen_cells_alone() -> None:
    torch.manual_seed(0)
    network = make(COLUMNS).eval()
    x, hidden = cells(8)
    network.begin(torch.where(hidden, torch.nan, x)[0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    before = parts(network(x, hidden, 5))
    for one, other in zip(before, parts(network(torch.where(hidden, 1.0, x), hidden, 5)), strict=True):
        assert torch.equal(one, other)
    for row in range(5, 8):
        rows = [*range(5), row]
        for one, other in zip(before, parts(network(x[:, rows], hidden[:, rows], 5)), strict=True):
            torch.testing.assert_close(one[:, rows], other)


def test_the_network_is_told_numbers_and_categories() -> None:
    torch.manual_seed(0)
    network = make(MIXED)
    truth = related(30)
    network.begin(truth)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    hidden = torch.rand(1, 30, 3) < 0.3
    found = network(truth[None], hidden, 20)
    (found.mean.sum() + found.logits[..., 0].sum() + found.density.log_prob(found.mean.detach()).sum()).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()] == []
    for columns in (NUMBERS, MIXED[1:2]):
        assert make(columns)(torch.zeros(1, 4, len(columns)), torch.zeros(1, 4, len(columns)) > 1, 4)


def test_tokens_are_told_the_predictions_and_their_errors() -> None:
    network = make(MIXED).eval()
    truth = related(30)
    network.begin(truth)
    hidden = torch.rand(1, 30, 3, generator=torch.Generator().manual_seed(0)) < 0.3
    x = torch.where(hidden, 0.0, truth[None])
    shown: dict[str, Tensor] = {}
    for name in ("told_numbers", "told_shares"):
        getattr(network, name).register_forward_pre_hook(lambda _, given, name=name: shown.update({name: given[0]}))
    network(x, hidden, 20)
    first = network.joint(x, hidden)
    torch.testing.assert_close(shown["told_numbers"], torch.stack([first.mean, first.std, first.residual], dim=-1))
    torch.testing.assert_close(shown["told_shares"], torch.cat([first.shares, first.surprise], dim=-1))


def test_the_network_may_be_in_double_precision() -> None:
    torch.manual_seed(0)
    network = make(MIXED).eval()
    truth = related(20, missing=0.3)
    network.begin(truth)
    single = network(truth.nan_to_num(0.0)[None], truth.isnan()[None], 12)
    double = network.double()(truth.double().nan_to_num(0.0)[None], truth.isnan()[None], 12)
    torch.testing.assert_close(double.mean.float(), single.mean, atol=1e-4, rtol=1e-4)
