"""Small texts and models."""

from pathlib import Path
from typing import Any

import torch

from datamodules import MaskedText
from datamodules.mlm import SplitOptions
from tabattn.contract.batches import TokenBatch
from tabattn.contract.tokens import TokenFormat
from tabattn.mlm.task import MaskedLanguageModel

WORDS = [
    *("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while"),
    *("seven", "old", "wizards", "make", "toxic", "brew", "for", "an", "évil", "queen"),
]
TOKENS = TokenFormat(size=50, pad=1, begin=0, end=2, mask=4, length=16, fingerprint="sha256-0")
SMALL: dict[str, Any] = {"dim": 16, "layers": 2, "heads": 2, "hidden": 16, "tokens": TOKENS.plain()}


def sentence(number: int) -> str:
    """Sentence of a language with a rule: each word is followed by the next of the list."""
    return " ".join(WORDS[(number + place) % len(WORDS)] for place in range(4 + number % 7))


def text_file(folder: Path, paragraphs: int = 60) -> Path:
    """Write a file of different paragraphs."""
    path = folder / "text.txt"
    path.write_text("\n\n".join(f"{sentence(n)} {n}.\n{sentence(3 * n)}" for n in range(paragraphs)), encoding="utf-8")
    return path


def masked_text(folder: Path, **options: Any) -> MaskedText:
    """Make a small datamodule over such a file."""
    given: dict[str, Any] = {"vocabulary": 300, "length": 16, "batch_size": 8, "cache_dir": str(folder / "cache")}
    given["split"] = SplitOptions(validation=0.2, test=0.2)
    given = {"text": str(text_file(folder))} | given | options
    return MaskedText(**given)


def model(**options: Any) -> MaskedLanguageModel:
    """Make a small model."""
    torch.manual_seed(0)
    return MaskedLanguageModel(**SMALL | options)


def batch(*lengths: int, width: int = 0) -> TokenBatch:
    """Make a batch of sequences of these lengths, with the mask token in the third place of each."""
    draw = torch.Generator().manual_seed(0)
    wide = max(*lengths, width)
    true = torch.randint(5, TOKENS.size, (len(lengths), wide), generator=draw)
    mask = torch.arange(wide) < torch.tensor(lengths)[:, None]
    true = true.masked_fill(~mask, TOKENS.pad)
    ids, labels = true.clone(), torch.full_like(true, -100)
    ids[:, 2], labels[:, 2] = TOKENS.mask, true[:, 2]
    return TokenBatch(ids, labels, mask, torch.ones_like(true), torch.arange(len(lengths)))
