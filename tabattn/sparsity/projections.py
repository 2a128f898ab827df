"""Projections of the queries and keys of all layers of a model, and clusters in their space."""

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.graphs import HeadProjection
from tabattn.attention.graphs.blocks import fold
from tabattn.attention.graphs.projection import Shared
from tabattn.contract.queries_keys import Layer, LayerBatch
from tabattn.sparsity.options import ClusterOptions


class LayerMaps(nn.Module):
    """What is learned of a layer: projections, by training, and centroids, by k-means on what is projected.

    Args:
        layer: The layer.
        width: Dimensions of the projections; None = none are made.
        hidden: Width of their hidden layer; None = linear.
        shared: Whether queries and keys have one map; ``concat`` = one of both of a token together.
        clusters: Options of k-means.
    """

    def __init__(
        self, layer: Layer, width: int | None, hidden: int | None, shared: Shared, clusters: ClusterOptions
    ) -> None:
        super().__init__()
        self.layer = layer
        self.projection = HeadProjection(layer.heads, layer.head_dim, width=width, hidden=hidden, shared=shared)
        self.centroids: Tensor
        size = clusters.block * self.projection.width
        self.register_buffer("centroids", torch.zeros(layer.heads, clusters.runs, clusters.clusters, size))

    def forward(self, batch: LayerBatch) -> tuple[Tensor, Tensor]:
        """Project queries and keys.

        Raises:
            ValueError: Both of a token are projected together, and queries and keys are not the same tokens.
        """
        if self.projection.concat and not torch.equal(batch.queries, batch.keys):
            raise ValueError(
                f"{self.layer.path}: shared=concat projects the query and the key of a token together, and queries and "
                "keys are not the same tokens"
            )
        return self.projection(batch.q, batch.k)

    def gold(self, weights: Tensor, seen: Tensor) -> Tensor:
        """Pairs that are to be near: those of a weight, and where both of a token have one point, their reverse."""
        gold = weights > 0
        return (gold | gold.mT) & seen if self.projection.concat else gold

    @torch.no_grad()
    def weights(self, batch: LayerBatch) -> Tensor:
        """Weights of the layer's attention, ``(items, heads, queries, keys)``, by the entmax of its alpha."""
        return entmax_weights(self.scores(batch), batch.seen, self.layer.alpha)

    @torch.no_grad()
    def scores(self, batch: LayerBatch) -> Tensor:
        """Scaled products of queries and keys, ``(items, heads, queries, keys)``."""
        return batch.q.float() @ batch.k.float().mT * self.layer.scale

    @torch.no_grad()
    def approximate(self, batch: LayerBatch) -> None:
        """Set the maps to the best low-rank factors of the layer's scores; see ``HeadProjection.approximate``."""
        counted = batch.seen.any(dim=-1)[:, 0]
        q, k = (x.transpose(1, 2)[some].transpose(0, 1) for x, some in ((batch.q, counted), (batch.k, batch.keys)))
        attended = None
        if self.projection.k is not None:
            each = [self.weights(part) @ part.k.float() for part in _items(batch)]
            attended = torch.cat(each).transpose(1, 2)[counted].transpose(0, 1)
        self.projection.approximate(q, k, attended)

    @torch.no_grad()
    def clusters(self, batch: LayerBatch, options: ClusterOptions) -> Tensor:
        """Centroids of projected queries and keys, ``(heads, runs, clusters, width)``; see ``ClusterOptions``.

        Raises:
            ValueError: There are fewer queries and keys than clusters.
        """
        parts = []
        for points, there in zip(self(batch), (batch.queries, batch.keys), strict=True):
            blocks, visible = fold(points, there[:, None, :, None], options.block)
            counted = visible[:, 0].any(dim=-2).squeeze(-1)
            parts.append(blocks.masked_fill(~visible, 0.0).flatten(-2).transpose(1, 2)[counted])
        # Of one point of both, once.
        tokens = parts[0] if self.projection.concat else torch.cat(parts)
        if len(tokens) < options.clusters:
            what = "queries and keys" if options.block == 1 else f"blocks of {options.block} queries or keys"
            raise ValueError(
                f"clusters must be at most {len(tokens)}, the {what} of {self.layer.path}, got {options.clusters}"
            )
        # Evenly many are left out of more.
        kept = tokens[torch.linspace(0, len(tokens) - 1, min(len(tokens), options.tokens)).long()]
        heads = [cluster(head.cpu().numpy(), options) for head in kept.unbind(1)]
        return torch.from_numpy(np.stack(heads)).to(self.centroids)


def _items(batch: LayerBatch) -> Iterator[LayerBatch]:
    """Items of a batch, one by one."""
    for item in range(len(batch.q)):
        q, k, queries, keys, *rest = (None if part is None else part[item : item + 1] for part in batch)
        yield LayerBatch(q, k, queries, keys, *rest)  # type: ignore[arg-type]


def cluster(points: np.ndarray, options: ClusterOptions) -> np.ndarray:
    """Centroids of independent runs of k-means, ``(runs, clusters, width)``.

    The first run begins by k-means++, others at random points.
    """
    from sklearn.cluster import KMeans

    runs = []
    for run in range(options.runs):
        start = "random" if run else "k-means++"
        means = KMeans(options.clusters, init=start, n_init="auto", random_state=options.seed + run)
        runs.append(means.fit(points.astype(np.float64)).cluster_centers_)
    return np.stack(runs).astype(np.float32)


def entmax_weights(scores: Tensor, seen: Tensor, alpha: Sequence[float]) -> Tensor:
    """Entmax of scores, ``(items, heads, queries, keys)``; hidden pairs have no weight.

    Args:
        scores: Products of queries and keys, scaled.
        seen: Which pairs may be seen, broadcastable to the scores; True = may be.
        alpha: Alpha of each head, above 1.
    """
    if not scores.numel():
        return torch.zeros_like(scores)
    orders = torch.tensor(alpha, dtype=scores.dtype, device=scores.device)[:, None, None] - 1
    order = alpha[0] - 1 if len(set(alpha)) == 1 else orders
    return solve_rows((scores * order).masked_fill(~seen, -torch.inf), order).p


class Projections(nn.Module):
    """Projections of all layers, which are trained at once and apart: none has a parameter of another.

    Args:
        layers: The layers, in the order of a batch.
        width: Dimensions of the projections; None = none are made.
        hidden: Width of their hidden layer; None = linear.
        shared: Whether queries and keys have one map; ``concat`` = one of both of a token together.
        clusters: Options of k-means.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        width: int | None,
        hidden: int | None,
        shared: Shared,
        clusters: ClusterOptions,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LayerMaps(layer, width, hidden, shared, clusters) for layer in layers)
        # An optimizer needs a parameter, also where nothing is projected.
        self.nothing = nn.Parameter(torch.zeros(0)) if width is None else None

    def maps(self) -> list[LayerMaps]:
        """What is learned of each layer."""
        return [cast("LayerMaps", each) for each in self.layers]
