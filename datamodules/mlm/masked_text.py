"""Datamodule of text, some of whose tokens are hidden."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.counter import CounterLoader, Seed, Seeds, endless, place, shared
from datamodules.mlm.options import DEFAULT_MASKS, DEFAULT_SPLIT, MaskOptions, SplitOptions
from datamodules.mlm.sequences import Layout
from tabattn.contract.batches import TokenBatch
from tabattn.contract.checks import NotInCheckpoints, check_least
from tabattn.contract.tokens import TokenFormat

if TYPE_CHECKING:
    from datamodules.mlm.reading import Text
    from datamodules.mlm.sequences import Sequences, Source
    from datamodules.mlm.vocabulary import Vocabulary

SMALLEST_VOCABULARY = 270
"""Bytes, special tokens, and a few merges."""


class MaskedText(NotInCheckpoints, LightningDataModule):
    """Local UTF-8 text, some of whose tokens are hidden, for masked language modelling.

    Needs the extra ``mlm``. Where the name of every file tells its part, as those of WikiText do, that is the split;
    otherwise documents are split.

    Args:
        text: A file, a folder, or a pattern of files; none = the docstrings of Python's standard library.
        tokenizer: Local folder of a tokenizer; none = byte-level BPE, trained on the training text.
        vocabulary: Most tokens of a tokenizer that is trained.
        layout: Sequences: ``blocks`` = text cut at ``length`` tokens, across documents; ``lines`` = lines.
        length: Most tokens of a sequence, the first and the last token included.
        split: Options of the split.
        masks: Options of hidden tokens.
        sentences: What ``predict`` fills, each with a mask token (``<mask>`` or ``[MASK]``): a list of sentences, or a
            file with one in each line; none = the hidden tokens of the test text.
        batch_size: Sequences in a batch (on each device).
        steps_per_epoch: Batches per epoch (on each device); none = the whole training text.
        cache_dir: Folder in which the trained tokenizer and the encoded text are kept between runs.
        seed: Seed of the split, of the order of sequences and of hidden tokens; of two, the second is that of the
            training batches alone.
    """

    batch = TokenBatch

    def __init__(
        self,
        text: str | None = None,
        tokenizer: str | None = None,
        vocabulary: int = 4096,
        *,
        layout: Layout = "blocks",
        length: int = 128,
        split: SplitOptions = DEFAULT_SPLIT,
        masks: MaskOptions = DEFAULT_MASKS,
        sentences: str | tuple[str, ...] | None = None,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        cache_dir: str = "runs/text",
        seed: Seed = 0,
    ) -> None:
        from datamodules.mlm.vocabulary import package

        super().__init__()
        check_least(length=(length, 3), batch_size=(batch_size, 1), vocabulary=(vocabulary, SMALLEST_VOCABULARY))
        if layout not in get_args(Layout):
            raise ValueError(f"layout must be {' or '.join(get_args(Layout))}, got {layout!r}")
        check_least(steps_per_epoch=(1 if steps_per_epoch is None else steps_per_epoch, 1))
        package("transformers")
        self.source, self.folder, self.most = text, tokenizer, vocabulary
        self.layout, self.length, self.split, self.masks = layout, length, split, masks
        self.sentences = sentences
        self.batch_size, self.steps_per_epoch, self.seeds = batch_size, steps_per_epoch, Seeds.of(seed)
        self.cache = Path(cache_dir)

    @cached_property
    def text(self) -> "Text":
        """The documents of each part."""
        from datamodules.mlm.reading import read

        return read(self.source, self.split, self.seeds.scored, self.cache)

    @cached_property
    def vocabulary(self) -> "Vocabulary":
        """Tokenizer and special tokens."""
        from datamodules.mlm.vocabulary import from_folder, trained

        if self.folder is not None:
            return from_folder(self.folder)
        return trained(self.text.parts[0], self.most, self.text.fingerprint, self.cache)

    @cached_property
    def tokens(self) -> TokenFormat:
        """Format of the sequences."""
        return self.vocabulary.format(self.length)

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Text of each token."""
        return self.vocabulary.pieces

    @cached_property
    def parts(self) -> "tuple[Sequences, ...]":
        """Sequences to train on, to validate on and to test on."""
        from datamodules.mlm.encoding import encoded
        from datamodules.mlm.sequences import Sequences

        found = encoded(self.text, self.vocabulary, self.layout, self.cache)
        made = tuple(Sequences.of(each, self.layout, self.tokens) for each in found)
        counts = [f"{len(part.bounds)} sequences ({len(part.ids)} tokens)" for part in made]
        rank_zero_info(
            f"{self.text.source}, {self.text.split}: {counts[0]} train, {counts[1]} validate, {counts[2]} test; "
            f"{self.tokens.size} tokens in the vocabulary of {self.vocabulary.source}"
        )
        return made

    @cached_property
    def unigram(self) -> Tensor:
        """Log-probability of each token by its frequency in the training text, with one more of each, ``(tokens,)``."""
        counts = np.bincount(self.parts[0].ids, minlength=self.tokens.size) + 1.0
        return torch.from_numpy(np.log(counts / counts.sum())).float()

    def train_dataloader(self) -> CounterLoader:
        """Training loader: this rank's share of the stream of batches."""
        from datamodules.mlm.sequences import TrainingBatches

        batches = TrainingBatches(self._source(0, "train", self.seeds.training))
        steps = self.steps_per_epoch or max(1, len(batches) // place(self.trainer)[1])
        return endless(self.trainer, batches, steps, 0)

    def val_dataloader(self) -> DataLoader[TokenBatch]:
        """Validation loader: this rank's share of the validation text."""
        return self._scored(1, "validate")

    def test_dataloader(self) -> DataLoader[TokenBatch]:
        """Test loader: this rank's share of the test text."""
        return self._scored(2, "test")

    def predict_dataloader(self) -> DataLoader[TokenBatch]:
        """Loader of the sentences to fill, or of the test text."""
        if self.sentences is None:
            return self.test_dataloader()
        from datamodules.mlm.sentences import sentence_batches

        try:
            return shared(self.trainer, sentence_batches(self.sentences, self.vocabulary, self.tokens, self.batch_size))
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex

    def _source(self, part: int, purpose: str, seed: int) -> "Source":
        from datamodules.mlm.sequences import Source

        sequences = self.parts[part]
        if not len(sequences.bounds):
            raise MisconfigurationException(f"{self.text.source} has no text to {purpose} on")
        special: Sequence[int] = self.vocabulary.special
        return Source(sequences, self.tokens, tuple(special), self.masks, self.batch_size, seed)

    def _scored(self, part: int, purpose: str) -> DataLoader[TokenBatch]:
        from datamodules.mlm.sequences import ScoredBatches

        return shared(self.trainer, ScoredBatches(self._source(part, purpose, self.seeds.scored)))
