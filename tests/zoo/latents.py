"""Decoder whose latents are the weights of networks."""

import torch
from torch import Tensor, nn

from tabattn.zoo import NeuronTokens, from_module, tokenize
from tabattn.zoo.scores import taken

WIDTH = 14
"""Latent: 13 weights and biases of a network 2-3-1, and whether the third hidden neuron has its edges."""


def decode(latents: Tensor) -> NeuronTokens:
    """Decoder whose latents are weights, with gradients to them."""
    one = tokenize(from_module(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))))
    assert isinstance(one, NeuronTokens)
    tokens = taken(one, torch.zeros(len(latents), dtype=torch.long))
    edge = tokens.edge.clone()
    edge[:, 4, :2] &= latents[:, 13:14] > 0
    edge[:, 5, 4] &= latents[:, 13] > 0
    weight = torch.zeros_like(tokens.weight)
    biased = (tokens.flags & 2) > 0
    places = tokens.edge[0].nonzero()
    weight = weight.index_put(
        (torch.arange(len(latents))[:, None], places[:, 0], places[:, 1]), latents[:, : len(places)]
    )
    bias = torch.zeros_like(tokens.bias).index_put(
        (torch.arange(len(latents))[:, None], biased[0].nonzero()[:, 0]), latents[:, len(places) : 13]
    )
    return tokens._replace(weight=weight * edge, bias=bias, edge=edge)
