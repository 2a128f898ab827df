"""Patterns by name, with the size of their blocks: ``kmeans``, ``kmeans/8``, ``pages/32``."""

from typing import Any, NamedTuple

from tabattn.attention.graphs.blocks import Blocks
from tabattn.attention.graphs.bounds import Gaussian, Pages, TopScores, TreePages
from tabattn.attention.graphs.distances import (
    Cosine,
    Direction,
    Euclidean,
    Minkowski,
    ProjectedEntmax,
    Smallest,
    SmallestOfDirections,
    Squared,
)
from tabattn.attention.graphs.gate import BlockGate
from tabattn.attention.graphs.groups import Dynamic, Fixed, KMeans, Quantile
from tabattn.attention.graphs.hashing import LSH, Clustered, Routing
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.graphs.positional import BigBird, Longformer, Strided, Window

PATTERNS: dict[str, type[Pattern]] = {
    "fixed": Fixed,
    "quantile": Quantile,
    "dynamic": Dynamic,
    "kmeans": KMeans,
    "cos": Cosine,
    "euclidean": Euclidean,
    "l2": Squared,
    "direction": Direction,
    "minkowski": Minkowski,
    "min": Smallest,
    "min_norm": SmallestOfDirections,
    "entmax": ProjectedEntmax,
    "window": Window,
    "bigbird": BigBird,
    "longformer": Longformer,
    "openai": Strided,
    "lsh": LSH,
    "routing": Routing,
    "clustered": Clustered,
    "pages": Pages,
    "tree_pages": TreePages,
    "gaussian": Gaussian,
    "topk": TopScores,
    "gate": BlockGate,
}
"""Patterns by the names that configurations use."""

SIZES = {"pages": "page", "tree_pages": "page", "gate": "block"}
"""Patterns of blocks of keys alone, and the name of their size."""


class Named(NamedTuple):
    """Name of a pattern, taken apart.

    Attributes:
        name: One of ``PATTERNS``.
        block: Consecutive tokens that are taken together, or keys of a page or of a gate's block; None = not given.
    """

    name: str
    block: int | None = None

    @property
    def kind(self) -> type[Pattern]:
        """Class of the pattern."""
        return PATTERNS[self.name]

    @property
    def tokens(self) -> int:
        """Queries and keys of a block: 1 where blocks are of keys alone."""
        return 1 if self.block is None or self.name in SIZES else self.block


def named(text: str) -> Named:
    """Take the name of a pattern apart, such as ``kmeans`` or, of blocks of 8 tokens, ``kmeans/8``.

    Raises:
        ValueError: There is no such pattern, or the size is no whole number of at least 1.
    """
    name, slash, size = text.partition("/")
    if name not in PATTERNS:
        raise ValueError(f"grouping must be one of {', '.join(PATTERNS)}, got {text!r}")
    if not slash:
        return Named(name)
    if not size.isdecimal() or int(size) < 1:
        raise ValueError(
            f"the block of a grouping must be a whole number of at least 1, such as {name}/8, got {text!r}"
        )
    return Named(name, int(size))


def pattern_named(text: str, knob: float | None = None, **own: Any) -> Pattern:
    """Build a pattern from its name.

    Args:
        text: Name, with the size of its blocks if any.
        knob: Its knob; None = its default.
        own: Its other arguments.

    Raises:
        ValueError: There is no such pattern, or an argument is out of its range.
    """
    found = named(text)
    if found.block is not None and found.name in SIZES:
        own[SIZES[found.name]] = found.block
    pattern = found.kind(knob, **own)
    return Blocks(pattern, found.tokens) if found.tokens > 1 else pattern


def innermost(pattern: Pattern) -> Pattern:
    """Pattern that has the buffers: of blocks, that of the blocks."""
    return pattern.pattern if isinstance(pattern, Blocks) else pattern
