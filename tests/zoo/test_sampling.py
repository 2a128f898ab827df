"""Embedding, decoding and sampling from Python: what may be given, and what is refused in one line."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tabattn.contract.graphs import Population
from tabattn.metafeatures import get_meta_features
from tabattn.tasks import NetworkVAE
from tabattn.zoo import Sizes, detokenize, from_module, to_module, tokenize
from tabattn.zoo.decoding import decode_valid
from tests.zoo.test_network import random_logits
from tests.zoo.test_task import SIZES, task

Z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def made() -> NetworkVAE:
    return task().eval()


def net(inputs: int = 4, width: int = 3) -> nn.Sequential:
    """Network with one hidden level."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))


def test_one_network_is_one_network(made: NetworkVAE) -> None:
    """A sequence of layers is no list of networks."""
    one = made.embed([net()])
    assert one.shape == (1, 8)
    for given in (net(), from_module(net()), Population.of([from_module(net())])):
        assert torch.equal(made.embed(given), one)
    assert made.embed([]).shape == (0, 8)
    assert made.embed([net(), net()]).shape == (2, 8)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_and_sampling_leave_the_mode_as_it_was(training: bool) -> None:
    made = task().train(training)
    made.embed([net()])
    made.sample(2, prior="normal")
    assert all(module.training == training for module in made.modules())


def test_architectures_in_any_form(made: NetworkVAE) -> None:
    expected = made.decode(Z, arch=net())
    graph = from_module(net())
    for given in (graph, [net()] * 3, [graph], Population.of([graph] * 3)):
        assert torch.equal(made.decode(Z, arch=given).weight, expected.weight)


def test_an_architecture_of_each_network_stays_with_it(made: NetworkVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = [net(width=2), net(width=4), net(width=3)]
    expected = made.decode(Z, arch=arch)
    assert expected.mask.sum(1).tolist() == [7, 9, 8]
    monkeypatch.setattr("tabattn.zoo.sampling.AT_ONCE", 2)
    found = made.decode(Z, arch=arch)
    assert torch.equal(found.mask, expected.mask)
    assert torch.allclose(found.weight, expected.weight, atol=1e-5)


def test_latents_of_any_type(made: NetworkVAE) -> None:
    expected = made.decode(Z)
    for given in (Z.double(), Z.numpy()):
        assert torch.equal(made.decode(given).weight, expected.weight)  # type: ignore[arg-type]
    assert made.decode(Z[:0]).mask.shape[0] == 0


def broken(value: float) -> nn.Sequential:
    """Network with a number that is not finite, whose output may be."""
    module = net()
    with torch.no_grad():
        module[0].weight[0, 0] = value
    return module


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_networks_that_are_not_finite_have_no_latent(made: NetworkVAE, value: float) -> None:
    with pytest.raises(ValueError, match="network 1 has weights or biases that are not finite"):
        made.embed([net(), broken(value)])


@pytest.mark.parametrize("sizes", [SIZES, Sizes(14, 4, 3, 5, 6)])
def test_what_is_decoded_is_embedded_and_converted_again(sizes: Sizes) -> None:
    """Of random logits too: no level is wider than there is room for, not even that of the inputs."""
    found = decode_valid(random_logits(500, 14, 0), sizes.inputs, sizes.width)
    made = task(sizes=sizes).eval()
    latents = made.embed(found)
    assert latents.shape == (500, 8)
    graphs = detokenize(found)
    for given in (tokenize(graphs), [from_module(to_module(each)) for each in graphs]):
        assert torch.allclose(made.embed(given), latents, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latent": Z[0]}, r"latents must have the shape \(networks, 8\), got \(8,\)"),
        ({"latent": Z[:, :7]}, r"latents must have the shape \(networks, 8\), got \(3, 7\)"),
        ({"latent": Z / 0}, "latents must be finite"),
        ({"meta": torch.zeros(2, 6)}, r"meta must be of 1 task or of 3, got the shape \(2, 6\)"),
        ({"meta": torch.zeros(1, 3, 6)}, r"meta must be of 1 task or of 3, got the shape \(1, 3, 6\)"),
        ({"meta": torch.full((6,), torch.nan)}, "meta must be finite"),
        (
            {"x": torch.zeros(2, 5, 4), "y": torch.zeros(2, 5)},
            "x must be of 1 task or of 3, got",
        ),
        ({"arch": [net()] * 2}, "arch must be 1 architecture or 3, one for each network, got 2"),
        ({"arch": net(width=9)}, "sizes.width must be at least 9 for these networks, got 5"),
        ({"arch": nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))}, "sizes.levels must be at least 6"),
        ({"arch": net(), "inputs": 2}, "inputs=2 goes neither with arch nor with valid_only=False"),
        ({"valid_only": False, "inputs": 2}, "inputs=2 goes neither with arch"),
    ],
)
def test_decoding_of_what_does_not_fit(made: NetworkVAE, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made.decode(**{"latent": Z, **given})


def test_measured_meta_features_must_be_scaled(made: NetworkVAE) -> None:
    measured = get_meta_features(np.random.default_rng(0).normal(size=(20, 2)), np.arange(20))
    with pytest.raises(ValueError, match="meta must be scaled as that of the zoo"):
        made.decode(Z, meta=measured)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": -1}, "n must be at least 0, got -1"),
        ({"temperature": -1.0}, "temperature must be at least 0 and finite, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be at least 0 and finite, got nan"),
        ({"temperature": float("inf")}, "temperature must be at least 0 and finite, got inf"),
        ({"meta": torch.zeros(2, 6)}, "meta must be of 1 task or of 1"),
    ],
)
def test_sampling_of_what_does_not_fit(made: NetworkVAE, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made.sample(**{"n": 2, "prior": "normal", **given})
    assert made.sample(0, prior="normal") == []


@pytest.mark.parametrize("prior", ["scaled", "gauss", "kde", "flow"])
def test_latents_that_are_not_finite_are_no_prior(prior: Any) -> None:
    made = task()
    latents: Tensor = torch.randn(5, 8)
    latents[3, 2] = torch.nan
    made.prior.keep(latents)
    with pytest.raises(ValueError, match="some are not finite: train anew"):
        made.draw(2, prior=prior)
