"""Attention mechanisms for tokens that are not words, swappable by one flag in every task."""

__version__ = "0.1.0"
