"""Sequences of tokens, cut from documents, and batches of them with hidden tokens."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.counter import generator
from datamodules.mlm.options import MaskOptions
from datamodules.mlm.vocabulary import Encoded, Ints, Whole
from tabattn.contract.batches import UNSCORED, TokenBatch
from tabattn.contract.tokens import TokenFormat

Layout = Literal["blocks", "lines"]
"""Sequences are blocks of one length that run over the ends of documents, or lines."""
ORDER, MASKS, SCORED = 91, 92, 93
"""Streams of random numbers: order of sequences, hidden tokens in training, and those that are scored."""


class Sequences(NamedTuple):
    """Sequences of tokens, without the special tokens around them.

    Attributes:
        ids: All tokens, ``(tokens,)``.
        characters: Characters that each stands for, ``(tokens,)``.
        bounds: First and last place of each sequence, that behind it, ``(sequences, 2)``.
    """

    ids: Whole
    characters: Whole
    bounds: Ints

    @classmethod
    def of(cls, encoded: Encoded, layout: Layout, format: TokenFormat) -> "Sequences":
        """Cut encoded texts into sequences.

        Args:
            encoded: Documents for ``blocks``, lines for ``lines``.
            layout: ``blocks`` joins documents by the last token of a sequence, and cuts them anywhere.
            format: Format of the sequences.
        """
        most, ends = format.length - 2, np.cumsum(encoded.lengths)
        ids, characters = encoded.ids, encoded.characters
        if layout == "blocks":
            ids, characters = np.insert(ids, ends[:-1], format.end), np.insert(characters, ends[:-1], 0)
            ends = np.asarray([len(ids)])
        starts = np.concatenate([[0], ends[:-1]])
        # A longer text becomes several sequences.
        cuts = [np.arange(start, stop, most) for start, stop in zip(starts, ends, strict=True)]
        first = np.concatenate([np.zeros(0, np.int64), *cuts])
        last = np.repeat(ends, [len(cut) for cut in cuts])
        return cls(ids, characters, np.stack([first, np.minimum(first + most, last)], 1))


@dataclass(frozen=True)
class Source:
    """What batches are made of.

    Args:
        sequences: Sequences of a part of the text.
        format: Format of the sequences.
        special: Special tokens, which are neither hidden nor drawn.
        masks: Options of hidden tokens.
        batch_size: Sequences in a batch.
        seed: Seed.
    """

    sequences: Sequences
    format: TokenFormat
    special: tuple[int, ...]
    masks: MaskOptions
    batch_size: int
    seed: int

    def batch(self, numbers: Ints, draws: Tensor) -> TokenBatch:
        """Make a batch.

        Args:
            numbers: Numbers of the sequences.
            draws: Random numbers in [0, 1) that decide what is hidden and by what, ``(3, sequences, length)``.
        """
        starts, stops = self.sequences.bounds[numbers].T
        width = int((stops - starts).max()) + 2
        true = torch.full((len(numbers), width), self.format.pad)
        characters = torch.zeros(len(numbers), width, dtype=torch.long)
        true[:, 0] = self.format.begin
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            inner = slice(1, 1 + stop - start)
            true[row, inner] = torch.from_numpy(self.sequences.ids[start:stop].astype(np.int64))
            characters[row, inner] = torch.from_numpy(self.sequences.characters[start:stop].astype(np.int64))
            true[row, 1 + stop - start] = self.format.end
        mask = torch.arange(width) < torch.from_numpy(stops - starts + 2)[:, None]
        ids, labels = self._hide(true, mask, draws[:, :, :width])
        return TokenBatch(ids, labels, mask, characters, torch.from_numpy(numbers))

    def _hide(self, true: Tensor, mask: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens with some of them hidden, and the labels of these."""
        special = torch.tensor(self.special)
        open_to = mask & ~torch.isin(true, special)
        chance = draws[0].masked_fill(~open_to, 2.0)
        hidden = open_to & ((chance < self.masks.rate) | (chance == chance.amin(1, keepdim=True)))
        plain = torch.tensor(sorted(set(range(self.format.size)) - set(self.special)))
        drawn = plain[(draws[2] * len(plain)).long()]
        how = draws[1]
        ids = torch.where(hidden & (how < self.masks.masked), self.format.mask, true)
        by_chance = hidden & (how >= self.masks.masked) & (how < self.masks.masked + self.masks.random)
        return torch.where(by_chance, drawn, ids), torch.where(hidden, true, UNSCORED)


class TrainingBatches(Dataset[TokenBatch]):
    """Endless stream of batches: epoch after epoch, all sequences in an order that is a function of (seed, epoch).

    What is hidden is a function of (seed, batch), so it differs between epochs and ranks.

    Args:
        source: What batches are made of.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.order: tuple[int, Ints] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return -(-len(self.source.sequences.bounds) // self.source.batch_size)

    def __getitem__(self, index: int) -> TokenBatch:
        epoch, number = divmod(index, len(self))
        if self.order[0] != epoch:
            draw = generator(self.source.seed, ORDER, epoch)
            self.order = epoch, torch.randperm(len(self.source.sequences.bounds), generator=draw).numpy()
        numbers = self.order[1][number * self.source.batch_size :][: self.source.batch_size]
        draw = generator(self.source.seed, MASKS, index)
        return self.source.batch(numbers, torch.rand(3, len(numbers), self.source.format.length, generator=draw))


class ScoredBatches:
    """Batches to score, the longest sequences first: what is hidden is a function of seed and sequence alone.

    Args:
        source: What batches are made of.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        lengths = np.diff(source.sequences.bounds)[:, 0]
        self.order = np.argsort(-lengths, kind="stable")

    def __len__(self) -> int:
        return -(-len(self.order) // self.source.batch_size)

    def __getitem__(self, index: int) -> TokenBatch:
        if not 0 <= index < len(self):
            raise IndexError(f"batch must be in [0, {len(self)}), got {index}")
        numbers = self.order[index * self.source.batch_size :][: self.source.batch_size]
        seed, length = self.source.seed, self.source.format.length
        draws = [torch.rand(3, length, generator=generator(seed, SCORED, int(number))) for number in numbers]
        return self.source.batch(numbers, torch.stack(draws, 1))
