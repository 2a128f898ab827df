"""Alignment of networks: permutations of hidden neurons that bring networks of one architecture near one another."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tabattn.contract.graphs import OUTPUT
from tabattn.contract.networks import NeuronTokens

SWEEPS = 100
"""Most passes over the levels of a network; each raises the similarity, or is the last."""


def aligned(tokens: NeuronTokens, rounds: int = 5) -> NeuronTokens:
    """Weight matching (Git Re-Basin, Ainsworth et al. 2023) of networks of one architecture.

    Hidden neurons of each network are permuted within levels, level by level, so that it comes as near to a reference
    as it can: by the sum of products of weights and biases, which is largest where the squared distance is smallest.
    The reference is the first network, then in each round the mean of all. No function changes.

    Args:
        tokens: The networks; their neurons are in an order that has the same edges in all.
        rounds: Alignments with the mean after that with the first network.

    Raises:
        ValueError: There is none, or architectures differ.
    """
    if not len(tokens.mask):
        raise ValueError("needs at least 1 network to align, got 0")
    for name in ("type", "level", "flags", "edge", "mask"):
        part = getattr(tokens, name)
        if (part != part[:1]).any():
            raise ValueError(f"networks must have one architecture to be aligned, got several: {name} differs")
    reference = tokens.weight[0].double(), tokens.bias[0].double()
    for _ in range(rounds + 1):
        orders = [_order(tokens, number, *reference) for number in range(len(tokens.mask))]
        tokens = _permuted(tokens, torch.stack(orders).to(tokens.mask.device))
        reference = tokens.weight.double().mean(0), tokens.bias.double().mean(0)
    return tokens


def _order(tokens: NeuronTokens, number: int, weight: Tensor, bias: Tensor) -> Tensor:
    """Order of the neurons of a network that brings it near to reference weights and biases, ``(tokens,)``."""
    own_weight, own_bias = tokens.weight[number].double(), tokens.bias[number].double()
    edge = tokens.edge[number]
    order = torch.arange(len(own_bias), device=own_bias.device)
    groups = _groups(tokens, number)
    for _ in range(SWEEPS):
        before = order.clone()
        for group in groups:
            moved = own_weight[order][:, order]
            similar = weight[group] @ moved[group].mT + weight[:, group].mT @ moved[:, group]
            similar = similar + bias[group, None] * own_bias[order[group]]
            # Only neurons that have the same edges may change places.
            same = (edge[group, None] == edge[group]).all(2) & (edge.mT[group, None] == edge.mT[group]).all(2)
            cost = torch.where(same, -similar, similar.abs().sum() + 1)
            found = torch.as_tensor(linear_sum_assignment(cost.cpu().numpy())[1], device=order.device)
            order[group] = order[group][found]
        if torch.equal(order, before):
            break
    return order


def _groups(tokens: NeuronTokens, number: int) -> list[Tensor]:
    """Hidden neurons of one level, activation and flags, of each."""
    hidden = tokens.mask[number] & (tokens.level[number] > 0) & ((tokens.flags[number] & OUTPUT) == 0)
    kinds = torch.stack([tokens.level[number], tokens.type[number], tokens.flags[number]], 1)
    group = kinds[hidden].unique(dim=0, return_inverse=True)[1]
    places = hidden.nonzero()[:, 0]
    return [places[group == each] for each in range(int(group.max()) + 1 if len(group) else 0)]


def _permuted(tokens: NeuronTokens, order: Tensor) -> NeuronTokens:
    """Networks with their neurons in another order, ``(networks, tokens)``; the architecture stays."""
    rows, columns = order[:, :, None].expand_as(tokens.weight), order[:, None, :].expand_as(tokens.weight)
    weight = tokens.weight.gather(1, rows).gather(2, columns)
    return tokens._replace(weight=weight, bias=tokens.bias.gather(1, order))
