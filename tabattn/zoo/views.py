"""Views of networks for callbacks: maps beside adjacency, latents with their networks, and curves of outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.networks import NetworkBatch, NeuronTokens
from tabattn.contract.views import Axis, MapView, OutputCurve
from tabattn.zoo.coder import NetworkCoder
from tabattn.zoo.sampling import with_columns
from tabattn.zoo.scores import computed, functional_r2
from tabattn.zoo.search import parameter_count
from tabattn.zoo.task_scores import named_scores, task_scores

EMBEDDING = "embedding"
"""Module path of the latents."""
POINTS = 101
REACH = 3.0
"""Length of a line of inputs on both sides of their mean, in standard deviations."""


class NetworkViews:
    """Mixin of the task: what callbacks draw of its networks."""

    network: NetworkCoder
    formed: Callable[[NeuronTokens], NeuronTokens]
    held_out: Callable[[NetworkBatch], tuple[Tensor, Tensor]]
    probe: Callable[[NetworkBatch], NeuronTokens]

    def map_views(self, batch: NetworkBatch, items: int, tokens: int) -> dict[str, MapView]:
        """Attention between the neurons of the first networks, beside their edges."""
        sites = {f"network.{path}": first for path, first in self.network.sites().items()}
        return map_views(sites, self.formed(batch.tokens), items, tokens)

    def token_metadata(self, layer: str, batch: NetworkBatch, output: Tensor) -> dict[str, list[Any]] | None:
        """Task, depth, size and R2 of the network of each point."""
        if len(output) != len(batch.number):
            return None
        x, y = self.held_out(batch)
        x, y = (x, y) if x.shape[1] else (batch.x, batch.y)
        columns = network_metadata(batch, batch.tokens, with_columns(x, self.network.sizes.inputs), y)
        each = output[0].numel() // output.shape[-1] if len(output) else 1
        return {name: [value for value in values for _ in range(each)] for name, values in columns.items()}

    def output_curves(self, batch: NetworkBatch) -> list[OutputCurve]:
        """Outputs of the networks of a batch, and of their reconstructions, along lines of inputs."""
        rows = with_columns(batch.probe, self.network.sizes.inputs)
        return output_curves(batch, batch.tokens, self.probe(batch), rows)


def map_views(sites: Mapping[str, int], tokens: NeuronTokens, items: int, most: int) -> dict[str, MapView]:
    """Views of attention between the neurons of networks, beside their edges in both directions.

    Args:
        sites: Number of the first neuron among the tokens of each mechanism, by module path.
        tokens: The networks.
        items: Most networks.
        most: Most neurons.
    """
    shown = range(min(items, len(tokens.mask)))
    used = int(tokens.mask[: len(shown)].sum(1).max())
    room = min(used, most)
    edge = tokens.edge[: len(shown), :room, :room]
    real = tokens.mask[: len(shown), :room]
    pairs = real[:, :, None] & real[:, None, :]
    relation = torch.where(pairs, (edge | edge.mT).float(), torch.nan)
    titles = {index: layers_of(tokens, index) for index in shown}
    alike = bool((tokens.mask[: len(shown)].sum(1) == used).all())
    counted = f"{'' if alike else 'up to '}{room} neurons" if room == used else f"the first {room} of {used} neurons"
    names = [str(place) for place in range(room)]
    views = {}
    for path, first in sites.items():
        axis = Axis(list(range(first, first + room)), names, counted)
        views[path] = MapView(titles, axis, axis, relation, "edges")
    return views


def layers_of(tokens: NeuronTokens, index: int) -> str:
    """Layers of a network in words, such as ``10-8tanh-1``: widths, and the activations where not the identity."""
    mask = tokens.mask[index]
    levels, kinds = tokens.level[index][mask], tokens.type[index][mask]
    names = list(ACTIVATIONS)
    words = []
    for level in levels.unique().tolist():
        own = kinds[levels == level].unique().tolist()
        called = "+".join(names[kind] for kind in own if names[kind] != "identity")
        words.append(f"{int((levels == level).sum())}{called}")
    return "-".join(words)


def network_metadata(batch: NetworkBatch, tokens: NeuronTokens, x: Tensor, y: Tensor) -> dict[str, list[Any]]:
    """Task, depth, size and R2 (accuracy where the task has classes) of the networks of a batch.

    Args:
        batch: The batch.
        tokens: Its networks.
        x: Rows on which they are scored, ``(networks, rows, inputs)``.
        y: Their targets, ``(networks, rows, outputs)``.
    """
    scores = named_scores(task_scores(tokens, x, y, batch.classes), batch.classes)
    return {
        "network": batch.number.tolist(),
        "task": batch.task.tolist(),
        "depth": tokens.level.amax(1).tolist(),
        "parameters": parameter_count(tokens).tolist(),
        **{name: [round(value, 3) for value in values.tolist()] for name, values in scores.items()},
    }


def output_curves(batch: NetworkBatch, true: NeuronTokens, found: NeuronTokens, probe: Tensor) -> list[OutputCurve]:
    """Outputs of networks and of their reconstructions along lines of inputs.

    A line goes through the mean of the network's probe rows, in the direction in which its first output varies with
    them (their covariance).

    Args:
        batch: The batch.
        true: Its networks.
        found: Their reconstructions.
        probe: Rows of each network, ``(networks, rows, inputs)``.
    """
    outputs = [computed(tokens, probe).outputs for tokens in (true, found)]
    agreement = functional_r2(outputs[1], outputs[0]).tolist()
    mean = probe.mean(1, keepdim=True)
    centred = probe - mean
    first = outputs[0][..., :1]
    direction = (centred * (first - first.mean(1, keepdim=True))).nan_to_num(0.0).sum(1)
    length = direction.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, direction / length, torch.eye(probe.shape[-1], device=probe.device)[:1])
    spread = (centred @ unit[..., None]).std(1, keepdim=True)
    places = torch.linspace(-REACH, REACH, POINTS, device=probe.device)
    rows = mean + places[:, None] * spread * unit[:, None]
    curves = [computed(tokens, rows).outputs for tokens in (true, found)]
    width = curves[0].shape[-1]
    curves[1] = torch.nn.functional.pad(curves[1], (0, max(width - curves[1].shape[-1], 0)))[..., :width]
    return [
        OutputCurve(
            f"network {number}, task {task}: {layers_of(true, index)}\ndecoded {layers_of(found, index)}, R2 {r2:.3f}",
            places,
            curves[0][index],
            curves[1][index],
        )
        for index, (number, task, r2) in enumerate(
            zip(batch.number.tolist(), batch.task.tolist(), agreement, strict=True)
        )
    ]
