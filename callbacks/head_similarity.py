"""Head similarity: how alike the attention maps of heads and layers are, as heat maps and scalars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks import probe
from callbacks.board import moment
from callbacks.first_batch import FirstBatch
from callbacks.pictures import folder_of, show
from tabattn.attention import Mechanism
from tabattn.attention.capture import capture
from tabattn.contract.checks import check_expression, check_least

MOST_HEADS = 64
"""Most heads in a panel, all layers together."""
MOST_GROUPS = 6
"""Most panels in a picture."""


class HeadSimilarity(FirstBatch):
    """Plots how alike the attention maps of heads are, for the first items of the first validation and test batch.

    The similarity of two heads is 1 minus the Jensen-Shannon divergence (base 2) of the rows of their maps, a mean over
    queries: 1 = equal, 0 = they never look at the same key. Layers whose maps are of one shape share a panel, a cell
    for each pair of heads, so that heads of different layers are compared too. Scalars, to every logger:
    ``heads/<layer>/similarity``, the mean over pairs of heads within a layer (high = redundant heads), and
    ``heads/<layer>/to_previous``, that between its heads and those of the layer before it in its panel. The picture
    goes to every TensorBoard logger, and as PNG into ``figures`` in the run folder. Entropy and support are logged by
    ``AttentionMaps``. Training stays bit-identical; only rank 0 runs the network.

    Args:
        every: Show at every n-th validation, the first included.
        items: Items of the probe, over which similarities are averaged.
        layers: Regular expression searched in module paths; only matching layers are compared. None = all.
    """

    def __init__(self, every: int = 1, items: int = 4, layers: str | None = None) -> None:
        check_least(items=(items, 1))
        check_expression("layers", layers)
        super().__init__(every, items)
        self.layers = layers
        self.folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task has mechanisms to compare, and find the run folder; raise before any work."""
        if stage == "predict":
            return
        found = [path for path, module in pl_module.named_modules() if isinstance(module, Mechanism)]
        if not found:
            raise MisconfigurationException(f"{type(pl_module).__name__} has no attention mechanism to compare")
        if not any(probe.shows(self.layers, path) for path in found):
            raise MisconfigurationException(
                f"layers={self.layers!r} matches no attention layer; there are: {', '.join(found)}"
            )
        self.folder = folder_of(trainer)

    def look(self, trainer: Trainer, task: LightningModule, split: str, batch: Any) -> None:
        """Run the probe and compare the selected layers."""
        with probe.unnoticed(trainer, task), capture(task, items=self.items) as records:
            probe.run(task, batch)
        maps: dict[str, Tensor] = {}
        for path, calls in records.items():
            for number, record in enumerate(calls):
                if probe.shows(self.layers, path) and record.weights is not None and record.weights.numel():
                    maps[path if len(calls) == 1 else f"{path}.call{number}"] = record.weights
        if not maps:
            return
        from callbacks.head_plots import HeadGroup, draw

        groups = [
            HeadGroup(similarities(torch.cat(list(each.values()), dim=1)), _places(each)) for each in _groups(maps)
        ]
        prefix = "test/heads" if split == "test" else "heads"
        scalars = {f"{prefix}/{name}": value for group in groups for name, value in _scalars(*group).items()}
        figure = draw(groups[:MOST_GROUPS], f"similarity of heads, {moment(trainer, split)}")
        show(trainer, self.folder, split, "heads", "head_similarity", figure)
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)


def similarities(maps: Tensor) -> Tensor:
    """One minus the Jensen-Shannon divergence, base 2, of the rows of each pair of maps; a mean over queries.

    Magnitudes of weights are scaled to sum to one. A query for which one of the two heads sees nothing does not count;
    NaN where there is no other.

    Args:
        maps: Attention maps, ``(items, heads, queries, keys)``.

    Returns:
        ``(heads, heads)`` in [0, 1].
    """
    size = maps.double().abs()
    share = (size / size.sum(-1, keepdim=True)).movedim(1, 0).flatten(1, 2)
    entropy = torch.special.entr(share).sum(-1)
    found = share.new_empty(len(share), len(share))
    for head, own in enumerate(share):
        middle = torch.special.entr((own + share) / 2).sum(-1)
        divergence = (middle - (entropy[head] + entropy) / 2) / torch.log(torch.tensor(2.0))
        found[head] = 1 - divergence.clamp(0.0, 1.0).nanmean(-1)
    return found


def _groups(maps: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Layers with maps of one shape, in groups that fit into a picture."""
    groups: list[dict[str, Tensor]] = []
    for path, weights in maps.items():
        shape = (len(weights), *weights.shape[2:])
        for group in groups:
            first = next(iter(group.values()))
            heads = sum(each.shape[1] for each in group.values())
            if (len(first), *first.shape[2:]) == shape and heads + weights.shape[1] <= MOST_HEADS:
                group[path] = weights
                break
        else:
            groups.append({path: weights})
    return groups


def _places(group: Mapping[str, Tensor]) -> dict[str, range]:
    """Places of the heads of each layer."""
    found, start = {}, 0
    for path, weights in group.items():
        found[path] = range(start, start + weights.shape[1])
        start += weights.shape[1]
    return found


def _scalars(found: Tensor, places: Mapping[str, range]) -> dict[str, float]:
    scalars = {}
    before: range | None = None
    for path, heads in places.items():
        own = found[heads.start : heads.stop, heads.start : heads.stop]
        pairs = own[~torch.eye(len(own), dtype=torch.bool)]
        if len(pairs):
            scalars[f"{path}/similarity"] = pairs.nanmean().item()
        if before is not None:
            scalars[f"{path}/to_previous"] = (
                found[heads.start : heads.stop, before.start : before.stop].nanmean().item()
            )
        before = heads
    return scalars
