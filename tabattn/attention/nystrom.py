"""Nystrom attention from landmarks."""

import torch
from torch import Tensor

from tabattn.attention.mechanism import Mechanism, check_at_least
from tabattn.attention.scores import full_precision, key_mask, masked_softmax, without_keys

MOST_ITERATIONS = 1000
"""Most iterations: convergence is quadratic, and a checkpoint from any source may set their number."""


class Nystrom(Mechanism):
    """Nystrom attention: the score matrix is approximated from its rows and columns at segment means.

    ``softmax(q K^T) pinv(softmax(Q K^T)) softmax(Q k^T) v`` with scores over ``sqrt(head_dim)`` and Q, K the means of
    ``landmarks`` consecutive segments of q and k. Weights can be negative, and rows sum to 1 only as far as
    the pseudo-inverse has converged. Segments follow the order of tokens and mix queries.

    Cost: linear time and memory (length x landmarks).
    Exactness: approximate; equals Softmax where landmarks >= length, as far as the pseudo-inverse has converged.
    Source: Xiong et al. 2021, arXiv 2102.03902.

    Args:
        heads: Number of attention heads.
        head_dim: Width of one head.
        landmarks: Segments of tokens whose means are the landmarks.
        iterations: Iterations of the pseudo-inverse, at most 1000.
    """

    cross = False
    query_masks = False

    def __init__(self, heads: int, head_dim: int, *, landmarks: int = 16, iterations: int = 6) -> None:
        super().__init__(heads, head_dim)
        check_at_least(1, landmarks=landmarks, iterations=iterations)
        if iterations > MOST_ITERATIONS:
            raise ValueError(f"iterations must be at most {MOST_ITERATIONS}, got {iterations}")
        self.landmarks = landmarks
        self.iterations = iterations

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        visible = key_mask(mask, self)
        if not k.shape[-2]:
            return without_keys(q, k, v)
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = full_precision(q) * self.scale, full_precision(k), full_precision(v)
            few_queries, _ = self._means(queries, None)
            few_keys, filled = self._means(keys, visible)
            left = masked_softmax(queries @ few_keys.transpose(-2, -1), filled)
            middle = masked_softmax(few_queries @ few_keys.transpose(-2, -1), filled)
            right = masked_softmax(few_queries @ keys.transpose(-2, -1), visible)
            return (left @ (pseudo_inverse(middle, self.iterations) @ (right @ values))).to(v.dtype)

    def _means(self, x: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Average consecutive segments over their visible tokens.

        Args:
            x: ``(batch, heads, length, head_dim)``.
            visible: Key mask, ``(batch or 1, heads or 1, 1, length)``.

        Returns:
            The means, ``(batch, heads, segments, head_dim)``, and which of them have a visible token, as a key mask.
        """
        length = x.shape[-2]
        count = min(self.landmarks, length)
        segment = torch.arange(length, device=x.device) * count // length
        member = segment == torch.arange(count, device=x.device)[:, None]  # (segments, length)
        if visible is not None:
            member = member & visible
        size = member.sum(dim=-1, keepdim=True)
        means = member.to(x.dtype) @ x / size.clamp(min=1)
        return means, None if visible is None else (size > 0).transpose(-2, -1)


def pseudo_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """Approximate the Moore-Penrose inverse of non-negative matrices by an iteration of matrix products.

    Args:
        matrix: ``(..., rows, columns)``.
        iterations: Number of third-order steps.

    Returns:
        ``(..., columns, rows)``.
    """
    size = matrix.sum(dim=-2).amax(dim=-1) * matrix.sum(dim=-1).amax(dim=-1)
    inverse = matrix.transpose(-2, -1) / size.masked_fill(size == 0, 1.0)[..., None, None]
    identity = torch.eye(matrix.shape[-2], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        product = matrix @ inverse
        step = 15 * identity - product @ (7 * identity - product)
        inverse = inverse @ (13 * identity - product @ step) / 4
    return inverse
