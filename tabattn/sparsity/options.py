"""Options of learned attention graphs: the loss, clusters, the graph to score, and the sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tabattn.attention.graphs import PATTERNS, named
from tabattn.contract.checks import check_least, check_seed, nearest

Distance = Literal["l2", "min"]
Hinge = Literal["query", "pair"]


@dataclass(frozen=True)
class LossOptions:
    """Options of the loss: a hinge on distances of keys that have a weight, and as many that have none.

    Args:
        margin: By how much the latter are to be farther than the former.
        distance: Squared Euclidean distance (``l2``), or the smallest squared difference of one dimension (``min``).
        hinge: Whether there is one hinge for each query, on sums, as in the original (``query``), or on means of pairs
            (``pair``).
    """

    margin: float = 1.0
    distance: Distance = "l2"
    hinge: Hinge = "query"

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise ValueError(f"loss.margin must be above 0, got {self.margin}")
        for name, value, known in (("distance", self.distance, Distance), ("hinge", self.hinge, Hinge)):
            if value not in get_args(known):
                raise ValueError(f"loss.{name} must be one of {', '.join(get_args(known))}, got {value!r}")


@dataclass(frozen=True)
class ClusterOptions:
    """Options of k-means on projected queries and keys; each head has its own.

    Args:
        clusters: Number of clusters.
        runs: Independent runs, each with clusters of its own.
        tokens: Most queries and keys of a head that they are learned from.
        seed: Seed of the first run; the next has the next.
        block: Consecutive tokens that are one point of a cluster, as the graph ``kmeans/8`` needs it of 8.
    """

    clusters: int = 16
    runs: int = 1
    tokens: int = 20_000
    seed: int = 0
    block: int = 1

    def __post_init__(self) -> None:
        least = {
            "clusters": (self.clusters, 1),
            "runs": (self.runs, 1),
            "tokens": (self.tokens, 2),
            "block": (self.block, 1),
        }
        check_least(**{f"clusters.{name}": each for name, each in least.items()})
        check_seed(self.seed)


@dataclass(frozen=True)
class GraphOptions:
    """Graph to score in validation and test.

    Args:
        grouping: Pattern of the graph, such as ``kmeans``, ``fixed``, ``dynamic``, ``euclidean`` or ``window``; as
            ``kmeans/8`` of blocks of 8 consecutive tokens, ``pages/32`` and ``gate/32`` of keys (16 if not given).
        knob: Sparsity against recall, of the pattern's own meaning; none = the pattern's default, for ``kmeans`` the
            clusters.
        top: Nearest clusters of each token, for ``kmeans``.
        window: Neighbouring keys that are always in the graph, of sequences; 0 = none; of blocks, blocks.
        ends: Whether the first token (1), or the first and the last (2), see and are seen by all; of blocks, blocks.
    """

    grouping: str = "kmeans"
    knob: float | None = None
    top: int = 1
    window: int = 0
    ends: int = 0

    def __post_init__(self) -> None:
        if (name := self.grouping.partition("/")[0]) not in PATTERNS:
            hint = nearest(name, PATTERNS)
            raise ValueError(f"grouping must be one of {', '.join(PATTERNS)}, got {self.grouping!r}{hint}")
        named(self.grouping)
        check_least(top=(self.top, 1), window=(self.window, 0), ends=(self.ends, 0))
        if self.ends > 2:
            raise ValueError(f"ends must be at most 2, got {self.ends}")

    @property
    def name(self) -> str:
        """Name of the graph, such as ``kmeans 16 top 2 + window 3``."""
        knob = "" if self.knob is None else f" {self.knob:g}"
        extras = f" + window {self.window}" if self.window else ""
        extras += f" + ends {self.ends}" if self.ends else ""
        return f"{self.grouping}{knob}{f' top {self.top}' if self.top > 1 else ''}{extras}"


KNOBS: dict[str, tuple[float, ...]] = {
    "fixed": (2, 4, 6, 8, 10, 12, 16),
    "quantile": (2, 4, 6, 8, 10, 12, 16),
    "dynamic": (2, 4, 6, 8, 10, 12, 16),
    "kmeans": (2, 4, 6, 8, 10, 12, 16, 20),
    "cos": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "euclidean": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    "l2": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0),
    "window": (1, 3, 7, 11, 25),
    "bigbird": (1, 2, 3, 4, 5),
    "longformer": (4, 8, 12, 16, 20),
    "openai": (4, 8, 12, 16, 20),
    "lsh": (2, 4, 8, 16, 32),
    "routing": (2, 4, 6, 8, 10, 12),
    "entmax": (1.2, 1.35, 1.5, 1.75, 2.0),
    "clustered": (2, 4, 8, 16, 32),
    "topk": (2, 4, 8, 16, 32),
    "pages": (1, 2, 3, 4, 8),
    "tree_pages": (1, 2, 3, 4, 8),
    "gaussian": (0.5, 0.75, 1.0, 1.5, 2.0),
    "gate": (1, 2, 3, 4, 8),
}
"""Knobs of the default sweep; of other patterns it takes the default alone."""


@dataclass(frozen=True)
class SweepOptions:
    """Sweep of ``test`` over graphs: every knob of every pattern, with every window.

    Args:
        graphs: Knobs by pattern, such as ``kmeans`` or ``kmeans/8``; none = all patterns, each with the knobs of the
            original's sweeps.
        tops: Nearest clusters of each token, for ``kmeans``.
        windows: Windows that are added to graphs of learned projections.
        ends: Whether the first token (1), or the first and the last (2), are added to all graphs.
        blocks: Sizes of blocks of the patterns that name none; 0 = their own, that is single tokens, or pages of 16.
    """

    graphs: Mapping[str, list[float]] | None = None
    tops: tuple[int, ...] = (1, 2)
    windows: tuple[int, ...] = (0,)
    ends: int = 0
    blocks: tuple[int, ...] = (0,)

    def variants(self) -> list[GraphOptions]:
        """All graphs of the sweep.

        Raises:
            ValueError: A pattern is unknown, or an option out of its range.
        """
        asked = {name: KNOBS.get(name, (pattern.default,)) for name, pattern in PATTERNS.items()}
        chosen = asked if self.graphs is None else {name: tuple(knobs) for name, knobs in self.graphs.items()}
        check_least(**{f"blocks[{number}]": (size, 0) for number, size in enumerate(self.blocks)})
        found = []
        for given, knobs in chosen.items():
            name = given.partition("/")[0]
            learned = name in PATTERNS and PATTERNS[name].projected
            tops = self.tops if name == "kmeans" else (1,)
            windows = self.windows if learned else (0,)
            texts = [given] if "/" in given else [f"{given}/{size}" if size else given for size in self.blocks]
            found += [
                GraphOptions(text, knob, top, window, self.ends)
                for text in texts
                for window in windows
                for top in tops
                for knob in knobs
                if name != "kmeans" or top <= knob
            ]
        if not found:
            raise ValueError(f"sweep.graphs must name at least one pattern and knob, got {self.graphs}")
        return found


DEFAULT_LOSS, DEFAULT_CLUSTERS, DEFAULT_GRAPH = LossOptions(), ClusterOptions(), GraphOptions()
