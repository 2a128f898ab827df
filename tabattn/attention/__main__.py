"""``python -m tabattn.attention [FILE]``: the Markdown table of all mechanisms, read from the classes themselves.

With a file, the table between the marks ``<!-- mechanisms -->`` and ``<!-- end of mechanisms -->`` is replaced in it.
"""

import inspect
import re
import sys
from pathlib import Path

from tabattn.attention import MECHANISMS, Mechanism

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


if __name__ == "__main__":
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        marks = r"(<!-- mechanisms -->\n).*?(<!-- end of mechanisms -->)"
        shown = table()
        page.write_text(re.sub(marks, lambda mark: mark[1] + shown + mark[2], page.read_text(), flags=re.DOTALL))
    else:
        sys.stdout.write(table())
