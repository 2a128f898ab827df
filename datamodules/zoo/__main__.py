"""Command that generates a zoo, or imports one: ``python -m datamodules.zoo --help``."""

import argparse
import sys
from pathlib import Path
from typing import get_args

from datamodules.commands import status_of
from datamodules.zoo.bar import Bar
from datamodules.zoo.generate import generate
from datamodules.zoo.imported import import_folder
from datamodules.zoo.profiles import PROFILES
from datamodules.zoo.source_table import Target, table_of
from datamodules.zoo.zoo_file import Zoo, read_zoo

EXAMPLES = """\
examples:
  20000 networks of 10 inputs on 20 linear tasks, in some minutes on one core:
    python -m datamodules.zoo --networks 20000 --out zoo.h5
  wider networks on 200 tasks of eight families, on a GPU:
    python -m datamodules.zoo --profile default --networks 50000 --tasks 200 --device cuda --out wide.h5
  networks of your own: a folder of state dictionaries, their architecture, and the table that they work on:
    python -m datamodules.zoo --import nets --architecture 4-16relu-3 --table sklearn:iris --out iris.h5

Profile `seed`: linear tasks, 1 to 3 hidden layers of 4 to 8 neurons, relu, tanh or sigmoid. Profile `default`: eight
families of tasks with 4 to 16 columns and noise, 1 to 5 hidden layers of 4 to 32 neurons, ten activation functions,
layers without bias, skip connections, missing weights. Each network is kept at 10, 25, 50 and 100 % of its training.

An imported file (.pt, .pth, .ckpt, .bin, .safetensors) is a network; files of a subfolder are the checkpoints of one
run. An architecture has widths from the inputs to the outputs, an activation function behind each, and / behind a layer
without bias; an activation function alone, such as relu, stands between all linear layers that a file has.

An interrupted command goes on where it was when it is given again. Exit status: 0 written, 2 wrong arguments, 3 the
file cannot be read or written, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    command = argparse.ArgumentParser(
        prog="python -m datamodules.zoo",
        description="Make a zoo: draw regression tasks and small networks, and train all at once; or import networks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = command.add_argument
    add("--out", type=Path, default=Path("zoo.h5"), help="file to write (default: %(default)s)")
    add("--profile", choices=tuple(PROFILES), default="seed", help="which tasks and networks (default: %(default)s)")
    add("--networks", type=int, default=20_000, help="number of networks to train (default: %(default)s)")
    add("--tasks", type=int, help="number of tasks (default: the profile's, such as 20)")
    add("--steps", type=int, help="training steps of each network (default: the profile's, such as 400)")
    add("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    add("--device", default="cpu", help="device to train on (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace a file of this name")
    add("--import", dest="folder", type=Path, metavar="FOLDER", help="make a zoo of networks that are there already")
    add("--architecture", help="architecture of imported networks, such as 4-16relu-3, or relu")
    add("--table", help="their table: sklearn:<name>, openml:<id or name> or a file; ::<column> = target")
    add(
        "--target",
        choices=get_args(Target),
        default="auto",
        help="what its target is: classes or numbers (default: words are classes, else as the outputs tell)",
    )
    add("--check", type=Path, metavar="FILE", help="read a zoo and say what it holds, write nothing")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Generate the zoo of a command line.

    Args:
        arguments: Arguments of the command line; None = those of the process.

    Returns:
        Exit status.
    """
    options = parser().parse_args(arguments)
    return status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    _check_arguments(options)
    if options.check is None:
        (_generate if options.folder is None else _import)(options)
    path = options.check or options.out
    sys.stdout.write(f"{path}: {_told(read_zoo(path))}\n")


def _check_arguments(options: argparse.Namespace) -> None:
    """Refuse arguments that would not be used, and an import without its own."""
    unused = _unused(options)
    if unused:
        raise ValueError(f"{', '.join(unused)}: not used with {'--import' if options.check is None else '--check'}")
    if options.check is not None:
        return
    for name in ("architecture", "table"):
        if (getattr(options, name) is None) != (options.folder is None):
            needs = f"--{name} goes with --import only" if options.folder is None else f"--import needs --{name}"
            raise ValueError(needs)
    if options.folder is None and options.target != "auto":
        raise ValueError("--target goes with --import only")


def _unused(options: argparse.Namespace) -> list[str]:
    """Flags with another value than their default that an import or a check does not use."""
    if options.check is None and options.folder is None:
        return []
    used = (
        {"check"}
        if options.check is not None
        else {"folder", "architecture", "table", "target", "out", "seed", "overwrite"}
    )
    default = vars(parser().parse_args([]))
    flags = {"folder": "import"}
    return [
        f"--{flags.get(name, name)}"
        for name, value in vars(options).items()
        if name not in used and value != default[name]
    ]


def _generate(options: argparse.Namespace) -> None:
    with Bar(options.out.name) as bar:
        generate(
            options.out,
            options.profile,
            options.networks,
            options.tasks,
            options.seed,
            options.device,
            options.steps,
            options.overwrite,
            bar,
        )


def _import(options: argparse.Namespace) -> None:
    table = table_of(options.table, kind=options.target)
    import_folder(options.out, options.folder, options.architecture, table, options.seed, options.overwrite)


def _told(zoo: Zoo) -> str:
    """What a zoo holds, in one line."""
    models = zoo.models
    scores = models["test_r2"][(models["frac"] == 1) & ~models["constant"]]
    scored = f"; mean test R2 at the end {scores.mean():.3f}" if len(scores) else ""
    return (
        f"{len(zoo.population)} networks of {len(set(models['run'].tolist()))} runs on {len(zoo.tasks.x)} tasks, "
        f"{len(zoo.architectures)} architectures; {int(models['constant'].sum())} are dead{scored}"
    )


if __name__ == "__main__":
    sys.exit(main())
