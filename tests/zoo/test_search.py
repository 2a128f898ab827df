"""Latent search: every method, at equal evaluations, on a decoder whose answer is known."""

import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tabattn.zoo import NeuronTokens, execute, from_module, tokenize
from tabattn.zoo.search import METHODS, WORST, Found, SearchOptions, compare, parameter_count, search
from tabattn.zoo.task_scores import task_r2
from tests.zoo.latents import WIDTH, decode


def data() -> tuple[Tensor, Tensor]:
    """A target that such networks can compute."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(80, 2, generator=source)
    y = execute(decode(2 * torch.randn(1, WIDTH, generator=source)), x[None]).outputs[0]
    return x, (y - y.mean()) / y.std()


OPTIONS = SearchOptions(evaluations=315, population=40, lr=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_searches(method: str) -> None:
    x, y = data()
    found = search(decode, x, y, WIDTH, method, OPTIONS)
    assert found.latents.shape == (315, WIDTH)
    tokens = decode(found.latents)
    quality = task_r2(tokens, x.expand(315, -1, -1), y.expand(315, -1, -1)).clamp(min=WORST)
    torch.testing.assert_close(found.quality, quality)
    assert found.size.tolist() == parameter_count(tokens).tolist()
    assert set(found.size.tolist()) <= {10, 13}
    random = search(decode, x, y, WIDTH, "random", OPTIONS)
    if method != "random":
        assert float(found.quality.max()) > float(random.quality.max())
        assert float(found.quality[-40:].median()) > float(random.quality.median()) + 0.5
    again = search(decode, x, y, WIDTH, method, OPTIONS)
    assert torch.equal(again.latents, found.latents)
    other = search(decode, x, y, WIDTH, method, SearchOptions(evaluations=40, population=40, seed=1))
    assert not torch.equal(other.latents, found.latents[:40])


@pytest.mark.parametrize("method", METHODS)
def test_fewer_evaluations_than_a_generation(method: str) -> None:
    x, y = data()
    assert len(search(decode, x, y, WIDTH, method, SearchOptions(evaluations=3, population=8)).quality) == 3


def test_a_generation_is_one_decoding() -> None:
    x, y = data()
    for method in METHODS:
        sizes: list[int] = []

        def counted(latents: Tensor, sizes: list[int] = sizes) -> NeuronTokens:
            sizes.append(len(latents))
            return decode(latents)

        search(counted, x, y, WIDTH, method, SearchOptions(evaluations=60, population=20))
        assert sizes == [20, 20, 20], method


def test_first_latents_are_drawn_from_the_prior() -> None:
    x, y = data()
    first = torch.rand(8, WIDTH)
    for method in ("nsga2", "gradient", "random"):
        options = SearchOptions(evaluations=8, population=8)
        found = search(decode, x, y, WIDTH, method, options, lambda count: first[:count])
        torch.testing.assert_close(found.latents, first)


@pytest.mark.parametrize("method", METHODS)
def test_networks_whose_outputs_are_not_finite(method: str) -> None:
    x, y = data()

    def broken(latents: Tensor) -> NeuronTokens:
        tokens = decode(latents)
        bad = (torch.arange(len(latents)) % 3 == 0)[:, None] & ((tokens.flags & 2) > 0)
        return tokens._replace(bias=torch.where(bad, torch.nan, tokens.bias))

    found = search(broken, x, y, WIDTH, method, SearchOptions(evaluations=60, population=12))
    assert found.quality.isfinite().all()
    assert found.latents.isfinite().all()
    assert (found.quality == WORST).sum() == 20


def test_what_was_found() -> None:
    quality, size = torch.tensor([0.2, 0.9, 0.5, 0.9, -2.0]), torch.tensor([10, 80, 40, 90, 5])
    found = Found(torch.arange(5.0)[:, None], quality, size)
    assert found.front().tolist() == [4, 0, 2, 1]
    assert found.best(2).flatten().tolist() == [1, 3]
    assert found.so_far().tolist() == pytest.approx([0.2, 0.9, 0.9, 0.9, 0.9])
    # Of R2 times the rest of the size: 0.2 from 10, 0.5 from 40, 0.9 from 80 on, of 100.
    assert found.hypervolume(100) == pytest.approx(0.2 * 0.3 + 0.5 * 0.4 + 0.9 * 0.2)


def test_size_is_of_weights_and_biases_alone() -> None:
    """Edges that add without a weight, as between two activations in a row, are no parameters."""
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Tanh(), nn.Linear(3, 1, bias=False))
    tokens = tokenize(from_module(module))
    assert isinstance(tokens, NeuronTokens)
    assert parameter_count(tokens).tolist() == [sum(each.numel() for each in module.parameters())]


def test_comparison_with_random_search() -> None:
    x, y = data()
    run = partial(search, decode, x, y, WIDTH, options=SearchOptions(evaluations=100, population=20))
    table = compare(["cmaes"], run, size=20)
    assert list(table) == ["cmaes", "random"]
    assert all(0 < row["hypervolume"] < row["r2"] for row in table.values())

    def unequal(method: str) -> Found:
        count = 100 if method == "random" else 90
        return search(decode, x, y, WIDTH, method, SearchOptions(evaluations=count))

    with pytest.raises(ValueError, match=r"equal evaluations, got {'cmaes': 90, 'random': 100}"):
        compare(["cmaes"], unequal, size=20)


def test_wrong_arguments() -> None:
    x, y = data()
    with pytest.raises(ValueError, match=r"no search is called 'nsga' \(did you mean 'nsga2'\?\)"):
        search(decode, x, y, WIDTH, "nsga")
    with pytest.raises(ValueError, match=r"got \(\(80, 2\), \(80,\)\)"):
        search(decode, x, y[:, 0], WIDTH)
    with pytest.raises(ValueError, match="needs a decoder with gradients"):
        search(lambda latents: decode(latents.detach()), x, y, WIDTH, "gradient")
    with pytest.raises(ValueError, match="population must be at least 2, got 1"):
        SearchOptions(population=1)
    for wrong in ({"lr": 0}, {"lr": float("inf")}, {"bound": float("inf")}, {"penalty": float("nan")}):
        with pytest.raises(ValueError, match="bound and lr must be above 0, penalty at least 0, and all finite"):
            SearchOptions(**wrong)
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=f"seed must be 0 to 4294967295, got {seed}"):
            SearchOptions(seed=seed)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    x, y = data()
    with pytest.raises(ValueError, match=r"the package cmaes is missing: pip install 'tabattn\[search\]'"):
        search(decode, x, y, WIDTH, "cmaes")
