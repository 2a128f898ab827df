"""Where benchmarks write: into a folder that is not tracked, unless ``--out`` names another file."""

import argparse
import os
from pathlib import Path

FOLDER = Path("runs", "benchmarks")
"""Reports that nobody asked to publish; those in ``docs/benchmarks`` are written by naming them."""


def add_out(parser: argparse.ArgumentParser, name: str, beside: str = "") -> None:
    """Add ``--out``, checked when the command line is read: work of hours does not end at a file that cannot be.

    Args:
        parser: Of the program.
        name: Name of the report; ``--out`` must have its ending.
        beside: What else is written next to it, for the help.
    """
    suffix = Path(name).suffix

    def path(text: str) -> Path:
        out = Path(text)
        if out.suffix != suffix:
            raise argparse.ArgumentTypeError(f"must be a file that ends in {suffix}, got {text}")
        if out.is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder")
        folder = next(parent for parent in out.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise argparse.ArgumentTypeError(f"{text}: {folder} is no folder")
        if not os.access(out if out.exists() else folder, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text} cannot be written")
        return out

    default = FOLDER / name
    parser.add_argument("--out", type=path, default=default, help=f"file to write{beside} (default: {default})")


def publish(text: str, out: Path) -> None:
    """Write a report, with the folders it needs."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
