"""``python -m tabattn.attention [FILE]``: the Markdown table of all mechanisms, read from the classes themselves.

With a file, the table between the marks ``<!-- mechanisms -->`` and ``<!-- end of mechanisms -->`` is replaced in it.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tabattn.attention import MECHANISMS, Mechanism

MARKS = r"(<!-- mechanisms -->\n).*?(<!-- end of mechanisms -->)"
FACTS = ("Cost", "Exactness", "Source")
"""Lines every mechanism's docstring has: a label, a colon and text up to the next label or an empty line."""


def table() -> str:
    """Return the table of mechanisms in Markdown."""
    header = ["Mechanism", "What it does", "Cost", "Exactness", "Arguments", "Source"]
    rows = [header, ["---"] * len(header), *(_row(name, mechanism) for name, mechanism in MECHANISMS.items())]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def _row(name: str, mechanism: type[Mechanism]) -> list[str]:
    doc = inspect.getdoc(mechanism) or ""
    what = " ".join(doc.split("\n\n")[0].split())
    labels = "|".join(FACTS)
    facts = dict(re.findall(rf"^({labels}): (.+?)(?=\n(?:{labels}): |\n\n|\Z)", doc, re.MULTILINE | re.DOTALL))
    missing = [label for label in FACTS if label not in facts]
    if missing:
        raise ValueError(f"the docstring of {name} must have a line for each of {', '.join(missing)}")
    cost, exactness, source = (" ".join(facts[label].split()).rstrip(".") for label in FACTS)
    own = inspect.signature(mechanism).parameters.values()
    arguments = ", ".join(f"`{p.name}={p.default}`" for p in own if p.kind is p.KEYWORD_ONLY)
    return [f"`{name}`", what.rstrip("."), cost, exactness, arguments, source]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or write it into a file between its marks."""
    parser = argparse.ArgumentParser(prog="python -m tabattn.attention", description=__doc__, allow_abbrev=False)
    parser.add_argument("file", type=Path, nargs="?", help="page to write the table into (default: print it)")
    options = parser.parse_args(argv)
    if options.file is None:
        sys.stdout.write(table())
        return
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    page = options.file.read_text(encoding="utf-8")
    if not re.search(MARKS, page, flags=re.DOTALL):
        parser.error(f"{options.file} has no lines <!-- mechanisms --> and <!-- end of mechanisms -->")
    shown = table()
    options.file.write_text(re.sub(MARKS, lambda mark: mark[1] + shown + mark[2], page, flags=re.DOTALL), "utf-8")
    sys.stdout.write(f"{options.file} is up to date\n")


if __name__ == "__main__":
    main()
