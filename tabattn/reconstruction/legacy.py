"""LegacyNPT: the network of Non-Parametric Transformers as its authors published it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.attention.dropout import Dropout
from tabattn.contract.cells import Column
from tabattn.contract.checks import check_least
from tabattn.nn.densities import mixture
from tabattn.reconstruction.cell_network import CellNetwork, Kinds, Reconstruction, check_cells, padded_categories
from tabattn.reconstruction.legacy_block import LegacyBlock
from tabattn.reconstruction.sites import Site, sites


class LegacyNPT(CellNetwork):
    """Non-Parametric Transformer as its authors published it (Kossen et al. 2021, arXiv 2106.02584), for comparisons.

    It has the parameters of the original, one by one. Attention between datapoints has tokens that are whole rows, of
    width ``columns * dim``; between two of them is one between attributes. A number has no predictive density of its
    own: it is normal, with the standard deviation of the column.

    Args:
        columns: The columns of the table.
        attention: Mechanism between rows (attention between datapoints).
        attribute_attention: Mechanism between the columns of a row (attention between attributes).
        dim: Width of a cell's token.
        heads: Number of heads; must divide ``dim``.
        depth: Number of attentions, between rows and between columns by turns; even.
        dropout: Probability of dropout on embeddings, before the heads, and in each sublayer. That of attention weights
            is an argument of the mechanism.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dim: int = 64,
        heads: int = 8,
        depth: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_least(dim=(dim, 1), depth=(depth, 2))
        if depth % 2:
            raise ValueError(f"depth must be even, got {depth}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.kinds = Kinds.of(columns)
        self.embedding = OneHotEmbedding(columns, dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            LegacyLayer(len(columns), dim, heads, attention, attribute_attention, dropout) for _ in range(depth // 2)
        )
        self.head = OneHotHead(columns, dim)

    def sites(self) -> list[Site]:
        return sites(self, "rows")

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, len(self.embedding.columns))
        tokens = self.dropout(self.embedding(x, hidden))
        for block in self.blocks:
            tokens = block(tokens, context)
        return self.head(self.dropout(tokens))


class LegacyLayer(nn.Module):
    """Attention between datapoints of width ``columns * dim``, then between attributes of width ``dim``.

    Args:
        columns: Number of columns.
        dim: Width of a cell's token.
        heads: Number of heads.
        attention: Mechanism between rows.
        attribute_attention: Mechanism between the columns of a row.
        dropout: Probability of dropout in each sublayer.
    """

    def __init__(
        self,
        columns: int,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        attribute_attention: AttentionFactory,
        dropout: float,
    ) -> None:
        super().__init__()
        self.features = LegacyBlock(dim, heads, attribute_attention, dropout=dropout)
        self.rows = LegacyBlock(columns * dim, heads, attention, dropout=dropout)

    def forward(self, x: Tensor, context: int) -> Tensor:
        """Transform tokens ``(tables, rows, columns, dim)``; rows attend to the first ``context`` rows."""
        x = self.rows(x.flatten(2), context).view_as(x)
        return self.features(x.flatten(0, 1)).view_as(x)


class OneHotEmbedding(nn.Module):
    """Cell embedding of the original: a linear layer of each column, plus embeddings of the column and of its kind.

    Input of a layer is a number, or the one-hot code of a category, and the mask slot. The layers are separate
    parameters, since LAMB scales the update of each, and are applied together.

    Args:
        columns: The columns.
        dim: Width of a token.
    """

    def __init__(self, columns: Sequence[Column], dim: int) -> None:
        super().__init__()
        self.kinds = Kinds.of(columns)
        self.columns = nn.ModuleList(nn.Linear(1 + max(1, len(column.categories)), dim) for column in columns)
        self.kind = nn.Embedding(2, dim) if self.kinds.numeric and self.kinds.categorical else None
        self.column = nn.Embedding(len(columns), dim)
        self.categorical: Tensor
        self.register_buffer("categorical", torch.tensor([bool(c.categories) for c in columns]), persistent=False)
        self.first: Tensor
        sizes = torch.tensor([0, *(max(1, len(column.categories)) for column in columns)])
        self.register_buffer("first", sizes.cumsum(0)[:-1], persistent=False)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Embed cells ``(tables, rows, columns)``: ``(tables, rows, columns, dim)``."""
        weights = [each.weight for each in self._layers()]
        values = torch.cat([weight[:, :-1] for weight in weights], dim=1).T
        mask = torch.stack([weight[:, -1] for weight in weights])
        constant = torch.stack([each.bias for each in self._layers()]) + self.column.weight
        if self.kind is not None:
            constant = constant + self.kind(self.categorical.long())
        number = torch.where(self.categorical, 1.0, x)[..., None]
        place = torch.where(self.categorical, x, 0.0).long() + self.first
        shown = number * F.embedding(place, values) if self.kinds.categorical else number * values
        return torch.where(hidden[..., None], mask, shown) + constant

    def _layers(self) -> list[nn.Linear]:
        return [each for each in self.columns if isinstance(each, nn.Linear)]


class OneHotHead(nn.Module):
    """Cell heads of the original: a linear layer of each column, to a number or the logits of its categories.

    Args:
        columns: The columns.
        dim: Width of a token.
    """

    def __init__(self, columns: Sequence[Column], dim: int) -> None:
        super().__init__()
        self.kinds = Kinds.of(columns)
        sizes = [max(1, len(column.categories)) for column in columns]
        self.columns = nn.ModuleList(nn.Linear(dim, size) for size in sizes)
        self.of: Tensor
        self.register_buffer("of", torch.arange(len(columns)).repeat_interleave(torch.tensor(sizes)), persistent=False)
        self.absent: Tensor
        self.register_buffer("absent", padded_categories(self.kinds.counts), persistent=False)
        numeric = torch.tensor([not column.categories for column in columns])
        self.numbers: Tensor
        self.register_buffer("numbers", numeric[self.of].nonzero()[:, 0], persistent=False)
        self.classes: Tensor
        self.register_buffer("classes", (~numeric[self.of]).nonzero()[:, 0], persistent=False)

    def forward(self, tokens: Tensor) -> Reconstruction:
        """Predict cells from tokens ``(tables, rows, columns, dim)``."""
        layers = [each for each in self.columns if isinstance(each, nn.Linear)]
        weight, bias = (torch.cat([getattr(each, name) for each in layers]) for name in ("weight", "bias"))
        found = torch.einsum("troe,oe->tro", tokens[:, :, self.of], weight) + bias
        mean = found[..., self.numbers].float()
        centre = mean.detach()[..., None]
        density = mixture(torch.zeros_like(centre), centre, torch.ones_like(centre))
        logits = mean.new_full((*tokens.shape[:2], *self.absent.shape), -torch.inf)
        logits[:, :, ~self.absent] = found[..., self.classes].float()
        return Reconstruction(mean, density, logits)
