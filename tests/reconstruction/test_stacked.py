"""Normal scores of columns, and the stacking of Gaussian processes with and without them."""

import copy

import pytest
import torch
from scipy.optimize import nnls
from sklearn.preprocessing import QuantileTransformer

from tabattn.contract.cells import Column
from tabattn.reconstruction.normal_scores import OUTERMOST, NormalScores
from tabattn.reconstruction.process import GaussianProcess
from tabattn.reconstruction.stacked import StackedProcesses

COLUMNS = (Column("age"), Column("kind", ("a", "b")), Column("size"), Column("price", target=True))
END = float(torch.special.ndtri(torch.tensor(1 - OUTERMOST).double()))


def skewed(rows: int = 60) -> torch.Tensor:
    """Draw cells whose price is smooth in the logarithm of a skewed age."""
    source = torch.Generator().manual_seed(1)
    cells = torch.randn(rows, len(COLUMNS), generator=source)
    cells[:, 3] = (1.5 * cells[:, 0]).sin() + 0.05 * cells[:, 3]
    cells[:, 0] = (2.5 * cells[:, 0]).exp() / 10
    cells[:, 1] = (cells[:, 1] > 0).float()
    return cells


def test_scores_are_those_of_scikit_learn() -> None:
    values = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)).double().exp()
    scores = NormalScores(2)
    scores.fit(values)
    expected = QuantileTransformer(n_quantiles=500, output_distribution="normal").fit_transform(values.numpy())
    inside = (torch.tensor(expected).abs() < 1.8).all(1)
    torch.testing.assert_close(scores(values)[inside], torch.tensor(expected)[inside], atol=0.06, rtol=0.0)


def test_scores_do_not_change_with_a_rising_transform_of_the_column() -> None:
    values = torch.randn(65, 1, generator=torch.Generator().manual_seed(0)).double()
    plain, raised = NormalScores(1), NormalScores(1)
    plain.fit(values)
    raised.fit((values * 3).exp())
    at_quantiles = plain.quantiles.T
    torch.testing.assert_close(plain(at_quantiles)[1:-1], raised(raised.quantiles.T)[1:-1])


def test_equal_numbers_have_the_score_of_their_middle_rank() -> None:
    scores = NormalScores(1)
    scores.fit(torch.tensor([[0.0]] * 50 + [[1.0]] * 50))
    found = scores(torch.tensor([[0.0], [1.0], [0.5]]))[:, 0]
    assert found[0] == pytest.approx(-0.674, abs=0.05)
    assert found[1] == pytest.approx(0.674, abs=0.05)
    assert found[2] == pytest.approx(0.0, abs=0.05)


def test_numbers_beyond_the_known_ones_have_the_outermost_scores() -> None:
    scores = NormalScores(1)
    scores.fit(torch.linspace(0, 1, 200)[:, None])
    assert scores(torch.tensor([[-1e30], [1e30]]))[:, 0].tolist() == pytest.approx([-END, END])


def test_scores_before_the_fit_are_the_numbers() -> None:
    values = torch.linspace(-2, 2, 9)[:, None].double()
    torch.testing.assert_close(NormalScores(1)(values), values, atol=2e-2, rtol=0.0)


def test_missing_numbers_are_left_out_of_the_fit() -> None:
    scores = NormalScores(2)
    before = scores.quantiles[1].clone()
    scores.fit(torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [3.0, torch.nan]]))
    assert scores.quantiles[0].min() == pytest.approx(1.0, abs=0.05)
    assert scores.quantiles[0].max() == pytest.approx(3.0, abs=0.05)
    torch.testing.assert_close(scores.quantiles[1], before)
    assert NormalScores(0)(torch.zeros(4, 0)).shape == (4, 0)


def test_a_process_with_scores_sees_numbers_indicators_and_scores() -> None:
    cells = skewed()
    made = GaussianProcess(COLUMNS, 3, scores=True)
    made.fit(cells)
    hidden = torch.zeros(cells.shape, dtype=torch.bool)
    hidden[4, 2] = True
    inputs = made._inputs(torch.where(hidden, 0.0, cells), hidden)
    assert inputs.shape == (60, 1 + 2 + 1 + 2)
    assert made.scores is not None
    torch.testing.assert_close(inputs[:4, 4:], made.scores(cells[:, [0, 2]])[:4])
    assert not inputs[4, [3, 5]].any()
    assert made.lengths.shape == (6,)


def test_scores_help_where_the_target_is_smooth_in_the_ranks() -> None:
    cells = skewed()
    made = StackedProcesses(COLUMNS, 3)
    made.fit(cells[:40])
    hidden = torch.zeros(cells.shape, dtype=torch.bool)
    hidden[40:, 3] = True
    asked = torch.where(hidden, 0.0, cells)[None], hidden[None], 40
    errors = [float((each(*asked).mean[0, 40:] - cells[40:, 3]).square().mean()) for each in (made.plain, made)]
    assert errors[1] < 0.5 * errors[0]
    assert made.weight > 0.7


def test_the_weight_has_the_least_squared_error_of_leave_one_out_predictions() -> None:
    cells = skewed()
    made = StackedProcesses(COLUMNS, 3)
    made.fit(cells)
    none = torch.zeros(cells.shape, dtype=torch.bool)[None]
    residuals = [each(cells[None], none, 60).residual[0].double() for each in (made.plain, made.scored)]
    rows = torch.stack(residuals, 1)
    constrained = torch.cat([rows, torch.full((1, 2), 1e4).double()]).numpy()
    expected = nnls(constrained, [0.0] * 60 + [1e4])[0]
    assert float(made.weight) == pytest.approx(expected[1], abs=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_prediction_is_the_mixture_of_both(weight: float) -> None:
    cells = skewed()
    made = StackedProcesses(COLUMNS, 3)
    made.fit(cells[:30])
    made.weight.fill_(weight)
    hidden = torch.zeros(cells.shape, dtype=torch.bool)[None]
    hidden[:, 30:, 3] = True
    asked = torch.where(hidden, 0.0, cells[None]), hidden, 30
    plain, scored, both = made.plain(*asked), made.scored(*asked), made(*asked)
    torch.testing.assert_close(both.mean, (1 - weight) * plain.mean + weight * scored.mean)
    second = (1 - weight) * (plain.std**2 + plain.mean**2) + weight * (scored.std**2 + scored.mean**2)
    torch.testing.assert_close(both.std, (second - both.mean**2).sqrt(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.residual[0, :30], cells[:30, 3] - both.mean[0, :30], atol=1e-5, rtol=1e-5)


def test_processes_without_labels_keep_their_weight() -> None:
    cells = skewed()
    cells[:, 3] = torch.nan
    made = StackedProcesses(COLUMNS, 3)
    before = copy.deepcopy(made.state_dict())
    made.fit(cells)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items() if "scores" not in name)
