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
    vertex is an output. Weights are 1, biases 0.

    Args:
        logits: Logits of architectures.
        inputs: Most inputs.
        width: Most vertices of a level.
        exact: Number of inputs of all graphs, which then have one output; none = those of each latent.

    Raises:
        ValueError: There is no room for so many inputs.
    """
    room = logits.presence.shape[1]
    if exact is not None:
        if not 1 <= exact <= min(inputs, room - 1):
            raise ValueError(f"networks must have 1 to {min(inputs, room - 1)} inputs, got {exact}")
        rank, place = (torch.arange(size, device=logits.level.device) for size in (logits.level.shape[-1], room))
        wrong = (place < exact)[:, None] != (rank == 0)
        logits, inputs = logits._replace(level=logits.level.masked_fill(wrong, NEVER)), exact
    there, absent = F.logsigmoid(logits.presence).cumsum(1), F.logsigmoid(-logits.presence)
    behind = absent.flip(1).cumsum(1).flip(1) - absent
    most = min(room, inputs + (logits.level.shape[-1] - 1) * width)
    fewest = 2 if exact is None else exact + 1
    score = (there + behind)[:, fewest - 1 : most]
    size = score.argmax(1) + fewest
    mask = torch.arange(room, device=size.device) < size[:, None]
    level = _levels(logits.level.log_softmax(-1), size, inputs, width) * mask
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


def _levels(scores: Tensor, size: Tensor, inputs: int, width: int) -> Tensor:
    """Likeliest levels that begin at 0, rise by 0 or 1 and end above 0 (Viterbi), ``(networks, tokens)``.

    A level has at most ``width`` vertices, that of inputs ``inputs``: its vertices at place ``v`` then have at least
    level ``(v - inputs) / width``, which bounds their number at least in total.
    """
    room, levels = scores.shape[1:]
    rank = torch.arange(levels, device=scores.device)
    total = torch.where(rank == 0, scores[:, 0], NEVER)
    came = []
    for vertex in range(1, room):
        least = 0 if vertex < inputs else 1 + (vertex - inputs) // width
        up = F.pad(total[:, :-1], (1, 0), value=2 * NEVER)
        own = torch.where(rank >= least, scores[:, vertex], NEVER)
        real = (vertex < size)[:, None]
        came.append((up > total) & real)
        total = torch.where(real, torch.maximum(up, total) + own, total)
    total = torch.where(rank == 0, 2 * NEVER * room, total)
    level = total.argmax(1)
    path = [level]
    for rose in reversed(came):
        level = level - rose.gather(1, level[:, None])[:, 0].long()
        path.append(level)
    return torch.stack(path[::-1], dim=1)


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
