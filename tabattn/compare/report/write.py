"""Writing of the report of a comparison."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tabattn.compare.report.files import as_csv, as_json
from tabattn.compare.report.frame import read
from tabattn.compare.report.html import page, swap_page
from tabattn.compare.report.lines import groups
from tabattn.compare.report.sets import sets_of
from tabattn.compare.report.swap import read_table
from tabattn.compare.report.text import as_text
from tabattn.compare.swap.results import text as swap_text
from tabattn.contract.extras import missing
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
    """Write the report of a comparison, or of a swap table, into its folder, from the results that are there.

    Args:
        folder: Folder of the comparison, or of the swap table, or of both.
        width: Width of the text; None = that of the terminal.

    Raises:
        ValueError: It is no folder of a comparison, or a file in it is damaged.
    """
    swap = read_table(folder)
    if swap is not None and not (folder / "comparison.json").exists():
        return _published(folder, f"{swap_text(swap)}\n", {}, lambda: swap_page(swap))
    comparison = read(folder)
    found = groups(comparison)
    sets = [sets_of(comparison, group) for group in found]
    text = as_text(comparison, found, width or shutil.get_terminal_size().columns)
    files = {"report.csv": as_csv(comparison), "report.json": as_json(comparison, found, sets)}
    return _published(folder, text, files, lambda: page(comparison, found, sets, swap))


def _published(folder: Path, text: str, files: dict[str, str], render: Callable[[], str]) -> Report:
    notes = []
    try:
        files["report.html"] = render()
    except ImportError as ex:
        (folder / "report.html").unlink(missing_ok=True)  # It would show earlier results.
        notes.append(f"report.html is not written: {missing(ex) or ex}")
    return Report(text, [_publish(folder / name, content) for name, content in files.items()], notes)


def _publish(path: Path, content: str) -> Path:
    write_file(path, content.encode())
    return path
