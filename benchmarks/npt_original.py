"""Seconds per step and peak memory beside the original code of Non-Parametric Transformers, on breast cancer.

``python -m benchmarks.npt_original --original <checkout of non-parametric-transformers>``. A step is a whole training
step, from the masks of its cells to the learning rate of the next; that of the original is an epoch of its trainer.
Steps are taken in turns, and timed by what the process computes, so that ratios hold on a busy machine too. Peak memory
is that of a process of its own, beyond what it holds before the network is made.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.measure import provenance
from benchmarks.npt_entrants import Entrant, Original, default, legacy
from benchmarks.reports import add_out, check_checkout, check_least, publish

NAMES = ("original", "LegacyNPT", "default")
PAGE = resource.getpagesize()
WARMUP = 1
"""Steps of each that are not timed."""


def entrant(name: str, folder: Path, dim: int) -> Entrant:
    """Make a network and all that trains it."""
    made = {"original": partial(Original, folder, dim), "LegacyNPT": partial(legacy, dim), "default": default}
    torch.manual_seed(0)
    return made[name]()


def seconds(folder: Path, dim: int, steps: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step, and numbers of parameters, by name."""
    made = {name: entrant(name, folder, dim) for name in NAMES}
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(WARMUP + steps):
        for name in NAMES:
            start = time.process_time()
            made[name].step()
            if turn >= WARMUP:
                found[name].append(time.process_time() - start)
        sys.stderr.write(f"step {turn + 1} of {WARMUP + steps}\n")
    return found, {name: sum(p.numel() for p in each.network.parameters()) for name, each in made.items()}


def peak(name: str, folder: Path, dim: int, threads: int) -> int:
    """Peak memory in bytes of some steps in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_here, (name, folder, dim, threads))


def _peak_here(name: str, folder: Path, dim: int, threads: int) -> int:
    torch.set_num_threads(threads)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    made = entrant(name, folder, dim)
    for _ in range(3):
        made.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


class Measured(NamedTuple):
    """Figures of the networks at a width, by name.

    Attributes:
        seconds: Seconds of each step.
        parameters: Numbers of parameters.
        peaks: Peak memory in bytes.
    """

    seconds: Mapping[str, Sequence[float]]
    parameters: Mapping[str, int]
    peaks: Mapping[str, int]


def table(measured: Mapping[int, Measured]) -> list[str]:
    """Rows in Markdown; speeds are medians of ratios of paired steps."""
    lines = [
        "| width of the original | network | parameters | seconds per step | speed, relative | peak memory, MB |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for dim, found in measured.items():
        for name, times in found.seconds.items():
            speed = statistics.median(a / b for a, b in zip(found.seconds["original"], times, strict=True))
            cells = [str(dim), name, f"{found.parameters[name]:,}", f"{statistics.median(times):.3f}"]
            lines.append(f"| {' | '.join(cells)} | {speed:.2f} | {found.peaks[name] / 1e6:.0f} |")
    return lines


def report(options: argparse.Namespace, lines: Sequence[str]) -> str:
    """Report in Markdown."""
    widths = " ".join(map(str, options.dim))
    chosen = f"--dim {widths} --steps {options.steps} --threads {options.threads}"
    text = (
        "Breast cancer (569 rows, 31 columns). The original and `LegacyNPT`: 8 heads, 8 layers, dropout 0.1, all rows "
        "in each step, 15 % of the features and every label hidden, LAMB with Lookahead, gradients clipped by value; "
        "the paper's width for this table is 32. default: the network of `configs/reconstruction.yaml`, which trains "
        "on the 398 training rows. Steps in turns, in seconds that the process computes, medians; peak memory of a "
        "process of its own, beyond what it holds before."
    )
    title = "# Beside the original code of Non-Parametric Transformers"
    command = f"`python -m benchmarks.npt_original --original <checkout of non-parametric-transformers> {chosen}`"
    head = [title, "", command, "", f"{provenance(torch.device('cpu'))}.", "", text, ""]
    return "\n".join([*head, *lines, ""])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.npt_original",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--original", type=Path, required=True, help="checkout of non-parametric-transformers")
    parser.add_argument(
        "--dim", type=int, nargs="+", default=[16, 32], help="widths of a cell, multiples of 8 (default: 16 32)"
    )
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add_out(parser, "npt_original.md")
    options = parser.parse_args(argv)
    check_least(parser, options, dim=8, steps=1, threads=1)
    if odd := [dim for dim in options.dim if dim % 8]:
        parser.error(f"dim must be a multiple of 8, got {odd[0]}")
    check_checkout(parser, "original", options.original, "npt/model/npt.py")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Time the networks; write and print the report."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    measured = {}
    for dim in options.dim:
        peaks = {name: peak(name, options.original, dim, options.threads) for name in NAMES}
        measured[dim] = Measured(*seconds(options.original, dim, options.steps), peaks)
    text = report(options, table(measured))
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
