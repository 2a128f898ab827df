"""Report of ``benchmarks.attention`` in Markdown."""

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.measure import provenance
from benchmarks.references import REFERENCES

REFERENCE = "Softmax"


class Cost(NamedTuple):
    """Cost of a mechanism at one length.

    Attributes:
        forward: Seconds of a forward pass in training.
        both: Seconds of a forward and a backward pass.
        peak: Peak bytes beyond inputs and parameters, over forward and backward pass.
    """

    forward: float
    both: float
    peak: float


Costs = Mapping[str, Cost | str]
"""Cost at one length by name, or the reason why it is missing."""
Table = dict[str, list[float]]
"""One number for each length, by name; NaN = missing."""


def report(
    known: Mapping[str, Sequence[Cost | str]], differences: Mapping[str, float], options: argparse.Namespace
) -> str:
    """Return the report in Markdown.

    Args:
        known: Costs of each mechanism and reference at the lengths measured so far, or the reason why one is missing.
        differences: Relative difference of each reference from the equivalent mechanism.
        options: The command line of ``benchmarks.attention``.
    """
    size = f"batch {options.batch}, {options.heads} heads of {options.head_dim}, {options.dtype}"
    others = f" {', '.join(options.references)}: kernels of others." if options.references else ""
    repeats = f"Time, median of {options.repeats} runs" + (
        f" or as many as fit in {options.budget:g} s" if math.isfinite(options.budget) else ""
    )
    forward, both = (
        {name: [1e3 * _figure(cost, part) for cost in costs] for name, costs in known.items()}
        for part in ("forward", "both")
    )
    peak = {name: [_figure(cost, "peak") / 2**20 for cost in costs] for name, costs in known.items()}
    return (
        "# Attention: time and memory against length\n\n"
        f"Written by `{_command(options)}` on {provenance(options.device)}.\n\n"
        f"Every mechanism with its default arguments, {size}.{others} {REFERENCE} in its own units, "
        "the others as ratios to it; *exponent* is that of the growth between the two largest lengths (1 = linear, "
        "2 = quadratic).\n"
        + section(f"{repeats}: forward and backward", "ms", both, options.lengths)
        + section(f"{repeats}: forward", "ms", forward, options.lengths)
        + section("Peak memory beyond inputs and parameters", "MiB", peak, options.lengths)
        + _agreement(differences, options)
        + _missing(known, options.lengths)
    )


def growth(table: Table, lengths: Sequence[int]) -> dict[str, float]:
    """Growth exponent between the two largest lengths that have a number: 1 = linear, 2 = quadratic."""
    exponents = {}
    for name, row in table.items():
        there = [(length, figure) for length, figure in zip(lengths, row, strict=False) if figure == figure]
        if len(there) > 1:
            (less, small), (more, large) = there[-2:]
            exponents[name] = math.log(large / small) / math.log(more / less)
    return exponents


def section(title: str, unit: str, table: Table, lengths: Sequence[int]) -> str:
    """Table of ratios to the reference, whose own row has the numbers with their unit."""
    count = len(table[REFERENCE])
    exponents = growth(table, lengths) if count > 1 else {}
    header = ["Mechanism", *map(str, lengths[:count]), *(["exponent"] if exponents else [])]
    rows = [header, ["---", *(["---:"] * (len(header) - 1))]]
    for name, row in table.items():
        cells = []
        for value, base in zip(row, table[REFERENCE], strict=True):
            if math.isnan(value):
                cells.append("")
            elif name == REFERENCE or math.isnan(base):
                cells.append(f"{value:.3g} {unit}")
            else:
                cells.append(f"{value / base:.2f} x")
        rows.append([name, *cells, *([f"{exponents[name]:.2f}" if name in exponents else ""] if exponents else [])])
    return f"\n## {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _figure(cost: Cost | str, part: str) -> float:
    return float("nan") if isinstance(cost, str) else getattr(cost, part)


def _agreement(differences: Mapping[str, float], options: argparse.Namespace) -> str:
    """Section on the differences between kernels of other libraries and the equivalent mechanisms."""
    lines = [
        f"- {name} and {REFERENCES[name].equals}: {apart:.1e}\n"
        for name, apart in differences.items()
        if not math.isnan(apart)
    ]
    if not lines:
        return ""
    title = f"Kernels of others against ours, {options.lengths[0]} tokens"
    said = "Relative difference of outputs and gradients on the same numbers, by their norms."
    return f"\n## {title}\n\n{said}\n\n{''.join(lines)}"


def _missing(known: Mapping[str, Sequence[Cost | str]], lengths: Sequence[int]) -> str:
    """Section on skipped measurements and the reasons."""
    why: dict[tuple[str, str], list[int]] = {}
    for name, costs in known.items():
        for length, cost in zip(lengths, costs, strict=False):
            if isinstance(cost, str):
                why.setdefault((name, cost), []).append(length)
    lines = [f"- {name}, {', '.join(map(str, where))} tokens: {reason}\n" for (name, reason), where in why.items()]
    return "\n## Left out\n\n" + "".join(lines) if lines else ""


def _command(options: argparse.Namespace) -> str:
    """Command line that repeats the measurement."""
    words = ["python -m benchmarks.attention", "--lengths", *map(str, options.lengths)]
    if options.references:
        words += ["--references", *(f'"{name}"' if " " in name else name for name in options.references)]
    for name in ("batch", "heads", "head_dim", "repeats", "device", "dtype", "budget", "deadline"):
        value = getattr(options, name)
        if value != math.inf:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return " ".join(words)
