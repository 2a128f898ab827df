"""Text files as documents of training, validation and test."""

import glob
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.mlm.docstrings import docstrings
from datamodules.mlm.options import Documents, SplitOptions
from tabattn.contract.errors import DataError

NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
"""Part of a file by a word of its name."""

Parts = tuple[list[str], list[str], list[str]]
"""Documents to train on, to validate on and to test on."""


class Text(NamedTuple):
    """Documents of each part, and where they come from.

    Attributes:
        parts: Documents to train on, to validate on and to test on.
        source: Where they come from, in words.
        split: How they were split, in words.
    """

    parts: Parts
    source: str
    split: str

    @property
    def fingerprint(self) -> str:
        """Checksum of all documents and their parts."""
        sums = hashlib.sha256()
        for part in self.parts:
            sums.update(b"\1")
            for document in part:
                sums.update(document.encode("utf-8", "surrogatepass") + b"\0")
        return sums.hexdigest()


def read(text: str | None, split: SplitOptions, seed: int, cache: Path) -> Text:
    """Read text and split it into parts.

    Args:
        text: A file, a folder or a pattern of UTF-8 text; None = the docstrings of Python's standard library.
        split: Options of the split.
        seed: Seed of the split.
        cache: Folder of what is kept between runs.

    Raises:
        DataError: There is no such file, one is no UTF-8 text, or a part that the split asks for has no document.
    """
    if text is None:
        found, source = docstrings(cache), "docstrings of the standard library"
        return Text(_shares(found, split, seed, source), source, "modules at random")
    paths = files_of(text)
    source = f"{text} ({len(paths)} file{'s' * (len(paths) != 1)})"
    contents = [_content(path) for path in paths]
    named = [part_of(path) for path in paths]
    if {0, 1} <= set(named) and None not in named:
        parts = tuple(
            [each for own, content in zip(named, contents, strict=True) if own == part for each in _cut(content, split)]
            for part in range(3)
        )
        if not parts[0] or not parts[1]:
            raise DataError(f"{text} has no text to {'validate' if parts[0] else 'train'} on: its files are empty")
        return Text((parts[0], parts[1], parts[2]), source, "files by their names")
    documents = [each for content in contents for each in _cut(content, split)]
    return Text(_shares(documents, split, seed, source), source, f"{split.documents} at random")


def files_of(text: str) -> list[Path]:
    """Return the files of a path or a pattern, sorted; hidden ones of a folder are left out.

    Raises:
        DataError: There is none.
    """
    place = Path(text)
    if place.is_dir():
        found = [path for path in place.rglob("*") if not any(p.startswith(".") for p in path.relative_to(place).parts)]
    elif place.exists():
        found = [place]
    else:
        found = [Path(path) for path in glob.glob(text, recursive=True)]
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise DataError(f"there is no file of text at {text}")
    return files


def part_of(path: Path) -> int | None:
    """Part of a file by its name, such as 1 for ``wiki.valid.raw``; None = its name tells none, or several."""
    words = re.split(r"[^a-z]+", path.name.lower())
    parts = {NAMES[word] for word in words if word in NAMES}
    return parts.pop() if len(parts) == 1 else None


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as ex:
        raise DataError(f"{path} is no UTF-8 text: byte {ex.start} is {ex.object[ex.start]:#04x}") from ex
    except OSError as ex:
        raise DataError(f"{path} cannot be read: {ex.strerror}") from ex


def _cut(content: str, split: SplitOptions) -> list[str]:
    """Documents of a file, without empty ones."""
    ways: dict[Documents, str] = {"paragraphs": r"\n[^\S\n]*\n", "lines": r"\n"}
    way = ways.get(split.documents)
    pieces = [content] if way is None else re.split(way, content)
    return [text for piece in pieces if (text := piece.strip())]


def _shares(documents: Sequence[str], split: SplitOptions, seed: int, source: str) -> Parts:
    """Deal distinct documents out in an order that is a function of seed and text, up to each part's share of text.

    A part with a share has at least one document, also where a long one fills the shares of others.
    """
    order: dict[str, bytes] = {}
    for text in documents:
        order[text] = hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()
    total, taken = sum(map(len, order)), 0
    held: tuple[set[str], set[str]] = (set(), set())
    for left, text in zip(range(len(order), 1, -1), sorted(order, key=order.__getitem__), strict=False):
        missing = split.validation > 0 and not held[0]
        part = 1 if taken < split.test * total and left > 1 + missing else 0
        if part == 0 and taken >= (split.test + split.validation) * total and not missing:
            break
        held[part].add(text)
        taken += len(text)
    parts: Parts = ([], [], [])
    for text in documents:
        parts[1 if text in held[0] else 2 if text in held[1] else 0].append(text)
    for own, name, share in zip(parts, ("train", "validate", "test"), (1, split.validation, split.test), strict=True):
        if share and not own:
            raise DataError(
                f"{source} has {len(order)} distinct documents, too few to {name} on: split.documents is "
                f"{split.documents}, split.validation {split.validation:g}, split.test {split.test:g}"
            )
    return parts
