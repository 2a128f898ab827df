"""Blocks of tokens: neighbouring tokens taken together, and graphs whose edges join whole blocks."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.mechanism import check_at_least
from tabattn.attention.scores import full_precision


class Blocks(Pattern):
    """Block-sparse graph of any pattern, which joins blocks of neighbouring tokens instead of tokens.

    The vectors of a block, one after another, are the block's vector: of tokens of width w the pattern gets blocks of
    width ``size`` w, and what it has learned, such as centroids, is of that width. Hidden tokens count as zeros, and a
    block may be seen if one of its tokens may. The pattern's knob, positions and window are in blocks.

    Source: Treviso et al. 2022, arXiv 2109.12188, and its programs.

    Args:
        pattern: Pattern of the blocks; its knob is this one's.
        size: Tokens of a block, at least 1.

    Raises:
        ValueError: ``size`` is below 1.
    """

    default: ClassVar[float] = 1

    def __init__(self, pattern: Pattern, size: int) -> None:
        check_at_least(1, size=size)
        super().__init__(pattern.knob)
        self.pattern = pattern
        self.size = size
        self.projected, self.learned = pattern.projected, pattern.learned  # type: ignore[misc]
        self.one_sequence = pattern.one_sequence  # type: ignore[misc]
        self.equivariant = pattern.equivariant and size == 1

    @torch.no_grad()
    def edges(self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        found = self.pattern.edges(*self._folded(q, k, keys, queries))
        # A graph may have one row or column of blocks that stands for all.
        rows, columns = (-(-x.shape[-2] // self.size) for x in (q, k))
        found = found.expand(*found.shape[:-2], rows, columns)
        return self._unfolded(self._unfolded(found, -2, q), -1, k)

    @torch.no_grad()
    def codes(
        self, q: Tensor, k: Tensor, keys: Tensor | None = None, queries: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        found = self.pattern.codes(*self._folded(q, k, keys, queries))
        if found is None:
            return None
        own, theirs = (self._unfolded(each, -2, x) for each, x in zip(found, (q, k), strict=True))
        own = own if queries is None else own.masked_fill(~queries, -2)
        return own, theirs if keys is None else theirs.masked_fill(~keys.mT, -1)

    def _folded(
        self, q: Tensor, k: Tensor, keys: Tensor | None, queries: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and keys of blocks, and which blocks may be seen; arguments of ``edges``."""
        own, counted = fold(q, queries, self.size)
        theirs, seen = fold(k, None if keys is None else keys.mT, self.size)
        own, theirs = own.masked_fill(~counted, 0.0).flatten(-2), theirs.masked_fill(~seen, 0.0).flatten(-2)
        return own, theirs, seen.any(dim=-2).mT, counted.any(dim=-2)

    def _unfolded(self, blocks: Tensor, dim: int, x: Tensor) -> Tensor:
        """For each token what its block has."""
        return blocks.repeat_interleave(self.size, dim=dim).narrow(dim, 0, x.shape[-2])


def fold(x: Tensor, visible: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """Fold tokens into blocks of consecutive ones, the last of which is filled with hidden zeros.

    Args:
        x: ``(batch, heads, tokens, width)``.
        visible: Which tokens are visible, boolean, ``(batch, 1 or heads, tokens, 1)``; None = all.
        size: Tokens of a block.

    Returns:
        Blocks in at least float32, ``(batch, heads, blocks, size, width)``, and which of their tokens are visible,
        ``(batch, heads, blocks, size, 1)``.
    """
    if visible is None:
        visible = torch.ones(1, 1, x.shape[-2], 1, dtype=torch.bool, device=x.device)
    missing = (0, 0, 0, -x.shape[-2] % size)
    visible = pad(visible.expand(*x.shape[:-1], 1), missing).unflatten(-2, (-1, size))
    return pad(full_precision(x), missing).unflatten(-2, (-1, size)), visible
