"""``python -m benchmarks.attention``: time and peak memory of every mechanism against length, as ratios to Softmax."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import Step, median_seconds, peak_bytes, provenance
from tabattn.attention import MECHANISMS

REFERENCE = "Softmax"
OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "attention.md"

Table = dict[str, list[float]]
"""One number for each length, by name of the mechanism."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__, allow_abbrev=False)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=list(MECHANISMS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, of which the median counts")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path, default=OUT, help="Markdown file to write")
    options = parser.parse_args(argv)
    for name, bound in (("batch", 1), ("heads", 1), ("head_dim", 1), ("repeats", 1)):
        if getattr(options, name) < bound:
            parser.error(f"{name} must be at least {bound}, got {getattr(options, name)}")
    if min(options.lengths) < 1:
        parser.error(f"lengths must be at least 1, got {min(options.lengths)}")
    options.lengths = sorted(set(options.lengths))
    options.mechanisms = [name for name in MECHANISMS if name in {REFERENCE, *options.mechanisms}]
    return options


def step(name: str, length: int, options: argparse.Namespace) -> Step:
    """Return one forward and backward pass of a mechanism with its default arguments."""
    torch.manual_seed(0)
    mechanism = MECHANISMS[name](options.heads, options.head_dim).to(options.device)
    size = (options.batch, options.heads, length, options.head_dim)
    q, k, v = (torch.randn(size, device=options.device, requires_grad=True) for _ in range(3))
    inputs = [q, k, v, *mechanism.parameters()]

    def run() -> object:
        return torch.autograd.grad(mechanism(q, k, v).sum(), inputs, allow_unused=True)

    return run


def measure(options: argparse.Namespace) -> tuple[Table, Table]:
    """Return milliseconds and peak MiB."""
    milliseconds: Table = {name: [] for name in options.mechanisms}
    mebibytes: Table = {name: [] for name in options.mechanisms}
    for length in options.lengths:
        steps = {name: step(name, length, options) for name in options.mechanisms}
        seconds = median_seconds(steps, options.repeats, options.device)
        for name in options.mechanisms:
            milliseconds[name].append(1e3 * seconds[name])
            mebibytes[name].append(peak_bytes(steps[name], options.device) / 2**20)
        sys.stderr.write(f"length {length} done\n")
    return milliseconds, mebibytes


def growth(table: Table, lengths: Sequence[int]) -> dict[str, float]:
    """Return the exponent of growth between the two largest lengths: 1 = linear, 2 = quadratic."""
    factor = math.log(lengths[-1] / lengths[-2])
    return {name: math.log(row[-1] / row[-2]) / factor for name, row in table.items()}


def section(title: str, unit: str, table: Table, lengths: Sequence[int]) -> str:
    """Return a table of ratios to the reference, whose own row has the numbers in their unit."""
    exponents = growth(table, lengths) if len(lengths) > 1 else {}
    header = ["Mechanism", *map(str, lengths), *(["exponent"] if exponents else [])]
    rows = [header, ["---", *(["---:"] * (len(header) - 1))]]
    for name, row in table.items():
        if name == REFERENCE:
            cells = [f"{value:.3g} {unit}" for value in row]
        else:
            cells = [f"{value / base:.2f} x" for value, base in zip(row, table[REFERENCE], strict=True)]
        rows.append([name, *cells, *([f"{exponents[name]:.2f}"] if exponents else [])])
    return f"\n## {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def report(milliseconds: Table, mebibytes: Table, options: argparse.Namespace) -> str:
    """Return the whole result in Markdown."""
    size = f"batch {options.batch}, {options.heads} heads of {options.head_dim}, float32"
    return (
        "# Attention: time and memory against length\n\n"
        f"Written by `python -m benchmarks.attention` on {provenance(options.device)}.\n\n"
        f"Forward and backward of every mechanism with its default arguments, {size}. {REFERENCE} in its own units, "
        "the others as ratios to it; *exponent* is that of the growth between the two largest lengths (1 = linear, "
        "2 = quadratic).\n"
        + section(f"Time, median of {options.repeats} interleaved runs", "ms", milliseconds, options.lengths)
        + section("Peak memory beyond inputs and parameters", "MiB", mebibytes, options.lengths)
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the file and show it."""
    options = arguments(argv)
    text = report(*measure(options), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
