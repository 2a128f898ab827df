"""Head-wise projections: learned maps of queries and keys into a few dimensions where a pattern compares them."""

from typing import Literal

import torch
from torch import Tensor, nn

from tabattn.attention.mechanism import check_at_least, check_same_length
from tabattn.attention.scores import full_precision

Shared = bool | Literal["concat"]
"""Whether queries and keys have one map; ``concat`` = one map of both of a token, one after the other."""

RIDGE = 1e-3
"""Penalty of the regression of what queries attend to, relative to the variance of queries."""


class HeadProjection(nn.Module):
    """Head-wise projections of queries and keys, linear or with one hidden layer, apart for each head.

    ``x w + b``, or ``tanh(x w1 + b1) w2 + b2``. The state holds ``q.w``, ``q.b`` and ``k.w``, ``k.b``, or with a hidden
    layer ``q.w1``, ``q.b1``, ``q.w2``, ``q.b2`` and so on; where the map is shared, it is ``q`` alone. A concatenated
    map has as inputs the query and the key of a token, one after the other, so that both are projected to one point.

    Source: Treviso et al. 2022, arXiv 2109.12188, section 4.1, and its programs.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        width: Dimensions of what is projected; None = queries and keys are left as they are, and nothing is learned.
        hidden: Width of the hidden layer; None = linear.
        shared: Whether queries and keys have one map; ``concat`` = one of both of a token together.

    Raises:
        ValueError: A size is below 1, ``hidden`` is given without ``width``, or ``shared`` is something else.
    """

    q: "HeadMap | None"
    k: "HeadMap | None"

    def __init__(
        self, heads: int, head_dim: int, width: int | None = 4, hidden: int | None = None, shared: Shared = False
    ) -> None:
        super().__init__()
        if shared not in (True, False, "concat"):
            raise ValueError(f"shared must be true, false or concat, got {shared!r}")
        self.concat = shared == "concat"
        inputs = 2 * head_dim if self.concat else head_dim
        self.width = inputs if width is None else width
        check_at_least(1, heads=heads, head_dim=head_dim, width=self.width)
        if hidden is not None:
            check_at_least(1, hidden=hidden)
            if width is None:
                raise ValueError(f"hidden must be None where nothing is projected (width None), got {hidden}")
        self.q = None if width is None else HeadMap(heads, inputs, width, hidden)
        self.k = None if width is None or shared else HeadMap(heads, inputs, width, hidden)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Project queries and keys, in at least float32.

        Args:
            q: Queries before they are scaled, ``(batch, heads, queries, head_dim)``.
            k: Keys, ``(batch, heads, keys, head_dim)``.

        Returns:
            ``(batch, heads, queries, width)`` and ``(batch, heads, keys, width)``.

        Raises:
            ValueError: Queries and keys are concatenated, and not equally many.
        """
        if self.concat:
            check_same_length(self, q, k)
            q = k = torch.cat((q, k), dim=-1)
        if self.q is None:
            return full_precision(q), full_precision(k)
        if self.concat:
            points = self.q(q)
            return points, points
        return self.q(q), (self.q if self.k is None else self.k)(k)

    @property
    def approximates(self) -> bool:
        """Whether the maps can be factors of scores: linear, into no more dimensions than a head has, not of both."""
        if self.q is None or self.concat or "w" not in self.q.state_dict():
            return False
        return self.q.w.shape[2] <= self.q.w.shape[1]

    @torch.no_grad()
    def approximate(self, q: Tensor, k: Tensor, attended: Tensor | None = None) -> None:
        """Set linear maps to the best low-rank factors of attention scores, as they are or to start training from.

        ``q' . k' / sqrt(width)`` is the score ``q . k / sqrt(head_dim)``, up to a number for each query, with the least
        mean square error over all pairs of the given tokens: a truncated singular value decomposition of the scores.
        Where it is known what queries attend to, they are mapped by ridge regression to where that is mapped, as
        distances and clusters need it. A shared map has the principal directions of queries and keys together.

        Args:
            q: Queries of any items, ``(heads, tokens, head_dim)``.
            k: Keys of any items, ``(heads, tokens, head_dim)``.
            attended: Mean of the keys by the attention weights of each query, of the shape of ``q``; None = unknown.

        Raises:
            ValueError: The maps have a hidden layer, there are none or one of both together, ``width`` is above
                head_dim, there are no tokens, or ``attended`` is given for a shared map.
        """
        if self.q is None or self.concat:
            raise ValueError("queries and keys must be projected apart to approximate scores")
        if "w" not in self.q.state_dict():
            raise ValueError("hidden must be None to approximate scores, got a hidden layer")
        _, head_dim, width = self.q.w.shape
        if width > head_dim:
            raise ValueError(
                f"width must be at most {head_dim}, the width of a head, to approximate scores, got {width}"
            )
        check_at_least(1, queries=q.shape[-2], keys=k.shape[-2])
        q, k, scale = q.double(), k.double(), (width / head_dim) ** 0.25
        if self.k is None:
            if attended is not None:
                raise ValueError("attended must be None for a shared map")
            both = torch.cat((q, k), dim=-2)
            self.q.assign(scale * _principal(both, width), both)
            return
        own, theirs = (scale * each for each in _factors(q, k, width))
        self.q.assign(own)
        self.k.assign(theirs, k)
        if attended is not None:
            self.q.assign(_ridge(q, attended.double() @ theirs), q, (attended.double() - _mean(k)) @ theirs)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=-2, keepdim=True)


def _principal(x: Tensor, width: int) -> Tensor:
    """Directions of largest variance, ``(heads, head_dim, width)``."""
    centred = x - _mean(x)
    return torch.linalg.eigh(centred.mT @ centred).eigenvectors[..., -width:]


def _factors(q: Tensor, k: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Maps whose products are nearest to those of queries and centred keys, ``(heads, head_dim, width)`` each.

    Queries are not centred: what they have in common prefers some keys for all of them.
    """
    (up, down), (left, right) = _roots(q), _roots(k - _mean(k))
    u, values, v = torch.linalg.svd(up @ left)
    strength = values[..., None, :width].sqrt()
    return down @ u[..., :width] * strength, right @ v.mT[..., :width] * strength


def _roots(x: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of the mean of ``x x^T``, and its inverse where it is not zero."""
    values, vectors = torch.linalg.eigh(x.mT @ x / x.shape[-2])
    least = torch.finfo(x.dtype).eps * x.shape[-1] * values[..., -1:]
    roots = values.clamp(min=0).sqrt()
    inverse = torch.where(values > least, 1 / roots, 0.0)
    return (vectors * roots[..., None, :]) @ vectors.mT, (vectors * inverse[..., None, :]) @ vectors.mT


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Matrix of ridge regression of ``y`` on ``x``, both centred, ``(heads, head_dim, width)``."""
    x, y = x - _mean(x), y - _mean(y)
    second = x.mT @ x
    size = second.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[:, None, None]
    # Tokens that are all equal have a map of zeros.
    ridge = RIDGE * size + (size == 0)
    return torch.linalg.solve(second + ridge * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device), x.mT @ y)


class HeadMap(nn.Module):
    """Map of each head, linear or with one hidden layer of tanh; drawn like ``nn.Linear`` of a head.

    Args:
        heads: Number of attention heads.
        head_dim: Dimensions of a token.
        width: Dimensions of what is projected.
        hidden: Width of the hidden layer; None = linear.
    """

    w: Tensor
    b: Tensor

    def __init__(self, heads: int, head_dim: int, width: int, hidden: int | None = None) -> None:
        super().__init__()
        sizes = (head_dim, width) if hidden is None else (head_dim, hidden, width)
        self.names = [("w", "b")] if hidden is None else [("w1", "b1"), ("w2", "b2")]
        for (weight, bias), inputs, outputs in zip(self.names, sizes[:-1], sizes[1:], strict=True):
            bound = inputs**-0.5
            setattr(self, weight, nn.Parameter(torch.empty(heads, inputs, outputs).uniform_(-bound, bound)))
            setattr(self, bias, nn.Parameter(torch.empty(heads, 1, outputs).uniform_(-bound, bound)))

    def assign(self, matrix: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> None:
        """Set a linear map, ``(heads, head_dim, width)``, with a bias that sends the mean of ``x`` to that of ``y``.

        ``y`` None = to zero; ``x`` None = without bias.
        """
        self.w.copy_(matrix)
        self.b.copy_((0 if y is None else _mean(y)) - (torch.zeros_like(self.b) if x is None else _mean(x) @ matrix))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens, ``(batch, heads, tokens, head_dim)``, to ``(batch, heads, tokens, width)``."""
        x = full_precision(x)
        for number, (weight, bias) in enumerate(self.names):
            x = x.tanh() if number else x
            x = x @ getattr(self, weight).to(x.dtype) + getattr(self, bias).to(x.dtype)
        return x
