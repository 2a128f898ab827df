"""Swap tables of the weights that ship with the package: ``python -m benchmarks.swap``.

The in-context classifier by number of context rows, and the weights of pairs on their own tasks, each evaluated with
every mechanism that shares the weights, without training (``tabattn.compare.swap``). Tables are kept in a folder beside
the report as they are made: the same command goes on after an interruption, and measures nothing twice.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.measure import provenance
from benchmarks.reports import add_out, check_least, publish
from tabattn.compare.swap.command import command
from tabattn.compare.swap.results import Row, Table, cells, comma_separated, number, picture
from tabattn.compare.swap.trained import SHIPPED
from tabattn.pairs.weights import SHIPPED as KINDS
from tabattn.storage.files import write_file

SHORT = "Scratch,Local:window=8,Local:window=32,Inducing,Pooling,Linear,Nystrom,TopK:keep=8,TopK:keep=32,"
SHORT += "Entmax:alpha=1.1,Entmax,Sparsefinder"
"""Mechanisms for sequences of 64 to 400 points."""

WITHIN = 0.005
"""Loss of the metric that is next to nothing."""

NOTABLE = 1.1
"""Speed-up that is more than noise."""

NAMES = "{metric} | lost | seconds | quartiles | faster | attention | MB | largest difference | equal decisions"
HEAD, RULE = f"| attention | {NAMES} |", "| --- |" + " ---: |" * 9


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.swap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 5000, 20000], help="of the context")
    parser.add_argument("--tables", nargs="*", default=[], help="tables to score on too: a file, sklearn:, openml:")
    parser.add_argument("--count", type=int, default=1, help="synthetic tables to score on (default: 1)")
    parser.add_argument("--attention", help="mechanisms (default: the registry)")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="weights of pairs")
    parser.add_argument("--batches", type=int, default=16, help="batches of the test of pairs (default: 16)")
    parser.add_argument("--rounds", type=int, default=3, help="timed predictions (default: 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="time after which one is not timed again")
    parser.add_argument("--longest", type=float, default=20.0, help="longest prediction in seconds")
    parser.add_argument("--memory", type=float, default=6000.0, help="most memory of a prediction in MB")
    add_out(parser, "swap.md", beside=(".csv", ".png", ""))
    options = parser.parse_args(argv)
    options.words = [word for word in (sys.argv[1:] if argv is None else argv) if not word.startswith("--out=")]
    check_least(parser, options, rows=10, count=0, batches=1, rounds=1)
    return options


def commands(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Yield name and command line of each swap table."""
    limits = [f"--{name}={getattr(options, name):g}" for name in ("rounds", "seconds", "longest", "memory")]
    rows = ["--rows", *map(str, options.rows), f"--count={options.count}"]
    named = ["--tables", *options.tables] if options.tables else []
    yield SHIPPED, [SHIPPED, *rows, *named, *limits, f"--attention={options.attention or 'all'}"]
    for kind in options.kinds:
        size = [] if kind == KINDS[0] else ["--data.batch_size=8"]
        chosen = f"--attention={options.attention or SHORT}"
        yield kind, [kind, *limits, *size, chosen, f"--data.evaluation.test_batches={options.batches}"]


def measured(words: Sequence[str], folder: Path) -> Table:
    """Swap table of a command line, measured now or earlier."""
    kept, settings = folder / "swap.json", folder / "command.json"
    if not settings.is_file() or json.loads(settings.read_text()) != list(words):
        table = command([*words, f"--out={folder}"])
        write_file(settings, json.dumps(list(words)).encode())
        return table
    return Table.of(json.loads(kept.read_text()))


def section(name: str, table: Table) -> str:
    """Swap table as Markdown."""
    lines = [f"## `{name}`", "", f"{table.task}, {table.data}. Metric: {table.metric}."]
    for context, rows in table.sections().items():
        lines += ["", *([f"### {context:,} context rows", ""] if context else [])]
        lines += [
            HEAD.format(metric=table.metric),
            RULE,
            *(f"| {' | '.join(cells(row))} |" for row in rows if row.timing),
        ]
        if reasons := [f"- {row.label}: {row.reason}" for row in rows if row.reason]:
            lines += ["", *reasons]
        if (best := rows[0].scores.get(f"{table.metric}_oracle")) is not None:
            lines += ["", f"The exact oracle has {number(best, 4)}."]
        if told := fastest(rows):
            lines += ["", told]
    return "\n".join(lines)


def fastest(rows: Sequence[Row]) -> str:
    """Fastest mechanism that loses next to nothing, in words; empty where none is faster than the trained one."""
    near = [row for row in rows if row.faster and row.faster > NOTABLE and row.lost is not None and row.lost <= WITHIN]
    found = max((row for row in near if not row.trained), key=lambda row: row.faster or 0.0, default=None)
    if found is None:
        return ""
    return f"Fastest with at most {WITHIN:g} lost: {found.label}, {found.faster:.1f} times."


def report(tables: dict[str, Table], options: argparse.Namespace) -> str:
    """Compose the report."""
    first = next(iter(tables.values()))
    written = shlex.join(["python", "-m", "benchmarks.swap", *options.words])
    head = (
        "# Swap tables of the shipped weights\n\n"
        f"Written by `{written}` on {provenance(torch.device('cpu'))}. Networks trained with "
        f"{first.rows[0].label}, evaluated with other mechanisms between rows, without training. *Lost*: how much "
        f"worse the metric is than that of the trained mechanism; *seconds*: {first.clock} time of a prediction on one "
        f"thread, the median of up to {options.rounds} (quartiles), or a single one where it exceeds "
        f"{options.seconds:g} s; *attention*: its share in the time; *MB*: peak memory; *largest difference*: of "
        "predicted probabilities, or of means. Rows of tables are in random order. Mechanisms that need training, "
        "more than "
        f"{options.memory:g} MB or more than {options.longest:g} s are listed with the reason."
    )
    return "\n\n".join([head, *(section(name, table) for name, table in tables.items())]) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not yet measured, and write the report with CSV and picture beside it."""
    options = arguments(argv)
    folder: Path = options.out.with_suffix("")
    tables = {name: measured(words, folder / name) for name, words in commands(options)}
    text = report(tables, options)
    publish(text, options.out)
    first = tables[SHIPPED]
    write_file(options.out.with_suffix(".csv"), comma_separated(first).encode())
    write_file(options.out.with_suffix(".png"), picture(first))
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
