"""Argument parser of ``python -m datamodules.dump``."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from datamodules.prior.tabicl import TabiclKind

EXAMPLES = """\
examples:
  tasks of a real table, 70 % of them from 70 % of its rows to adult_train.h5, the rest to adult_test.h5:
    python -m datamodules.dump --source openml:179 --tasks 500 --rows 100 --context 80 --features 13 --out adult.h5
  tables of the synthetic prior, in sizes drawn from ranges:
    python -m datamodules.dump --prior scm --tasks 10000 --rows 30 120 --features 2 12 --context 0.3 0.9 --out scm.h5
  what is in a file, of this or another project:
    python -m datamodules.dump --check scm.h5 --plot

An interrupted command goes on where it was when it is given again. Exit status: 0 written, 2 wrong arguments,
3 the table cannot be read or the file not written, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    command = argparse.ArgumentParser(
        prog="python -m datamodules.dump",
        description="Write in-context tasks, cut from a real table or drawn from a prior, to an HDF5 file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    origin = command.add_mutually_exclusive_group(required=True)
    origin.add_argument("--source", help="table: sklearn:<name>, openml:<id or name> or a file; ::<column> = target")
    origin.add_argument("--prior", choices=("scm", "tabicl"), help="synthetic tables: ours, or of the extra `priors`")
    origin.add_argument("--check", type=Path, metavar="FILE", help="compare a file with its checksum, write nothing")
    add = command.add_argument
    add(
        "--plot",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="PNG",
        help="with --check: what is in the file, as a table and a picture (default: FILE's name with .png)",
    )
    add("--out", type=Path, default=Path("tasks.h5"), help="file to write (default: %(default)s)")
    add("--tasks", type=_count, default=500, help="number of tasks (default: %(default)s)")
    add("--rows", type=int, nargs="+", help="rows of a task (default: 100); of a prior: fewest, most (30 120)")
    add(
        "--context",
        type=float,
        nargs="+",
        help="context rows (default: 80); of a prior: smallest share, largest (.3 .9)",
    )
    add("--features", type=int, nargs="+", help="columns of a task (default: all); of a prior: fewest, most (2 12)")
    add("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    add("--batch-size", type=_count, default=32, help="tasks in a chunk of the file (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace a file of this name")
    _table_arguments(command.add_argument_group("tasks of a table"))
    prior = command.add_argument_group("tasks of a prior")
    prior.add_argument("--classes", type=int, nargs="+", help="fewest and most classes (default: 2 3)")
    prior.add_argument("--kind", choices=get_args(TabiclKind), help="which of TabICL's priors (default: mix_scm)")
    return command


def _table_arguments(table: argparse._ArgumentGroup) -> None:
    add = table.add_argument
    add("--target", help="column with the labels (default: the source's)")
    add(
        "--split",
        choices=("both", "train", "test"),
        help="rows to draw from: both parts, into two files named <out>_train and <out>_test, or one (default: both)",
    )
    add("--held-out", type=float, help="share of rows, and of tasks where both parts are written (default: 0.3)")
    add("--keep-labels", action="store_true", help="number the classes alike in all tasks, rather than at random")
    add("--keep-columns", action="store_true", help="leave the columns of a task in the order of the table")
    add("--fixed-columns", action="store_true", help="take the same columns for all tasks")
    add("--cache-dir", help="folder of OpenML's files (default: $OPENML_CACHE_DIR, else OpenML's own)")


def single(options: argparse.Namespace, name: str, default: int) -> int:
    """Check that an argument is a single integer, as for tasks cut from a table."""
    values = getattr(options, name) or [default]
    if len(values) > 1 or int(values[0]) != values[0]:
        raise ValueError(f"--{name} of tasks cut from a table must be one whole number, got {_text(values)}")
    return int(values[0])


def span(options: argparse.Namespace, name: str, default: tuple[int, int]) -> tuple[int, int]:
    """Range from an argument of one or two numbers; one number is both ends."""
    values = getattr(options, name) or default
    if len(values) > 2:
        raise ValueError(f"--{name} must be one number or two, fewest and most, got {_text(values)}")
    return values[0], values[-1]


def shares(options: argparse.Namespace, rows: tuple[int, int]) -> tuple[float, float]:
    """Range of context shares from an argument; a number of rows is divided by the rows of a table."""
    values = options.context or (0.3, 0.9)
    if len(values) == 1 and values[0] >= 1 and rows[0] == rows[1]:
        return values[0] / rows[0], values[0] / rows[0]
    if len(values) > 2 or not 0 < values[0] < 1:
        raise ValueError(f"--context must be one share or two, or a number of equal --rows, got {_text(values)}")
    return values[0], values[-1]


def refuse(options: argparse.Namespace, needed: str, *names: str) -> None:
    """Raise ValueError for a flag that only another kind of dump takes."""
    for name in names:
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} goes with {needed} only")


def _text(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
