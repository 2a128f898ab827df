"""Encoded text, kept between runs in one file for each text, tokenizer and layout."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.mlm.reading import Text
from datamodules.mlm.sequences import Layout
from datamodules.mlm.vocabulary import Encoded, Vocabulary, Whole
from tabattn.storage.files import write_file


def encoded(text: Text, vocabulary: Vocabulary, layout: Layout, cache: Path) -> list[Encoded]:
    """Encode each part of a text, or read it where it is kept.

    Args:
        text: The text.
        vocabulary: The vocabulary.
        layout: ``lines`` encodes each line by itself, ``blocks`` each document.
        cache: Folder in which it is kept.
    """
    name = hashlib.sha256(f"1:{layout}:{vocabulary.fingerprint}:{text.fingerprint}".encode()).hexdigest()[:16]
    kept = cache / f"text-{name}.npz"
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [Encoded(*(arrays[f"{field}{part}"] for field in Encoded._fields)) for part in range(3)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # There is none, or it is damaged: it is made anew.
    made = [vocabulary.encode(_pieces(part, layout)) for part in text.parts]
    made = [each._replace(ids=_small(each.ids), characters=_small(each.characters)) for each in made]
    arrays = {f"{field}{part}": value for part, own in enumerate(made) for field, value in own._asdict().items()}
    held = io.BytesIO()
    np.savez(held, **arrays)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_file(kept, held.getbuffer())
    return made


def _pieces(documents: Sequence[str], layout: Layout) -> list[str]:
    """Texts that are encoded by themselves."""
    if layout == "blocks":
        return list(documents)
    return [text for document in documents for line in document.split("\n") if (text := line.strip())]


def _small(values: Whole) -> Whole:
    """Whole numbers in as few bytes as they need."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
