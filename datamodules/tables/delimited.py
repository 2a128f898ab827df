"""Delimited text (CSV, TSV): encoding, separator and row lengths are checked before pandas parses it."""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from tabattn.contract.checks import listed
from tabattn.contract.columns.text import MISSING
from tabattn.contract.errors import TableWarning

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE = 100
"""Rows by which the separator is detected."""

MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte-order marks, the longer ones first."""

FEW = 10
"""Most steps of a decreasing first line that counts as a row of data; longer ones are headers, such as wavelengths."""

NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


class Layout(NamedTuple):
    """Layout of delimited text.

    Attributes:
        text: The text after its header, without comments.
        separator: Field separator.
        header: Names of the columns, without spaces around them.
        named: Whether each row begins with a row name, for which the header has no field.
        trailing: Whether each row ends with a separator.
    """

    text: str
    separator: str
    header: list[str]
    named: bool
    trailing: bool


def read_delimited(content: bytes, separator: str | None, name: str) -> pd.DataFrame:
    """Parse delimited text.

    Args:
        content: The file.
        separator: Expected field separator; another one is detected where it does not fit.
        name: Name of the file, for warnings.

    Raises:
        ValueError: The text cannot be decoded, or its rows do not fit its header.
    """
    layout = lay_out(decode(content, name), separator)
    names = [f"column {place}" for place in range(len(layout.header))]
    if not layout.text.strip():
        return pd.DataFrame(columns=layout.header)
    options: dict[str, Any] = {"na_values": list(MISSING), "keep_default_na": False, "low_memory": False}
    frame = pd.read_csv(
        io.StringIO(layout.text),
        sep=layout.separator,
        header=None,
        names=[*(["name"] if layout.named else []), *names, *(["nothing"] if layout.trailing else [])],
        index_col=False,
        usecols=names,
        skipinitialspace=True,
        **options,
    )
    frame = frame[names].apply(_stripped)
    if all(name in set(frame[own].astype(str)) for name, own in zip(layout.header, names, strict=True)):
        row = ",".join(layout.header[:5])
        raise ValueError(
            f"its first line is no header, for each name is a cell of its own column, {row}: name the columns"
        )
    return _without_row_names(frame.set_axis(layout.header, axis=1))


def _stripped(column: pd.Series) -> pd.Series:
    """Strip spaces around the cells of a column of text."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    text = column.map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    return text.mask(text.isin(MISSING))


def decode(content: bytes, name: str) -> str:
    """Decode UTF-8, or UTF-16 and UTF-32 with a byte-order mark, else Windows-1252 with a warning.

    Raises:
        ValueError: It is no text.
    """
    encoding = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be" if content[:1] == b"\0" else None
    try:
        text = content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as ex:
        if encoding is not None or b"\0" in content:
            raise ValueError("it is not a text file in UTF-8 or UTF-16") from ex
        text = _decode_western(content, name)
    if "\0" in text or (encoding and not re.search(r"[\n\r,;\t|]", text)):
        raise ValueError("it is not a text file in UTF-8 or UTF-16")
    return text


def _decode_western(content: bytes, name: str) -> str:
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if re.search(r"[\x01-\x08\x0e-\x1f\x7f]", text):
        raise ValueError("it is not a text file in UTF-8")
    warnings.warn(
        f"{name} is not UTF-8 and is read as Windows-1252 (latin-1): save it as UTF-8 if that is wrong",
        TableWarning,
        stacklevel=6,
    )
    return text


def lay_out(text: str, separator: str | None) -> Layout:
    """Detect separator and header of delimited text, and check the number of fields of each row.

    Raises:
        ValueError: No columns, or rows whose number of fields differs from that of the header.
    """
    lines = list(io.StringIO(text, newline=""))
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError("No columns to parse from file: it is empty")
    if told := re.match(r"^\"?sep=(.)\"?\s*$", lines[first], re.IGNORECASE):  # a line that spreadsheets write
        chosen, first = told[1], first + 1
    else:
        chosen = _separator(_without_comments(lines[first : first + 2 * SAMPLE]), separator or ",")
    lines = _without_comments(lines[first:], chosen)
    if chosen == " ":
        lines = [f"{line.strip()}\n" for line in lines]
    rows = _rows("".join(lines), chosen)
    start, names = next(rows, (0, []))
    header = [name.strip() for name in names]
    if not any(header):
        raise ValueError("No columns to parse from file: its first line names none")
    shape = _Shape(header, first)
    for line, fields in rows:
        shape.see(line, fields)
    _check_header(header, shape.rows)
    return Layout("".join(lines[start:]), chosen, *shape.result())


class _Shape:
    """Comparison of the number of fields of each row with the header's."""

    def __init__(self, header: list[str], offset: int) -> None:
        self.header = header
        self.offset = offset
        self.rows = 0
        self.more = 0
        self.last_empty = True
        self.labels: list[str] = []

    def see(self, line: int, fields: list[str]) -> None:
        """Record a row that ends in this line."""
        width, extra = len(self.header), len(fields) - len(self.header)
        self.rows += 1
        if extra == 1 and (self.more or self.rows == 1 or not fields[-1].strip()):
            self.more += 1
            self.last_empty &= not fields[-1].strip()
            self.labels.append(fields[0].strip())
        elif extra:
            note = "a field holds the separator and is not quoted, or the first line is no header"
            raise ValueError(
                f"line {line + self.offset} has {len(fields)} fields, the header {width}: {note}{listed(self.header)}"
            )

    def result(self) -> tuple[list[str], bool, bool]:
        """Header, and whether rows begin with a name or end with a separator."""
        header = [name or f"Unnamed: {place}" for place, name in enumerate(self.header)]
        if self.more and self.last_empty:
            return header, False, True
        if self.more == self.rows and self.more:
            if not _row_names(self.labels):
                raise ValueError(
                    f"every row has {len(header) + 1} fields, the header {len(header)}, and the first fields are no "
                    f"names of rows, such as {self.labels[0]!r}: name every column{listed(header)}"
                )
            return header, True, False
        if self.more:
            raise ValueError(f"{self.more} of {self.rows} rows have a field more than the header{listed(header)}")
        return header, False, False


def _check_header(header: list[str], rows: int) -> None:
    """Refuse a first line that is no header: counts, as in scikit-learn's own files, or a row of data.

    Names may be numbers if they rise, such as years, or fall in many steps, such as wavelengths.
    """
    if len(header) > 1 and header[0] == str(rows) and header[1].isdigit():
        raise ValueError(f"its first line is no header but begins with counts, {','.join(header)}: name the columns")
    numbers = [float(name) for name in header if NUMBER.match(name)]
    steps = [after - before for before, after in pairwise(numbers)]
    rising, falling = all(step > 0 for step in steps), all(step < 0 for step in steps)
    if not rising and not (falling and len(steps) > FEW):
        raise ValueError(f"its first line is no header but a row of data, {','.join(header[:5])}: name the columns")


def _separator(lines: list[str], expected: str) -> str:
    """Separator by which all rows have as many fields as the header, preferably at least two."""
    text = "".join(lines)
    found = {separator: _fields(text, separator) for separator in dict.fromkeys([expected, *SEPARATORS])}
    best = max(found, key=lambda separator: found[separator])  # of equally good ones the first
    if found[best] > 1:
        return best
    header = next(iter(csv.reader(lines[:1], delimiter=expected)), [])
    if len(header) <= 1 and _fields("".join(line.strip() + "\n" for line in lines), " ") > 1:
        return " "
    # No separator fits: report errors for one that splits the header.
    counts = {separator: lines[0].count(separator) for separator in found}
    return max(counts, key=lambda separator: counts[separator])


def _fields(text: str, separator: str) -> int:
    """Number of fields of the header if the first rows have as many, or one more; else 0."""
    try:
        counts = [len(fields) for (_, fields), _ in zip(_rows(text, separator), range(SAMPLE), strict=False)]
    except ValueError:
        return 0
    width = counts[0] if counts else 0
    return width if len({count - width for count in counts[1:]} - {0}) == 0 or set(counts[1:]) == {width + 1} else 0


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line and the fields of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for fields in reader:
            if fields and (len(fields) > 1 or fields[0].strip()):
                yield reader.line_num, fields
    except csv.Error as ex:
        raise ValueError(f"line {reader.line_num}: {ex} (a quotation mark that is not closed?)") from ex


def _without_comments(lines: list[str], separator: str | None = None) -> list[str]:
    """Lines without comments, which begin with a #.

    No comments are a line right before numbers with as many fields, which is the header, and later lines that have as
    many fields as the header.
    """
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if first == len(lines) or not any(line.startswith("#") for line in lines):
        return lines
    counts = {sign: lines[first].count(sign) for sign in ([separator] if separator else SEPARATORS)}
    sign = max(counts, key=lambda sign: counts[sign])
    same = [counts[sign] > 0 and line.count(sign) == counts[sign] for line in lines]
    data = any(NUMBER.match(field.strip()) for field in lines[first].split(sign))
    kept = [line for line, fits in zip(lines[first:], same[first:], strict=True) if fits or not line.startswith("#")]
    return [lines[first - 1].lstrip("# "), *kept] if first and same[first - 1] and data else kept


def _row_names(labels: list[str]) -> bool:
    """Whether first fields look like row names: all distinct, and words or consecutive numbers."""
    if len(set(labels)) < len(labels):
        return False
    return not all(NUMBER.match(label) for label in labels) or _counted(labels)


def _counted(labels: list[str]) -> bool:
    return all(label.isdigit() for label in labels) and [int(label) for label in labels] == list(
        range(int(labels[0]), int(labels[0]) + len(labels))
    )


def _without_row_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop empty columns at the end, and row names in a first column without a name."""
    while len(frame.columns) > 1 and frame.columns[-1].startswith("Unnamed: ") and frame.iloc[:, -1].isna().all():
        frame = frame.iloc[:, :-1]
    if len(frame.columns) < 2 or frame.columns[0] != "Unnamed: 0" or not len(frame):
        return frame
    return frame.iloc[:, 1:] if _row_names(frame.iloc[:, 0].astype(str).tolist()) else frame
