"""Laws of predictive densities and the CRPS."""

import pytest
import torch
from torch.distributions import Laplace, MixtureSameFamily, Normal

from tabattn.nn.densities import FLOOR, DensityHead, crps, line_up, mixture, pick

ONE, ZERO = torch.ones(()), torch.zeros(())


def mixed(*shape: int) -> MixtureSameFamily:
    return mixture(torch.randn(*shape, 3), torch.randn(*shape, 3), 0.1 + torch.rand(*shape, 3))


def plain(*shape: int) -> Normal:
    return Normal(torch.randn(shape), 0.1 + torch.rand(shape))


@pytest.mark.parametrize("make", [plain, mixed])
def test_crps_is_the_area_between_two_distribution_functions(make) -> None:
    densities, y = make(4, 5), torch.randn(4, 5)
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)[:, None, None]
    above = (densities.cdf(grid) - (grid >= y).double()).square()
    torch.testing.assert_close(crps(densities, y).double(), torch.trapezoid(above, grid, dim=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [plain, mixed])
def test_crps_has_the_units_of_the_data(make) -> None:
    densities, y = make(6), torch.randn(6)
    if isinstance(densities, Normal):
        scaled = Normal(5 + 3 * densities.loc, 3 * densities.scale)
    else:
        parts = densities.component_distribution
        scaled = mixture(densities.mixture_distribution.logits, 5 + 3 * parts.loc, 3 * parts.scale)
    torch.testing.assert_close(crps(scaled, 5 + 3 * y), 3 * crps(densities, y), rtol=1e-4, atol=1e-5)


def test_a_mixture_of_equal_parts_is_the_part() -> None:
    normal, y = plain(4, 5), torch.randn(4, 5)
    equal = mixture(torch.randn(4, 5, 3), *(part[..., None].expand(4, 5, 3) for part in (normal.loc, normal.scale)))
    torch.testing.assert_close(equal.log_prob(y), normal.log_prob(y), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(crps(equal, y), crps(normal, y), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(crps(mixture(torch.zeros(4, 5, 1), normal.loc[..., None], normal.scale[..., None]), y),
                               crps(normal, y), rtol=1e-4, atol=1e-5)  # fmt: skip


def test_other_densities_are_refused() -> None:
    with pytest.raises(ValueError, match="a Normal or a mixture of Normals, got Laplace"):
        crps(Laplace(ZERO, ONE), ZERO)


@pytest.mark.parametrize("make", [plain, mixed])
def test_densities_of_targets_line_up_again(make) -> None:
    densities, y = make(4, 5), torch.randn(4, 5)
    parts = [pick(densities, i) for i in range(5)]
    torch.testing.assert_close(parts[2].log_prob(y[:, 2]), densities.log_prob(y)[:, 2])
    torch.testing.assert_close(line_up(parts).log_prob(y), densities.log_prob(y))
    assert type(line_up(parts)) is type(densities)


@pytest.mark.parametrize("components", [1, 4])
def test_an_untrained_head_predicts_mean_and_std_of_the_data(components: int) -> None:
    head = DensityHead(8, 16, components)
    offset = torch.randn(2, 3)
    given = head(torch.randn(2, 3, 8), offset, torch.tensor(10.0), torch.tensor(2.0))
    torch.testing.assert_close(given.mean, 10 + 2 * offset)
    parts = given if isinstance(given, Normal) else given.component_distribution
    torch.testing.assert_close(parts.scale, torch.full_like(parts.scale, 2 * (1 + FLOOR)))


def test_components_diverge_in_training() -> None:
    head = DensityHead(8, 16, 2)
    head(torch.randn(2, 3, 8), torch.zeros(2, 3), ZERO, ONE).log_prob(torch.randn(2, 3)).sum().backward()
    grad = head.mlp[-1].bias.grad
    assert (grad[0::2] - grad[1::2]).abs().amin() > 1e-4


def test_standard_deviations_have_a_lower_bound() -> None:
    head = DensityHead(8, 16)
    with torch.no_grad():
        head.mlp[-1].bias[1] = -1e4
    given = head(torch.randn(2, 3, 8), torch.zeros(2, 3), ZERO, torch.tensor(5.0))
    torch.testing.assert_close(given.stddev, torch.full((2, 3), 5 * FLOOR))


@pytest.mark.parametrize("components", [1, 3])
def test_densities_are_as_precise_as_the_data_where_layers_are_not(components: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        density = DensityHead(4, 8, components)(
            torch.randn(2, 3, 4), torch.zeros(2, 3), torch.zeros(()), torch.ones(())
        )
    assert density.mean.dtype == density.stddev.dtype == torch.float32


def test_no_components_are_refused() -> None:
    with pytest.raises(ValueError, match="components must be at least 1, got 0"):
        DensityHead(8, 16, 0)
