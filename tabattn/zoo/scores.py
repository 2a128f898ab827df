"""Scores of networks beside networks: agreement of graphs, weights and functions, and qualities of samples."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.executor import Executed, execute

DEAD = 1e-3
"""Standard deviation of outputs below which a network is constant: it has no functional R2."""
AT_ONCE = 1024
"""Networks that are computed at once."""
MOST = 2000
"""Networks whose pairs are compared; of more, as many at equal steps."""


class Matches(NamedTuple):
    """Counts of what two networks agree in, token by token; each ``(networks,)`` long.

    Attributes:
        vertices: Vertices of the true network.
        types: Those present in both, with the same activation.
        levels: Those present in both, on the same level.
        pairs: Pairs of an earlier and a later token of which each is a vertex of either network.
        agreeing: Pairs with an edge in both networks or in none.
        edges: Edges of the true network.
        found: Edges of the other.
        hits: Edges of both.
        exact: 1 where vertices, types, levels, flags and edges are all the same.
    """

    vertices: Tensor
    types: Tensor
    levels: Tensor
    pairs: Tensor
    agreeing: Tensor
    edges: Tensor
    found: Tensor
    hits: Tensor
    exact: Tensor


def aligned(found: NeuronTokens, true: NeuronTokens) -> tuple[NeuronTokens, NeuronTokens]:
    """Pad two batches of networks to the same number of tokens."""
    most = max(found.mask.shape[1], true.mask.shape[1])
    return padded(found, most), padded(true, most)


def padded(tokens: NeuronTokens, most: int) -> NeuronTokens:
    """Pad networks to a number of tokens."""
    missing = most - tokens.mask.shape[1]
    sizes = [[0, missing] * (each.ndim - 1) for each in tokens]
    return NeuronTokens(*(F.pad(each, size) for each, size in zip(tokens, sizes, strict=True)))


def joined(first: NeuronTokens, second: NeuronTokens) -> NeuronTokens:
    """Put two batches of networks behind one another."""
    return NeuronTokens(*(torch.cat(parts) for parts in zip(*aligned(first, second), strict=True)))


def taken(tokens: NeuronTokens, networks: Tensor) -> NeuronTokens:
    """The networks of some numbers, or those where a boolean is true."""
    return NeuronTokens(*(each[networks] for each in tokens))


def matches(found: NeuronTokens, true: NeuronTokens) -> Matches:
    """Count what networks agree in; token i is compared with token i, so that both are in one order.

    Args:
        found: Reconstructed networks.
        true: The originals.
    """
    found, true = aligned(found, true)
    both = found.mask & true.mask
    either = (found.mask | true.mask).long()
    pair = (either[:, :, None] * either[:, None, :]).tril(-1) > 0
    edges, other = true.edge & pair, found.edge & pair
    same = (found.mask == true.mask).all(1) & (edges == other).flatten(1).all(1)
    for one, two in ((found.type, true.type), (found.level, true.level), (found.flags, true.flags)):
        same &= ((one == two) | ~true.mask).all(1)
    return Matches(
        true.mask.sum(1),
        (both & (found.type == true.type)).sum(1),
        (both & (found.level == true.level)).sum(1),
        pair.sum((1, 2)),
        ((edges == other) & pair).sum((1, 2)),
        edges.sum((1, 2)),
        other.sum((1, 2)),
        (edges & other).sum((1, 2)),
        same.long(),
    )


def functional_r2(found: Tensor, true: Tensor) -> Tensor:
    """Share of a network's function that another has: ``1 - mean((found - true)^2) / Var(true)``, over all outputs.

    Args:
        found: Outputs, ``(networks, rows, outputs)``; what is missing of those of ``true`` counts as 0.
        true: Outputs of the originals, ``(networks, rows, outputs)``.

    Returns:
        ``(networks,)``; NaN where the original is constant, -inf where an output is not finite.
    """
    missing = max(true.shape[-1] - found.shape[-1], 0)
    found = F.pad(found, (0, missing))[..., : true.shape[-1]].double()
    true = true.double()
    variance = (true - true.mean(1, keepdim=True)).square().mean(1).sum(-1)
    error = (found - true).square().mean(1).sum(-1)
    r2 = torch.where(error.isfinite(), 1 - error / variance, -torch.inf)
    return torch.where(variance.sqrt() < DEAD, torch.nan, r2).float()


def penultimate(tokens: NeuronTokens, values: Tensor) -> Tensor:
    """What enters the last layer: values of the vertices on the level before the outputs', by their place in it.

    Args:
        tokens: The networks.
        values: Values of their vertices, ``(networks, rows, tokens)``.

    Returns:
        ``(networks, rows, tokens)``, 0 beyond the width of the level, and where a network has no hidden level.
    """
    last = tokens.level.masked_fill(~tokens.mask, 0).amax(1, keepdim=True)
    own = tokens.mask & (tokens.level == last - 1) & (last > 1)
    place = tokens.place[:, None].expand_as(values)
    return torch.zeros_like(values).scatter_add(2, place, values * own[:, None])


def cosine_similarity(found: Tensor, true: Tensor) -> Tensor:
    """Cosine of the penultimate activations of two networks, row by row; NaN where either is 0.

    Args:
        found: Activations, ``(networks, rows, tokens)``.
        true: Those of the originals, ``(networks, rows, tokens)``; either may have fewer tokens.
    """
    most = max(found.shape[-1], true.shape[-1])
    found, true = (F.pad(each, (0, most - each.shape[-1])).double() for each in (found, true))
    norms = found.norm(dim=-1) * true.norm(dim=-1)
    cosine = (found * true).sum(-1) / norms
    return torch.where((norms > 0) & norms.isfinite(), cosine.clamp(-1, 1), torch.nan).float()


def validity(tokens: NeuronTokens) -> Tensor:
    """Whether networks are valid, ``(networks,)`` boolean.

    A valid network is a graph as ``NeuronDAG`` asks it: levels that begin at 0 and rise by 1, edges from lower to
    higher levels, known activations. Besides, each vertex that is no input has a parent, so that it is reached from an
    input, there is an output, and all numbers are finite.
    """
    mask, level, edge = tokens.mask, tokens.level, tokens.edge
    steps = level.diff(dim=1)
    right = mask[:, 0] & (level[:, 0] == 0) & (mask[:, :-1] | ~mask[:, 1:]).all(1)
    right &= (((steps == 0) | (steps == 1)) | ~mask[:, 1:]).all(1)
    weighted, biased, output = ((tokens.flags & bit) > 0 for bit in (WEIGHTED, BIASED, OUTPUT))
    known = (tokens.type >= 0) & (tokens.type < len(ACTIVATIONS)) & (tokens.flags >= 0) & (tokens.flags < 8)
    known &= torch.where(level == 0, (tokens.type == 0) & ~weighted & ~biased, edge.any(2))
    known &= tokens.bias.isfinite() & (biased | ((tokens.bias == 0) & ~tokens.bias.signbit()))
    right &= (known | ~mask).all(1)
    allowed = mask[:, :, None] & mask[:, None, :] & (level[:, :, None] > level[:, None, :])
    allowed = allowed & tokens.weight.isfinite() & (weighted[:, :, None] | (tokens.weight == 1))
    right &= (allowed | ~edge).flatten(1).all(1)
    return right & (output & mask).any(1)


def architectures(tokens: NeuronTokens) -> list[bytes]:
    """All but the numbers of networks, as bytes that are the same for the same graph, whatever the padding."""
    mask, kinds, levels, flags, edges = (
        each.cpu().numpy() for each in (tokens.mask, tokens.type, tokens.level, tokens.flags, tokens.edge)
    )
    rows = np.stack([kinds, levels, flags], axis=1).astype(np.uint8)
    sizes = mask.sum(1).tolist()
    return [
        rows[index, :, :size].tobytes() + np.packbits(edges[index, :size, :size]).tobytes()
        for index, size in enumerate(sizes)
    ]


def computed(tokens: NeuronTokens, x: Tensor) -> Executed:
    """Compute networks, some at a time and without gradients, on rows ``(networks, rows, inputs)`` of their own.

    NaN in rows counts as 0: a column that a network does not have.
    """
    with torch.no_grad():
        parts = [
            execute(NeuronTokens(*(each[at : at + AT_ONCE] for each in tokens)), x[at : at + AT_ONCE].nan_to_num(0.0))
            for at in range(0, len(tokens.mask), AT_ONCE)
        ]
    most = max((part.outputs.shape[-1] for part in parts), default=0)
    outputs = [F.pad(part.outputs, (0, most - part.outputs.shape[-1])) for part in parts]
    if not parts:
        return Executed(x.new_zeros(*x.shape[:2], 0), x.new_zeros(*x.shape[:2], tokens.mask.shape[1]))
    return Executed(torch.cat(outputs), torch.cat([part.values for part in parts]))


def common_outputs(tokens: NeuronTokens, x: Tensor) -> Tensor:
    """Outputs of networks on the same rows ``(rows, inputs)``, as vectors ``(networks, rows * outputs)``.

    The distance of two vectors over the square root of their length is the root mean squared difference of outputs.
    """
    return computed(tokens, x.expand(len(tokens.mask), -1, -1)).outputs.flatten(1)


def mean_distance(vectors: Tensor) -> float:
    """Mean root mean squared difference of pairs of vectors ``(networks, length)``; NaN for fewer than 2 finite."""
    vectors = vectors[vectors.isfinite().all(1)]
    if len(vectors) > MOST:
        vectors = vectors[torch.linspace(0, len(vectors) - 1, MOST, device=vectors.device).long()]
    count = len(vectors)
    if count < 2:
        return float("nan")
    return float(torch.cdist(vectors.double(), vectors.double()).sum() / count / (count - 1) / vectors.shape[1] ** 0.5)


def sample_scores(samples: NeuronTokens, training: NeuronTokens, x: Tensor) -> dict[str, float]:
    """Scores of generated networks; both in canonical form, so that equal architectures are equal graphs.

    ``validity``: share that is valid. Among these, ``uniqueness``: distinct architectures over networks; ``novelty``:
    share whose architecture no training network has; ``diversity``: mean functional distance of pairs, over that of
    training networks.

    Args:
        samples: Generated networks.
        training: Training networks.
        x: Rows on which outputs are compared, ``(rows, inputs)``, with as many columns as the most inputs.
    """
    valid = validity(samples)
    kept = taken(samples, valid)
    kinds, known = architectures(kept), set(architectures(training))
    count = len(kinds)
    spread = mean_distance(common_outputs(kept, x)) if count else float("nan")
    return {
        "validity": float(valid.float().mean()),
        "uniqueness": len(set(kinds)) / count if count else float("nan"),
        "novelty": sum(kind not in known for kind in kinds) / count if count else float("nan"),
        "diversity": spread / mean_distance(common_outputs(training, x)),
    }


def repeated_exactness(decode: Callable[[], NeuronTokens], true: NeuronTokens, times: int = 100) -> float:
    """Share of exact architectures over several decodings, as D-VAE counts it (Zhang et al. 2019): 10 times 10.

    Args:
        decode: Encodes with a latent drawn anew, and decodes.
        true: The networks.
        times: Decodings of each network.
    """
    return float(torch.stack([matches(decode(), true).exact.float().mean() for _ in range(times)]).mean())
