"""Row attention: context rows attend to one another, target rows to the context rows."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Mechanism, Softmax, as_factory
from tabattn.nn.cache import KVCache
from tabattn.nn.distances import DistanceBias, rotated, widened
from tabattn.nn.multihead import MultiheadAttention


class ContextAttention(nn.Module, ABC):
    """Abstract attention of all rows to the context rows, with a KV cache: what a ``Block`` has between its rows."""

    @abstractmethod
    def forward(
        self, x: Tensor, context: int | None = None, mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Attend to the leading ``context`` rows, and to the rows whose keys and values the cache holds.

        Args:
            x: Rows, context rows first, ``(batch, rows, dim)``.
            context: Number of leading rows that may be attended to; None = all.
            mask: Boolean, broadcastable to ``(batch, heads, rows, keys)``, where keys are the rows in the cache, then
                the context rows; True = may be seen. None = all.
            cache: KV cache, to which the keys and values of the context rows are appended. None = none.

        Returns:
            ``(batch, rows, dim)``; only the target rows in a layer that computes no others.

        Raises:
            ValueError: ``context`` is not between 0 and the number of rows.
        """

    @property
    @abstractmethod
    def outsiders(self) -> Mechanism:
        """Mechanism from target rows to context rows."""

    @abstractmethod
    def outputs(self) -> list[nn.Linear]:
        """Output projections."""


class RowAttention(ContextAttention):
    """Row attention with one set of projections for context and target rows.

    Without ``target_attention``, a mechanism that serves cross-attention (``Mechanism.cross``) answers the queries of
    all rows in one call. Otherwise ``attention`` answers those of the context rows, as long as these are all of the
    keys; ``target_attention`` answers those of the target rows, and of the context rows too where the KV cache holds
    earlier rows.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        attention: Mechanism between context rows.
        target_attention: Mechanism from target rows to context rows; None = ``attention`` where it can answer queries
            from outside, else Softmax.
        readout: Whether to compute target rows only, as in a last layer, after which nothing reads the context rows:
            ``(batch, target rows, dim)``, which may be 0 rows.
        waves: Number of wavelengths of the distance bias (see ``DistanceBias``); 0 = none.
        relative: Whether values are rotated by location (see ``rotated``), with wavelengths among those.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        target_attention: AttentionFactory | None = None,
        *,
        readout: bool = False,
        waves: int = 0,
        relative: bool = False,
    ) -> None:
        super().__init__()
        if relative and not waves:
            raise ValueError("waves must be at least 1 where values are relative, got 0")
        self.readout = readout
        self.waves = waves
        self.relative = relative
        inside = as_factory(attention)
        self.attention = MultiheadAttention(dim, heads, widened(inside, 2 * waves) if waves else inside)
        self.bias = DistanceBias(heads, dim // heads, waves) if waves else None
        self.outside: Mechanism | None = None
        if target_attention is not None or not self.attention.mechanism.cross:
            answering = as_factory(target_attention or Softmax, "target_attention")
            outside = (widened(answering, 2 * waves) if waves else answering)(heads, dim // heads)
            if readout:
                self.attention.mechanism = outside
            else:
                self.outside = outside

    def forward(
        self,
        x: Tensor,
        context: int | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        locations: Tensor | None = None,
    ) -> Tensor:
        """Attend as in ``ContextAttention``.

        Args:
            x: Rows, context rows first, ``(batch, rows, dim)``.
            context: Number of leading rows that may be attended to; None = all.
            mask: Boolean, broadcastable to ``(batch, heads, rows, keys)``; True = may be seen. None = all.
            cache: KV cache, to which the keys and values of the context rows are appended. None = none.
            locations: Location features of the rows for the distance bias, ``(batch, rows, 2 waves)``.

        Returns:
            ``(batch, rows, dim)``; only the target rows where ``readout``.
        """
        rows = x.shape[1]
        features = 0 if locations is None else locations.shape[-1]
        if features != 2 * self.waves:
            raise ValueError(f"locations must have 2 features for each of {self.waves} waves, got {features}")
        context = rows if context is None else context
        if not 0 <= context <= rows:
            raise ValueError(f"context must be between 0 and the number of rows ({rows}), got {context}")
        # One split in place of several slices, each of whose backward passes would fill a tensor with zeros.
        known, asked = x.split([context, rows - context], dim=1)
        k, v = self.attention.keys_values(known)
        if self.bias is not None and locations is not None:
            k = self.bias.keys(k, locations[:, :context])
            v = rotated(v, locations[:, :context]) if self.relative else v
        if cache is not None:
            k, v = cache.append(k, v)
        if self.readout:
            if context == rows:
                return asked
            q = self._queries(asked, None if locations is None else locations[:, context:])
            mixed = self.outsiders(q, k, v, rows_of(mask, slice(context, None)))
        else:
            inside = context if k.shape[2] == context else 0
            mixed = self._mixed(self._queries(x, locations), k, v, mask, inside)
        if self.relative and locations is not None:
            mixed = rotated(mixed, locations[:, rows - mixed.shape[2] :], back=True)
        return self.attention.out(self.attention.merge(mixed))

    def _queries(self, x: Tensor, locations: Tensor | None) -> Tensor:
        """Queries of rows, with location features where there is a distance bias."""
        q = self.attention.queries(x)
        return q if self.bias is None or locations is None else self.bias.queries(q, locations)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, inside: int) -> Tensor:
        """Mix values for the queries of all rows, of which the first ``inside`` are those of the keys."""
        if self.outside is None or inside == q.shape[2]:
            return self.attention.mechanism(q, k, v, mask)
        if not inside:
            return self.outside(q, k, v, mask)
        known = self.attention.mechanism(q[:, :, :inside], k, v, rows_of(mask, slice(inside)))
        asked = self.outside(q[:, :, inside:], k, v, rows_of(mask, slice(inside, None)))
        return torch.cat([known, asked], dim=2)

    @property
    def outsiders(self) -> Mechanism:
        return self.attention.mechanism if self.outside is None else self.outside

    def outputs(self) -> list[nn.Linear]:
        return [self.attention.out]


def rows_of(mask: Tensor | None, rows: slice) -> Tensor | None:
    """Part of a mask for some of the queries; a mask that is the same for every query serves as it is."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]
