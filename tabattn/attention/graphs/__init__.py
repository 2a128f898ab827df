"""Predicted attention graphs: which keys each query may have a weight on."""

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
from tabattn.attention.graphs.projection import HeadProjection

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

__all__ = ["PATTERNS", "Blocks", "HeadProjection", "Pattern"]
