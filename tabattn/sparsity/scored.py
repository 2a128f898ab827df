"""Scores of predicted attention graphs of all layers, one graph or many."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from tabattn.contract.queries_keys import Layer, LayerBatch
from tabattn.sparsity.metrics import NAMES, GraphScores
from tabattn.sparsity.options import GraphOptions
from tabattn.sparsity.predicted import NeedsSequence, pattern_of, predicted
from tabattn.sparsity.projections import LayerMaps, entmax_weights

Progress = Callable[[str], None]
"""Is told the name of each graph of each layer that is scored."""

OF_LAYERS = ("recall", "sparsity")
"""Scores that are told of each layer too."""

Learned = Callable[[int, GraphOptions], Mapping[str, Tensor]]
"""Returns what the pattern of a graph has learned of a layer, by its number: buffers by name."""


class Step(NamedTuple):
    """A layer of a batch and what was computed of it.

    Attributes:
        maps: What is learned of the layer.
        batch: Its queries and keys.
        points: Projected queries and keys.
        weights: Weights of its attention, ``(items, heads, queries, keys)``.
    """

    maps: LayerMaps
    batch: LayerBatch
    points: tuple[Tensor, Tensor]
    weights: Tensor


class ScoredGraphs(nn.Module):
    """Scores of graphs, of each layer and head.

    Args:
        layers: The layers.
        variants: The graphs.
        strict: Whether a graph that a layer cannot have is an error; if not, it is said and left out.
    """

    def __init__(self, layers: Sequence[Layer], variants: Sequence[GraphOptions], strict: bool) -> None:
        super().__init__()
        self.layers, self.variants, self.strict = tuple(layers), list(variants), strict
        self.scores = nn.ModuleList(
            nn.ModuleList(GraphScores(layer.heads) for layer in self.layers) for _ in self.variants
        )
        self.left_out: set[tuple[int, int]] = set()

    def update(self, steps: Sequence[Step], learned: Learned, progress: Progress | None = None) -> None:
        """Score the graphs of a batch.

        Args:
            steps: What was computed of each layer.
            learned: Returns what patterns have learned.
            progress: Is told what is scored.

        Raises:
            ValueError: A layer cannot have a graph, and the scores are strict.
        """
        for layer, step in enumerate(steps):
            for number, options in enumerate(self.variants):
                if progress is not None:
                    progress(options.name)
                if len(step.batch.q) and (number, layer) not in self.left_out:
                    self._update(number, layer, step, learned)

    def _update(self, number: int, layer: int, step: Step, learned: Learned) -> None:
        options = self.variants[number]
        metric = cast("GraphScores", cast("nn.ModuleList", self.scores[number])[layer])
        try:
            pattern = pattern_of(options, learned(layer, options))
            graph = predicted(pattern, options, step.batch, step.points)
        except NeedsSequence as ex:
            if self.strict:
                raise
            # Other knobs of the pattern are left out for the same reason, which is told once.
            told = any(
                (self.variants[other].grouping, place) == (options.grouping, layer) for other, place in self.left_out
            )
            self.left_out.add((number, layer))
            if not told:
                rank_zero_info(f"{self.layers[layer].path}: {ex}: left out, with every knob")
            return
        seen, v = step.batch.seen, step.batch.v
        sparse = None
        if v is not None:
            sparse = entmax_weights(step.maps.scores(step.batch), seen & graph, step.maps.layer.alpha)
        metric.update(graph, step.weights, seen, v, sparse)

    def compute(self) -> list[dict[str, Any]]:
        """Compute the scores: a row for each graph, layer and head; a collective call."""
        rows = []
        for options, metrics in zip(self.variants, self.scores, strict=True):
            for layer, metric in zip(self.layers, cast("nn.ModuleList", metrics), strict=True):
                with warnings.catch_warnings():
                    # Of a graph that is left out, or of a rank without items, there is nothing to score.
                    warnings.filterwarnings("ignore", message=".*was called before the ``update``")
                    found = cast("GraphScores", metric).compute()
                for head in range(layer.heads):
                    facts = {"graph": options.name, **vars(options), "layer": layer.path, "head": head}
                    rows.append(facts | {name: float(values[head]) for name, values in found.items()})
        return rows


def means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Means of scores over heads, then layers; NaN where a layer has no such score is left out.

    Args:
        rows: Rows of one graph.
        names: Names of the scores.
    """
    found = {}
    for name in names:
        layers: dict[str, list[float]] = {}
        for row in rows:
            if row.get(name, torch.nan) == row.get(name, torch.nan):
                layers.setdefault(row["layer"], []).append(row[name])
        values = [sum(heads) / len(heads) for heads in layers.values()]
        found[name] = sum(values) / len(values) if values else float("nan")
    return found


def figures(stage: str, rows: Sequence[dict[str, Any]], losses: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
    """Scores of one graph and losses of layers, as they are logged.

    Args:
        stage: ``val`` or ``test``.
        rows: Rows of the graph.
        losses: Loss of each layer, by its path.
    """
    found: dict[str, float | Tensor] = {f"{stage}/loss/{path}": loss for path, loss in losses.items()}
    found[f"{stage}/loss"] = torch.stack(list(losses.values())).nanmean()
    names = [name for name in NAMES if any(name in row for row in rows)]
    for path in losses:
        own = means([row for row in rows if row["layer"] == path], OF_LAYERS)
        found |= {f"{stage}/{name}/{path}": value for name, value in own.items()}
    return found | {f"{stage}/{name}": value for name, value in means(rows, names).items()}


@contextmanager
def progress_of(trainer: Trainer, graphs: int) -> Iterator[Progress]:
    """Progress bar over graphs, shown where the trainer shows one."""
    bar = trainer.progress_bar_callback
    shown = bar is not None and getattr(bar, "is_enabled", True) and trainer.is_global_zero
    with tqdm(total=graphs, unit=" graphs", leave=False, disable=not shown) as line:

        def progress(name: str) -> None:
            line.set_description(name)
            line.update()

        yield progress
