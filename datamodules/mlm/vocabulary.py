"""Tokenizers: read from a local folder, or trained on the text (byte-level BPE)."""

import hashlib
import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabattn.contract.errors import DataError
from tabattn.contract.extras import remedy
from tabattn.contract.tokens import TokenFormat, fingerprint
from tabattn.storage.folders import new_folder

SPECIAL = {"begin": "<s>", "pad": "<pad>", "end": "</s>", "unknown": "<unk>", "mask": "<mask>"}
"""Special tokens of a tokenizer that is trained here, in the order of their numbers."""
AT_ONCE = 1024
"""Texts that are encoded at a time."""

Ints = NDArray[np.int64]
Whole = NDArray[np.integer]


class Encoded(NamedTuple):
    """Tokens of texts, one after another.

    Attributes:
        ids: Tokens, ``(tokens,)``.
        characters: Characters that each stands for, ``(tokens,)``.
        lengths: Number of tokens of each text, ``(texts,)``.
    """

    ids: Whole
    characters: Whole
    lengths: Ints


class Vocabulary:
    """Vocabulary: a tokenizer with its special tokens.

    Args:
        tokenizer: A tokenizer of ``transformers``.
        source: Where it comes from, for messages.

    Raises:
        DataError: It has no vocabulary, or lacks a token that masked language modelling needs.
    """

    def __init__(self, tokenizer: Any, source: str) -> None:
        self.tokenizer, self.source = tokenizer, source
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(f"{source} has a tokenizer without places of tokens in the text: it needs a tokenizer.json")
        self.backend: Any = backend
        self.backend.no_truncation()
        self.backend.no_padding()
        # Those that tokenizers of BERT call "cls" and "sep" stand around a sequence too.
        chosen = {
            "pad": tokenizer.pad_token_id,
            "begin": _first(tokenizer.cls_token_id, tokenizer.bos_token_id),
            "end": _first(tokenizer.sep_token_id, tokenizer.eos_token_id),
            "mask": tokenizer.mask_token_id,
        }
        if lacking := [name for name, token in chosen.items() if token is None]:
            raise DataError(f"{source} has a tokenizer without a token for {', '.join(lacking)}")
        self.chosen: dict[str, int] = chosen
        self.size = len(tokenizer)
        self.special = sorted(set(tokenizer.all_special_ids))
        if self.size <= len(self.special):
            # What transformers makes of a folder without a vocabulary.
            raise DataError(f"{source} has a tokenizer without a vocabulary: it needs a tokenizer.json")

    @property
    def fingerprint(self) -> str:
        """Checksum of the vocabulary: which text has which number."""
        return fingerprint(self.backend.get_vocab())

    @property
    def pieces(self) -> tuple[str, ...]:
        """Text of each token."""
        return tuple(self.tokenizer.decode([token]) for token in range(self.size))

    def format(self, length: int) -> TokenFormat:
        """Format of sequences of at most ``length`` tokens."""
        return TokenFormat(self.size, **self.chosen, length=length, fingerprint=self.fingerprint)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts, without special tokens around them."""
        ids, characters, lengths = [], [], []
        for first in range(0, len(texts), AT_ONCE):
            for found in self.backend.encode_batch(list(texts[first : first + AT_ONCE]), add_special_tokens=False):
                ids.append(np.asarray(found.ids, np.int64))
                # What lies between two tokens belongs to the later one, so that all characters are counted once.
                ends = np.asarray([0, *(end for _, end in found.offsets)], np.int64)
                characters.append(np.diff(np.maximum.accumulate(ends)))
                lengths.append(len(found.ids))
        none = np.zeros(0, np.int64)
        return Encoded(np.concatenate([none, *ids]), np.concatenate([none, *characters]), np.asarray(lengths, np.int64))


def from_folder(folder: str) -> Vocabulary:
    """Read the tokenizer of a local folder; nothing is fetched, and no code of the folder is run.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    if not Path(folder).is_dir():
        raise DataError(f"tokenizer must be a local folder with the files of a tokenizer, got {folder}")
    try:
        found = package("transformers").AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as ex:
        raise DataError(f"{folder} holds no tokenizer that can be read: {str(ex).partition(chr(10))[0]}") from ex
    return Vocabulary(found, folder)


def trained(texts: Sequence[str], size: int, fingerprint: str, cache: Path) -> Vocabulary:
    """Train a byte-level BPE tokenizer, or read it where that of the same text is kept.

    Args:
        texts: Texts to train on.
        size: Most tokens.
        fingerprint: Checksum of the texts.
        cache: Folder in which it is kept.
    """
    name = hashlib.sha256(f"1:{size}:{fingerprint}".encode()).hexdigest()[:16]
    kept = cache / f"tokenizer-{name}"
    if not kept.exists():
        with new_folder(kept) as draft:
            _wrapped(_train(texts, size)).save_pretrained(draft)
    return from_folder(str(kept))


def _train(texts: Sequence[str], size: int) -> Any:
    """Train a byte-level BPE tokenizer."""
    parts = package("tokenizers")
    made = parts.Tokenizer(parts.models.BPE(unk_token=SPECIAL["unknown"]))
    made.pre_tokenizer = parts.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = parts.decoders.ByteLevel()
    trainer = parts.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*list(SPECIAL.values())[:-1], _mask_token()],
        initial_alphabet=sorted(parts.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def _wrapped(tokenizer: Any) -> Any:
    """Wrap a tokenizer that was trained here for ``transformers``."""
    return package("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": SPECIAL["begin"] for name in ("bos", "cls")},
        **{f"{name}_token": SPECIAL["end"] for name in ("eos", "sep")},
        pad_token=SPECIAL["pad"],
        unk_token=SPECIAL["unknown"],
        mask_token=_mask_token(),
    )


def _mask_token() -> Any:
    """The mask token, which takes the space before it, so that it stands for a word with its space."""
    return package("tokenizers").AddedToken(SPECIAL["mask"], lstrip=True, special=True)


@cache
def package(name: str) -> Any:
    """Import an optional package.

    Raises:
        DataError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as ex:
        raise DataError(f"masked language modelling needs the package {name} ({ex}): {remedy(name)}") from ex


def _first(*tokens: int | None) -> int | None:
    return next((token for token in tokens if token is not None), None)
