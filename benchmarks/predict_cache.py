"""Time of repeated predictions with and without a KV cache of the context: ``python -m benchmarks.predict_cache``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import median_seconds, provenance
from benchmarks.reports import add_out, check_least, publish
from tabattn import TabularClassifier
from tabattn.prior.estimator.arguments import check_arguments
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.network import PriorNetwork


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict_cache", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", help="weights or checkpoint; without it, a network of random weights")
    parser.add_argument("--contexts", type=int, nargs="+", default=[100, 300, 1000], help="rows that are fitted")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 10, 100], help="rows that are predicted")
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each, of which the median counts")
    add_out(parser, "predict_cache.md")
    options = parser.parse_args(argv)
    check_least(parser, options, contexts=1, targets=1, features=1, repeats=1)
    if options.model is not None and not Path(options.model).is_file():
        parser.error(f"model: there is no file {options.model}")
    if not 2 <= options.classes <= min(options.contexts):
        parser.error(f"classes must be between 2 and the smallest context, got {options.classes}")
    return options


def random_network() -> PriorNetwork:
    """Network with random weights in all layers; a new one has layers whose output is zero."""
    torch.manual_seed(0)
    network = PriorNetwork(dim=64, heads=4, hidden=192, layers=4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def joint(reader: Reader, x: NDArray[np.float64], temperature: float) -> NDArray[np.float32]:
    """Log-probabilities by one forward pass over context and target rows together, ``(members, rows, classes)``."""
    context, target = reader.scales(reader.x), reader.scales(x)
    out = []
    with torch.inference_mode():
        for question in reader.ensemble.questions:
            scale, columns = reader.ensemble.members[question.member]
            rows = np.concatenate([context[scale][question.rows], target[scale]])[:, columns]
            codes = torch.from_numpy(question.codes[reader.y[question.rows]])
            logits = reader.network(torch.from_numpy(rows)[None], codes[None], len(codes))[0] / temperature
            out.append(logits[:, question.codes].log_softmax(-1).numpy())
    return np.stack(out)


def row(context: int, targets: int, options: argparse.Namespace) -> list[str]:
    """Row of the table: milliseconds of both ways, their ratio, and the largest difference of their predictions."""
    random = np.random.default_rng(0)
    x = random.standard_normal((context + targets, options.features))
    model = TabularClassifier(options.model or random_network(), device="cpu")
    model.fit(x[:context], np.arange(context) % options.classes)
    reader = model._reader
    assert reader is not None
    run = check_arguments(model.get_params(deep=False))
    rest = x[context:]
    steps = {
        "joint": lambda: joint(reader, rest, run.temperature),
        "cached": lambda: reader.log_probabilities(rest, run),
    }
    apart = np.abs(np.exp(steps["joint"]()) - np.exp(steps["cached"]())).max()
    seconds = median_seconds(steps, options.repeats, run.device)
    figures = [f"{1e3 * seconds[name]:.1f}" for name in steps]
    ratio = seconds["joint"] / seconds["cached"]
    return [str(context), str(targets), *figures, f"{ratio:.1f} x", f"{apart:.0e}", f"{model.cached_bytes / 2**20:.1f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write and print the report."""
    options = arguments(argv)
    head = [
        "context rows",
        "target rows",
        "joint, ms",
        "cached, ms",
        "faster",
        "largest difference",
        "KV cache, MiB",
    ]
    rows = [row(context, targets, options) for context in options.contexts for targets in options.targets]
    table = [head, ["---:"] * len(head), *rows]
    network = options.model or "a network of random weights"
    text = (
        "# Repeated predictions from a KV cache\n\n"
        f"Written by `python -m benchmarks.predict_cache` on {provenance(torch.device('cpu'))}.\n\n"
        f"`TabularClassifier` with {network}, {options.features} features and {options.classes} classes, median of "
        f"{options.repeats} calls. *Joint*: context and target rows in one forward pass, each time. *Cached*: an "
        "earlier call prefilled the KV cache. The difference is that of the members' probabilities.\n\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in table)
    )
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
