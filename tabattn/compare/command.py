"""Command line of comparisons."""

import argparse
import contextlib
import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from tabattn.compare import machine, plan, report
from tabattn.compare.cells import Cell, choices
from tabattn.compare.executors import executor_of, threads_for
from tabattn.compare.leases import locked
from tabattn.compare.plan import Settings
from tabattn.compare.preparation import prepare
from tabattn.compare.runner import Runner, Signals, Stopped
from tabattn.compare.store import Store
from tabattn.storage.files import disk_problem
from tabattn.storage.trusted import allowing
from tabattn.training.parser import nearest, split_allowed

PASSED = ("model", "data", "optimizer", "lr_scheduler", "trainer", "checkpoint", "guard", "allow")
"""First words of the flags that ``train.py fit`` takes."""

DESCRIPTION = """Compare attention mechanisms on a task: quality, time, memory, and what they look at.

Each cell of the grid of mechanisms and seeds is one training in a process of its own. It is named by the hash of its
configuration, the code, the data, the seed and the budget, and is never run twice: the same command, or --out alone,
goes on where a comparison stopped, and more mechanisms or seeds add to it.

examples:
  python -m tabattn.compare --config prior --attention Softmax,Local,Entmax --seeds 3 --budget 120s --out compared
  python -m tabattn.compare --config pairs --attention all --budget 500steps --out compared --data.batch_size=8
  python -m tabattn.compare --config pairs --attention Local:window=4,Local:window=16 --budget 2min --out compared
  python -m tabattn.compare --out compared
  python -m tabattn.compare --swap shipped --rows 1000 5000
"""


class Parser(argparse.ArgumentParser):
    """Parser that reports an error in one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"error: {message}\n")


def parser() -> Parser:
    """Build the parser."""
    made = Parser(
        prog="python -m tabattn.compare",
        description=DESCRIPTION,
        epilog="Flags that begin with " + ", ".join(f"--{word}" for word in PASSED) + " are those of train.py fit.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the comparison")
    made.add_argument("--config", action="append", help="configuration: a file, or the name of a packaged one")
    made.add_argument(
        "--attention", help="mechanisms, separated by commas, with options as in Local:window=8; all = the registry"
    )
    made.add_argument(
        "--vary",
        metavar="ARGUMENT=A,B",
        help="compare values of another argument instead, such as model.graph.grouping=kmeans,quantile",
    )
    made.add_argument("--seeds", type=int, help="trainings of each mechanism (default: 3)")
    made.add_argument(
        "--budget",
        help="of each training: 500steps; or 120s, 2min: as many steps as each mechanism does in that time, measured "
        "once before the trainings (default: 500steps)",
    )
    made.add_argument(
        "--metric", help="final metric, such as test/accuracy or test/loss:min (default: that of checkpoint.monitor)"
    )
    made.add_argument(
        "--executor",
        default="local",
        help="local, or local=SLOTS: trainings at a time (default: one for each GPU, or else for each core); slurm, or "
        "slurm:partition=gpu:minutes=60:gpus=1: a job for each; dask=ADDRESS: on the workers of that scheduler",
    )
    made.add_argument(
        "--swap",
        metavar="CHECKPOINT",
        help="swap table instead: a trained network with other mechanisms; see python -m tabattn.compare.swap --help",
    )
    made.add_argument("--no-timing", action="store_true", help="do not time training steps; not with a budget of time")
    made.add_argument("--dry-run", action="store_true", help="list the cells, and run and write nothing")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run a comparison, and return the exit status.

    Returns:
        0 all cells have results; 1 some failed; 2 wrong use; 3 the disk cannot be written; 130 and the like: a signal.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if given := swap_words(words):
        from tabattn.compare.swap import command as swap

        return swap.main(given)
    made = parser()
    options, others = made.parse_known_args(words)
    signals = Signals()
    try:
        store = Store(checked_folder(options.out))
        settings = settings_of(options, passed(made, others), store)
        _, packages = split_allowed(list(settings.flags))
        with signals.watching(), working_in(settings.folder), allowing(packages):
            return run(store, settings, options, signals)
    except (ValueError, MisconfigurationException) as ex:
        sys.stderr.write(f"error: {ex}\n")
        return 2
    except Stopped as ex:
        sys.stderr.write(f"to go on: python -m tabattn.compare --out {shlex.quote(str(options.out))}\n")
        return ex.status if ex.status > 128 else 3
    except OSError as ex:
        sys.stderr.write(f"error: {disk_problem(ex) or ex}\n")
        return 3


def swap_words(words: Sequence[str]) -> list[str] | None:
    """Words of a swap table, of those of a command line with ``--swap CHECKPOINT``; None = it asks for none."""
    for place, word in enumerate(words):
        name, joined, value = word.partition("=")
        if name == "--swap":
            rest = [*words[:place], *words[place + 1 :]] if joined else [*words[:place], *words[place + 2 :]]
            checkpoint = [value] if joined else list(words[place + 1 : place + 2])
            return [*checkpoint, *rest]
    return None


def run(store: Store, settings: Settings, options: argparse.Namespace, signals: Signals) -> int:
    """Plan the cells, run them, and write the report."""
    planned = plan.cells_of(settings)
    if options.dry_run:
        listed(store, planned)
        return 0
    gpu = plan.gpu(planned[0].config)
    if not store.exists:
        settings = replace(settings, threads=threads_for(options.executor, gpu))
    executor = executor_of(options.executor, store.folder, settings.threads, gpu)
    store.folder.mkdir(parents=True, exist_ok=True)
    with planning(store.folder, signals):
        command = shlex.join(["python", "-m", "tabattn.compare", *sys.argv[1:]])
        if store.exists:
            earlier = Settings.read(store.comparison()["settings"])
            settings = settings.joined(earlier, store.folder)
            planned = plan.cells_of(settings)
            command = store.comparison()["command"] if settings == earlier else command
        prepare(store, settings, planned, signals, command, timing=not options.no_timing)
    keys = [cell.key for cell in planned]
    try:
        Runner(store, keys, executor, signals).run()
        score_baselines(store)
    finally:
        sys.stdout.write(reported(store))
    return int(any(store.state(key) != "done" for key in keys))


def settings_of(options: argparse.Namespace, flags: tuple[str, ...], store: Store) -> Settings:
    """Settings of a command line, together with those of its folder.

    Raises:
        ValueError: They are wrong, or missing.
    """
    earlier = Settings.read(store.comparison()["settings"]) if store.exists else None
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {options.seeds}")
    vary, given_choices = varied(options)
    if earlier is not None and not options.config:
        given = replace(earlier, choices=given_choices or earlier.choices, metric=options.metric or earlier.metric)
        given = replace(given, seeds=options.seeds or earlier.seeds, vary=vary if given_choices else earlier.vary)
        if options.budget:
            given = replace(given, budget=plan.budget_of(options.budget))
        return replace(given, flags=flags or earlier.flags).joined(earlier, store.folder)
    if not options.config or not given_choices:
        missing = "--config" if not options.config else "--attention"
        raise ValueError(f"{missing} is required, as {options.out} holds no comparison yet")
    budget = plan.budget_of(options.budget or "500steps")
    given = Settings(
        *(
            tuple(options.config),
            given_choices,
            options.seeds or (earlier.seeds if earlier else 3),
            budget,
            flags,
            vary,
        ),
        metric=options.metric,
        threads=threads_for(options.executor, gpu=False),
    )
    return given.joined(earlier, store.folder) if earlier else given


def varied(options: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """Argument that is varied, and its values; none where no flag names them."""
    if options.attention is not None and options.vary is not None:
        raise ValueError("--attention and --vary: give one of them")
    if options.vary is None:
        return plan.ATTENTION, () if options.attention is None else plan.mechanisms(options.attention)
    name, equals, values = options.vary.partition("=")
    if not equals or name.partition(".")[0] not in PASSED:
        raise ValueError(f"--vary must be an argument of train.py and its values, as model.x=A,B, got {options.vary!r}")
    return name, plan.named_once(choices(values), "--vary")


def passed(made: Parser, others: Sequence[str]) -> tuple[str, ...]:
    """Check the flags that are passed to ``train.py``.

    Raises:
        ValueError: One is none of its flags.
    """
    valued = False
    for word in others:
        name = word.partition("=")[0]
        if word.startswith("--"):
            if name.lstrip("-").rstrip("+").partition(".")[0] not in PASSED:
                raise ValueError(f"unrecognized argument: {name}{nearest(name, made._option_string_actions)}")
            valued = "=" not in word
        elif valued:
            valued = False
        else:
            raise ValueError(f"unrecognized argument: {word}")
    return tuple(others)


def checked_folder(folder: Path) -> Path:
    """Absolute path of a folder that can be written, or made.

    Raises:
        ValueError: It cannot.
    """
    folder = folder.expanduser().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out: {there} cannot be written")
    return folder


def listed(store: Store, planned: Sequence[Cell]) -> None:
    """Print the cells and their states."""
    width = max(len(cell.label) for cell in planned)
    for cell in planned:
        state = f"refused: {cell.refusal}" if cell.refusal else store.state(cell.key)
        sys.stdout.write(f"{cell.label:{width}}  seed {cell.seed}  {cell.key}  {state}\n")
    free = sum(not cell.refusal and store.state(cell.key) in ("waiting", "again") for cell in planned)
    sys.stdout.write(f"{len(planned)} cells, {free} to run\n")


def score_baselines(store: Store) -> None:
    """Score simple baselines on the same data, once, in a process of its own."""
    there = importlib.util.find_spec("tabattn.compare.baselines") is not None
    if there and not (store.folder / "baselines.json").exists() and any(entry.result for entry in store.cells()):
        environment = machine.environment(store.comparison()["threads"])
        command = [sys.executable, "-m", "tabattn.compare.baselines", str(store.folder)]
        subprocess.run(command, env=environment, check=False)


def reported(store: Store) -> str:
    """Write the report, and return its text; empty where nothing is done."""
    if not any(entry.result for entry in store.cells()):
        return ""
    return f"{report.write(store.folder).text}\n"


@contextlib.contextmanager
def planning(folder: Path, signals: Signals) -> Iterator[None]:
    """Context that one process on a folder is in at a time."""
    while True:
        with locked(folder) as free:
            if free:
                yield
                return
        sys.stderr.write(f"waiting for another process that plans the comparison in {folder}\n")
        signals.check()


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    """Context whose working folder is the one that relative paths of the comparison start from."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
