"""Cases of the laws: every mechanism, with settings that matter on short sequences."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tabattn.attention import MECHANISMS, Entmax, Local, Mechanism, Nystrom, Sparse, TopK

HEADS, HEAD_DIM = 2, 4

CASES: dict[str, Callable[..., Mechanism]] = {
    **MECHANISMS,
    "Sparse-narrow": lambda *size, **own: Sparse(*size, window=4, **own),
    "Local-narrow": lambda *size, **own: Local(*size, window=2, **own),
    "Nystrom-few": lambda *size, **own: Nystrom(*size, landmarks=3, **own),
    "TopK-few": lambda *size, **own: TopK(*size, keep=3, block=4, **own),
    "Entmax-blocks": lambda *size, **own: Entmax(*size, alpha=1.3, block=3, **own),
    "Entmax-sparsemax": lambda *size, **own: Entmax(*size, alpha=2.0, block=3, **own),
    "Entmax-learned": lambda *size, **own: Entmax(*size, learn_alpha=True, block=3, **own),
}


def make(case: str, **own: object) -> Mechanism:
    return CASES[case](HEADS, HEAD_DIM, **own)


def one_length(case: str) -> bool:
    """Whether queries and keys need one length, as mechanisms may that compare positions."""
    q, k = torch.zeros(1, HEADS, 2, HEAD_DIM), torch.zeros(1, HEADS, 3, HEAD_DIM)
    try:
        make(case)(q, k, k)
    except ValueError:
        return True
    return False


def static(case: str) -> bool:
    """Whether neither keys nor values are read; its map is onto its own memory."""
    return hasattr(make(case), "memory_values")


def drops(case: str) -> bool:
    """Whether there is dropout."""
    return "dropout" in make(case).arguments()


def where(fact: Callable[[str], bool], holds: bool = True) -> pytest.MarkDecorator:
    """Every case of which something is true, or is not."""
    return pytest.mark.parametrize("case", [case for case in CASES if fact(case) == holds])


every = where(lambda case: True)


class Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor


def inputs(case: str, batch: int = 2, queries: int = 9, keys: int = 11, **kwargs: object) -> Inputs:
    """Random q, k, v; with one length where the mechanism compares positions."""
    if one_length(case):
        queries = keys
    sizes = ((batch, HEADS, length, HEAD_DIM) for length in (queries, keys, keys))
    return Inputs(*(torch.randn(size, **kwargs) for size in sizes))


def leaves(x: Inputs) -> Inputs:
    return Inputs(*(part.detach().clone().requires_grad_() for part in x))


def gradients(out: Tensor, *wanted: Tensor) -> list[Tensor]:
    """Gradients of a fixed random projection of ``out``; zeros where it does not depend on an input."""
    projection = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    return list(torch.autograd.grad((out * projection).sum(), wanted, allow_unused=True, materialize_grads=True))


def key_mask() -> Tensor:
    """Hide other keys in either of two batch elements, ``(2, 1, 1, 11)``."""
    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    mask[0, ..., [1, 4, 10]] = False
    mask[1, ..., 6:] = False
    return mask


def query_mask(queries: int, keys: int) -> Tensor:
    """Hide keys by element, head and query, and the last two from all, ``(2, HEADS, queries, keys)``."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(2, HEADS, queries, keys, generator=generator) > 0.3
    mask |= torch.eye(queries, keys, dtype=torch.bool)
    mask[..., -2:] = False
    return mask
