"""Command that plots tasks of sequences before a training: ``python -m datamodules.pairs --help``."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from lightning.pytorch import LightningDataModule

import datamodules  # noqa: F401  (makes the names of the classes known)
from tabattn.contract.batches import PairBatch
from tabattn.storage.class_paths import guard, load_yaml
from tabattn.training.configurations import with_packaged
from tabattn.training.parser import HelpFormatter, Parser, split_allowed
from tabattn.training.status import constructor_error, status_of

DESCRIPTION = """\
Plot tasks of sequences as a training gets them: context as dots, targets as rings, in a colour for each member, and as
lines the exact density of the targets given the context, where the process is known.

  python -m datamodules.pairs --plot --data.kind=rbf
  python -m datamodules.pairs --plot=windows.png --config configs/pairs_table.yaml --data.context=8

Exit status: 0 written, 2 wrong arguments, 3 the data cannot be read or the file not written.
"""
DEFAULT = "tasks.png"
MOST_TASKS = 12
CHOICES = ("--config=", "--data=", "--data.class_path=", "--data.help")
"""Beginnings of words that say which datamodule is meant."""


def main(arguments: list[str] | None = None) -> int:
    """Plot the tasks of a command line.

    Args:
        arguments: Arguments of the command line; None = those of the process.

    Returns:
        Exit status.
    """
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as ex:
        return int(ex.code or 0)
    except (Exception, KeyboardInterrupt) as ex:
        return status_of(ex, None)
    return 0


def _run(arguments: Sequence[str]) -> None:
    words, packages = split_allowed(list(arguments))
    parser = _parser()
    with guard(packages):
        options = parser.parse_args(_with_default(list(_only_data(with_packaged(words), parser))))
        if not 1 <= options.tasks <= MOST_TASKS:
            parser.error(f"tasks: must be in [1, {MOST_TASKS}], got {options.tasks}")
        try:
            data = parser.instantiate_classes(options).data
        except ValueError as ex:
            parser.error(str(constructor_error(ex)))
    if getattr(data, "batch", None) is not PairBatch:
        parser.error(
            f"data: {type(data).__name__} has no tasks of sequences; SyntheticPairs, TablePairs and LongPairs do"
        )
    target = Path(options.plot or DEFAULT)
    if target.suffix != ".png":
        parser.error(f"plot: the name of the file must end in .png, got {target}")
    counts = _plot(data, options.tasks, target)
    sys.stdout.write(f"{target}: {counts[0]} training and {counts[1]} test tasks of {type(data).__name__}\n")


def _parser() -> Parser:
    parser = Parser(prog="python -m datamodules.pairs", description=DESCRIPTION, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--plot", nargs="?", const=DEFAULT, default=DEFAULT, help="picture to write, replaced if it exists")
    add("--tasks", type=int, default=4, help=f"number of training tasks and of test tasks, at most {MOST_TASKS}")
    add("-c", "--config", action=ActionConfigFile, help="configuration of a training, of which only `data` is read")
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    return parser


def _with_default(words: list[str]) -> list[str]:
    """Command line whose data are of ``SyntheticPairs`` where it names no datamodule and no configuration."""
    named = any(word in ("--data", "--data.class_path") or word.startswith(CHOICES) for word in words)
    return words if named else ["--data=SyntheticPairs", *words]


def _only_data(words: Any, parser: Parser) -> Iterator[str]:
    """Yield a command line in which each configuration is replaced by its text, of which only ``data`` is left."""
    given = iter(words)
    for word in given:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c"):
            yield word
            continue
        path = value if equals else next(given, "")
        try:
            content = load_yaml(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as ex:
            parser.error(f"config: {path} cannot be read: {ex}")
        if not isinstance(content, dict) or "data" not in content:
            parser.error(f"config: {path} describes no data")
        yield f"--config={yaml.safe_dump({'data': content['data']}, default_flow_style=True, width=sys.maxsize)}"


def _plot(data: Any, count: int, target: Path) -> tuple[int, int]:
    """Write the picture; return the numbers of training and of test tasks."""
    from callbacks.pictures import write_png
    from callbacks.task_panels import Example, draw_examples

    data.prepare_data()
    examples: list[Example] = []
    sizes = []
    exact = getattr(data, "exact", lambda batch: None)
    for part, loader in (("training", data.train_dataloader()), ("test", data.predict_dataloader())):
        batches = loader.dataset
        distinct = count if part == "training" else min(count, len(batches))
        before = len(examples)
        for number in range(count):
            batch = batches[number % distinct]
            index = number // distinct
            if index < len(batch.x):
                one = batch.first(index + 1)
                examples.append(Example(f"{part} {number}", one, index, exact(one)))
        sizes.append(len(examples) - before)
    title = f"tasks of {type(data).__name__}, each of training from a batch of its own"
    write_png(target, draw_examples(examples, title, getattr(data, "names", None)))
    return sizes[0], sizes[1]


if __name__ == "__main__":
    sys.exit(main())
