"""PatchTransformer: a network of reconstruction whose tokens are groups of columns, such as the patches of images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.nn.block import Order, table_block
from tabattn.nn.densities import FLOOR, UNIT, mixture, parts
from tabattn.reconstruction.cell_network import CellNetwork, Kinds, Reconstruction, check_cells
from tabattn.reconstruction.embedding import CellEmbedding
from tabattn.reconstruction.heads import CellHead
from tabattn.reconstruction.sites import Site, sites


class PatchTransformer(CellNetwork):
    """Non-Parametric Transformer on images: attention between images, and between the patches of an image, by turns.

    Each group of columns (``ImageCells`` makes one of each patch) is a token, by linear layers that all groups share;
    every other column, such as the class, is a token of its own. Kossen et al. 2021 (arXiv 2106.02584), appendix C.

    Args:
        columns: The columns of the table.
        attention: Mechanism between rows (attention between datapoints).
        attribute_attention: Mechanism between the tokens of a row (attention between attributes).
        dim: Width of a token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers, each with both attentions.
        order: Order of the sublayers: ``rows`` -> MLP -> ``columns``, or ``columns`` -> rows -> MLP.
        dropout: Probability of dropout on embeddings and on what each sublayer adds.
    """

    pixels: Tensor
    order: Tensor

    def __init__(
        self,
        columns: Sequence[Column],
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dim: int = 64,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 4,
        order: Order = "columns",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_least(dim=(dim, 1), hidden=(hidden, 1), layers=(layers, 1))
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.kinds = Kinds.of(columns)
        self.columns = len(columns)
        groups = _groups(columns)
        self.groups, self.alone = len(groups), [place for place, column in enumerate(columns) if not column.group]
        self.register_buffer("pixels", torch.tensor(list(groups.values())), persistent=False)
        self.token_of = _tokens([*groups.values(), *([place] for place in self.alone)])
        size = self.pixels.shape[1]
        rest = [columns[place] for place in self.alone]
        numeric = [*self.pixels.flatten().tolist(), *(self.alone[place] for place in Kinds.of(rest).numeric)]
        self.register_buffer("order", torch.tensor(numeric).argsort(), persistent=False)
        self.patch_embedding = nn.Linear(2 * size, dim)
        self.position = nn.Parameter(torch.randn(len(groups), dim) * dim**-0.5)
        self.embedding = CellEmbedding(rest, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            table_block(dim, heads, hidden, attention, attribute_attention, order=order, dropout=dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.patch_head = nn.Linear(dim, 2 * size)
        for parameter in self.patch_head.parameters():
            nn.init.zeros_(parameter)
        self.head = CellHead(rest, dim, components=1)

    def sites(self) -> list[Site]:
        return sites(self, "cells")

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        shown = torch.cat([x[:, :, self.pixels], hidden[:, :, self.pixels].to(x.dtype)], dim=-1)
        patches = self.patch_embedding(shown) + self.position
        cells = self.embedding(x[:, :, self.alone], hidden[:, :, self.alone])
        tokens = self.dropout(torch.cat([patches, cells.to(patches.dtype)], dim=2))
        for block in self.blocks:
            tokens = block(tokens, context)
        patches, cells = self.norm(tokens).split([self.groups, len(self.alone)], dim=2)
        mean, width = (part.flatten(2) for part in self.patch_head(patches).float().chunk(2, dim=-1))
        found = self.head(cells)
        weights, means, widths = parts(found.density)
        own = torch.zeros_like(mean)[..., None], mean.detach()[..., None], FLOOR + F.softplus(width + UNIT)[..., None]
        both = (torch.cat(pair, dim=2)[:, :, self.order] for pair in zip(own, (weights, means, widths), strict=True))
        return Reconstruction(torch.cat([mean, found.mean], dim=2)[:, :, self.order], mixture(*both), found.logits)


def _tokens(groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Number of the group of each column."""
    token_of = {place: token for token, places in enumerate(groups) for place in places}
    return tuple(token_of[place] for place in range(len(token_of)))


def _groups(columns: Sequence[Column]) -> dict[str, list[int]]:
    """Places of the columns of each group.

    Raises:
        ValueError: There is no group, they differ in size, or a column in one is a target or categorical.
    """
    groups: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        if column.group:
            groups.setdefault(column.group, []).append(place)
            if column.categories or column.target:
                raise ValueError(f"columns in a group must be numeric features, got {column.name!r}")
    sizes = {len(places) for places in groups.values()}
    if len(sizes) != 1:
        raise ValueError(
            "PatchTransformer needs groups of columns of one size, such as the patches of ImageCells, got "
            f"{f'the sizes {sorted(sizes)}' if sizes else 'no group'}"
        )
    return groups
