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
from tabattn.reconstruction.process import Inferred
from tabattn.reconstruction.stacked import StackedProcesses


class ProcessTransformer(CellTransformer):
    """Gaussian processes of each numeric target column, corrected by a ``CellTransformer``: residual learning.

    The token of such a cell also holds the processes' prediction, its standard deviation, and the error of its
    leave-one-out prediction where the label is seen. The network predicts what is to be added, so that an untrained one
    predicts as the processes do, which is hard to improve on for smooth functions of few columns. One component of the
    predictive density is theirs. Categorical targets are predicted as by a ``CellTransformer``.

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
        targets = [place for place, column in enumerate(columns) if column.target and not column.categories]
        self.processes = nn.ModuleList(StackedProcesses(columns, place, most_rows) for place in targets)
        self.told = nn.ModuleList(nn.Linear(3, dim) for _ in targets)

    def _processes(self) -> list[StackedProcesses]:
        return [cast("StackedProcesses", each) for each in self.processes]

    def begin(self, truth: Tensor) -> None:
        """Fit the Gaussian processes and their weights, once before the training."""
        for process in self._processes():
            process.fit(truth)

    def forward(self, x: Tensor, hidden: Tensor, context: int) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        tokens = self.embedding(x, hidden)
        first = [process(x, hidden, context) for process in self._processes()]
        for process, inferred, told in zip(self._processes(), first, self.told, strict=True):
            shown = told(torch.stack(inferred, dim=-1))
            tokens[:, :, process.target] = tokens[:, :, process.target] + shown.to(tokens.dtype)
        return self._added(self.predict(tokens, context), first)

    def _added(self, found: Reconstruction, first: Sequence[Inferred]) -> Reconstruction:
        mean = found.mean.clone()
        weights, centres, widths = (part.clone() for part in parts(found.density))
        for process, inferred in zip(self._processes(), first, strict=True):
            at = self.kinds.numeric.index(process.target)
            mean[:, :, at] += inferred.mean
            centres[:, :, at] += inferred.mean[..., None]
            centres[:, :, at, 0], widths[:, :, at, 0] = inferred.mean, inferred.std
        return Reconstruction(mean, mixture(weights, centres, widths), found.logits)
