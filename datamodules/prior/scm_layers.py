"""Layers of random structural causal models."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from datamodules.draws import integer, log_uniform, uniform
from datamodules.prior.scm_options import NetworkOptions
from datamodules.prior.scm_rough import forest_layer, fourier_layer, lookup_layer

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: tuple[Activation, ...] = (
    torch.tanh,
    torch.relu,
    lambda x: x,
    torch.sin,
    torch.abs,
    torch.sign,
    torch.square,
    torch.nn.functional.elu,
    lambda x: torch.exp(-x.square()),
    lambda x: (x.abs() + 1).log() * x.sign(),
    torch.floor,
)


def draw_layer(h: Tensor, width: int, generator: Generator, options: NetworkOptions) -> Tensor:
    """Draw a random layer and apply it: ``(rows, nodes)`` to ``(rows, width)``."""
    kind = uniform(0, 1, generator)
    layers: tuple[tuple[float, Callable[[], Tensor]], ...] = (
        (options.trees, lambda: _tree_layer(h, width, integer(*options.depth, generator), generator)),
        (options.interactions, lambda: _interaction_layer(h, width, generator)),
        (options.rules, lambda: _rule_layer(h, width, generator)),
        (options.forests, lambda: forest_layer(h, width, integer(*options.depth, generator), generator)),
        (options.lookups, lambda: lookup_layer(h, width, generator)),
        (options.fourier, lambda: fourier_layer(h, width, generator)),
    )
    for share, layer in layers:
        if kind < share:
            return layer()
        kind -= share
    return _dense_layer(h, width, generator)


def standardise(x: Tensor) -> Tensor:
    """Standardise columns to mean 0 and variance 1; constant ones become 0."""
    return (x - x.mean(0)) / x.std(0, unbiased=False).clamp(min=1e-6)


def linear_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    """Random sparse linear map ``(rows, nodes)`` to ``(rows, width)``, standardised."""
    fan_in = h.shape[1]
    weight = torch.randn(fan_in, width, generator=generator)
    keep = 1 - 0.9 * uniform(0, 1, generator) ** 2
    kept = torch.rand(fan_in, width, generator=generator) < keep
    return standardise(h @ (weight * kept))


def _dense_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    z = linear_layer(h, width, generator)
    gain = log_uniform(0.3, 3, generator)
    z = gain * z + torch.randn(width, generator=generator)
    if uniform(0, 1, generator) < 0.5:
        return ACTIVATIONS[integer(0, len(ACTIVATIONS) - 1, generator)](z)
    picks = torch.randint(0, len(ACTIVATIONS), (width,), generator=generator)
    out = z.clone()
    for pick in picks.unique().tolist():
        columns = picks == pick
        out[:, columns] = ACTIVATIONS[pick](z[:, columns])
    return out


def _tree_layer(h: Tensor, width: int, depth: int, generator: Generator) -> Tensor:
    """Random oblivious trees: each output sums leaf values of a few trees that share one split per level."""
    rows, fan_in = h.shape
    trees = integer(1, 3, generator)
    picked = torch.randint(0, fan_in, (trees, depth, width), generator=generator)
    at = torch.randint(0, rows, (trees, depth, width), generator=generator)
    bits = (h[:, picked] > h[at, picked]).long()
    leaf = (bits * 2 ** torch.arange(depth)[:, None]).sum(2)
    values = torch.randn(trees, width, 2**depth, generator=generator)
    chosen = values[torch.arange(trees)[:, None], torch.arange(width), leaf]
    return chosen.sum(1)


def _interaction_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    """Each output combines two nodes in a way that no sum of functions of one node can."""
    fan_in = h.shape[1]
    one, other = h[:, torch.randint(0, fan_in, (2, width), generator=generator)].unbind(1)
    one = one - h.std() * torch.randn(width, generator=generator) * 0.5
    simple = (one * other, one.sign() * other.sign(), torch.where(one > 0, other, 0.0), torch.maximum(one, other))
    ways = (*simple, (one > other).to(h.dtype), torch.where(one > 0, other, -other), (one - other).abs())
    pick = torch.randint(0, len(ways), (width,), generator=generator)
    mixed = torch.stack(ways)[pick, :, torch.arange(width)].T
    # Some of the layer's inputs go on as they are, so that later layers can build on them.
    kept = torch.rand(width, generator=generator) < 0.25
    return torch.where(kept, other, standardise(mixed))


def _rule_layer(h: Tensor, width: int, generator: Generator) -> Tensor:
    """Disjunctive normal forms: each output is 1 where any of a few conjunctions of literals holds, else 0.

    A literal asks whether a node is above one of its own values, or close to it: equal, where it is a category.
    """
    rows, fan_in = h.shape
    terms, literals = integer(1, 8, generator), integer(2, 4, generator)
    shape = (terms, literals, width)
    picked = torch.randint(0, fan_in, shape, generator=generator)
    at = h[torch.randint(0, rows, shape, generator=generator), picked]
    values = h[:, picked]
    near = torch.rand(shape, generator=generator) < 0.5
    reach = log_uniform(1e-3, 1.0, generator)
    holds = torch.where(near, (values - at).abs() < reach, values > at)
    counts = holds.all(2).sum(1).to(h.dtype)
    if uniform(0, 1, generator) < 0.3:
        return counts
    return (counts > 0).to(h.dtype)
