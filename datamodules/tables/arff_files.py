"""ARFF parser, dense and sparse, for headers as Weka and OpenML write them; liac-arff parses the rows."""

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from datamodules.tables.delimited import decode
from tabattn.contract.columns import MOST_CELLS
from tabattn.contract.columns.text import is_missing
from tabattn.contract.errors import TableWarning

QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
ATTRIBUTE = re.compile(
    rf"^@attribute\s+(?P<name>{QUOTED}|[^\s{{]+)(?:\s+|(?=\{{))(?P<kind>.+)$", re.IGNORECASE | re.DOTALL
)
VALUE = re.compile(rf"\s*(?P<value>{QUOTED}|[^,]*?)\s*(?:,|$)")
WEIGHT = re.compile(r",\s*\{\s*[\d.eE+-]+\s*\}\s*$")
NUMERIC = ("numeric", "real", "integer")
UNKNOWN = ("?", "")
"""Markers of a missing cell, also if a nominal attribute declares them."""

DECLARED = "the file declares its categories"
"""Frame attribute that marks categories as declared, so that their names cause no warnings."""

ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
JAVA = {
    **{"yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d"},
    **{"HH": "%H", "H": "%H", "hh": "%I", "h": "%I", "mm": "%M", "ss": "%S", "SSS": "%f", "a": "%p"},
    **{"EEEE": "%A", "EEE": "%a", "Z": "%z", "XXX": "%z", "X": "%z"},
}
"""Python directives for the letters of a Java date format."""


class Attribute(NamedTuple):
    """Attribute declaration of an ARFF header: its kind, nominal values, and Python date format."""

    name: str
    kind: str
    values: tuple[str, ...] = ()
    form: str = ""


def read_arff(content: bytes, name: str) -> pd.DataFrame:
    """Parse an ARFF file.

    Args:
        content: Bytes of the file.
        name: Name of the file, for warnings.

    Raises:
        ValueError: The header or a row is invalid; the message names the line or the attribute.
    """
    lines = decode(content, name).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    attributes, start = _header(lines)
    body = lines[start:]
    if any(WEIGHT.search(line) for line in body):
        warnings.warn(f"{name} gives weights to its rows, which are left out", TableWarning, stacklevel=4)
        body = [WEIGHT.sub("", line) for line in body]
    rows = _rows(body, attributes, start)
    columns = zip(*rows, strict=True) if rows else [()] * len(attributes)
    series = [_column(list(cells), kind) for cells, kind in zip(columns, attributes, strict=True)]
    frame = pd.DataFrame(dict(enumerate(series))).set_axis([attribute.name for attribute in attributes], axis=1)
    frame.attrs[DECLARED] = True
    return frame


def _header(lines: list[str]) -> tuple[list[Attribute], int]:
    """Attributes of the header, and the number of its lines."""
    attributes: list[Attribute] = []
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        keyword = line.split(None, 1)[0].lower() if line else ""
        if keyword == "@data":
            if not attributes:
                raise ValueError("its header has no @attribute")
            return attributes, number
        if keyword.startswith("@attribute"):
            first = number
            while "{" in line and "}" not in line and number < len(lines):
                line += " " + lines[number].strip()
                number += 1
            attributes.append(_attribute(line, first))
        elif keyword and not keyword.startswith(("%", "@relation")):
            raise ValueError(f"line {number} is neither @attribute nor @data: {line[:60]!r}")
    raise ValueError("it has no @data")


def _attribute(line: str, number: int) -> Attribute:
    found = ATTRIBUTE.match(line)
    if found is None:
        raise ValueError(f"line {number} is no @attribute with a name and a type: {line[:60]!r}")
    name, kind = _unquote(found["name"]), found["kind"].strip()
    if kind.startswith("{") and "}" in kind:
        inner = kind[1 : kind.rindex("}")].strip()
        values = [_unquote(value["value"]) for value in VALUE.finditer(inner) if value[0]]
        return Attribute(name, "nominal", tuple(dict.fromkeys(value for value in values if value not in UNKNOWN)))
    word, _, rest = kind.partition("%")[0].strip().partition(" ")
    if word.lower().startswith("date"):
        form = kind.partition("%")[0].strip()[4:].strip()
        return Attribute(name, "date", form=_python_form(_unquote(form)) if form else "ISO8601")
    if word.lower() not in (*NUMERIC, "string") or rest.strip():
        raise ValueError(f"line {number}: attribute {name!r} has a type that is not supported: {kind[:40]}")
    return Attribute(name, "string" if word.lower() == "string" else "number")


def _rows(body: list[str], attributes: list[Attribute], offset: int) -> list[Any]:
    """Cells as text, None = missing; liac-arff is told that every column is text."""
    import arff  # type: ignore[import-untyped]

    first = next((line for line in body if line.strip() and not line.lstrip().startswith("%")), "")
    sparse = first.lstrip().startswith("{")
    header = ["@RELATION r", *(f"@ATTRIBUTE a{index} STRING" for index in range(len(attributes)))]
    # The same number of lines, so that messages have the right line number.
    header += [""] * (offset - len(header) - 1)
    text = "\n".join([*header, "@DATA", *body])
    try:
        rows = arff.loads(text, return_type=arff.LOD if sparse else arff.DENSE)["data"]
    except arff.ArffException as ex:
        raise ValueError(str(ex)) from ex
    return _spread(rows, attributes) if sparse else rows


def _spread(rows: list[dict[int, Any]], attributes: list[Attribute]) -> list[list[Any]]:
    """Expand sparse rows: omitted cells are 0, or the first value of a nominal attribute."""
    if len(rows) * len(attributes) > MOST_CELLS:
        raise ValueError(f"sparse table of {len(rows)} x {len(attributes)} cells, more than {MOST_CELLS} in all")
    silent = ["0" if kind == "number" else next(iter(values), None) for _, kind, values, _ in attributes]
    return [[row.get(index, default) for index, default in enumerate(silent)] for row in rows]


def _column(cells: list[Any], attribute: Attribute) -> pd.Series:
    if attribute.kind == "string":
        return pd.Series(cells, dtype=object)
    cells = [None if cell in UNKNOWN else cell for cell in cells]
    if attribute.kind == "nominal":
        known = set(attribute.values)
        if (wrong := next((cell for cell in cells if cell is not None and cell not in known), None)) is not None:
            raise ValueError(f"attribute {attribute.name!r} does not declare the value {wrong!r}")
        return pd.Series(pd.Categorical(cells, categories=list(attribute.values)))
    try:
        if attribute.kind == "date":
            dates = pd.to_datetime(pd.Series(cells, dtype=object), format=attribute.form, utc=True)
            return dates.dt.tz_localize(None)
        return pd.Series([np.nan if cell is None or is_missing(cell) else float(cell) for cell in cells], dtype=float)
    except ValueError as ex:
        raise ValueError(f"attribute {attribute.name!r} has a cell that is no {attribute.kind}: {ex}") from ex


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text[1:-1])
    return text


def _python_form(form: str) -> str:
    """Convert a Java date format to Python's; quoted text is literal."""
    parts = re.findall(r"'[^']*'|[A-Za-z]+|[^A-Za-z']+", form)
    letters = [part for part in re.findall(r"'[^']*'|([A-Za-z])\1*", form) if part]
    known = [re.sub(r"([A-Za-z])\1*", lambda run: JAVA.get(run[0], "\0"), part) for part in parts if part[:1] != "'"]
    if not letters or any("\0" in part for part in known):
        raise ValueError(f"the date format {form!r} is not supported")
    again = iter(known)
    return "".join(part[1:-1].replace("%", "%%") if part[:1] == "'" else next(again) for part in parts)
