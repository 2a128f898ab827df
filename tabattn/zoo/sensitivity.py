"""Neuron sensitivity (SeReNe): how much a network's outputs change with what enters each neuron."""

from typing import Literal, get_args

import torch
from torch import Tensor

from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.executor import execute

Weighting = Literal["none", "neuron", "neuron_x_act", "gauss_newton"]
"""How errors of weights are weighted."""


def neuron_sensitivity(tokens: NeuronTokens, x: Tensor) -> Tensor:
    """Sensitivity of neurons: mean over outputs and rows of ``|d output / d (what enters the activation)|``.

    Tartaglione et al. 2021 (SeReNe, arXiv 2102.03773), equation 5, with the mean over rows taken of absolute values.

    Args:
        tokens: The networks.
        x: Inputs, ``(networks, rows, inputs)``.

    Returns:
        ``(networks, tokens)``; 0 at inputs.
    """
    gradients, _, counts = _gradients(tokens, x)
    return gradients.abs().mean(2).sum(0) / counts[:, None]


def edge_weighting(tokens: NeuronTokens, x: Tensor, weighting: Weighting = "gauss_newton") -> tuple[Tensor, Tensor]:
    """Weights of squared errors of weights and biases, with mean 1 over the edges and biases of a network.

    ``none``: 1. ``neuron``: the sensitivity of the child. ``neuron_x_act``: that times the mean absolute value of the
    parent. ``gauss_newton``: ``E[(d output / d weight)^2]``, the diagonal of the Gauss-Newton matrix, which is the
    second-order change of the outputs by an error of the weight.

    Args:
        tokens: The networks.
        x: Inputs, ``(networks, rows, inputs)``.
        weighting: One of these.

    Returns:
        Those of edges ``(networks, tokens, tokens)`` and of biases ``(networks, tokens)``; 0 where there is none.

    Raises:
        ValueError: There is no such weighting.
    """
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting must be {', '.join(get_args(Weighting))}, got {weighting!r}")
    real = tokens.edge & ((tokens.flags & 1) > 0)[:, :, None], (tokens.flags & 2) > 0
    if weighting == "none":
        return real[0].float(), real[1].float()
    gradients, values, counts = _gradients(tokens, x)
    if weighting == "gauss_newton":
        squares = gradients.square().sum(0) / counts[:, None, None]
        edges, biases = squares.mT @ values.square() / x.shape[1], squares.mean(1)
    else:
        biases = gradients.abs().mean(2).sum(0) / counts[:, None]
        parents = values.abs().mean(1) if weighting == "neuron_x_act" else torch.ones_like(biases)
        edges = biases[:, :, None] * parents[:, None, :]
    edges, biases = edges * real[0], biases * real[1]
    count = real[0].sum((1, 2)) + real[1].sum(1)
    mean = ((edges.sum((1, 2)) + biases.sum(1)) / count.clamp(min=1)).clamp(min=torch.finfo(edges.dtype).tiny)
    return edges / mean[:, None, None], biases / mean[:, None]


def _gradients(tokens: NeuronTokens, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients ``(outputs, networks, rows, tokens)`` of each output, values of vertices, and numbers of outputs."""
    room = tokens.mask.shape[1]
    probe = torch.zeros(*x.shape[:-1], room, dtype=x.dtype, device=x.device, requires_grad=True)
    with torch.enable_grad():
        found = execute(NeuronTokens(*(part.detach() for part in tokens)), x.detach(), probe)
        each = [torch.autograd.grad(output.sum(), probe, retain_graph=True)[0] for output in found.outputs.unbind(2)]
    counts = (((tokens.flags & 4) > 0) & tokens.mask).sum(1).clamp(min=1)
    return torch.stack(each), found.values.detach(), counts
