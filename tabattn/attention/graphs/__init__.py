"""Predicted attention graphs: which keys each query may have a weight on."""

from tabattn.attention.graphs.blocks import Blocks
from tabattn.attention.graphs.named import PATTERNS, Named, innermost, named, pattern_named
from tabattn.attention.graphs.pattern import Pattern
from tabattn.attention.graphs.projection import HeadProjection

__all__ = ["PATTERNS", "Blocks", "HeadProjection", "Named", "Pattern", "innermost", "named", "pattern_named"]
