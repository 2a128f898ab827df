"""Threshold of alpha-entmax: Newton's method from the threshold of the largest scores."""

from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 16
"""Most Newton steps; 14 reach float32 precision on rows of 65,536 scores, even for sparsemax."""

GROUPS = 16
"""Scores of a row of which one, the largest, takes part in the first bound."""

PLAIN = (0.5, 1.0)
"""Orders (alpha 1.5 and 2) whose weights need no logarithm."""


ROUGH = 0.01
"""Step at which the first bound is near enough."""


class Rows(NamedTuple):
    """Solved rows of alpha-entmax.

    Attributes:
        p: Weights, ``(..., keys)``.
        peak: Largest scaled score of each row, ``(..., 1)``; 0 where the row may see nothing.
        shift: Threshold of the scaled scores less ``peak``, ``(..., 1)``; inf where the row may see nothing.
    """

    p: Tensor
    peak: Tensor
    shift: Tensor


def solve_rows(scores: Tensor, order: Tensor | float) -> Rows:
    """Solve alpha-entmax for whole rows of scores.

    The threshold of a part of a row is a lower bound of the row's, from which Newton's method, on the p-norm of the
    bases, which is convex and decreasing, converges without overshooting. The part is the largest of each 16 scores.

    Args:
        scores: Scores times ``order``, ``(..., keys)``, at least one key; -inf = hidden; overwritten.
        order: alpha - 1, above 0; a number, or broadcastable to ``(..., 1)``.
    """
    largest, peak = _largest(scores)
    hidden = peak == -torch.inf
    # Differences keep the digits that large scores would lose.
    peak = peak.masked_fill(hidden, 0.0)
    shift = torch.zeros_like(peak)
    if largest is not scores:
        _, shift = _climb(largest.sub_(peak), shift, order, hidden, ROUGH)
    p, shift = _climb(scores.sub_(peak), shift, order, hidden, 0.3 * torch.finfo(scores.dtype).eps ** 0.5)
    return Rows(p, peak, shift.masked_fill(hidden, torch.inf))


def _largest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Largest of each 16 scores, or the scores where they are few, and the largest of all."""
    width = scores.shape[-1] // GROUPS
    if width < GROUPS:
        return scores, scores.amax(dim=-1, keepdim=True)
    used = GROUPS * width
    largest = scores[..., :used].unflatten(-1, (GROUPS, width)).amax(dim=-2)
    if used < scores.shape[-1]:
        largest = torch.cat((largest, scores[..., used:]), dim=-1)
    return largest, largest.amax(dim=-1, keepdim=True)


def _climb(
    scores: Tensor, start: Tensor, order: Tensor | float, hidden: Tensor, enough: float
) -> tuple[Tensor, Tensor]:
    """Weights and threshold of rows whose largest score is 0, from a lower bound of the threshold.

    ``enough`` is the step after which the next is not needed, as each squares the error.
    With alpha 1.5 and 2, ``scores`` become the bases and then the weights in place, so that rows stay in a cache.
    """
    shift = start
    plain = isinstance(order, float) and order in PLAIN
    state = bases(scores, shift) if plain else scores
    # Reading a value synchronises with a GPU and breaks compiled graphs, so only eager CPU runs stop early.
    may_stop = scores.device.type == "cpu" and not torch.compiler.is_compiling()
    for _ in range(STEPS):
        step = (_plain_step(state, order) if plain else _step(state - shift, order)).masked_fill(hidden, 0.0)
        shift = shift + step
        if plain:
            state = state.sub_(step).relu_()
        if may_stop and float(step.max()) <= enough:
            break
    if plain:
        return (state.square_() if order == PLAIN[0] else state), shift
    return weights_and_slopes(state - shift, order)[0], shift


def _plain_step(base: Tensor, order: Tensor | float) -> Tensor:
    if order == PLAIN[0]:
        norm = torch.linalg.vector_norm(base, dim=-1, keepdim=True)
        return (norm * (norm - 1)).clamp_(min=0) / base.sum(dim=-1, keepdim=True)
    return (base.sum(dim=-1, keepdim=True) - 1).clamp_(min=0) / (base > 0).sum(dim=-1, keepdim=True)


def _step(excess: Tensor, order: Tensor | float) -> Tensor:
    p, slope = weights_and_slopes(excess, order)
    total = p.sum(dim=-1, keepdim=True)
    return (-total * torch.expm1(-order * total.log()) / slope.sum(dim=-1, keepdim=True)).clamp_(min=0)


def bases(scores: Tensor, shift: Tensor) -> Tensor:
    """Bases ``[1 + scores - shift]_+`` of the weights; ``scores`` are overwritten."""
    return scores.sub_(shift - 1).relu_()


def weights_and_slopes(excess: Tensor, order: Tensor | float) -> tuple[Tensor, Tensor]:
    """Entmax weights and their derivatives by score at a fixed threshold.

    Args:
        excess: Scores less their threshold, times ``order``; overwritten.
        order: alpha - 1, above 0.

    Returns:
        ``p = base ^ (1 / order)`` with ``base = [1 + excess]_+``, and ``p ^ (1 - order)`` where p is positive.
    """
    if isinstance(order, float) and order in PLAIN:
        base = excess.add_(1).relu_()
        return (base.square(), base) if order == PLAIN[0] else (base, base.sign())
    excess = excess.clamp_(min=-1)
    base = excess + 1
    p = excess.log1p_().div_(order).exp_()
    return p, (p / base).masked_fill_(base == 0, 0.0)
