"""Predicted attention graphs: which keys each query may have a weight on."""

from tabattn.attention.graphs.pattern import Pattern

__all__ = ["Pattern"]
