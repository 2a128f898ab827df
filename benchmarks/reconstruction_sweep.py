"""Every mechanism between the rows of a table: ``python -m benchmarks.reconstruction_sweep <tables>``.

Trains a ``CellTransformer`` by ``configs/reconstruction.yaml`` on the first fold of each table, with each mechanism as
attention between datapoints, and tests the best checkpoint: score, CPU seconds of a step, and memory of a training
step. Further arguments go to the command line of each training.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.measure import provenance
from benchmarks.pairs_sweep import Laps
from benchmarks.reconstruction import trained
from benchmarks.reports import add_out, check_least, check_trainings, publish
from tabattn.attention import MECHANISMS
from tabattn.compare.clocks import peak_bytes
from tabattn.tasks import TableReconstruction

TAKEN = ("--data.table", "--model.attention", "--model.network", "--trainer.max_steps", "--seed_everything")
SCORES = ("rmse", "auroc", "accuracy", "nll")


def measure(source: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train with a mechanism, and test; return its scores and costs."""
    words = [f"--data.table={source}", f"--trainer.max_steps={options.steps}", f"--seed_everything={options.seed}"]
    words += ["--model.network=CellTransformer", f"--model.attention={name}", *options.further]
    laps = Laps()
    cli, scores = trained(words, [laps])
    task = cli.model
    assert isinstance(task, TableReconstruction)
    batch = next(iter(cli.datamodule.train_dataloader()))
    peak = peak_bytes(lambda: task(batch).mean.sum().backward(), torch.device("cpu"))
    found = {score: scores[score] for score in SCORES if score in scores}
    costs = {"ms of a step": 1e3 * statistics.median(laps.seconds), "MB of a step": peak / 1e6}
    return {"table": cli.datamodule.prepared.name, "mechanism": name, **found, **costs}


def report(results: pd.DataFrame, options: argparse.Namespace) -> str:
    """Report in Markdown: a table of mechanisms for each table."""
    parts = []
    for table, part in results.groupby("table", sort=False):
        shown = part.drop(columns="table").dropna(axis=1, how="all")
        first = shown.columns[1]
        shown = shown.sort_values(first, ascending=first != "auroc")
        lines = [f"| {' | '.join(shown.columns)} |", "| --- |" + " ---: |" * (len(shown.columns) - 1)]
        for line in shown.itertuples(index=False):
            figures = [f"{value:.4g}" for value in line[1:]]
            lines.append(f"| {line[0]} | {' | '.join(figures)} |")
        parts += [f"## {table}", "", *lines, ""]
    further = "".join(f" {word}" for word in options.further)
    command = f"`python -m benchmarks.reconstruction_sweep {' '.join(options.tables)} --steps {options.steps}{further}`"
    text = (
        f"`CellTransformer` by `configs/reconstruction.yaml`, {options.steps} steps, first fold, one seed: "
        "differences of a tenth are within what another seed changes. Milliseconds are CPU time of a training step. "
        "With mechanisms that do not serve cross-attention (Sparse, Local, Pooling, Nystrom), context rows attend to "
        "one another by them, and the other rows to the context by Softmax."
    )
    head = ["# Every mechanism between rows", "", command, "", f"{provenance(torch.device('cpu'))}.", "", text, ""]
    return "\n".join([*head, *parts])


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconstruction_sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("tables", nargs="+", help="table sources")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each (default: 200)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--attentions", nargs="+", choices=list(MECHANISMS), default=list(MECHANISMS), metavar="NAME")
    add_out(parser, "reconstruction_sweep.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    check_least(parser, options, steps=1, seed=0)
    options.further = check_trainings(parser, further, TAKEN)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train with every mechanism and write the report, anew after each, so that an abort loses no result."""
    options = arguments(argv)
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for source in options.tables:
        for name in options.attentions:
            rows.append(measure(source, name, options))
            pd.DataFrame(rows).to_csv(out.with_suffix(".csv"), index=False, float_format="%.5g")
            publish(report(pd.DataFrame(rows), options), out)
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
