"""Each mechanism equals a naive implementation of its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tabattn.attention import Inducing, Linear, Mechanism, Nystrom, Pooling, Scratch, Softmax, Sparse, TopK
from tests.attention.cases import HEAD_DIM, HEADS, gradients, inputs, leaves

KEYS = 11
visible = torch.arange(KEYS) % 4 != 1


def hide(scores: Tensor) -> Tensor:
    return scores.masked_fill(~visible, -torch.inf)


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / HEAD_DIM**0.5


def sparse(m: Sparse, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    near = torch.tensor([[abs(i - j) <= m.window // 2 for j in range(KEYS)] for i in range(KEYS)])
    return hide(scores_of(q, k)).masked_fill(~near, -torch.inf).softmax(-1) @ v


def dense(m: Mechanism, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return hide(scores_of(q, k)).softmax(-1) @ v


def pooling(m: Pooling, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores_of(q, m.memory_keys).softmax(-1) @ m.memory_values


def inducing(m: Inducing, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    pool = hide(scores_of(m.inducing, k)).softmax(-1)
    return scores_of(q, pool @ k).softmax(-1) @ (pool @ v)


def linear(m: Linear, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    products = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-2, -1) * visible
    return products / products.sum(-1, keepdim=True) @ v


def nystrom(m: Nystrom, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def means(x: Tensor, seen: Tensor) -> Tensor:
        segments = [[i for i in range(x.shape[2]) if i * 3 // x.shape[2] == s and seen[i]] for s in range(3)]
        return torch.stack([x[:, :, segment].mean(2) for segment in segments], dim=2)

    few_q, few_k = means(q, torch.ones(q.shape[2])), means(k, visible)
    middle = torch.linalg.pinv(scores_of(few_q, few_k).softmax(-1))
    return scores_of(q, few_k).softmax(-1) @ middle @ (hide(scores_of(few_q, k)).softmax(-1) @ v)


def topk(m: TopK, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = hide(scores_of(q, k))
    last = scores.sort(dim=-1, descending=True).values[..., m.keep - 1, None]
    return scores.masked_fill(scores < last, -torch.inf).softmax(-1) @ v


FORMULAS = [
    (Softmax, {}, dense),
    (Scratch, {}, dense),
    (Sparse, {"window": 5}, sparse),
    (Pooling, {"points": 3}, pooling),
    (Inducing, {"points": 3}, inducing),
    (Linear, {}, linear),
    (Nystrom, {"landmarks": 3, "iterations": 20}, nystrom),
    (TopK, {"keep": 4, "block": 3}, topk),
]


@pytest.mark.parametrize(("mechanism", "own", "formula"), FORMULAS)
def test_mechanism_is_its_formula(mechanism, own, formula):
    mechanism = mechanism(HEADS, HEAD_DIM, **own).double()
    x = leaves(inputs(type(mechanism).__name__, keys=KEYS, dtype=torch.float64))
    got, want = mechanism(*x, visible), formula(mechanism, *x)
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)
    wanted = (*x, *mechanism.parameters())
    for ours, theirs in zip(gradients(got, *wanted), gradients(want, *wanted), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)
