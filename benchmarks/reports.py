"""Command lines of benchmarks: output paths, and argument checks before hours of work."""

import argparse
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

FOLDER = Path("runs", "benchmarks")
"""Default folder of reports; those in ``docs/benchmarks`` are only written if ``--out`` names them."""
QUIET = [f"--trainer.enable_{what}=false" for what in ("checkpointing", "progress_bar", "model_summary")]
QUIET.append("--trainer.logger=false")
"""Trainer arguments of trainings that write no files of their own."""
GROUPS = ("--model", "--data", "--optimizer", "--lr_scheduler", "--trainer")
"""First parts of the arguments of a training."""


def add_out(parser: argparse.ArgumentParser, name: str, beside: Sequence[str] = ()) -> None:
    """Add ``--out``, the path of the report, to a parser, with checks at parsing.

    Args:
        parser: Parser of the program.
        name: Name of the report in the folder of reports; ``--out`` must have its ending.
        beside: Suffixes of the files written beside the report; an empty one is a folder.
    """
    suffix = Path(name).suffix

    def path(text: str) -> Path:
        out = Path(text)
        if out.suffix != suffix:
            raise argparse.ArgumentTypeError(f"must be a file that ends in {suffix or 'no suffix'}, got {text}")
        for ending in (suffix, *beside):
            check_writable(out.with_suffix(ending), folder=not ending)
        return out

    files = ", ".join(ending or "a folder" for ending in beside)
    words = f"file to write{f', with {files} beside it' if files else ''}"
    default = FOLDER / name
    parser.add_argument("--out", type=path, default=default, help=f"{words} (default: {default})")


def writable_folder(text: str) -> Path:
    """Argument type of an output folder; one that cannot be written is refused."""
    check_writable(Path(text), folder=True)
    return Path(text)


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Check that a path can be written.

    Args:
        path: A file, or a folder for files.
        folder: Whether the path is a folder.

    Raises:
        argparse.ArgumentTypeError: It is a folder where a file is expected or vice versa, or cannot be created.
    """
    if path.exists() and path.is_dir() != folder:
        raise argparse.ArgumentTypeError(f"{path} is a {'file' if folder else 'folder'}")
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if there != path and not there.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path}: {there} cannot be written")


def publish(text: str, out: Path) -> None:
    """Write a report; its folder is created if missing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)


def check_least(parser: argparse.ArgumentParser, options: argparse.Namespace, **bounds: int) -> None:
    """Check lower bounds of numbers, or of the smallest of several; None = not given."""
    for name, bound in bounds.items():
        value = getattr(options, name)
        least = min(value) if isinstance(value, list) else value
        if least is not None and least < bound:
            parser.error(f"{name} must be at least {bound}, got {least}")


def check_positive(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str) -> None:
    """Check that numbers of seconds are above 0, and not NaN."""
    for name in names:
        value = getattr(options, name)
        if math.isnan(value) or value <= 0:
            parser.error(f"{name} must be greater than 0, got {value:g}")


def check_device(parser: argparse.ArgumentParser, device: torch.device) -> None:
    """Check that a CUDA device exists."""
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        parser.error(f"device {device}: there are {torch.cuda.device_count()} CUDA devices")


def check_checkout(parser: argparse.ArgumentParser, name: str, folder: Path | None, file: str) -> None:
    """Check that a folder is a checkout of an original program: it must hold a file of it."""
    if folder is not None and not (folder / file).is_file():
        parser.error(f"{name}: {folder} is no checkout of it: there is no {folder / file}")


def check_trainings(parser: argparse.ArgumentParser, further: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Check further arguments, which are passed to the command lines of trainings.

    Args:
        parser: Parser of the program.
        further: Arguments that this parser does not have.
        taken: Arguments that the program itself passes to its trainings, such as ``--model.attention``.

    Returns:
        The arguments.
    """
    further, own = list(further), {_short(word) for word in taken}
    for word in further:
        if "=" not in word or re.split(r"[.=+]", word)[0] not in GROUPS:
            parser.error(f"unrecognized argument {word}: those of trainings are written --trainer.max_steps=100")
        if _short(word) in own:
            parser.error(f"{word.partition('=')[0]} is not to be chosen: it is what {parser.prog} itself decides")
    return further


def _short(word: str) -> str:
    """Return the usual short name of an argument, without its value."""
    return ".".join(part for part in word.partition("=")[0].split(".") if part not in ("init_args", "class_path"))
