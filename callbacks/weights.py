"""Histograms of weights and gradients, and rows of weight matrices in the projector."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from callbacks.board import require_tensorboard, writers
from tabattn.contract.checks import check_expression

MAX_ROWS = 5000


LARGEST = 9e19
"""Largest magnitude that TensorBoard's histograms have a bin for; without a value in any bin they raise an error."""


class Weights(Callback):
    """Logs histograms of weights and gradients, and rows of chosen matrices as points in the projector.

    Every trainable parameter has a histogram, and one of its gradient as the optimizer saw it. Chosen matrices are
    points in the projector, a point for each row, in the rows' order: its metadata say which ``row`` it is, the
    ``norm`` of its weights, and the distance that it has ``moved`` since the start of this run, so that rows without
    any training example stand out. Only rank 0 writes, so the strategy must keep the whole network on each rank;
    training stays bit-identical.

    Args:
        every: Log at every n-th training step, and at the first and the last.
        matrices: Regular expression searched in parameter names; matching matrices are shown in the projector. None =
            all embeddings, or the first matrix where there is none.
        histograms: Whether to log histograms of weights and gradients.
        keep: Number of latest steps of the projector kept on disk.
    """

    def __init__(self, every: int = 500, matrices: str | None = None, histograms: bool = True, keep: int = 3) -> None:
        for name, value in (("every", every), ("keep", keep)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_expression("matrices", matrices)
        self.every = every
        self.matrices = matrices
        self.histograms = histograms
        self.keep = keep
        self.start: dict[str, Tensor] = {}
        self.seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the matrices exist and the run has a TensorBoard logger; raise before any work."""
        if stage != "fit":
            return
        require_tensorboard(trainer, type(self).__name__)
        # Histograms are enough of a task without any matrix, unless some were asked for.
        if not self._chosen(pl_module) and (self.matrices is not None or not self.histograms):
            matrices = ", ".join(_matrices(pl_module)) or "none"
            raise MisconfigurationException(f"matrices={self.matrices!r} matches no matrix; there are: {matrices}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the initial values of the shown matrices."""
        self.seen = trainer.global_step
        if trainer.is_global_zero:
            self.start = {name: _copy(matrix) for name, matrix in self._chosen(pl_module).items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # With accumulated gradients a step takes several batches.
        if trainer.global_step > self.seen and (trainer.global_step - 1) % self.every == 0:
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.seen:
            self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, task: LightningModule) -> None:
        from callbacks.projector import write_points

        self.seen = trainer.global_step
        if not trainer.is_global_zero:
            return
        for writer in writers(trainer):
            if self.histograms:
                for tag, values in _histograms(task):
                    writer.add_histogram(tag, values, self.seen)
            for name, matrix in self._chosen(task).items():
                rows = _copy(matrix)
                columns = {
                    "row": range(len(rows)),
                    "norm": [f"{norm:.4g}" for norm in rows.norm(dim=1).tolist()],
                    "moved": [f"{norm:.4g}" for norm in (rows - self.start[name]).norm(dim=1).tolist()],
                }
                write_points(writer, f"weights/{name}", self.seen, rows, columns, sprites=False, keep=self.keep)

    def _chosen(self, task: LightningModule) -> dict[str, Tensor]:
        """Return the matrices to show, by the name of their parameter."""
        matrices = _matrices(task)
        if self.matrices is not None:
            return {name: matrix for name, matrix in matrices.items() if re.search(self.matrices, name)}
        tables = {f"{path}.weight" for path, module in task.named_modules() if isinstance(module, nn.Embedding)}
        embeddings = {name: matrix for name, matrix in matrices.items() if name in tables}
        return embeddings or dict(list(matrices.items())[:1])


def _matrices(task: LightningModule) -> dict[str, Tensor]:
    """Parameters that the projector can show: matrices with a number of rows that a browser can handle."""
    return {name: value for name, value in task.named_parameters() if value.dim() == 2 and len(value) <= MAX_ROWS}


def _copy(matrix: Tensor) -> Tensor:
    return matrix.detach().to("cpu", torch.float, copy=True)


def _histograms(task: LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Yield the finite values of every trainable parameter and of its gradient, clamped to the range of a histogram."""
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        for kind, values in (("weights", parameter), ("gradients", parameter.grad)):
            if values is not None:
                finite = _copy(values)[torch.isfinite(values).cpu()]
                if finite.numel():
                    yield f"{kind}/{name}", finite.clamp(-LARGEST, LARGEST)
