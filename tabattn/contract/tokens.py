"""Format of token sequences: the vocabulary that a datamodule encodes text by, and the special tokens."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


def fingerprint(vocabulary: Mapping[str, int]) -> str:
    """Checksum of a vocabulary: which piece of text has which number."""
    return "sha256-" + hashlib.sha256(json.dumps(dict(vocabulary), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TokenFormat:
    """Format of token sequences, for which a language model is built.

    Args:
        size: Number of tokens in the vocabulary.
        pad: Token of padding.
        begin: First token of every sequence.
        end: Last token of every sequence.
        mask: Token that stands for a hidden one.
        length: Most tokens of a sequence, the first and the last included.
        fingerprint: Checksum of the vocabulary.
    """

    size: int
    pad: int
    begin: int
    end: int
    mask: int
    length: int
    fingerprint: str

    def __post_init__(self) -> None:
        for name in ("pad", "begin", "end", "mask"):
            if not 0 <= getattr(self, name) < self.size:
                raise ValueError(f"token {name} must be in [0, {self.size}), got {getattr(self, name)}")
        if self.length < 3:
            raise ValueError(f"length must be at least 3, got {self.length}")

    def plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        """Format by plain values.

        Raises:
            ValueError: They are not those of a format.
        """
        fields = cls.__dataclass_fields__
        if plain.keys() != fields.keys():
            raise ValueError(f"tokens must have {', '.join(fields)}, got {', '.join(map(str, plain))}")
        for name, value in plain.items():
            kind = str if name == "fingerprint" else int
            if type(value) is not kind:
                raise ValueError(f"{name} of tokens must be of type {kind.__name__}, got {value!r}")
        return cls(**plain)
