"""Softmax attention with dropout on a CPU, which keeps few arrays of the size of the weights."""

from typing import Any

import torch
from torch import Tensor

from tabattn.attention.dropout import keep


class DroppedAttention(torch.autograd.Function):
    """Autograd function of softmax attention with dropout, whose gradients are computed in place.

    It keeps the weights and a byte for each, where autograd would keep the dropped weights too, and makes two arrays of
    their size in backward rather than four. Arguments: queries, keys and values, ``(..., tokens, width)``, and the
    probability of dropping a weight.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        """Mix the values, ``(..., queries, width of values)``."""
        weights = _weights(q, k)
        kept, share = keep(weights.shape, dropout, weights.device)
        ctx.save_for_backward(q, k, v, weights, kept)
        ctx.share = share
        return (weights * kept) @ v / share

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values; themselves differentiable where a graph is made of them."""
        q, k, v, weights, kept = ctx.saved_tensors
        grad = grad / ctx.share
        if torch.is_grad_enabled():
            weights = _weights(q, k)
            dropped = weights * kept
            dv, product = dropped.mT @ grad, dropped * (grad @ v.mT)
            of_scores = product - weights * product.sum(-1, keepdim=True)
        else:
            dropped = weights * kept
            dv = dropped.mT @ grad
            product = dropped.mul_(grad @ v.mT)
            of_scores = product.addcmul_(weights, product.sum(-1, keepdim=True), value=-1)
        scale = q.shape[-1] ** -0.5
        return of_scores @ k * scale, of_scores.mT @ (q * scale), dv, None


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
