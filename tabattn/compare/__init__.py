"""Comparison of attention mechanisms: one training per cell of a grid of mechanisms and seeds; ``docs/compare.md``."""
