"""Writing of the report of a comparison."""

import shutil
from pathlib import Path
from typing import NamedTuple

from tabattn.compare.report.files import as_csv, as_json
from tabattn.compare.report.frame import read
from tabattn.compare.report.lines import groups
from tabattn.compare.report.sets import sets_of
from tabattn.compare.report.text import as_text
from tabattn.storage.files import write_file


class Report(NamedTuple):
    """Report of a comparison.

    Attributes:
        text: Table and conclusions for the terminal.
        paths: Files that were written.
        notes: What was not written, and why.
    """

    text: str
    paths: list[Path]
    notes: list[str]


def write(folder: Path, width: int | None = None) -> Report:
    """Write the report of a comparison into its folder, from the results that are there.

    Args:
        folder: Folder of the comparison.
        width: Width of the text; None = that of the terminal.

    Raises:
        ValueError: It is no folder of a comparison, or a file in it is damaged.
    """
    comparison = read(folder)
    found = groups(comparison)
    sets = sets_of(comparison, found[0])
    text = as_text(comparison, found, width or shutil.get_terminal_size().columns)
    files = {"report.csv": as_csv(comparison), "report.json": as_json(comparison, found, sets)}
    return Report(text, [_publish(folder / name, content) for name, content in files.items()], [])


def _publish(path: Path, content: str) -> Path:
    write_file(path, content.encode())
    return path
