"""How much predictions depend on other rows: ``python -m benchmarks.row_interactions corruption --run RUN``.

Kossen et al. 2021 (arXiv 2106.02584), section 4.4, on the test rows of trainings of the reconstruction task, which are
given by their run folders. *Corruption*: for each test row, each column of the inputs is permuted over all other rows,
independently of the other columns; a network that uses other rows then predicts worse. *Deletion*: for each test row,
random other rows are dropped while its prediction stays nearly the same; a network that uses similar rows needs those
that are near. *Deciding*: for each test row, the rows with the largest attention weights are left out, and as many
random ones. Further arguments go to the command line that builds the data again, such as ``--data.table=my.csv``.
"""

import argparse
import csv
import io
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from benchmarks.measure import provenance
from benchmarks.reports import QUIET, add_out, check_least, check_trainings, publish
from benchmarks.row_experiments import FIRST, MOST, Figures, corruptions, deletions, left_out
from tabattn.contract.cells import CellBatch
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import CLI


class Run(NamedTuple):
    """Training of the reconstruction task.

    Attributes:
        table: Its table.
        network: Class of its network.
        seed: Its seed.
        task: The trained task.
        batches: The test batches.
    """

    table: str
    network: str
    seed: int
    task: TableReconstruction
    batches: list[CellBatch]


Experiment = Callable[[Run, int, argparse.Namespace], list[Figures]]
"""Called with the run, the place of a target column, and the options: lines of the report."""
EXPERIMENTS: dict[str, tuple[Experiment, str]] = {
    "corruption": (
        lambda run, place, options: corruptions(run.task, run.batches, place, options.seed),
        "Scores of the test rows, each predicted with all other rows as they are (*plain*), and with each of their "
        "columns permuted independently (*permuted*).",
    ),
    "deletion": (
        lambda run, place, options: deletions(run.task, run.batches, place, options.seed, options.rows),
        "For each test row, random other rows are dropped while its prediction changes by less than "
        f"{FIRST}, later up to {MOST}, standard deviations (or total variation of its probabilities). Distances are "
        "root mean squares over standardised features; p is that of the one-sided signed-rank test that kept rows are "
        "no nearer.",
    ),
    "deciding": (
        lambda run, place, options: left_out(run.task, run.batches, place),
        "Mean size of the change of a prediction where a share of the context leaves it: the rows with the largest "
        "attention weights, and as many random others; of a number in its units, or of the probability of the "
        "predicted category.",
    ),
}
"""Experiments with their words in the report."""


def load(folder: Path, further: Sequence[str]) -> Run:
    """Load the task of a run and its test batches."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("ckpt_path", "weights_only"):  # Arguments of a subcommand.
        config.pop(name, None)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "config.yaml")
        file.write_text(yaml.safe_dump(config))
        cli = CLI([f"--config={file}", *QUIET, "--trainer.accelerator=cpu", *further], run=False)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    task = TableReconstruction.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    task.check_data(cli.datamodule)
    table = Path(str(cli.config.data.init_args.table)).name
    batches = list(cli.datamodule.test_dataloader())
    return Run(table, type(task.network).__name__, cli.config.seed_everything, task, batches)


def measure(options: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """Lines of the report, by experiment: each has a run, a target and its figures."""
    found: dict[str, list[dict[str, object]]] = {name: [] for name in options.what}
    for folder in options.run:
        run = load(folder, options.further)
        own = {"table": run.table, "network": run.network, "seed": run.seed}
        for place, column in enumerate(run.task.columns):
            for name in options.what if column.target else ():
                for figures in EXPERIMENTS[name][0](run, place, options):
                    found[name].append({**own, "target": column.name, **figures})
                    sys.stderr.write(f"{name}: {found[name][-1]}\n")
    return found


def report(found: dict[str, list[dict[str, object]]], options: argparse.Namespace) -> str:
    """Report in Markdown."""
    runs = " ".join(map(str, options.run))
    lines = ["# Row interactions", "", f"`python -m benchmarks.row_interactions {' '.join(options.what)} --run {runs}`"]
    lines += ["", f"{provenance(torch.device('cpu'))}.", ""]
    for name, rows in found.items():
        lines += [f"## {name.capitalize()}", "", EXPERIMENTS[name][1], ""]
        for heads in dict.fromkeys(tuple(row) for row in rows):  # Numbers and categories have other scores.
            lines += [f"| {' | '.join(heads)} |", "| --- | --- | ---: | --- |" + " ---: |" * (len(heads) - 4)]
            lines += [f"| {' | '.join(map(_shown, row.values()))} |" for row in rows if tuple(row) == heads]
            lines.append("")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def as_csv(found: dict[str, list[dict[str, object]]]) -> str:
    """All figures as CSV, a line for each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "table", "network", "seed", "target", "line", "figure", "value"])
    for name, rows in found.items():
        for number, row in enumerate(rows):
            own, figures = list(row.values())[:4], list(row.items())[4:]
            writer.writerows([name, *own, number, figure, value] for figure, value in figures)
    return text.getvalue()


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.row_interactions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", nargs="+", choices=EXPERIMENTS, help="experiments")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of runs, with their checkpoints")
    parser.add_argument("--rows", type=int, default=50, help="test rows of the deletion (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of permutations and deletions (default: 0)")
    add_out(parser, "row_interactions.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    options.further = check_trainings(parser, further, QUIET)
    check_least(parser, options, rows=1, seed=0)
    for run in options.run:
        for file in (run / "config.yaml", run / "checkpoints" / "best.ckpt"):
            if not file.is_file():
                parser.error(f"run: {run} is no folder of a training: there is no {file}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write and print the report."""
    options = arguments(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    found = measure(options)
    text = report(found, options)
    publish(as_csv(found), options.out.with_suffix(".csv"))
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
