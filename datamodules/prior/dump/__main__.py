"""Command that writes in-context tasks to HDF5 files: ``python -m datamodules.dump --help``."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch.utils.data import Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from datamodules.commands import status_of
from datamodules.prior.cut import CutOptions
from datamodules.prior.dump.arguments import parser, refuse, shares, single, span
from datamodules.prior.dump.jobs import Job, Parts, facts, table_jobs
from datamodules.prior.dump.read import Dump
from datamodules.prior.dump.write import DumpPlan
from datamodules.prior.scm_options import DEFAULT_OPTIONS
from datamodules.prior.synthetic import ScmBatches, TableSizes
from datamodules.prior.tabicl import TabiclBatches, TabiclKind
from datamodules.tables.real import load_table
from tabattn.contract.batches import TableBatch
from tabattn.contract.checks import check_range, check_shares

TABLE_FLAGS = ("target", "split", "held_out", "keep_labels", "keep_columns", "fixed_columns", "cache_dir")
"""Arguments of tasks cut from a table only."""


def main(arguments: list[str] | None = None) -> int:
    """Write the dumps of a command line.

    Args:
        arguments: Arguments of the command line; None = those of the process.

    Returns:
        Exit status.
    """
    options = parser().parse_args(arguments)
    return status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.check is not None:
        _check(options.check, options.plot)
        return
    if options.plot is not None:
        raise ValueError("--plot goes with --check only")
    for job in _table_jobs(options) if options.source else [_prior_job(options)]:
        written = job.write(options.overwrite, _Bar)
        sys.stdout.write(f"{written.path}: {written.tasks} tasks, sha256 {written.sha256}\n")


def _check(path: Path, plot: Path | None) -> None:
    """Compare a file with its checksum, and show what is in it; to be shown, it needs none."""
    dump = Dump(path)
    summed = plot is None or "sha256" in dump.attributes
    if summed:
        dump.verify()
    told = "whole, its checksum matches" if summed else f"{len(dump)} tasks; it has no checksum"
    sys.stdout.write(f"{path}: {told}\n")
    if plot is not None:
        from datamodules.prior.dump.plot import show

        picture = path.with_suffix(".png") if plot == Path() else plot
        sys.stdout.write(show(dump, picture))
        sys.stdout.write(f"picture: {picture}\n")


class _Bar:
    """Shows the progress of a file on the terminal."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, numbers: Iterable[int], start: int) -> Iterator[int]:
        plan = self.job.plan
        with tqdm(total=plan.tasks, initial=start * plan.batch_size, unit=" tasks", desc=self.job.path.name) as bar:
            for number in numbers:
                yield number
                bar.update(min(plan.batch_size, plan.tasks - bar.n))


def _table_jobs(options: argparse.Namespace) -> list[Job]:
    """Dumps of tasks cut from a real table."""
    refuse(options, "--prior", "classes", "kind")
    held_out = 0.3 if options.held_out is None else options.held_out
    cut = CutOptions(
        single(options, "rows", 100),
        single(options, "context", 80),
        None if options.features is None else single(options, "features", 0),
        not options.keep_labels,
        not options.keep_columns,
        options.fixed_columns,
    )
    table = load_table(options.source, options.target, options.cache_dir)
    parts = Parts(options.split or "both", held_out, options.seed)
    return table_jobs(options.out, table, cut, options.tasks, parts, options.batch_size)


def _prior_job(options: argparse.Namespace) -> Job:
    """Dump of tasks of a synthetic prior."""
    refuse(options, "--source", *TABLE_FLAGS)
    rows, features = span(options, "rows", (30, 120)), span(options, "features", (2, 12))
    classes, context = span(options, "classes", (2, 3)), shares(options, rows)
    check_range("rows", rows, 4)
    check_range("features", features, 1)
    check_range("classes", classes, 2)
    check_shares("context", context)
    batches: Dataset[TableBatch]
    if options.prior == "scm":
        refuse(options, "--prior tabicl", "kind")
        name, cells = "scm", options.batch_size * rows[1] * features[1]
        sizes = TableSizes(rows, features, classes, context)
        batches = ScmBatches(sizes, DEFAULT_OPTIONS, options.batch_size, max_cells=cells, grow=0, seed=options.seed)
    else:
        kind: TabiclKind = options.kind or "mix_scm"
        name = f"tabicl {kind}"
        batches = TabiclBatches(kind, rows, features, classes[1], context, options.batch_size, options.seed)
    told = facts(name, options.seed, rows=rows, features=features, classes=classes, context=context)
    plan = DumpPlan(options.tasks, options.batch_size, rows[1], features[1], classes[1], told)
    return Job(options.out, batches, plan)


if __name__ == "__main__":
    sys.exit(main())
