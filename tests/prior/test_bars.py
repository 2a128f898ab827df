"""Laws of the bar distribution: a density, its integral, its inverse and its mean."""

import math

import pytest
import torch

from tabattn.prior.bars import Bars

BARS = Bars(20)
LOGITS = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)) * 2


def test_the_density_integrates_to_one_and_its_mean_is_the_mean() -> None:
    z = torch.linspace(-80, 80, 400001, dtype=torch.float64)
    for logits in LOGITS.double():
        density = BARS.log_density(logits.expand(len(z), -1), z.float()).double().exp()
        assert torch.trapezoid(density, z).item() == pytest.approx(1, abs=2e-3)
        assert torch.trapezoid(density * z, z).item() == pytest.approx(BARS.mean(logits).item(), abs=1e-2)


def test_the_cdf_is_the_integral_of_the_density() -> None:
    z = torch.tensor([-9.0, -3.5, -1.0, 0.01, 0.4, 2.9, 3.2, 12.0])
    step = 1e-3
    logits = LOGITS[:1].expand(len(z), -1)
    slope = (BARS.cdf(logits.double(), z + step) - BARS.cdf(logits.double(), z - step)) / (2 * step)
    assert torch.allclose(slope, BARS.log_density(logits, z).exp(), atol=2e-4)
    assert BARS.cdf(LOGITS, torch.full((6,), -1e3)).abs().max() < 1e-6
    assert (BARS.cdf(LOGITS, torch.full((6,), 1e3)) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("q", [1e-4, 0.02, 0.5, 0.9, 0.9999])
def test_a_quantile_inverts_the_cdf(q: float) -> None:
    assert torch.allclose(BARS.cdf(LOGITS, BARS.quantile(LOGITS, q)), torch.full((6,), q), atol=1e-5)


def test_borders_are_quantiles_of_students_t() -> None:
    inner = Bars(4).borders.tolist()
    assert inner == pytest.approx([-math.sqrt(2 / 3), 0, math.sqrt(2 / 3)], abs=1e-6)


def test_a_number_far_outside_costs_its_distance_and_not_its_square() -> None:
    near, far = (float(BARS.log_density(LOGITS[0], torch.tensor(z))) for z in (100.0, 1100.0))
    assert near - far == pytest.approx(1000 / BARS.scale, rel=1e-3)


def test_wrong_sizes_and_probabilities_are_named() -> None:
    with pytest.raises(ValueError, match="bins must be at least 3, got 2"):
        Bars(2)
    with pytest.raises(ValueError, match="logits must be of 20 bins, got 19"):
        BARS.mean(torch.zeros(3, 19))
    for q in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"a quantile must be between 0 and 1, both excluded, got {q}"):
            BARS.quantile(LOGITS, q)
