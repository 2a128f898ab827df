"""Symmetries of networks: permutations of neurons, signs and scales that leave the function as it is."""

import torch
from torch import Generator, Tensor

from tabattn.contract.activations import CODES
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED
from tabattn.contract.networks import NeuronTokens

ODD = [CODES[name] for name in ("identity", "tanh", "sine")]
"""Activation functions with ``f(-x) = -f(x)``."""
HOMOGENEOUS = [CODES[name] for name in ("identity", "relu", "leaky_relu")]
"""Activation functions with ``f(a x) = a f(x)`` for positive ``a``."""


def permuted(tokens: NeuronTokens, source: Generator | None = None) -> NeuronTokens:
    """Permute the hidden neurons of each level at random, an augmentation that does not change the function.

    Args:
        tokens: The networks.
        source: Source of randomness; none = PyTorch's own.
    """
    keys = torch.rand(tokens.mask.shape, generator=source).to(tokens.bias.device)
    return _sorted(tokens, keys.double(), torch.zeros_like(tokens.type))


def canonical(tokens: NeuronTokens) -> NeuronTokens:
    """Canonical form: of all networks that differ by a symmetry, one; applied twice it changes nothing more.

    Of each hidden neuron, level by level: what enters it has a sum of at least 0, where its activation is odd; and a
    norm near 1, where its activation is homogeneous, by a power of two, so that no number is rounded. Then the neurons
    of a level are sorted by activation, flags, and the norm of what enters. Neurons whose values are added without a
    weight keep sign and scale.

    Args:
        tokens: The networks.
    """
    free = _free(tokens)
    for level in range(1, int(tokens.level.max()) + 1 if tokens.level.numel() else 0):
        here = free & (tokens.level == level)
        flip = here & _among(tokens.type, ODD) & (tokens.weight.double().sum(2) + tokens.bias.double() < 0)
        tokens = _scaled(tokens, torch.where(flip, -1.0, 1.0))
        norm = _norm(tokens)
        scale = here & _among(tokens.type, HOMOGENEOUS) & (norm > 0) & norm.isfinite()
        power = torch.where(scale, -norm.clamp(min=1e-30, max=1e30).log2().round(), 0.0)
        tokens = _scaled(tokens, torch.exp2(power).float())
    return _sorted(tokens, _norm(tokens), tokens.type * 8 + tokens.flags)


def _among(kinds: Tensor, codes: list[int]) -> Tensor:
    return torch.isin(kinds, torch.tensor(codes, device=kinds.device))


def _norm(tokens: NeuronTokens) -> Tensor:
    """Norm of the weights and the bias of each vertex, in double precision, for any order of its parents."""
    squares = tokens.weight.double().square().sort(dim=2).values.sum(2)
    return (squares + tokens.bias.double().square()).sqrt()


def _free(tokens: NeuronTokens) -> Tensor:
    """Hidden vertices with weights, all of whose children have weights."""
    weighted = ((tokens.flags & WEIGHTED) > 0) & tokens.mask
    bare = (tokens.edge & ~weighted[:, :, None]).any(1)
    return weighted & ((tokens.flags & OUTPUT) == 0) & ~bare


def _scaled(tokens: NeuronTokens, factor: Tensor) -> NeuronTokens:
    """Multiply what enters vertices by factors, and what leaves them by their inverses."""
    weight = tokens.weight * factor[:, :, None] / factor[:, None, :]
    bias = torch.where((tokens.flags & BIASED) > 0, tokens.bias * factor, 0.0)
    return tokens._replace(weight=torch.where(tokens.edge, weight, 0.0), bias=bias)


def _sorted(tokens: NeuronTokens, key: Tensor, group: Tensor) -> NeuronTokens:
    """Sort the hidden vertices of each level by group, then by key; inputs and outputs keep their order."""
    place = torch.arange(tokens.mask.shape[1], device=key.device).expand_as(key)
    fixed = (tokens.level == 0) | ((tokens.flags & OUTPUT) > 0)
    key = torch.where(fixed, place.double(), key)
    group = torch.where(fixed, 0, group)
    order = place
    last = torch.where(tokens.mask, 2 * tokens.level + fixed, torch.iinfo(torch.long).max)
    for each in (key, group, last):
        order = order.gather(1, torch.argsort(each.gather(1, order), dim=1, stable=True))
    rows = order[:, :, None].expand_as(tokens.weight)
    columns = order[:, None, :].expand_as(tokens.weight)
    return NeuronTokens(
        tokens.type.gather(1, order),
        tokens.level.gather(1, order),
        tokens.flags.gather(1, order),
        tokens.bias.gather(1, order),
        tokens.weight.gather(1, rows).gather(2, columns),
        tokens.edge.gather(1, rows).gather(2, columns),
        tokens.mask.gather(1, order),
    )
