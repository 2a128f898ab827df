"""Options of text whose tokens are hidden."""

from dataclasses import dataclass
from typing import Literal, get_args

Documents = Literal["paragraphs", "lines", "files"]
"""What counts as one document: text between blank lines, a line, or a file."""


@dataclass(frozen=True)
class SplitOptions:
    """Options of the split of documents into training, validation and test.

    They do not matter where the names of all files tell their part, such as ``wiki.train.raw`` and ``wiki.valid.raw``.

    Args:
        documents: What is on one side of the split as a whole: ``paragraphs`` (text between blank lines), ``lines`` or
            ``files``. Copies of a document are on one side too.
        validation: Share of the text to validate on.
        test: Share of the text to test on.
    """

    documents: Documents = "paragraphs"
    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        if self.documents not in get_args(Documents):
            raise ValueError(f"split.documents must be {', '.join(get_args(Documents))}, got {self.documents!r}")
        for name, share in (("validation", self.validation), ("test", self.test)):
            if not 0 <= share < 1:
                raise ValueError(f"split.{name} must be in [0, 1), got {share}")
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation and split.test must be below 1 together, got {self.validation + self.test:g}"
            )


@dataclass(frozen=True)
class MaskOptions:
    """Options of hidden tokens.

    Args:
        rate: Share of tokens to hide; of every sequence at least one.
        masked: Share of the hidden tokens that become the mask token.
        random: Share of the hidden tokens that become a random token. The rest stay as they are.
    """

    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"masks.rate must be in (0, 1], got {self.rate}")
        for name, share in (("masked", self.masked), ("random", self.random)):
            if not 0 <= share <= 1:
                raise ValueError(f"masks.{name} must be in [0, 1], got {share}")
        if self.masked + self.random > 1:
            raise ValueError(
                f"masks.masked and masks.random must be at most 1 together, got {self.masked + self.random}"
            )


DEFAULT_SPLIT = SplitOptions()
DEFAULT_MASKS = MaskOptions()
