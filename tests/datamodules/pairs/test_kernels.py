"""Covariances, against scikit-learn and loops over points."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, Matern

from datamodules.pairs.kernels import KERNELS, Process, Term, correlations, covariance

THEIRS = {
    "rbf": RBF(0.7),
    "matern32": Matern(0.7, nu=1.5),
    "matern52": Matern(0.7, nu=2.5),
    "periodic": ExpSineSquared(0.7, 1.3),
}


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_those_of_scikit_learn(name: str) -> None:
    x = torch.rand(1, 9, dtype=torch.float64) * 5
    term = Term(name, numbers(0.7), numbers(1.3), torch.ones(1, 1, 1, dtype=torch.float64))
    ours = covariance(Process((term,), numbers(0)), x, torch.zeros(1, 9, dtype=torch.long))
    np.testing.assert_allclose(ours[0], THEIRS[name](x[0].unsqueeze(1).numpy()), rtol=0, atol=1e-12)


def test_a_covariance_is_the_sum_of_its_terms_point_by_point() -> None:
    tasks, points, members = 3, 8, 3
    x = torch.rand(tasks, points) * 4
    member = torch.randint(members, (tasks, points))
    shared = correlations(torch.rand(tasks, 3) * 2 - 1, members)
    own = torch.eye(members, dtype=torch.float64).repeat(tasks, 1, 1) * numbers(1, 2, 3)[:, None, None]
    terms = (
        Term("matern32", numbers(0.5, 1, 2), numbers(1, 1, 1), shared),
        Term(None, numbers(1, 1, 1), numbers(1, 1, 1), own),
    )
    noise = numbers(0.1, 0.2, 0.3)
    ours = covariance(Process(terms, noise), x, member)
    for task in range(tasks):
        for i in range(points):
            for j in range(points):
                a, b = int(member[task, i]), int(member[task, j])
                scaled = 3**0.5 * abs(float(x[task, i]) - float(x[task, j])) / float(terms[0].length[task])
                expected = float(shared[task, a, b]) * (1 + scaled) * np.exp(-scaled) + float(own[task, a, b])
                expected += float(noise[task]) * (i == j)
                assert float(ours[task, i, j]) == pytest.approx(expected, abs=1e-12)


def test_some_tasks_of_a_process_are_a_process() -> None:
    x, member = torch.rand(4, 5), torch.randint(2, (4, 5))
    term = Term("rbf", torch.rand(4) + 0.1, torch.ones(4), correlations(torch.rand(4, 1), 2))
    process = Process((term,), torch.rand(4).double())
    part = slice(1, 3)
    assert torch.equal(covariance(process, x, member)[part], covariance(process.tasks(part), x[part], member[part]))


def test_two_members_correlate_as_they_are_told() -> None:
    for value in (-1.0, -0.3, 0.0, 0.95, 1.0):
        matrix = correlations(torch.tensor([[value]], dtype=torch.float64), 2)
        torch.testing.assert_close(matrix[0], numbers(1, value, value, 1).view(2, 2))


@pytest.mark.parametrize("members", [1, 3, 5])
def test_partial_correlations_always_give_correlations(members: int) -> None:
    partial = torch.rand(50, members * (members - 1) // 2, dtype=torch.float64) * 2 - 1
    matrices = correlations(partial, members)
    torch.testing.assert_close(matrices.diagonal(dim1=1, dim2=2), torch.ones(50, members, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(matrices).min()) > -1e-12
    whole = correlations(torch.ones_like(partial), members)
    torch.testing.assert_close(whole, torch.ones_like(whole))


def test_the_correlation_of_three_members_follows_from_the_partial_one() -> None:
    first, second, rest = 0.6, -0.4, 0.5
    matrix = correlations(torch.tensor([[first, second, rest]], dtype=torch.float64), 3)[0]
    expected = first * second + rest * (1 - first**2) ** 0.5 * (1 - second**2) ** 0.5
    assert [float(matrix[1, 0]), float(matrix[2, 0])] == pytest.approx([first, second])
    assert float(matrix[2, 1]) == pytest.approx(expected)
