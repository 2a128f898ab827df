"""Command line of the swap table."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch

from datamodules.commands import check_target
from tabattn.compare import machine, report
from tabattn.compare.cells import choices
from tabattn.compare.evaluation import final_metric, mode_of
from tabattn.compare.swap import contexts, evaluation, tables
from tabattn.compare.swap.limits import Limits, half_of_memory
from tabattn.compare.swap.mechanisms import Choice, chosen, default_choices
from tabattn.compare.swap.results import Row, Table, text, write
from tabattn.compare.swap.trained import SHIPPED, Trained, read_trained
from tabattn.compare.swap.variants import Variant, original, places, swappable, variant
from tabattn.contract.checks import nearest
from tabattn.contract.errors import DataError, message_of
from tabattn.optim.fitting import quiet
from tabattn.pairs import weights as pairs
from tabattn.storage.provenance import git_state, versions
from tabattn.tasks import PriorClassification

DESCRIPTION = """\
Swap table: evaluates a trained network with every attention mechanism that shares its weights, without training it
again. Shown are the quality that is lost and the time that is gained beside the mechanism it was trained with.

CHECKPOINT is a checkpoint of any task (.ckpt), a weight file of a classifier or of pairs (.safetensors), 'shipped' for
the classifier's weights that ship with the package, or the kind of those of pairs, such as 'const'. With --rows an
in-context classifier is scored on tables by number of context rows; otherwise the task's own test is run, on the data
of --config (default: config.yaml of the run folder). Flags such as --data.batch_size=8 change the configuration.
"""

PASSED = ("--data.", "--model.", "--trainer.", "--data=", "--seed_everything=")
"""Beginnings of the flags of the test."""

PAIRS = "pairs_pretrain"
"""Configuration on whose data the weights of pairs that ship with the package are tested."""

LEAST_ROWS = 10
"""Fewest context rows."""

ROWS = (1000, 5000)
"""Context rows of a classifier where none are named."""


class Parser(argparse.ArgumentParser):
    """Parser that raises an error."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError."""
        raise ValueError(message)


def parser() -> Parser:
    """Build the parser."""
    made = Parser(
        prog="python -m tabattn.compare.swap",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("checkpoint", metavar="CHECKPOINT")
    add = made.add_argument
    add("--attention", help="mechanisms, such as Local:window=8,Local:window=32,TopK (default: all, the registry)")
    add("--where", default="rows", choices=["rows", "columns", "both"], help="attention to swap (default: rows)")
    add("--untrained", action="store_true", help="measure mechanisms with weights of their own too, as initialised")
    add("--config", help="configuration of the test: a file, or the name of a packaged one")
    add("--metric", help="metric of the test to compare by (default: that of its checkpoints)")
    add("--rows", type=int, nargs="+", metavar="N", help="numbers of context rows of a classifier")
    add("--tables", nargs="+", default=[], metavar="TABLE", help="tables to score it on too: a file, sklearn:, openml:")
    add("--count", type=int, default=3, help="synthetic tables to score it on (default: 3)")
    add("--features", type=int, default=8, help="columns of a synthetic table (default: 8)")
    add("--targets", type=int, default=200, help="target rows of a table (default: 200)")
    add("--seed", type=int, default=0, help="of synthetic tables and of the order of rows (default: 0)")
    add("--rounds", type=int, default=5, help="timed predictions of each mechanism, in turns (default: 5)")
    add("--seconds", type=float, default=20.0, help="time after which one is not timed again (default: 20)")
    add(
        "--longest", type=float, default=600.0, help="longest prediction in seconds; others are left out (default: 600)"
    )
    add("--memory", type=float, help="most memory of a prediction in MB (default: half of the machine's)")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add("--out", type=Path, default=Path("runs/swap"), help="folder of the results (default: runs/swap)")
    return made


@quiet(verbose=False)
def command(argv: Sequence[str]) -> Table:
    """Measure and write a swap table.

    Args:
        argv: Command line, without the program.

    Raises:
        ValueError: An argument is wrong; also a DataError, of a file.
    """
    options, flags = parser().parse_known_args(argv)
    options.flags = flags
    _check(options)
    torch.set_num_threads(options.threads)
    trained = read_trained(options.checkpoint)
    given = [] if options.attention in (None, "all") else choices(options.attention)
    swapped = places(trained, options.where)
    wanted = swappable(trained, chosen(given) if given else default_choices(), swapped)
    limits = Limits(options.rounds, options.seconds, options.longest, options.memory or half_of_memory())
    by_rows = trained.kind is PriorClassification and not options.config and _is_file_of_weights(options)
    measured = _by_rows if options.rows or by_rows else _by_test
    table = measured(trained, wanted, swapped, options, limits)
    for note in report.write(options.out).notes:
        _say(note)
    return table


def _check(options: argparse.Namespace) -> None:
    """Check the arguments before any work."""
    for name, least in (("count", 0), ("features", 1), ("targets", 2), ("rounds", 1), ("threads", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    for name in ("seconds", "longest", "memory"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} must be above 0, got {value:g}")
    if options.rows and min(options.rows) < LEAST_ROWS:
        raise ValueError(f"--rows must be at least {LEAST_ROWS}, got {min(options.rows)}")
    for flag in options.flags:
        if not flag.startswith(PASSED) or "=" not in flag:
            raise ValueError(f"unrecognized argument {flag}: flags of the test are written --data.batch_size=8")
    if options.rows and options.flags:
        raise ValueError(f"--rows takes no flags of the test, got {options.flags[0]}")
    check_target(options.out / "swap.json", overwrite=True)


def _is_file_of_weights(options: argparse.Namespace) -> bool:
    return options.checkpoint == SHIPPED or options.checkpoint.endswith(".safetensors")


def _by_rows(
    trained: Trained, wanted: Sequence[Choice], swapped: list[str], options: argparse.Namespace, limits: Limits
) -> Table:
    """Swap table of a classifier by number of context rows."""
    if trained.kind is not PriorClassification:
        raise ValueError(f"--rows is of in-context classifiers, {trained.where} is of {trained.kind.__name__}")
    numbers = options.rows or ROWS
    drawn = tables.synthetic(options.count, max(numbers), options.targets, options.features, options.seed)
    scored = [*drawn, *tables.named(options.tables, options.targets, options.seed)]
    if not scored:
        raise ValueError("--count 0 needs --tables to score on")
    for each in scored:
        each.cut(max(numbers))
    names = ", ".join(each.name for each in scored)
    data = f"{options.targets} target rows of each of {names}"
    table = _started(trained, swapped, options, contexts.METRIC, data)
    variants = _variants(trained, wanted, swapped, options)
    return _filled(table, contexts.rows(variants, scored, numbers, limits, _say), options)


def _by_test(
    trained: Trained, wanted: Sequence[Choice], swapped: list[str], options: argparse.Namespace, limits: Limits
) -> Table:
    """Swap table by the task's own test."""
    prepared = evaluation.Prepared(_words(options))
    trained = prepared.completed(trained)
    monitored = prepared.options.checkpoint.monitor
    table = _started(trained, swapped, options, options.metric or "", f"test of {prepared.options.data.class_path}")
    variants = _variants(trained, wanted, swapped, options)
    found = list(evaluation.rows(prepared, variants, limits, _say))
    table.metric = metric_of(options.metric, monitored, found[0].scores)
    table.mode = mode_of(table.metric)
    for row in found:
        row.compared(found[0], table.metric, table.mode)
    return _filled(table, found, options)


def _words(options: argparse.Namespace) -> list[str]:
    """Words of the configuration of the test."""
    config, flags = options.config, list(options.flags)
    if config is None and options.checkpoint in pairs.SHIPPED:
        config = PAIRS
        flags.insert(0, f"--data.kind={options.checkpoint}")
    if config is None:
        beside = Path(options.checkpoint).parent.parent / "config.yaml"
        if not beside.is_file():
            raise ValueError(f"--config is needed: there is no {beside} of a run beside {options.checkpoint}")
        config = str(beside)
    return ["--config", config, *flags]


def metric_of(given: str | None, monitored: str | None, scores: Mapping[str, float]) -> str:
    """Name of the metric to compare by: as given, that of the checkpoints, or the first one.

    Raises:
        ValueError: The test logs no such metric.
    """
    if given is not None and given not in scores:
        raise ValueError(f"--metric must be one of {', '.join(scores)}, got {given!r}{nearest(given, scores)}")
    found = given or final_metric(monitored, scores)
    if found is None:
        raise ValueError("the test logs no metric to compare by")
    return found


def _variants(
    trained: Trained, wanted: Sequence[Choice], swapped: list[str], options: argparse.Namespace
) -> list[Variant]:
    """Variants to measure, the trained one first."""
    first = original(trained, swapped)
    return [first, *(variant(trained, choice, swapped, options.untrained) for choice in wanted)]


def _started(trained: Trained, swapped: list[str], options: argparse.Namespace, metric: str, data: str) -> Table:
    """Table without rows."""
    gpu = not options.rows and torch.cuda.is_available()
    facts = {**versions(), "commit": git_state()}
    clock = "CPU" if options.threads == 1 and not gpu else "wall-clock"
    here = machine.described(options.threads, gpu)
    return Table(options.checkpoint, trained.kind.__name__, swapped, metric, "max", data, clock, here, facts)


def _filled(table: Table, found: Iterable[Row], options: argparse.Namespace) -> Table:
    """Fill the table, and write it after every row."""
    for row in found:
        table.rows.append(row)
        write(table, options.out)
    return table


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; an error is one line, with status 2."""
    try:
        table = command(sys.argv[1:] if argv is None else argv)
    except (ValueError, DataError) as ex:
        sys.stderr.write(f"error: {message_of(ex)}\n")
        return 2
    sys.stdout.write(f"{text(table)}\n")
    return 0
