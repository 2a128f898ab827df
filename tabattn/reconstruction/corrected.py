"""ProcessTransformer: corrects the predictions of a Gaussian process by attention."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.nn.densities import mixture, parts
from tabattn.reconstruction.cell_network import Reconstruction, check_cells
from tabattn.reconstruction.embedding import Embedding
from tabattn.reconstruction.network import CellTransformer
from tabattn.reconstruction.process import GaussianProcess, Inferred

GAIN = 3.0
"""Initial factor of a Gaussian process's predictions of categories as logits."""


class ProcessTransformer(CellTransformer):
    """Gaussian process of each target column, corrected by a ``CellTransformer``: residual learning.

    The token of a target cell also holds the process's prediction, its standard deviation, and the error of its
    leave-one-out prediction where the label is seen. The network predicts what is to be added, so that an untrained one
    predicts as the process does, which is hard to improve on for smooth functions of few columns. One component of the
    predictive density is that of the process.

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
        most_rows: Most rows that a Gaussian process conditions on: its time grows with their cube.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        attention: AttentionFactory = Softmax,
        attribute_attention: AttentionFactory = Softmax,
        *,
        dim: int = 32,
        heads: int = 2,
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
        targets = [place for place, column in enumerate(columns) if column.target]
        self.processes = nn.ModuleList(GaussianProcess(columns, place, most_rows) for place in targets)
        self.told = nn.ModuleList(nn.Linear(2 * each.outputs + 1, dim) for each in self._processes())
        self.gains = nn.Parameter(torch.full((len(targets),), GAIN))

    def _processes(self) -> list[GaussianProcess]:
        return [cast("GaussianProcess", each) for each in self.processes]

    def begin(self, truth: Tensor) -> None:
        """Fit the hyperparameters of the Gaussian processes, once before the training."""
        for process in self._processes():
            process.fit(truth)

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        tokens = self.embedding(x, hidden)
        first = [process(x, hidden, context) for process in self._processes()]
        for process, inferred, told in zip(self._processes(), first, self.told, strict=True):
            shown = told(torch.cat([inferred.mean, inferred.residual, inferred.std], dim=-1))
            tokens[:, :, process.target] = tokens[:, :, process.target] + shown.to(tokens.dtype)
        return self._added(self.predict(tokens, context), first)

    def _added(self, found: Reconstruction, first: Sequence[Inferred]) -> Reconstruction:
        mean, logits = found.mean.clone(), found.logits.clone()
        weights, centres, widths = (part.clone() for part in parts(found.density))
        for process, inferred, gain in zip(self._processes(), first, self.gains, strict=True):
            if process.categories:
                at = self.kinds.categorical.index(process.target)
                logits[:, :, at, : process.categories] += gain * inferred.mean
                continue
            at = self.kinds.numeric.index(process.target)
            mean[:, :, at] += inferred.mean[..., 0]
            centres[:, :, at] += inferred.mean
            centres[:, :, at, 0], widths[:, :, at, 0] = inferred.mean[..., 0], inferred.std[..., 0]
        return Reconstruction(mean, mixture(weights, centres, widths), logits)
