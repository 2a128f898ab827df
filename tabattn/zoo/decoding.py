"""Decoding of architectures: the likeliest valid graph, or each choice by itself."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.contract.graphs import BIASED, OUTPUT, WEIGHTED
from tabattn.contract.networks import NeuronTokens
from tabattn.zoo.coder import Architecture

NEVER = -1e9


def decode_valid(logits: Architecture, inputs: int, width: int, exact: int | None = None) -> NeuronTokens:
    """Decode the likeliest valid graphs: the number of vertices, then their levels together, then all else.

    A graph is valid where its levels begin at 0 and rise by 1, every vertex but the inputs has a parent, and the last
    vertex is an output. No level is wider than there is room for. Weights are 1, biases 0.

    Args:
        logits: Logits of architectures.
        inputs: Most inputs.
        width: Most vertices of a level, that of the inputs among them.
        exact: Number of inputs of all graphs, which then have one output; none = those of each latent.

    Raises:
        ValueError: There is no room for so many inputs.
    """
    room, levels = logits.level.shape[1:]
    inputs = min(inputs, width, room - 1)
    if exact is not None and not 1 <= exact <= inputs:
        raise ValueError(f"networks must have 1 to {inputs} inputs, got {exact}")
    fewest, inputs = (1, inputs) if exact is None else (exact, exact)
    there, absent = F.logsigmoid(logits.presence).cumsum(1), F.logsigmoid(-logits.presence)
    behind = absent.flip(1).cumsum(1).flip(1) - absent
    score = (there + behind)[:, fewest : min(room, inputs + (levels - 1) * width)]
    size = score.argmax(1) + fewest + 1
    mask = torch.arange(room, device=size.device) < size[:, None]
    level = _levels(logits.level.log_softmax(-1), size, (fewest, inputs), width) * mask
    behind_inputs = mask & (level > 0)
    kind = logits.type.argmax(-1) * behind_inputs
    flags = _flags(logits.flags, behind_inputs, size, exact is not None) * mask
    scores = logits.edges(level)
    allowed = _candidates(level, mask)
    best = F.one_hot(scores.masked_fill(~allowed, NEVER).argmax(-1), room).bool()
    edge = (best | (scores > 0)) & allowed
    return _blank(kind, level, flags, edge, mask)


def decode_free(logits: Architecture) -> NeuronTokens:
    """Decode each choice by itself, so that the result may be no graph; weights are 1, biases 0.

    An edge is a choice only from a lower to a higher level, as in the loss.
    """
    mask = logits.presence > 0
    level = logits.level.argmax(-1) * mask
    first = level == 0
    kind = logits.type.argmax(-1) * (mask & ~first)
    flags = logits.flags.argmax(-1) * mask
    flags = torch.where(first, flags & OUTPUT, flags)
    edge = (logits.edges(level) > 0) & _candidates(level, mask)
    return _blank(kind, level, flags, edge, mask)


def _candidates(level: Tensor, mask: Tensor) -> Tensor:
    """Pairs of child and parent that a graph may have."""
    return (level[:, :, None] > level[:, None]) & mask[:, :, None] & mask[:, None]


def _levels(scores: Tensor, size: Tensor, inputs: tuple[int, int], width: int) -> Tensor:
    """Likeliest levels that begin at 0, rise by 0 or 1 and end above 0, ``(networks, tokens)``.

    Viterbi's algorithm over whole levels, so that the width of each is bounded: the state is where a level ends.

    Args:
        scores: Log-probabilities, ``(networks, tokens, levels)``.
        size: Number of vertices of each network, ``(networks,)``.
        inputs: Fewest and most vertices of level 0.
        width: Most vertices of any other level.
    """
    room, levels = scores.shape[1:]
    # In double precision: differences of sums over many vertices.
    sums = F.pad(scores.double().cumsum(1), (0, 0, 1, 0))
    end = torch.arange(room + 1, device=scores.device)
    total = sums[..., 0].masked_fill((end < inputs[0]) | (end > inputs[1]), -torch.inf)
    found, counts = [], []
    for rank in range(1, levels):
        begun = F.pad(total - sums[..., rank], (width, 0), value=-torch.inf)
        best, place = begun.unfold(1, width, 1)[:, : room + 1].max(-1)
        counts.append(width - place)
        total = best + sums[..., rank]
        found.append(total.gather(1, size[:, None]))
    last = torch.cat(found, dim=1).argmax(1) + 1
    level, ends = torch.zeros_like(scores[..., 0], dtype=torch.long), size
    for rank in range(levels - 1, 0, -1):
        ends = ends - torch.where(rank <= last, counts[rank - 1].gather(1, ends[:, None])[:, 0], 0)
        level = level + (end[:-1] >= ends[:, None])
    return level


def _flags(logits: Tensor, behind_inputs: Tensor, size: Tensor, alone: bool) -> Tensor:
    """Likeliest flags: inputs have neither weights nor bias, the last vertex is an output, or it ``alone``."""
    codes = torch.arange(logits.shape[-1], device=logits.device)
    plain = (codes & (WEIGHTED | BIASED)) == 0
    place = torch.arange(logits.shape[1], device=logits.device)
    last = place == size[:, None] - 1
    allowed = (behind_inputs[..., None] | plain) & (~last[..., None] | ((codes & OUTPUT) > 0))
    if alone:
        allowed = allowed & (last[..., None] | ((codes & OUTPUT) == 0))
    return logits.masked_fill(~allowed, NEVER).argmax(-1)


def _blank(kind: Tensor, level: Tensor, flags: Tensor, edge: Tensor, mask: Tensor) -> NeuronTokens:
    bias = torch.zeros(mask.shape, device=mask.device)
    return NeuronTokens(kind, level, flags, bias, edge.float(), edge, mask)
