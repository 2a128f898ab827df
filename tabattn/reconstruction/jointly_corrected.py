"""GaussianTransformer: corrects the conditional expectations of a joint Gaussian by attention."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.nn.densities import mixture, parts
from tabattn.reconstruction.cell_network import Reconstruction, check_cells
from tabattn.reconstruction.embedding import Embedding, LinearPerColumn
from tabattn.reconstruction.joint import Conditional, JointGaussian
from tabattn.reconstruction.network import CellTransformer


class GaussianTransformer(CellTransformer):
    """Joint Gaussian of the columns, whose predictions a ``CellTransformer`` corrects: residual learning.

    The token of each cell also holds what the Gaussian predicts from the other cells of its row, and where the cell is
    seen the error of this. The network predicts what is to be added to means and to logarithms of probabilities, so
    that an untrained one predicts as the Gaussian does. One component of the predictive density is that of the
    Gaussian.

    Args:
        columns: The columns of the table.
        attention: Mechanism between rows (attention between datapoints).
        attribute_attention: Mechanism between the columns of a row (attention between attributes).
        dim: Width of a cell's token.
        heads: Number of heads.
        hidden: Width of the MLP's hidden layer.
        layers: Number of layers, each with both attentions.
        embedding: How numbers are embedded: ``linear``, ``rbf``, ``periodic`` or ``piecewise``.
        dropout: Probability of dropout on embeddings and on what each sublayer adds.
        most_rows: Most rows that the Gaussian is fitted to.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dim: int = 32,
        heads: int = 4,
        hidden: int = 64,
        layers: int = 3,
        embedding: Embedding = "rbf",
        dropout: float = 0.1,
        most_rows: int = 1000,
    ) -> None:
        super().__init__(
            columns,
            attention,
            attribute_attention,
            dim=dim,
            heads=heads,
            hidden=hidden,
            layers=layers,
            embedding=embedding,
            dropout=dropout,
        )
        self.joint = JointGaussian(columns, most_rows)
        self.told_numbers = LinearPerColumn(len(self.kinds.numeric), 3, dim)
        self.told_shares = LinearPerColumn(len(self.kinds.categorical), 2 * max(self.kinds.counts, default=1), dim)

    def begin(self, truth: Tensor, total: int | None = None, row: Tensor | None = None) -> None:
        """Fit the Gaussian, once before the training."""
        self.joint.fit(truth)

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        first = self.joint(x, hidden)
        tokens = self.embedding(x, hidden)
        told = torch.zeros_like(tokens)
        numbers = torch.stack([first.mean, first.std, first.residual], dim=-1)
        told[:, :, self.kinds.numeric] = self.told_numbers(numbers.to(tokens.dtype)).to(tokens.dtype)
        if self.kinds.categorical:
            shares = torch.cat([first.shares, first.surprise], dim=-1)
            told[:, :, self.kinds.categorical] = self.told_shares(shares.to(tokens.dtype)).to(tokens.dtype)
        return _added(self.predict(tokens + told, context), first)


def _added(found: Reconstruction, first: Conditional) -> Reconstruction:
    weights, centres, widths = (part.clone() for part in parts(found.density))
    centres += first.mean[..., None]
    centres[..., 0], widths[..., 0] = first.mean, first.std
    logits = torch.where(found.logits.isinf(), found.logits, found.logits + first.shares.clamp(min=1e-6).log())
    return Reconstruction(found.mean + first.mean, mixture(weights, centres, widths), logits)
