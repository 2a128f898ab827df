"""Sentences whose mask tokens are to be filled."""

import re
from pathlib import Path

import torch

from datamodules.mlm.vocabulary import Vocabulary
from tabattn.contract.batches import UNSCORED, TokenBatch
from tabattn.contract.tokens import TokenFormat

MASK = re.compile(r"<mask>|\[MASK\]")
"""Both usual spellings of the mask token."""


def sentence_batches(
    given: str | tuple[str, ...], vocabulary: Vocabulary, format: TokenFormat, batch_size: int
) -> list[TokenBatch]:
    """Make batches of sentences, in their order.

    Args:
        given: The sentences, or the path of a UTF-8 file with one in each line.
        vocabulary: The vocabulary.
        format: Format of the sequences.
        batch_size: Sentences in a batch.

    Raises:
        ValueError: There is no such file or no sentence, or one is too long or has no mask token.
    """
    sentences = _sentences(given)
    token = vocabulary.tokenizer.mask_token
    texts = [MASK.sub(token, sentence) for sentence in sentences]
    encoded = vocabulary.encode(texts)
    ids = torch.from_numpy(encoded.ids).split(encoded.lengths.tolist())
    characters = torch.from_numpy(encoded.characters).split(encoded.lengths.tolist())
    for number, (sentence, own) in enumerate(zip(sentences, ids, strict=True)):
        if not (own == format.mask).any():
            raise ValueError(f"sentence {number} has no {token} to fill: {sentence[:60]!r}")
        if len(own) > format.length - 2:
            raise ValueError(f"sentence {number} must have at most {format.length - 2} tokens, got {len(own)}")
    return [
        _batch(ids[first : first + batch_size], characters[first : first + batch_size], first, format)
        for first in range(0, len(ids), batch_size)
    ]


def _batch(
    ids: tuple[torch.Tensor, ...], characters: tuple[torch.Tensor, ...], first: int, format: TokenFormat
) -> TokenBatch:
    """Make a batch of sentences; ``first`` is the number of the first."""
    begin, end, none = torch.tensor([format.begin]), torch.tensor([format.end]), torch.tensor([0])
    padded = torch.nn.utils.rnn.pad_sequence
    tokens = padded([torch.cat([begin, own, end]) for own in ids], batch_first=True, padding_value=format.pad)
    counts = padded([torch.cat([none, own, none]) for own in characters], batch_first=True)
    lengths = torch.tensor([len(own) + 2 for own in ids])
    mask = torch.arange(tokens.shape[1]) < lengths[:, None]
    number = torch.arange(first, first + len(ids))
    return TokenBatch(tokens, torch.full_like(tokens, UNSCORED), mask, counts, number)


def _sentences(given: str | tuple[str, ...]) -> list[str]:
    if isinstance(given, str):
        path = Path(given)
        if not path.is_file():
            raise ValueError(f"there is no file {given}: sentences are a list, such as '[\"a <mask> one\"]', or a file")
        try:
            given = tuple(path.read_text(encoding="utf-8-sig").splitlines())
        except UnicodeDecodeError as ex:
            raise ValueError(f"{path} is no UTF-8 text: byte {ex.start}") from ex
    sentences = [text for each in given if (text := each.strip())]
    if not sentences:
        raise ValueError("sentences must be at least 1, got none")
    return sentences
