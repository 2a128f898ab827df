"""ProcessTransformer: corrects the predictions of Gaussian processes by attention."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tabattn.attention import AttentionFactory, Softmax
from tabattn.contract.cells import Column
from tabattn.nn.densities import mixture, parts
from tabattn.reconstruction.cell_network import Reconstruction, check_cells
from tabattn.reconstruction.class_process import Classified, ClassProcess
from tabattn.reconstruction.embedding import Embedding
from tabattn.reconstruction.network import CellTransformer
from tabattn.reconstruction.process import Inferred
from tabattn.reconstruction.stacked import StackedProcesses

PRIOR_ROWS = 1000
"""Rows to train on of which half the correction is kept."""


class ProcessTransformer(CellTransformer):
    """Gaussian processes of each target column, corrected by a ``CellTransformer``: residual learning.

    The token of a target cell also holds the processes' prediction: of a number its standard deviation too, and where
    the label is seen the error of the leave-one-out prediction. The network predicts what is to be added to the mean or
    to the logits, so that an untrained one predicts as the processes do, which is hard to improve on for smooth
    functions of few columns. One component of a number's predictive density is theirs. In evaluation the correction is
    shrunk by ``n / (n + 1000)``, with n the number of training rows: what few rows teach it is mostly noise.

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
        most_rows: Most rows of a batch that a Gaussian process conditions on: its time grows with their cube.
        memory_rows: Most rows that it keeps of a table with more than ``most_rows`` rows to learn from, on which it
            conditions in every batch then. The time before the training grows with their cube, and memory with their
            square (10,000 rows: about half a minute of one core and 0.7 GB for each process, of which 0.25 GB stay; a
            number has two processes, a category one). 0 = none.
    """

    reads_rows = True

    share: Tensor

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
        memory_rows: int = 10_000,
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
        numbers = [place for place in targets if not columns[place].categories]
        classes = [place for place in targets if columns[place].categories]
        most = most_rows, memory_rows
        self.processes = nn.ModuleList(StackedProcesses(columns, place, *most) for place in numbers)
        self.told = nn.ModuleList(nn.Linear(3, dim) for _ in numbers)
        self.class_processes = nn.ModuleList(ClassProcess(columns, place, *most) for place in classes)
        self.told_classes = nn.ModuleList(nn.Linear(2 * len(columns[place].categories), dim) for place in classes)

        self.register_buffer("share", torch.tensor(1.0))

    def begin(self, truth: Tensor, total: int | None = None, row: Tensor | None = None) -> None:
        """Fit the Gaussian processes, once before the training, and set the share of corrections that is kept."""
        rows = len(truth) if total is None else total
        self.share.fill_(rows / (rows + PRIOR_ROWS))
        for process in (*self.processes, *self.class_processes):
            cast("StackedProcesses | ClassProcess", process).fit(truth, row)

    def forward(self, x: Tensor, hidden: Tensor, context: int, row: Tensor | None = None) -> Reconstruction:
        check_cells(x, hidden, context, self.columns)
        tokens = self.embedding(x, hidden)
        numbers = [cast("StackedProcesses", each)(x, hidden, context, row) for each in self.processes]
        classes = [cast("ClassProcess", each).classify(x, hidden, context, row) for each in self.class_processes]
        for process, told, inferred in zip(self.processes, self.told, numbers, strict=True):
            tokens[:, :, process.target] += told(torch.stack(inferred, dim=-1).to(tokens.dtype)).to(tokens.dtype)
        for process, told, classified in zip(self.class_processes, self.told_classes, classes, strict=True):
            tokens[:, :, process.target] += told(torch.cat(classified, dim=-1).to(tokens.dtype)).to(tokens.dtype)
        return self._added(self.predict(tokens, context), numbers, classes)

    def _added(
        self, found: Reconstruction, numbers: Sequence[Inferred], classes: Sequence[Classified]
    ) -> Reconstruction:
        kept = 1.0 if self.training else self.share
        mean, logits = found.mean.clone(), found.logits.clone()
        weights, centres, widths = (part.clone() for part in parts(found.density))
        for process, inferred in zip(self.processes, numbers, strict=True):
            at = self.kinds.numeric.index(cast("StackedProcesses", process).target)
            shift = inferred.mean + (kept - 1) * found.mean[:, :, at]
            mean[:, :, at] += shift
            centres[:, :, at] += shift[..., None]
            centres[:, :, at, 0], widths[:, :, at, 0] = inferred.mean, inferred.std
        for process, classified in zip(self.class_processes, classes, strict=True):
            at = self.kinds.categorical.index(cast("ClassProcess", process).target)
            count = classified.logits.shape[-1]
            logits[:, :, at, :count] = classified.logits + kept * found.logits[:, :, at, :count]
        return Reconstruction(mean, mixture(weights, centres, widths), logits)
