"""Alpha-entmax attention as one autograd function that stores no attention weights."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tabattn.attention.scores import mask_rows

STEPS = 16
"""Most Newton steps; 14 reach float32 precision on rows of 65,536 scores, even for sparsemax."""


class EntmaxRows(torch.autograd.Function):
    """Autograd function of blockwise alpha-entmax attention; backward recomputes each block of queries.

    A block holds complete rows of scores, so extra memory is ``block x keys``. Saved for backward are the arguments and
    one threshold for each query. Second derivatives are not supported.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        alpha: Tensor | float,
        mask: Tensor | None,
        block: int,
        dropout: float,
        seed: int,
    ) -> Tensor:
        """Forward pass: mix the values by entmax weights.

        Args:
            ctx: Autograd context, which holds the tensors saved for backward.
            q: Scaled queries, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.
            v: Values, ``(batch, heads, keys, any)``.
            alpha: Above 1; a number, or one for each head, ``(heads, 1, 1)``.
            mask: Boolean, four-dimensional, broadcastable to the scores; True = may be seen.
            block: Queries computed at a time.
            dropout: Probability of dropping an attention weight.
            seed: Seed of the dropout mask, so that forward and backward drop the same weights.

        Returns:
            The mixed values, ``(batch, heads, queries, any)``.
        """
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        threshold = q.new_empty(*q.shape[:-1], 1)
        order = alpha - 1
        for start in range(0, q.shape[-2], block):
            rows = slice(start, start + block)
            scores = masked_scores(q[:, :, rows], k, mask_rows(mask, start, start + block))
            threshold[:, :, rows] = solve(scores, order)
            p, _ = weights_and_slopes(scores - threshold[:, :, rows], order)
            if dropout:
                p = p * kept(p, dropout, seed + start)
            out[:, :, rows] = p @ v
        learned = alpha if isinstance(alpha, Tensor) else None
        ctx.save_for_backward(q, k, v, mask, threshold, learned)
        ctx.fixed = None if learned is not None else alpha
        ctx.block, ctx.dropout, ctx.seed = block, dropout, seed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Backward pass: gradients with respect to q, k, v and alpha."""
        q, k, v, mask, threshold, learned = ctx.saved_tensors
        order = (ctx.fixed if learned is None else learned) - 1
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dalpha = None if learned is None else torch.zeros_like(learned)
        with torch.autocast(q.device.type, enabled=False):
            for start in range(0, q.shape[-2], ctx.block):
                rows = slice(start, start + ctx.block)
                dout = grad[:, :, rows]
                scores = masked_scores(q[:, :, rows], k, mask_rows(mask, start, start + ctx.block))
                p, slope = weights_and_slopes(scores - threshold[:, :, rows], order)
                dp, dropped = dout @ v.transpose(-2, -1), p
                if ctx.dropout:
                    keep = kept(p, ctx.dropout, ctx.seed + start)
                    dp, dropped = dp * keep, p * keep
                # The slopes of a row sum to at least 1, or to 0 if all its keys are hidden.
                mean = (slope * dp).sum(dim=-1, keepdim=True) / slope.sum(dim=-1, keepdim=True).clamp(min=1)
                centred = dp.sub_(mean)
                if dalpha is not None:
                    change = centred * (p / order - torch.xlogy(p, p)) / order
                    dalpha += change.sum(dim=(0, 2, 3)).view_as(dalpha)
                dv += dropped.transpose(-2, -1) @ dout
                dscores = centred.mul_(slope)
                dq[:, :, rows] = dscores @ k
                dk += dscores.transpose(-2, -1) @ q[:, :, rows]
        return dq, dk, dv, dalpha, None, None, None, None


def masked_scores(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Return masked attention scores minus the maximum of their row; -inf for hidden keys.

    Entmax is invariant to a shift of a row, and differences keep the digits that large scores would lose.
    """
    scores = q @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf)
    peak = scores.amax(dim=-1, keepdim=True)
    return scores.sub_(peak.masked_fill(peak == -torch.inf, 0.0))


def solve(scores: Tensor, order: Tensor | float) -> Tensor:
    """Solve for the entmax threshold tau of each row, at which its weights sum to 1.

    Newton's method on the p-norm of the bases, which is convex and decreasing in tau: from the largest score it
    converges without overshooting, in one step for equal scores, and in about one step as alpha approaches 1.

    Args:
        scores: ``(batch, heads, rows, keys)``; -inf = hidden.
        order: alpha - 1, above 0.

    Returns:
        Thresholds, ``(batch, heads, rows, 1)``; inf where the row may see nothing.
    """
    peak = scores.amax(dim=-1, keepdim=True)
    hidden = peak == -torch.inf
    threshold = peak.masked_fill(hidden, 0.0)
    # Reading a value synchronises with a GPU and breaks compiled graphs, so only eager CPU runs stop early.
    may_stop = scores.device.type == "cpu" and not torch.compiler.is_compiling()
    for _ in range(STEPS):
        p, slope = weights_and_slopes(scores - threshold, order)
        total = p.sum(dim=-1, keepdim=True)
        step = -total * torch.expm1(-order * total.log()) / (order * slope.sum(dim=-1, keepdim=True))
        step = step.masked_fill(hidden, 0.0)
        threshold = threshold + step
        if may_stop and bool((step <= torch.finfo(step.dtype).eps * threshold.abs().clamp(min=1)).all()):
            break
    return threshold.masked_fill(hidden, torch.inf)


def weights_and_slopes(gap: Tensor, order: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return the entmax weights and their derivatives by score at a fixed threshold.

    Args:
        gap: Scores minus threshold; overwritten.
        order: alpha - 1, above 0.

    Returns:
        ``p = base ^ (1 / order)`` with ``base = [1 + order gap]_+``, and ``p ^ (1 - order)`` where p is positive.
    """
    excess = gap.mul_(order).clamp_(min=-1)
    if isinstance(order, float) and order in (0.5, 1.0):
        base = excess.add_(1)
        return (base.square(), base) if order == 0.5 else (base, base.sign())
    base = excess + 1
    p = excess.log1p_().div_(order).exp_()
    return p, (p / base).masked_fill_(base == 0, 0.0)


def kept(p: Tensor, dropout: float, seed: int) -> Tensor:
    """Return dropout factors: 0 where dropped, else ``1 / (1 - dropout)``; the same for the same seed."""
    generator = torch.Generator(p.device).manual_seed(seed)
    draws = torch.rand(p.shape, generator=generator, dtype=p.dtype, device=p.device)
    return (draws >= dropout).to(p.dtype) / (1 - dropout)
