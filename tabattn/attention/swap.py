"""A trained network with its entmax attention replaced by predicted graphs, and graphs of equal sparsity."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tabattn.attention import Entmax, Mechanism, Sparsefinder
from tabattn.attention.capture import Record
from tabattn.attention.entmax_solver import solve_rows
from tabattn.attention.graphs import named, pattern_named
from tabattn.attention.scores import four_dimensional

Records = Mapping[str, Sequence[Record]]
"""Recorded calls by module path."""

COUNTS = (1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 1024)
SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
THRESHOLDS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Knobs that are tried to reach a sparsity; a pattern refuses those out of its range."""


class Agreement(NamedTuple):
    """Agreement of predicted graphs with the weights of entmax; means over layers, items and heads.

    Attributes:
        sparsity: Share of the pairs that may be seen without an edge.
        recall: Share of the pairs of positive weight that have an edge.
        exact: Share of the queries all of whose positive weights have an edge.
    """

    sparsity: float
    recall: float
    exact: float


def entmax_layers(model: nn.Module) -> dict[str, Entmax]:
    """Entmax mechanisms of a model by module path, those with zeros.

    Raises:
        ValueError: There is none.
    """
    found = {path: each for path, each in model.named_modules() if isinstance(each, Entmax)}
    found = {path: each for path, each in found.items() if isinstance(each.alpha, Tensor) or each.alpha > 1}
    if not found:
        kinds = sorted({type(each).__name__ for each in model.modules() if isinstance(each, Mechanism)})
        raise ValueError(
            f"attention must be Entmax with alpha above 1 to be replaced by its graph, got {', '.join(kinds) or 'none'}"
        )
    return found


@contextmanager
def swapped(model: nn.Module, mechanisms: Mapping[str, Mechanism]) -> Iterator[None]:
    """Replace mechanisms of a model, by module path, inside this context."""
    kept = {path: model.get_submodule(path) for path in mechanisms}
    try:
        for path, mechanism in mechanisms.items():
            model.set_submodule(path, mechanism)
        yield
    finally:
        for path, module in kept.items():
            model.set_submodule(path, module)


class _OneSequence(Sparsefinder):
    """Sparsefinder on a graph that reads the order of tokens, for queries that are other tokens than the keys, too.

    Such queries are spread evenly over the keys: each has the graph of the token at its place.
    """

    def graph(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        queries, keys = q.shape[-2], k.shape[-2]
        if queries == keys:
            return super().graph(q, k, mask)
        seen = None if mask is None else four_dimensional(mask)
        found = super().graph(k, k, None if seen is None else seen.any(dim=-2, keepdim=True))
        found = found[..., torch.arange(queries, device=q.device) * keys // queries, :]
        return found if seen is None else found & seen


def replacements(layers: Mapping[str, Entmax], **arguments: Any) -> dict[str, Sparsefinder]:
    """Sparsefinder in place of each layer, with the same arguments in all."""
    grouping = arguments.get("grouping")
    kind = _OneSequence if grouping is not None and named(grouping).kind.one_sequence else Sparsefinder
    return {path: kind.like(layer, **arguments).eval() for path, layer in layers.items()}


class Probe(NamedTuple):
    """Recorded call of a layer with the graph of its weights.

    Attributes:
        path: Module path of the layer.
        call: Queries, keys and mask.
        gold: Pairs of positive weight, ``(batch, heads, queries, keys)`` boolean.
        seen: Pairs that may be seen.
    """

    path: str
    call: Record
    gold: Tensor
    seen: Tensor


@torch.no_grad()
def probes(layers: Mapping[str, Entmax], records: Records) -> list[Probe]:
    """Graphs of the weights of trained layers, of recorded calls."""
    found = []
    for path, calls in records.items():
        alpha = torch.as_tensor(layers[path].alpha).detach().cpu().float().reshape(-1, 1, 1)
        for call in calls:
            assert call.q is not None
            assert call.k is not None
            scores = (call.q * (layers[path].scale * (alpha - 1))) @ call.k.mT
            seen = torch.ones_like(scores, dtype=torch.bool)
            if call.mask is not None:
                seen = four_dimensional(call.mask).expand_as(scores)
            order: Tensor | float = alpha - 1 if len(alpha) > 1 else float(alpha) - 1
            p = solve_rows(scores.masked_fill_(~seen, -torch.inf), order).p
            found.append(Probe(path, call, (p > 0) & seen, seen))
    return found


@torch.no_grad()
def agreement(probed: Sequence[Probe], mechanisms: Mapping[str, Sparsefinder] | None) -> Agreement:
    """Agreement of the graphs of mechanisms with the weights of the layers that they replace, on recorded calls.

    Of a mechanism without predictor, the keys that it scores are its graph; None = the layers themselves.
    """
    sums, count = torch.zeros(3, dtype=torch.float64), 0
    for path, call, gold, seen in probed:
        graph = gold if mechanisms is None else _scored(mechanisms[path], call) & seen
        asked = seen.any(dim=-1)
        found = (graph & gold).sum(dim=(-2, -1)) / gold.sum(dim=(-2, -1)).clamp(min=1)
        whole = (asked & ~(gold & ~graph).any(dim=-1)).sum(dim=-1) / asked.sum(dim=-1).clamp(min=1)
        sparsity = 1 - graph.sum(dim=(-2, -1)) / seen.sum(dim=(-2, -1)).clamp(min=1)
        sums += torch.stack([each.double().sum() for each in (sparsity, found, whole)])
        count += sparsity.numel()
    return Agreement(*(sums / max(1, count)).tolist())


def _scored(mechanism: Sparsefinder, call: Record) -> Tensor:
    """Graph of a recorded call, ``(batch, heads, queries, keys)``."""
    assert call.q is not None
    assert call.k is not None
    if mechanism.pattern is not None:
        return mechanism.graph(call.q, call.k, call.mask)
    found = torch.zeros(*call.q.shape[:-1], call.k.shape[-2], dtype=torch.bool)
    for own, tiles in zip(found.flatten(0, 1), mechanism.tiles(call.q, call.k, call.mask), strict=True):
        for tile in tiles:
            keys = torch.arange(own.shape[1]) if tile.keys is None else tile.keys
            own[tile.rows[:, None], keys] = True
    return found


def knobs(grouping: str) -> list[float]:
    """Knobs that a pattern takes, to be tried."""
    default = named(grouping).kind.default
    tried = SHARES if default < 1 else COUNTS
    found = [float(knob) for knob in sorted({*tried, *THRESHOLDS, default}) if _taken(grouping, knob)]
    return [knob for knob in found if knob in COUNTS] if default in COUNTS and default > 2 else found


def _taken(grouping: str, knob: float) -> bool:
    try:
        pattern_named(grouping, knob)
    except ValueError:
        return False
    return True


def of_sparsity(
    layers: Mapping[str, Entmax], probed: Sequence[Probe], grouping: str, sparsity: float, **arguments: Any
) -> tuple[dict[str, Sparsefinder], Agreement]:
    """Mechanisms of a pattern with the knob whose graphs come nearest to a sparsity, and their agreement.

    Raises:
        ValueError: The pattern fits none of its knobs to these queries and keys.
    """
    best, reason = None, ""
    for knob in knobs(grouping):
        try:
            made = replacements(layers, mode="gather", grouping=grouping, knob=knob, **arguments)
            found = agreement(probed, made)
        except ValueError as ex:
            reason = str(ex)
            continue
        if best is None or abs(found.sparsity - sparsity) < abs(best[1].sparsity - sparsity):
            best = made, found
    if best is None:
        raise ValueError(reason)
    return best
