"""Layer outputs as points in TensorBoard's projector."""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks import probe
from callbacks.board import Cadence, require_tensorboard, writers
from tabattn.attention import Mechanism

MAX_POINTS = 5000


@dataclass
class Points:
    """Vectors of one layer with their metadata, collected over batches."""

    vectors: list[Tensor] = field(default_factory=list)
    columns: dict[str, list[object]] = field(default_factory=dict)
    count: int = 0

    def add(self, vectors: Tensor, columns: Mapping[str, Sequence[object]]) -> None:
        """Add vectors ``(points, dim)`` and their metadata."""
        if self.vectors and columns.keys() != self.columns.keys():
            raise ValueError(f"metadata columns were {list(self.columns)} at first, now {list(columns)}")
        self.vectors.append(vectors.float().cpu())
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)
        self.count += len(vectors)


class Embeddings(Callback):
    """Shows the output of chosen layers as points in TensorBoard's projector.

    In a validation, and in a test, the task's network runs once more on a few batches, and a bounded sample of the
    layers' outputs is kept: every token is a point, and the same tokens are drawn each time. A token's index in the
    output is always among its metadata. Training itself carries no hooks and stays bit-identical. Only rank 0 runs the
    network, so the strategy must keep all of it on each rank.

    The task may define ``probe(batch)``, the forward pass to record (otherwise ``predict_step``),
    ``token_points(layer, batch, output)``, the part of an output to show, and ``token_metadata(layer, batch, points)``,
    further columns (label, prediction, table ...) as a dict of lists with one value for each token of that part, or
    None.

    Args:
        layers: Module paths in the task, such as ``network.blocks.0``; None = the last block that holds attention.
        every: Show every n-th validation, the first included.
        limit: Most points of a layer, at most 5000.
        batches: Batches to sample from, spread over the validation; they share the points evenly.
        keep: Number of latest steps kept on disk.
        sprites: Whether each point is shown as a thumbnail of its vector.
    """

    def __init__(
        self,
        layers: list[str] | None = None,
        every: int = 1,
        limit: int = 2000,
        batches: int = 4,
        keep: int = 3,
        sprites: bool = False,
    ) -> None:
        if layers is not None and not layers:
            raise ValueError("layers must name at least one layer, got []")
        if not 1 <= limit <= MAX_POINTS:
            raise ValueError(f"limit must be in [1, {MAX_POINTS}], got {limit}")
        if not 1 <= batches <= limit:
            raise ValueError(f"batches must be in [1, limit = {limit}], got {batches}")
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.layers = layers
        self.cadence = Cadence(every)
        self.limit = limit
        self.batches = batches
        self.keep = keep
        self.sprites = sprites
        self.points: dict[str, Points] = {}
        self.position = 0
        self.total = math.inf

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the layers exist and the run has a TensorBoard logger; raise before any work."""
        if stage != "predict":
            require_tensorboard(trainer, type(self).__name__)
            self._modules(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, sum(trainer.num_val_batches))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module, sum(trainer.num_test_batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._gather(trainer, pl_module, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "test/")

    def _modules(self, task: LightningModule) -> dict[str, nn.Module]:
        """Return the layers by path; raise an error that names the nearest paths if there is no such layer."""
        modules = {path: module for path, module in task.named_modules() if path}
        if self.layers is None:
            block = _last_block(modules)
            if block is None:
                raise MisconfigurationException(
                    f"{type(task).__name__} has no block with attention to show: name the layers"
                )
            return {block: modules[block]}
        for layer in self.layers:
            if layer not in modules:
                near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.0)
                raise MisconfigurationException(
                    f"{type(task).__name__} has no layer {layer!r}; the nearest are: {', '.join(near)}"
                )
        return {layer: modules[layer] for layer in self.layers}

    def _begin(self, trainer: Trainer, task: LightningModule, total: float) -> None:
        if self.cadence.turn(trainer) and trainer.is_global_zero:
            self.points = {layer: Points() for layer in self._modules(task)}
            self.position = -1
            self.total = total

    def _gather(self, trainer: Trainer, task: LightningModule, batch: Any) -> None:
        """Run the network on the batch, if it is one of those to sample from, and sample the outputs of the layers."""
        self.position += 1
        if not self.points or not probe.evenly(self.position, self.batches, self.total):
            return
        shown = getattr(task, "token_points", lambda layer, batch, output: output)
        describe = getattr(task, "token_metadata", lambda layer, batch, output: None)
        with probe.unnoticed(trainer, task), _outputs(self._modules(task)) as outputs:
            probe.run(task, batch)
        for layer, output in outputs:
            if not isinstance(output, Tensor) or output.dim() < 2:
                raise ValueError(f"layer {layer} yields {type(output).__name__}, not a tensor of tokens: name another")
            points = shown(layer, batch, output)
            self._sample(layer, points, describe(layer, batch, points) or {})

    def _sample(self, layer: str, output: Tensor, described: Mapping[str, Sequence[object]]) -> None:
        """Add a sample of the output's tokens, at the same indices for the same shape."""
        vectors = output.detach().flatten(0, -2)
        for name, values in described.items():
            if len(values) != len(vectors):
                raise ValueError(f"metadata {name!r} of layer {layer} has {len(values)} values, not {len(vectors)}")
        share = self.limit // int(min(self.total, self.batches))
        room = min(share, self.limit - self.points[layer].count)
        chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:room].sort().values
        columns: dict[str, Sequence[object]] = {
            name: [values[index] for index in chosen.tolist()] for name, values in described.items()
        }
        if self.batches > 1:
            columns["batch"] = [self.position] * len(chosen)
        places = torch.unravel_index(chosen, output.shape[:-1])
        for axis, place in enumerate(places):
            name = "item" if axis == 0 else "token" if len(places) == 2 else f"token_{axis}"
            columns[name] = place.tolist()
        self.points[layer].add(vectors[chosen.to(vectors.device)], columns)

    def _write(self, trainer: Trainer, prefix: str) -> None:
        """Write the collected points, and clear them."""
        from callbacks.projector import write_points

        for layer, points in self.points.items():
            if not points.count:
                rank_zero_warn(f"Embeddings saw no output of layer {layer}: it did not run, or is compiled")
                continue
            for writer in writers(trainer):
                write_points(
                    writer,
                    f"{prefix}{layer}",
                    trainer.global_step,
                    torch.cat(points.vectors),
                    points.columns,
                    sprites=self.sprites,
                    keep=self.keep,
                )
        self.points.clear()


@contextmanager
def _outputs(layers: Mapping[str, nn.Module]) -> Iterator[list[tuple[str, Any]]]:
    """Context that records the outputs of the layers, in order of their calls."""
    outputs: list[tuple[str, Any]] = []

    def remember(layer: str, module: nn.Module, args: Any, output: Any) -> None:
        outputs.append((layer, output))

    hooks = [module.register_forward_hook(partial(remember, layer)) for layer, module in layers.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _last_block(modules: Mapping[str, nn.Module]) -> str | None:
    """Return the path of the last numbered module around a mechanism, else of the module that owns the mechanism."""
    paths = [path for path, module in modules.items() if isinstance(module, Mechanism)]
    if not paths:
        return None
    parts = paths[-1].split(".")[:-1]
    numbered = [depth for depth, part in enumerate(parts, start=1) if part.isdigit()]
    return ".".join(parts[: numbered[-1]] if numbered else parts) or None
