"""Rough layers of random causal models: forests, lookup tables and random Fourier features."""

import math

import pytest
import torch

from datamodules.counter import generator
from datamodules.prior import scm_layers
from datamodules.prior.scm_layers import draw_layer
from datamodules.prior.scm_options import KINDS, NetworkOptions
from datamodules.prior.scm_rough import _sources, forest_layer, fourier_layer, lookup_layer

SEEDS = range(8)


def nodes(rows: int = 400, count: int = 6) -> torch.Tensor:
    return torch.randn(rows, count, generator=generator(5))


@pytest.mark.parametrize("kind", KINDS)
def test_each_probability_is_that_of_its_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {
        "trees": "_tree_layer",
        "interactions": "_interaction_layer",
        "rules": "_rule_layer",
        "forests": "forest_layer",
        "lookups": "lookup_layer",
        "fourier": "fourier_layer",
    }
    drawn: list[str] = []
    for name, function in {**layers, "dense": "_dense_layer"}.items():
        monkeypatch.setattr(scm_layers, function, lambda *given, name=name: drawn.append(name) or given[0])
    others = dict.fromkeys(KINDS, 0.1) | {kind: 0.4}
    for seed in range(300):
        draw_layer(nodes(5), 3, generator(seed), NetworkOptions(**others))
    assert 90 < drawn.count(kind) < 150
    assert set(drawn) == {*KINDS, "dense"}


@pytest.mark.parametrize("seed", SEEDS)
def test_forests_and_lookups_depend_on_ranks_alone(seed: int) -> None:
    h = nodes()
    for made in (forest_layer(h, 7, 5, generator(seed)), lookup_layer(h, 7, generator(seed))):
        assert made.shape == (400, 7)
    assert torch.equal(forest_layer(h, 7, 5, generator(seed)), forest_layer(h.exp(), 7, 5, generator(seed)))
    assert torch.equal(lookup_layer(h, 7, generator(seed)), lookup_layer(h.exp(), 7, generator(seed)))


def test_forests_have_more_boundaries_than_trees_with_one_split_per_level() -> None:
    """Three oblivious trees of depth 6 over one node change at 18 places at most."""
    h = nodes(2000, 1).sort(0).values
    changes = [int((forest_layer(h, 1, 6, generator(seed)).diff(dim=0) != 0).sum()) for seed in SEEDS]
    assert max(changes) > 30
    assert max(changes) <= 3 * (2**6 - 1)


def test_a_tree_of_depth_one_splits_at_the_value_of_a_row() -> None:
    h = torch.arange(6.0)[:, None]
    for seed in SEEDS:
        made = forest_layer(h, 50, 1, generator(seed))
        steps = (made.diff(dim=0) != 0).sum(0)
        assert int(steps.max()) <= 3
        assert torch.isfinite(made).all()


def test_lookups_hold_a_value_for_each_combination_of_categories() -> None:
    """Of two categories, the outputs of some are those of exclusive or, which is no sum."""
    h = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
    crossed = 0
    for seed in SEEDS:
        made = lookup_layer(h, 20, generator(seed))[:4]
        mixed = (made[0] + made[3] - made[1] - made[2]).abs()
        crossed += int((mixed > 0.5).sum())
        assert all(len(column.unique()) <= 4 for column in made.T)
    assert crossed > 20


def test_lookups_have_as_many_values_as_combinations() -> None:
    counts = [len(lookup_layer(nodes(3000, 3), 1, generator(seed)).unique()) for seed in range(30)]
    assert min(counts) == 2
    assert 30 < max(counts) <= 5**3


def test_waves_are_continuous_and_of_unit_size() -> None:
    h = nodes(2000, 1).sort(0).values
    stds, roughness = [], []
    for seed in range(20):
        made = fourier_layer(h, 10, generator(seed))
        stds.append(float(made.std(0).mean()))
        roughness.append(float(made.diff(dim=0).abs().mean() / made.std(0).mean()))
        again = fourier_layer(h + 1e-6, 10, generator(seed))
        assert (made - again).abs().max() < 1e-3
    assert 0.5 < sum(stds) / len(stds) < 1.3
    assert max(roughness) > 4 * min(roughness)


def test_waves_are_samples_of_a_stationary_process() -> None:
    """Wide layers of waves over one node have a kernel that is 1 at distance 0 and falls with it."""
    h = torch.tensor([[0.0], [0.01], [30.0]])
    for seed in SEEDS:
        made = fourier_layer(h, 4000, generator(seed))
        kernel = made @ made.T / 4000
        assert float(kernel[0, 0]) == pytest.approx(1, abs=0.1)
        assert float(kernel[0, 1]) > 0.8
        assert abs(float(kernel[0, 2])) < 0.1


def test_half_of_the_layers_read_few_nodes() -> None:
    h = nodes(60, 30)
    read = []
    for seed in range(20):
        before = fourier_layer(h, 1, generator(seed))
        moved = 0
        for node in range(30):
            other = h.clone()
            other[:, node] += math.pi
            moved += not torch.equal(fourier_layer(other, 1, generator(seed)), before)
        read.append(moved)
    assert set(read) <= {1, 2, 3, 4}
    assert len(set(read)) > 1


def test_an_output_reads_all_nodes_or_one_to_four() -> None:
    counts = [_sources(9, 3, generator(seed)).shape for seed in range(80)]
    assert {shape[0] for shape in counts} == {3}
    assert {shape[1] for shape in counts} == {1, 2, 3, 4, 9}
    assert 25 < sum(shape[1] == 9 for shape in counts) < 55


def test_probabilities_that_add_up_to_one_are_taken_whatever_rounding_makes_of_them() -> None:
    options = NetworkOptions(trees=0.1, interactions=0.1, rules=0.1, forests=0.3, lookups=0.3, fourier=0.1)
    assert sum(getattr(options, kind) for kind in KINDS) > 1
