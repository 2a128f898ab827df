"""Swap table of an in-context classifier by number of context rows."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tabattn.compare.swap.limits import Limits
from tabattn.compare.swap.measure import FAILURES, Meter, agreement, failure, in_turns, memory_limit
from tabattn.compare.swap.results import Row
from tabattn.compare.swap.tables import ContextTable
from tabattn.compare.swap.variants import Variant
from tabattn.contract.batches import TableBatch

METRIC, LOSS = "auroc", "loss"
"""Names of the scores."""


class Answered(NamedTuple):
    """Predictions of a variant for every table, and the meter of the first."""

    meter: Meter
    answers: list[Tensor]


def answer(network: Any, batch: TableBatch) -> Tensor:
    """Probabilities of the table's classes, by reading the context once, ``(targets, classes)``."""
    cache = network.prefill(batch.x[:, : batch.context], batch.y[:, : batch.context])
    logits: Tensor = network.decode(batch.x[:, batch.context :], cache)[0]
    return logits[:, : int(batch.y.max()) + 1].softmax(-1)


def rows(
    variants: Sequence[Variant],
    tables: Sequence[ContextTable],
    contexts: Sequence[int],
    limits: Limits,
    told: Callable[[str], None],
) -> Iterator[Row]:
    """Yield the rows of the table, by number of context rows.

    Args:
        variants: Variants, the trained one first.
        tables: Tables to score on; the first is timed.
        contexts: Numbers of context rows.
        limits: Limits of the measurements.
        told: Called with what is measured, in words.

    Raises:
        ValueError: A table has too few rows or a class too many, or the trained variant cannot be measured.
    """
    _check_classes(variants[0], tables)
    past: dict[str, list[tuple[int, float]]] = {}
    for context in sorted(set(contexts)):
        batches = [table.cut(context) for table in tables]
        found: dict[str, Answered] = {}
        lines = {}
        for variant in variants:
            told(f"{context:,} context rows: {variant.choice.label}")
            row = Row(variant.choice.label, variant.choice.attention, context, variant is variants[0])
            row.untrained, row.reason = variant.untrained, variant.reason
            lines[row.label] = row
            late = None if row.trained else _too_long(past.get(row.label, []), context, limits)
            if variant.task is None or late:
                row.reason = late or row.reason
                continue
            try:
                with memory_limit(limits.memory):
                    found[row.label] = _answered(variant, batches)
            except FAILURES as ex:
                row.reason = failure(ex, limits.memory)
        _check_trained(variants[0], found, lines)
        told(f"{context:,} context rows: time")
        yield from _measured(variants[0].choice.label, tables, found, lines, limits)
        for label, each in found.items():
            past.setdefault(label, []).append((context, each.meter.timing().seconds))


def _answered(variant: Variant, batches: Sequence[TableBatch]) -> Answered:
    """Predict the targets of every table; the first is timed."""
    network: Any = variant.task.network if variant.task is not None else None

    def prediction(batch: TableBatch) -> Callable[[], Tensor]:
        return torch.inference_mode()(lambda: answer(network, batch))

    first, *others = map(prediction, batches)
    meter = Meter(network, first, batches[0].x.device)
    return Answered(meter, [meter.time(), *(each() for each in others)])


def _measured(
    trained: str,
    tables: Sequence[ContextTable],
    found: dict[str, Answered],
    lines: dict[str, Row],
    limits: Limits,
) -> Iterator[Row]:
    """Time the variants in turns, and enter scores, times and memory."""
    in_turns({label: each.meter for label, each in found.items()}, limits.rounds, limits.seconds)
    for each in found.values():
        each.meter.remember(limits.memory)
    for label, row in lines.items():
        if label in found:
            row.timing = found[label].meter.timing()
            row.scores = _scores(tables, found[label].answers)
            row.agreement = agreement(found[trained].answers, found[label].answers, classes=True)
        row.compared(lines[trained], METRIC, "max")
        yield row


def _scores(tables: Sequence[ContextTable], answers: Sequence[Tensor]) -> dict[str, float]:
    """Mean scores, and those of each table."""
    each = {table.name: table.scores(given.numpy()) for table, given in zip(tables, answers, strict=True)}
    means = {name: statistics.fmean(scores[name] for scores in each.values()) for name in (METRIC, LOSS)}
    return means | {f"{table}/{name}": value for table, scores in each.items() for name, value in scores.items()}


def _too_long(past: Sequence[tuple[int, float]], context: int, limits: Limits) -> str | None:
    """Reason to leave a mechanism out: its expected time, quadratic unless two sizes tell otherwise."""
    if not past:
        return None
    (rows, seconds), power = past[-1], 2.0
    if len(past) > 1 and past[-2][1] > 0:
        power = math.log(seconds / past[-2][1]) / math.log(rows / past[-2][0])
    expected = seconds * (context / rows) ** max(power, 1.0)
    return f"may take up to {expected:.0f} s (--longest {limits.longest:g})" if expected > limits.longest else None


def _check_classes(variant: Variant, tables: Sequence[ContextTable]) -> None:
    network: Any = variant.task.network if variant.task is not None else None
    for table in tables:
        if table.y.max() >= network.classes:
            raise ValueError(f"{table.name} has {table.y.max() + 1} classes, the network only {network.classes}")


def _check_trained(variant: Variant, found: dict[str, Answered], lines: dict[str, Row]) -> None:
    label = variant.choice.label
    if label not in found:
        raise ValueError(f"{label}, the trained mechanism, could not be measured: {lines[label].reason}")
