"""Attention maps on TensorBoard, as pictures and as statistics."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks import probe
from callbacks.board import moment, require_tensorboard, writers
from callbacks.first_batch import FirstBatch
from callbacks.statistics import spread
from tabattn.attention import Mechanism
from tabattn.attention.capture import Record, capture
from tabattn.contract.checks import check_expression
from tabattn.contract.views import MapView

if TYPE_CHECKING:
    from callbacks.heatmaps import TokenNames

DEFAULT_HEADS, MOST_HEADS = 8, 16


class AttentionMaps(FirstBatch):
    """Logs the attention maps of every layer, for the first items of the first validation batch (the probe).

    After a validation, and after a test, the task's network runs once more on the probe and each layer logs a picture
    of its maps, scalars to every logger and a histogram of entropies for each drawn head. The scalars are means over
    the probe's queries: ``entropy`` in nats (not normalised: 0 = one key, ln(keys) = all keys alike), ``support`` (keys
    with a weight other than exactly zero) and ``max_weight``. Training itself carries no hooks and stays bit-identical.
    Only rank 0 runs the probe, so the strategy must keep the whole network on each rank.

    The task may define ``probe(batch)``, the forward pass to record (otherwise ``predict_step``), and
    ``token_names(batch)``, a dict from a part of a layer's path to the names of its tokens, or
    ``map_views(batch, items, max_tokens)``, which chooses items and tokens of each layer, sorts and names them; the
    scalars are then of the chosen queries. A view may hold a true relation of queries and keys, such as the edges of a
    graph: it is drawn beside the maps, and ``overlap`` is the share of the weight that lies on related pairs, over the
    share of the pairs that are related (1 = no more than by chance).

    Args:
        every: Log at every n-th validation, the first included.
        items: Items of the probe, and maps of each head in a picture.
        heads: Heads to draw, at most 16; None = the first eight.
        layers: Regular expression searched in module paths; only matching layers are shown. None = all.
        max_tokens: Most tokens on a side of a drawn map; longer maps are cropped to their first tokens.
    """

    def __init__(
        self,
        every: int = 1,
        items: int = 2,
        heads: list[int] | None = None,
        layers: str | None = None,
        max_tokens: int = 64,
    ) -> None:
        for name, value, most in (("items", items, 8), ("max_tokens", max_tokens, 128)):
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be in [1, {most}], got {value}")
        if heads is not None and (not heads or min(heads) < 0 or len(set(heads)) < len(heads)):
            raise ValueError(f"heads must be distinct numbers from 0, at least one, got {heads}")
        if heads is not None and len(heads) > MOST_HEADS:
            raise ValueError(f"heads must name at most {MOST_HEADS} heads, got {len(heads)}")
        check_expression("layers", layers)
        super().__init__(every, items)
        self.heads = heads
        self.layers = layers
        self.max_tokens = max_tokens

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the task has mechanisms to show and the run a TensorBoard logger; raise before any work."""
        if stage == "predict":
            return
        require_tensorboard(trainer, type(self).__name__)
        found = {path: module for path, module in pl_module.named_modules() if isinstance(module, Mechanism)}
        if not found:
            raise MisconfigurationException(f"{type(pl_module).__name__} has no attention mechanism to look at")
        chosen = {path: module for path, module in found.items() if probe.shows(self.layers, path)}
        if not chosen:
            raise MisconfigurationException(
                f"layers={self.layers!r} matches no attention layer; there are: {', '.join(found)}"
            )
        for path, module in chosen.items():
            if self.heads is not None and max(self.heads) >= module.heads:
                raise MisconfigurationException(
                    f"heads must be below {module.heads}, the heads of {path}, got {self.heads}"
                )

    def look(self, trainer: Trainer, task: LightningModule, split: str, batch: Any) -> None:
        """Run the probe and log every selected layer."""
        prefix = "test/attention" if split == "test" else "attention"
        scalars: dict[str, float] = {}
        with probe.unnoticed(trainer, task):
            for layer, shown in self._maps(task, batch):
                scalars |= self._log_layer(trainer, f"{prefix}/{layer}", layer, shown)
        if not scalars:
            rank_zero_warn(
                f"AttentionMaps saw no attention layer at work on the {split} probe: the forward pass that the task "
                "offers (probe, or predict_step) must run them, and a network compiled beforehand hides them"
            )
        for logger in trainer.loggers:
            logger.log_metrics(scalars, trainer.global_step)

    def _maps(self, task: LightningModule, batch: Any) -> Iterator[tuple[str, "Shown"]]:
        """Run the probe, and yield path and maps of each selected layer, once for every call."""
        views = getattr(task, "map_views", lambda *_: None)(batch, self.items, self.max_tokens)
        if views:
            views = {path: view for path, view in views.items() if probe.shows(self.layers, path)}
            with capture(task, ("q", "k", "mask"), {path: list(view.items) for path, view in views.items()}) as records:
                probe.run(task, batch)
            for path, call, record in _calls(records):
                yield call, _viewed(task.get_submodule(path), record, views[path], task.device)
            return
        with capture(task, items=self.items) as records:
            probe.run(task, batch)
        names = getattr(task, "token_names", lambda batch: None)(batch) or {}
        for path, call, record in _calls(records):
            if probe.shows(self.layers, path) and record.weights is not None:
                yield call, Shown(record.weights, record.weights, _names_of(path, record.weights, names))

    def _log_layer(self, trainer: Trainer, tag: str, layer: str, shown: "Shown") -> dict[str, float]:
        """Log picture and histograms of a layer, and return its scalars."""
        from callbacks.heatmaps import picture

        weights = shown.weights
        found = spread(weights)
        heads = self.heads or list(range(min(DEFAULT_HEADS, weights.shape[1])))
        scalars = {
            f"{tag}/entropy": found.entropy.nanmean().item(),
            f"{tag}/support": found.support.nanmean().item(),
            f"{tag}/max_weight": found.largest.nanmean().item(),
        }
        title = (
            f"{moment(trainer, layer)}\nmean entropy {scalars[f'{tag}/entropy']:.2f} nats, "
            f"{scalars[f'{tag}/support']:.1f} of {weights.shape[-1]} keys in use"
        )
        if shown.relation is not None:
            scalars[f"{tag}/overlap"] = overlap(shown.drawn, shown.relation)
        drawn = shown.drawn[:, heads]
        if shown.relation is not None:
            drawn = drawn.masked_fill(shown.relation.isnan()[:, None], 0.0)
        image = picture(drawn, heads, title, self.max_tokens, shown.names, weights.shape[-1], shown.relation)
        for writer in writers(trainer):
            writer.add_image(tag, image, trainer.global_step, dataformats="HWC")
            for head in heads:
                entropy = found.entropy[:, head]
                if (finite := entropy[torch.isfinite(entropy)]).numel():
                    writer.add_histogram(f"{tag}/entropy/head{head}", finite, trainer.global_step)
        return scalars


class Shown(NamedTuple):
    """Maps of a layer.

    Attributes:
        weights: Maps of the chosen queries, ``(items, heads, queries, all keys)``.
        drawn: The same of the keys to draw.
        names: Names of items and tokens.
        relation: True relation of these queries and keys, ``(items, queries, keys)``; None = there is none.
    """

    weights: Tensor
    drawn: Tensor
    names: "TokenNames"
    relation: Tensor | None = None


def _calls(maps: dict[str, list[Record]]) -> Iterator[tuple[str, str, Record]]:
    """Yield path of the layer, name of the call and record of each call."""
    for path, records in maps.items():
        for number, record in enumerate(records):
            yield path, (path if len(records) == 1 else f"{path}.call{number}"), record


def _viewed(module: Any, record: Record, view: MapView, device: torch.device) -> Shown:
    """Maps of a recorded call, of the chosen queries; only these are computed where the mechanism allows it."""
    from callbacks.heatmaps import TokenNames

    q, k, mask = (None if part is None else part.to(device) for part in (record.q, record.k, record.mask))
    assert q is not None
    places = view.queries.places
    if module.cross:
        chosen = mask if mask is None or mask.shape[-2] == 1 else mask[..., places, :]
        weights = module.weights(q[:, :, places], k, chosen)
    else:
        weights = module.weights(q, k, mask)[:, :, places]
    weights = weights.cpu()
    names = TokenNames(view.queries.names, None, list(view.items.values()), view.queries.title, "learned keys")
    if k is None or weights.shape[-1] != k.shape[-2]:
        return Shown(weights, weights, names)
    names = names._replace(keys=view.keys.names, key_title=view.keys.title, relation_title=view.relation_title)
    relation = None if view.relation is None else view.relation.cpu()
    return Shown(weights, weights[..., view.keys.places], names, relation)


def overlap(weights: Tensor, relation: Tensor) -> float:
    """Share of the weight on related pairs, over the share of related pairs: 1 = by chance; NaN without any.

    Args:
        weights: Maps, ``(items, heads, queries, keys)``.
        relation: ``(items, queries, keys)``: 1 = related, 0 = not, NaN = there is no such pair. A query without a
            related key does not count.
    """
    real = ~relation.isnan()
    related = relation.nan_to_num(0.0) > 0
    chance = related.sum(-1) / real.sum(-1)
    seen = weights.nan_to_num(0.0) * real[:, None]
    share = (seen * related[:, None]).sum(-1) / seen.sum(-1)
    return float((share / chance[:, None]).movedim(1, -1)[related.any(-1)].nanmean())


def _names_of(layer: str, weights: Tensor, names: dict[str, list[str]]) -> "TokenNames":
    """Names of the tokens on both axes: those with a key that is part of the layer's path and of the axis's length."""
    from callbacks.heatmaps import TokenNames

    fitting = {len(tokens): tokens for site, tokens in names.items() if site in layer}
    return TokenNames(queries=fitting.get(weights.shape[-2]), keys=fitting.get(weights.shape[-1]))
