"""Training step of the prior network against the original's: ``python -m benchmarks.prior_step --original <folder>``.

The folder is a checkout of the original (with ``model.py`` and ``attentions.py``), which is no part of this project.
Without it, only networks of this project are timed. Steps alternate in one process, so that the ratios hold on a busy
machine too.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import Step, median_seconds, provenance
from benchmarks.reports import add_out, check_checkout, check_device, check_least, publish
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork

BATCH, ROWS, CONTEXT, FEATURES = 32, 100, 80, 13
SIZES = {"dim": 96, "heads": 4, "hidden": 192, "layers": 3, "classes": 2}

Forward = Callable[[Tensor, Tensor], Tensor]


def ours(kind: type[ContextClassifier] = PriorNetwork, **changes: int) -> tuple[nn.Module, Forward]:
    """Network of this project with the original's sizes."""
    network = kind(**{**SIZES, **changes})
    return network, lambda x, y: network(x, y, CONTEXT)


def original(folder: Path, attention: str) -> tuple[nn.Module, Forward]:
    """Original network with one of its attention types."""
    sys.path.insert(0, str(folder))
    from model import NanoTabPFNModel

    sizes = (SIZES["dim"], SIZES["heads"], SIZES["hidden"], SIZES["layers"], SIZES["classes"])
    network = NanoTabPFNModel(*sizes, attention)
    return network, lambda x, y: network((x, y[:, :CONTEXT].float()), CONTEXT)


def step(network: nn.Module, forward: Forward, x: Tensor, y: Tensor) -> Step:
    """Training step of a network."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(forward(x, y).flatten(0, 1), y[:, CONTEXT:].flatten()).backward()
        optimizer.step()

    return run


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prior_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--original", type=Path, help="checkout of the original")
    parser.add_argument("--steps", type=int, default=15, help="steps of each network (default: 15)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="device (default: cpu)")
    add_out(parser, "prior_step.md")
    options = parser.parse_args(argv)
    check_least(parser, options, steps=1, threads=1)
    check_device(parser, options.device)
    check_checkout(parser, "original", options.original, "model.py")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Time the networks; write and print the ratios."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    networks = {}
    if options.original:
        networks = {f"original, {kind}": original(options.original, kind) for kind in ("Original", "Scratch")}
    networks |= {
        "tabattn, NanoTabPFN": ours(NanoTabPFN),
        "tabattn, PriorNetwork": ours(),
        "tabattn, PriorNetwork, no thinking rows": ours(thinking_rows=0),
    }
    x = torch.randn(BATCH, ROWS, FEATURES, device=options.device)
    y = torch.randint(0, 2, (BATCH, ROWS), device=options.device)
    steps = {name: step(net.to(options.device), forward, x, y) for name, (net, forward) in networks.items()}
    medians = median_seconds(steps, options.steps, options.device)
    base = next(iter(medians.values()))
    lines = ["| network | ms per step | speed, relative |", "|---|---|---|"]
    lines += [f"| {name} | {1000 * taken:.0f} | {base / taken:.2f} |" for name, taken in medians.items()]
    size = f"Batch {BATCH}, {ROWS} rows of which {CONTEXT} context, {FEATURES} features, {SIZES}, float32, AdamW"
    place = f"{provenance(options.device)}, {options.threads} threads"
    command = "`python -m benchmarks.prior_step --original <checkout of the original>`"
    text = "\n".join(["# Training step of the prior network", "", command, "", f"{size}; {place}.", "", *lines, ""])
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
