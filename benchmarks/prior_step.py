"""Training step of the prior network against the original's: ``python -m benchmarks.prior_step --original <folder>``.

The folder is a checkout of the original (its ``model.py`` and ``attentions.py``); nothing of it is part of this
project. Without it, only our own profiles are timed. Steps alternate in one process, so the ratios hold on a busy
machine too.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.machine import describe, write_report
from tabattn.models.prior import PriorNetwork

BATCH, ROWS, CONTEXT, FEATURES = 32, 100, 80, 13
SIZES = {"dim": 96, "heads": 4, "hidden": 192, "layers": 3, "classes": 2}

Forward = Callable[[Tensor, Tensor], Tensor]


def ours(**changes: object) -> tuple[nn.Module, Forward]:
    """One of our networks in the original's sizes."""
    network = PriorNetwork(**{**SIZES, **changes})
    return network, lambda x, y: network(x, y, CONTEXT)


def original(folder: Path, attention: str) -> tuple[nn.Module, Forward]:
    """The original network with one of its attention types."""
    sys.path.insert(0, str(folder))
    from model import NanoTabPFNModel

    sizes = (SIZES["dim"], SIZES["heads"], SIZES["hidden"], SIZES["layers"], SIZES["classes"])
    network = NanoTabPFNModel(*sizes, attention)
    return network, lambda x, y: network((x, y[:, :CONTEXT].float()), CONTEXT)


def step(network: nn.Module, forward: Forward, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    optimizer.zero_grad()
    nn.functional.cross_entropy(forward(x, y).flatten(0, 1), y[:, CONTEXT:].flatten()).backward()
    optimizer.step()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(networks: dict[str, tuple[nn.Module, Forward]], steps: int, device: str) -> dict[str, float]:
    """Median seconds per training step of each network, steps taken in turn."""
    x = torch.randn(BATCH, ROWS, FEATURES, device=device)
    y = torch.randint(0, 2, (BATCH, ROWS), device=device)
    for network, _ in networks.values():
        network.to(device)
    optimizers = {name: torch.optim.AdamW(net.parameters(), 1e-3) for name, (net, _) in networks.items()}
    taken: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(steps + 2):
        for name, (network, forward) in networks.items():
            taken[name].append(step(network, forward, optimizers[name], x, y))
    return {name: statistics.median(seconds[2:]) for name, seconds in taken.items()}


def main() -> None:
    """Time the networks and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="checkout of the original")
    parser.add_argument("--steps", type=int, default=15, help="steps of each network (default: 15)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--device", default="cpu", help="device (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/prior_step.md"), help="report")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    networks = {}
    if options.original:
        networks = {f"original, {kind}": original(options.original, kind) for kind in ("Original", "Scratch")}
    networks |= {
        "tabattn, legacy profile": ours(profile="legacy"),
        "tabattn, default profile": ours(),
        "tabattn, default profile, no thinking rows": ours(thinking_rows=0),
    }
    medians = measure(networks, options.steps, options.device)
    base = next(iter(medians.values()))
    lines = ["| network | ms per step | speed, relative |", "|---|---|---|"]
    lines += [f"| {name} | {1000 * taken:.0f} | {base / taken:.2f} |" for name, taken in medians.items()]
    size = f"batch {BATCH}, {ROWS} rows of which {CONTEXT} context, {FEATURES} features, {SIZES}, fp32, AdamW"
    write_report(options.out, "Training step of the prior network", [size, describe(options.device)], lines)


if __name__ == "__main__":
    main()
